"""Poses from where the brightness of two images lies: centres of mass and principal axes."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from regsuite import losses
from regsuite.geometry.image import Image
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import resample
from regsuite.solvers.intake import binary, scaled
from regsuite.transforms import AffineTransform

_POINTS_ACROSS = 48  # ours: resolution at which mass is weighed


def centre_of_mass(fixed: Image, moving: Image, fixed_mask: Image | None, moving_mask: Image | None) -> np.ndarray:
    """4x4 translation of the fixed centre of mass (grey values, 0 at the darkest) onto the moving one."""
    (a, _), (b, _) = _moments(fixed, fixed_mask, "fixed"), _moments(moving, moving_mask, "moving")
    return AffineTransform.translation(b - a).matrix


def principal_pose(fixed: Image, moving: Image, fixed_mask: Image | None, moving_mask: Image | None) -> np.ndarray:
    """4x4 rigid map of the fixed principal axes of mass onto the moving ones.

    Axes have no sign: of the four rotations that match them, the one of the highest mutual information is taken.
    """
    (a, axes_a), (b, axes_b) = _moments(fixed, fixed_mask, "fixed"), _moments(moving, moving_mask, "moving")
    small = [_small(scaled(image, name)) for image, name in ((fixed, "fixed"), (moving, "moving"))]
    best, pose = np.inf, np.eye(4)
    for signs in itertools.product((1.0, -1.0), repeat=3):
        rotation = axes_b @ np.diag(signs) @ axes_a.T
        if np.linalg.det(rotation) < 0.0:
            continue
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, b - rotation @ a
        value = float(losses.mutual_information(small[0].data, resample(small[1], small[0].grid, AffineTransform(matrix)).data))
        if value < best:
            best, pose = value, matrix
    return pose


def _small(image: Image) -> Image:
    extent = float((np.array(image.grid.size) * image.grid.spacing).max())
    return at_spacing(image, extent / _POINTS_ACROSS)


def _moments(image: Image, mask: Image | None, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(3,) centre of mass and (3, 3) principal axes as columns, the longest first, RAS mm."""
    small = _small(scaled(image, name))
    mass = small.data[0].double()
    if mask is not None:
        mass = mass * _small(binary(mask, f"{name} mask")).data[0]
    mass = mass.flatten() / mass.sum().clamp(min=1e-12)
    points = small.grid.world_points(torch.float64, mass.device).view(-1, 3)
    centre = (mass[:, None] * points).sum(dim=0)
    local = points - centre
    _, axes = torch.linalg.eigh((mass[:, None] * local).T @ local)
    return centre.cpu().numpy(), axes.flip(1).cpu().numpy()
