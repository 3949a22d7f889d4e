"""What the network of uncertainty looks at: both images and the given displacement on one lattice along the world's axes."""

from __future__ import annotations

import numpy as np
import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import resample
from regsuite.solvers.sigma_evidence import noise_level, normalised
from regsuite.transforms.base import Transform

SPACING_MM = 6.0  # of the lattice; part of what a network was trained for
_DISPLACEMENT_MM = 10.0  # one unit of the displacement's channels


def world_lattice(grid: Grid, spacing_mm: float = SPACING_MM) -> Grid:
    """The smallest lattice along the world's axes, `spacing_mm` apart, whose voxels cover the box of `grid`."""
    half = 0.5 * np.abs(grid.affine[:3, :3]).sum(axis=1)  # from a voxel's centre to the end of its bounding box
    low, high = grid.corners().min(axis=0) - half, grid.corners().max(axis=0) + half
    size = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-6)).astype(int)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = 0.5 * (low + high) - 0.5 * (size - 1) * spacing_mm
    return Grid((int(size[2]), int(size[1]), int(size[0])), affine)


def judged(fixed: Image, moving: Image, transform: Transform, lattice: Grid) -> torch.Tensor:
    """(5, D, H, W) float32 on `lattice`: fixed and moving(T), locally normalised, 0 where there is none, and T(x) - x along the
    world's x, y, z less its mean, in units of 10 mm. fixed, moving: scaled images (0..1) on one device; T in their world."""
    spacing = float(lattice.spacing[0])
    small = [at_spacing(image, spacing) for image in (fixed, moving)]
    noise = max(noise_level(image) for image in small)
    target, source = (normalised(image, noise) for image in small)
    displacement = transform.displacement(lattice, fixed.data.device).float()
    field = (displacement - displacement.mean(dim=(1, 2, 3), keepdim=True)) / _DISPLACEMENT_MM
    return torch.cat([resample(target, lattice, fill=0.0).data, resample(source, lattice, transform, fill=0.0).data, field])
