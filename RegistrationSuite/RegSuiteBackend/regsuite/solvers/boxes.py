"""The boxes two images fill in the world: how far they meet, and the shift that lays them on each other."""

from __future__ import annotations

import numpy as np
import torch

from regsuite.geometry.image import Image
from regsuite.transforms import AffineTransform


def overlap_fraction(fixed: Image, moving: Image) -> float:
    """Share of the fixed box (sampled on a coarse lattice) that lies inside the moving box, world space, identity map."""
    points = fixed.grid.resized((16, 16, 16)).world_points(torch.float64).view(-1, 3)
    return float(moving.grid.contains(points).double().mean())


def centring(fixed: Image, moving: Image) -> np.ndarray:
    """4x4 translation that puts the middle of the moving box on the middle of the fixed box."""
    return AffineTransform.translation(moving.grid.centre - fixed.grid.centre).matrix
