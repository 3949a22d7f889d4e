"""Slices and volumes into each other: what a slice sees of a volume, and a slice's values spread where it passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    slices: Sequence[Image], poses: Sequence[np.ndarray], grid: Grid, tick: Callable[[float], None] = lambda fraction: None
) -> tuple[Image, Image]:
    """(values, weights) on `grid`: the weighted mean of the slices' values where they pass, 0 with weight 0 elsewhere.

    A voxel within half the thickness of a slice (and half a voxel more, where the weight falls off to 0) takes the value at its
    projection on the slice, bilinear; where slices cross, values are averaged with these weights.
    """
    total = torch.zeros(1, *grid.shape)
    weight = torch.zeros(1, *grid.shape)
    slab = max(1, _SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    for number, (image, pose) in enumerate(zip(slices, poses, strict=True)):
        to_slice = np.linalg.inv(pose @ image.grid.affine)
        thickness = float(image.grid.spacing[2])
        normal = (pose[:3, :3] @ image.grid.direction)[:, 2]
        soft = 0.5 * float(np.abs(normal @ grid.affine[:3, :3]).sum()) / thickness  # half a voxel, in thicknesses
        for start in range(0, grid.shape[0], slab):
            part = grid.cropped((start, 0, 0), (min(slab, grid.shape[0] - start), *grid.shape[1:]))
            depth = _row(part, (to_slice @ part.affine)[2]).abs()
            near = (depth < 0.5 + soft).nonzero()
            if not len(near):
                continue
            index = near.flip(1).double() @ torch.from_numpy((to_slice @ part.affine)[:3, :3].T)
            index += torch.from_numpy((to_slice @ part.affine)[:3, 3])
            share = ((0.5 + soft - index[:, 2].abs()) / (2.0 * soft)).clamp(0.0, 1.0).float()
            flat = index.clone()
            flat[:, 2] = 0.0
            inside = sample_index(torch.ones_like(image.data), flat, fill=0.0)[0]
            values = sample_index(image.data, flat)[0]
            k, j, i = near.T
            total[0, k + start, j, i] += values * share * inside
            weight[0, k + start, j, i] += share * inside
        tick((number + 1) / len(slices))
    return Image(torch.where(weight > 0, total / weight.clamp(min=1e-6), 0.0), grid), Image(weight, grid)


def _row(grid: Grid, row: np.ndarray) -> torch.Tensor:
    """(D, H, W): row @ (i, j, k, 1)."""
    k, j, i = (torch.arange(n, dtype=torch.float64) for n in grid.shape)
    plane = (row[1] * j)[:, None] + (row[0] * i + row[3])
    return ((row[2] * k)[:, None, None] + plane).float()


def region_rows(
    values: Image, weights: Image, labels: Image, names: dict[int, str] | None = None
) -> list[dict[str, float | int | str]]:
    """One row per label (above 0) that a slice passes: voxels with data, volume (mm^3), mean, std, median, p05, p95.

    values and weights (1, D, H, W), labels on the same grid. Mean and std are weighted.
    """
    known = (weights.data[0] > 0) & (labels.data[0] > 0)
    found, value, weight = labels.data[0][known].long(), values.data[0][known].double(), weights.data[0][known].double()
    rows: list[dict[str, float | int | str]] = []
    for label in found.unique().tolist():
        pick = found == label
        v, w = value[pick], weight[pick]
        mean = float((v * w).sum() / w.sum())
        rows.append(
            {
                "label": int(label),
                "name": (names or {}).get(int(label), f"label {int(label)}"),
                "voxels": len(v),
                "volume_mm3": len(v) * values.grid.voxel_volume,
                "mean": mean,
                "std": float((((v - mean) ** 2 * w).sum() / w.sum()).sqrt()),
                "median": float(v.median()),
                "p05": float(np.quantile(v.numpy(), 0.05)),
                "p95": float(np.quantile(v.numpy(), 0.95)),
            }
        )
    return rows
