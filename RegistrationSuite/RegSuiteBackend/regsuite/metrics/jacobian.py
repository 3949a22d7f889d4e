"""Local volume change and folds of any transform."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.ops.derivatives import triple_product
from regsuite.ops.sampling import PointMap

_SLAB_VOXELS = 400_000


def jacobian_determinant(transform: PointMap, grid: Grid, tick: Callable[[float], object] = lambda fraction: None) -> torch.Tensor:
    """det of dT/dx at the voxel centres of `grid` -> (D, H, W) float32 on the CPU; 1 keeps volume, <= 0 folds.

    Differences of the *mapped* points half a voxel to either side (one-sided at the border of the grid, never beyond it):
    exact for affine maps, and for a composite the Jacobian of the whole chain, not a product of parts read off a lattice. On
    a displacement field's own grid it equals central differences of the field. Works in slabs of about a second; tick(fraction
    done) is called before each.
    """
    slab = max(1, _SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    parts = []
    for start in range(0, grid.shape[0], slab):
        tick(start / grid.shape[0])
        parts.append(_slab(transform, grid, start, min(start + slab, grid.shape[0])))
    return torch.cat(parts)


def _half_positions(n: int) -> torch.Tensor:
    """(n + 1,) positions whose neighbours enclose each of n voxels: 0, 0.5, 1.5, ..., n - 1.5, n - 1."""
    if n == 1:
        return torch.tensor([-0.25, 0.25], dtype=torch.float64)
    return (torch.arange(n + 1, dtype=torch.float64) - 0.5).clamp(0.0, n - 1.0)


def _slab(transform: PointMap, grid: Grid, start: int, stop: int) -> torch.Tensor:
    centres = [torch.arange(start, stop, dtype=torch.float64)] + [torch.arange(n, dtype=torch.float64) for n in grid.shape[1:]]
    columns = []
    for axis in (2, 1, 0):  # i, j, k
        lines = list(centres)
        positions = _half_positions(grid.shape[axis])
        lines[axis] = positions[start : stop + 1] if axis == 0 else positions
        k, j, i = torch.meshgrid(*lines, indexing="ij")
        index = torch.stack([i, j, k], dim=-1)
        mapped = transform.map_points(grid.index_to_world(index.view(-1, 3))).detach().cpu().view(index.shape)
        steps = torch.diff(lines[axis]).view([-1 if a == axis else 1 for a in range(3)] + [1])
        columns.append((torch.diff(mapped, dim=axis) / steps).movedim(-1, 0))
    return (triple_product(*columns) / float(np.linalg.det(grid.affine[:3, :3]))).float()


def jacobian_statistics(det: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, float]:
    """Summary of determinants (D, H, W), inside `mask` (same shape, non-zero is inside) when given.

    {min, p01, p99, max: of det; std_log: standard deviation of ln det over the voxels with det > 0 (NaN if there are none);
    folding_percent, folding_count: voxels with det <= 0}. Raises InputError on another shape or an empty mask.
    """
    if mask is not None:
        if tuple(mask.shape) != tuple(det.shape):
            raise InputError(f"The mask must have the shape of the Jacobian {tuple(det.shape)}, found {tuple(mask.shape)}.")
        det = det[mask.to(det.device) != 0]
    values = det.detach().cpu().double().numpy().ravel()
    if values.size == 0:
        raise InputError("The mask is empty; expected at least one voxel to take Jacobian statistics of.")
    positive = values[values > 0.0]
    p01, p99 = np.percentile(values, [1, 99])
    folds = values.size - positive.size
    return {
        "min": float(values.min()),
        "p01": float(p01),
        "p99": float(p99),
        "max": float(values.max()),
        "std_log": float(np.log(positive).std()) if positive.size else math.nan,
        "folding_percent": 100.0 * folds / values.size,
        "folding_count": float(folds),
    }
