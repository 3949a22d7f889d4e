"""Slices and volumes into each other: what a slice sees of a volume, and a slice's values spread where it passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regsuite.geometry.grid import Grid, affine_lattice
from regsuite.geometry.image import Image
from regsuite.ops.sampling import sample_index, sample_world

_SLAB_VOXELS = 4_000_000


def emulated_slice(volume: Image, slice_grid: Grid, pose: np.ndarray, planes: int = 5) -> Image:
    """What the slice would show: (1, 1, H, W) on `slice_grid`, the volume at pose(x) averaged over `planes` through the thickness.

    pose: rigid 4x4, given position -> position in the volume (RAS mm). Outside the volume 0.
    """
    total = torch.zeros(1, *slice_grid.shape)
    for number in range(planes):
        matrix = pose @ slice_grid.affine
        matrix = matrix @ _along((number + 0.5) / planes - 0.5)
        points = affine_lattice(slice_grid.shape, matrix, torch.float64).view(-1, 3)
        total += sample_world(volume, points, fill=0.0).view(1, *slice_grid.shape) / planes
    return Image(total, slice_grid)


def _along(part: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[2, 3] = part
    return matrix


def scatter(
    slices: Sequence[Image],
    poses: Sequence[np.ndarray],
    grid: Grid,
    tick: Callable[[float], None] = lambda fraction: None,
    data: Sequence[Image | None] | None = None,
) -> tuple[Image, Image]:
    """(values, weights) on `grid`: the weighted mean of the slices' values where they pass, 0 with weight 0 elsewhere.

    A voxel within half the thickness of a slice (and half a voxel more, where the weight falls off to 0) takes the value at its
    projection on the slice, bilinear; where slices cross, values are averaged with these weights. data: for each slice 1 where
    it holds data (None: everywhere); no voxel takes a value from elsewhere.
    """
    total = torch.zeros(1, *grid.shape)
    weight = torch.zeros(1, *grid.shape)
    for number, (image, pose) in enumerate(zip(slices, poses, strict=True)):
        mask = None if data is None else data[number]
        held = torch.ones_like(image.data) if mask is None else mask.data
        for near in passed(image.grid, pose, grid):
            inside = (sample_index(held, near.index, fill=0.0)[0] > 1.0 - 1e-4) * near.share
            total[0][near.voxels] += sample_index(image.data, near.index)[0] * inside
            weight[0][near.voxels] += inside
        tick((number + 1) / len(slices))
    return Image(torch.where(weight > 0, total / weight.clamp(min=1e-6), 0.0), grid), Image(weight, grid)


@dataclass(frozen=True, eq=False)
class Near:
    """Voxels (k, j, i) that a slice passes, their projections on it (N, 3) = (i, j, 0) in its pixels, and their weights (N,)."""

    voxels: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    index: torch.Tensor
    share: torch.Tensor


def passed(slice_grid: Grid, pose: np.ndarray, grid: Grid) -> Iterator[Near]:
    """What a slice at a pose passes, slab by slab of the grid."""
    to_slice = np.linalg.inv(pose @ slice_grid.affine)
    thickness = float(slice_grid.spacing[2])
    normal = (pose[:3, :3] @ slice_grid.direction)[:, 2]
    soft = 0.5 * float(np.abs(normal @ grid.affine[:3, :3]).sum()) / thickness  # half a voxel, in thicknesses
    slab = max(1, _SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], slab):
        part = grid.cropped((start, 0, 0), (min(slab, grid.shape[0] - start), *grid.shape[1:]))
        matrix = torch.from_numpy(to_slice @ part.affine)
        near = (_row(part, matrix[2].numpy()).abs() < 0.5 + soft).nonzero()
        if not len(near):
            continue
        index = near.flip(1).double() @ matrix[:3, :3].T + matrix[:3, 3]
        share = ((0.5 + soft - index[:, 2].abs()) / (2.0 * soft)).clamp(0.0, 1.0).float()
        index[:, 2] = 0.0
        low, high = index.new_full((2,), -0.5), torch.tensor(slice_grid.size[:2]).to(index) - 0.5
        inside = ((index[:, :2] > low) & (index[:, :2] < high)).all(dim=1)
        k, j, i = near[inside].T
        yield Near((k + start, j, i), index[inside], share[inside])


def _row(grid: Grid, row: np.ndarray) -> torch.Tensor:
    """(D, H, W): row @ (i, j, k, 1)."""
    k, j, i = (torch.arange(n, dtype=torch.float64) for n in grid.shape)
    plane = (row[1] * j)[:, None] + (row[0] * i + row[3])
    return ((row[2] * k)[:, None, None] + plane).float()
