"""Known displacements as in the paper: any rotation, a shift of up to 30 voxels along each axis, then the central block.

Unlike in the paper, interpolation is trilinear and noise comes after it, so that both images carry unsmoothed noise of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from regsuite.geometry import Grid, Image
from regsuite.ops.sampling import resample
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation

from Testing.bench.multimodal.contrasts import acquired

BLOCK, SHIFT = 151, 30.0


@dataclass(frozen=True)
class Case:
    """A pair and the true T (4x4, RAS mm, fixed -> moving points)."""

    fixed: Image
    moving: Image
    truth: np.ndarray


def random_pose(rng: np.random.Generator, centre: np.ndarray, shift_mm: float) -> np.ndarray:
    """4x4: a uniformly random rotation around `centre`, then a shift of up to `shift_mm` along each axis."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + rng.uniform(-shift_mm, shift_mm, 3)
    return matrix


def displaced(fixed: Image, moving: Image, names: tuple[str, str], seed: int, block: int = BLOCK) -> Case:
    """fixed under a random pose and moving as it lies, both cut to the central block, each with noise of its own."""
    rng = np.random.default_rng(seed)
    grid = _block(fixed.grid, block)
    truth = random_pose(rng, grid.centre, SHIFT * float(grid.spacing.mean()))
    outside = float(fixed.data.min())
    moved = resample(fixed, grid, AffineTransform(truth), "linear", fill=outside)
    rest = resample(moving, _block(moving.grid, block), None, "linear", fill=float(moving.data.min()))
    return Case(acquired(moved, names[0], rng), acquired(rest, names[1], rng), truth)


def corner_error(matrix: np.ndarray, truth: np.ndarray, grid: Grid) -> float:
    """Mean distance, mm, between where two maps put the corners of the block."""
    corners = torch.as_tensor(grid.corners())
    difference = AffineTransform(matrix).map_points(corners) - AffineTransform(truth).map_points(corners)
    return float(difference.norm(dim=1).mean())


def _block(grid: Grid, block: int) -> Grid:
    start = [(n - block) // 2 for n in grid.shape]
    return grid.cropped((start[0], start[1], start[2]), (block, block, block))
