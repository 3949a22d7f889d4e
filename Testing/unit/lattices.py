"""Asymmetric grids and smooth fields that unit tests share: unequal sizes, anisotropic, oblique, off the origin."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import strategies as st
from regsuite.geometry import Grid
from regsuite.ops.filters import gaussian_smooth

SPACING = (1.25, 0.8, 2.5)
ORIGIN = (-31.5, 12.25, 7.75)


def rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """(3, 3) rotation matrix by Rodrigues' formula."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a = math.radians(degrees)
    return np.eye(3) + math.sin(a) * k + (1 - math.cos(a)) * (k @ k)


def grid_of(
    shape: tuple[int, int, int] = (7, 9, 11),
    spacing: tuple[float, float, float] = SPACING,
    turn: np.ndarray | None = None,
    origin: tuple[float, float, float] = ORIGIN,
) -> Grid:
    """A grid with the given shape (D, H, W), spacing (i, j, k) and rotation; rotated about an odd axis unless told."""
    affine = np.eye(4)
    affine[:3, :3] = (rotation((1, 2, 3), 25.0) if turn is None else turn) * np.asarray(spacing)
    affine[:3, 3] = origin
    return Grid(shape, affine)


def sheared_grid(shape: tuple[int, int, int] = (7, 9, 11)) -> Grid:
    """A mirrored grid whose axes are not at right angles (a tilted gantry)."""
    affine = grid_of(shape).affine.copy()
    affine[:3, 2] += 0.35 * affine[:3, 1]
    affine[:3, 0] *= -1.0
    return Grid(shape, affine)


def smooth_field(grid: Grid, peak_mm: float, seed: int = 0, sigma: float = 2.5) -> torch.Tensor:
    """(3, D, H, W) float64 smooth random vectors, longest `peak_mm`, vanishing towards the border of the grid."""
    generator = torch.Generator().manual_seed(seed)
    field = gaussian_smooth(torch.randn(3, *grid.shape, generator=generator, dtype=torch.float64), (sigma,) * 3)
    for dim, n in zip((1, 2, 3), grid.shape, strict=True):
        window = torch.sin(math.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n) ** 2
        field = field * window.view([-1 if d == dim else 1 for d in range(4)])
    return field * (peak_mm / field.norm(dim=0).max())


def world(grid: Grid) -> torch.Tensor:
    """(3, D, H, W) float64 RAS mm of the voxel centres."""
    return grid.world_points(torch.float64).permute(3, 0, 1, 2)


@st.composite
def grids(draw: st.DrawFn, smallest: int = 2, largest: int = 7) -> Grid:
    """Any oblique, anisotropic, sometimes mirrored grid."""
    shape = tuple(draw(st.integers(smallest, largest)) for _ in range(3))
    spacing = np.array([draw(st.floats(0.3, 4.0)) for _ in range(3)])
    spacing[draw(st.integers(0, 2))] *= draw(st.sampled_from([1.0, -1.0]))
    axis = (draw(st.floats(0.1, 1.0)), draw(st.floats(-1.0, 1.0)), draw(st.floats(-1.0, 1.0)))
    affine = np.eye(4)
    affine[:3, :3] = rotation(axis, draw(st.floats(-180.0, 180.0))) * spacing
    affine[:3, 3] = [draw(st.floats(-300.0, 300.0)) for _ in range(3)]
    return Grid((shape[0], shape[1], shape[2]), affine)
