"""How rough a displacement is, in millimetres of the world: means, so a value means the same at every resolution.

Displacements are (3, D, H, W) mm, RAS components, on `grid` (any affine: anisotropic, oblique, sheared). With the index ->
world matrix A, the metric g = A^-1 A^-T turns index derivatives into world ones: |grad f|^2 = sum_ab g_ab f_a f_b and
laplace f = sum_ab g_ab f_ab. `weights` (D, H, W) is a mask or non-negative weights. All raise InputError on a size mismatch
or an empty mask.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.losses._common import checked_weights, weighted_mean
from regsuite.ops.derivatives import jacobian_determinant

_DIMS = (3, 2, 1)  # tensor axis of index i, j, k


def diffusion(displacement: torch.Tensor, grid: Grid, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over the voxels of sum_ab (du_a / dx_b)^2; no unit (mm/mm)^2; 0 exactly for translations.

    First differences between neighbours, which see the voxel-to-voxel alternation that central differences miss. The weight
    of a difference is the mean of its voxels' weights.
    """
    w = _checked(displacement, grid, weights)
    metric = _metric(grid)
    total = displacement.sum() * 0.0
    for a in range(3):
        for b in range(a, 3):
            if metric[a, b] == 0.0 or 1 in (displacement.shape[_DIMS[a]], displacement.shape[_DIMS[b]]):
                continue
            if a == b:
                dims: tuple[int, ...] = (_DIMS[a],)
                product = torch.diff(displacement, dim=_DIMS[a]) ** 2
            else:  # both differences at the centres of the faces (a, b)
                dims = (_DIMS[a], _DIMS[b])
                first, second = (torch.diff(displacement, dim=dim) for dim in dims)
                product = _middle(first, dims[1]) * _middle(second, dims[0])
            factor = metric[a, b] * (1.0 if a == b else 2.0)
            total = total + 3.0 * factor * weighted_mean(product, _middle_all(w, dims))
    return total


def curvature(displacement: torch.Tensor, grid: Grid, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over the inner voxels of sum_a (laplace u_a)^2; unit 1/mm^2; 0 exactly for affine maps.

    Second differences at the voxels that have both neighbours; an axis of fewer than three voxels counts as constant.
    Source: Fischer and Modersitzki, J. Math. Imaging Vis. 2003.
    """
    w = _checked(displacement, grid, weights)
    axes = [a for a in range(3) if displacement.shape[_DIMS[a]] >= 3]
    metric = _metric(grid)
    laplacian: torch.Tensor | None = None
    for a in axes:
        for b in axes:
            if b < a or metric[a, b] == 0.0:
                continue
            term = metric[a, b] * (1.0 if a == b else 2.0) * _second_difference(displacement, a, b, axes)
            laplacian = term if laplacian is None else laplacian + term
    if laplacian is None:
        return displacement.sum() * 0.0
    if w is not None:
        w = _inner(w, axes)
        if not bool((w > 0).any()):
            raise InputError("'weights' is zero at every inner voxel, where the curvature is taken; expected some above zero.")
    return 3.0 * weighted_mean(laplacian * laplacian, w)


def folding_barrier(
    displacement: torch.Tensor,
    grid: Grid,
    weights: torch.Tensor | None = None,
    threshold: float = 0.3,
    linearise_below: float = 0.05,
) -> torch.Tensor:
    """Mean over the voxels of b(det J), J the Jacobian of id + u; no unit; 0 while det J >= threshold everywhere.

    b(d) = ln(threshold / d)^2 for linearise_below <= d < threshold, continued below by its second-order Taylor polynomial:
    convex, smooth, finite where the map is folded, and steeper the worse the fold. The defaults are ours.
    Raises InputError unless 0 < linearise_below < threshold.
    """
    w = _checked(displacement, grid, weights)
    if not 0.0 < linearise_below < threshold:
        raise InputError(f"Expected 0 < linearise_below < threshold, found {linearise_below:g} and {threshold:g}.")
    det = jacobian_determinant(displacement, grid)[None]
    e, log_ratio = linearise_below, math.log(threshold / linearise_below)
    inside = torch.log(threshold / det.clamp(min=e, max=threshold)) ** 2
    step = (det - e).clamp(max=0.0)
    slope, bend = -2.0 * log_ratio / e, 2.0 * (1.0 + log_ratio) / e**2
    return weighted_mean(inside + slope * step + 0.5 * bend * step * step, w)


def _checked(displacement: torch.Tensor, grid: Grid, weights: torch.Tensor | None) -> torch.Tensor | None:
    if tuple(displacement.shape) != (3, *grid.shape):
        raise InputError(
            f"A displacement on a grid of {grid.shape} must have shape (3, D, H, W), found {tuple(displacement.shape)}."
        )
    return checked_weights(weights, displacement)


def _metric(grid: Grid) -> np.ndarray:
    """A^-1 A^-T (3, 3) in 1/mm^2; rounding on orthogonal axes is cut to exact zeros, which skips the mixed terms."""
    inverse = np.linalg.inv(grid.affine[:3, :3])
    metric = inverse @ inverse.T
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    return np.where(np.abs(metric) < 1e-7 * scale, 0.0, metric)


def _middle(data: torch.Tensor, dim: int) -> torch.Tensor:
    """Mean of neighbours along `dim`: one voxel fewer."""
    n = data.shape[dim] - 1
    return 0.5 * (data.narrow(dim, 0, n) + data.narrow(dim, 1, n))


def _middle_all(weights: torch.Tensor | None, dims: tuple[int, ...]) -> torch.Tensor | None:
    for dim in dims:
        weights = None if weights is None else _middle(weights, dim)
    return weights


def _inner(data: torch.Tensor, axes: list[int]) -> torch.Tensor:
    for a in axes:
        data = data.narrow(_DIMS[a], 1, data.shape[_DIMS[a]] - 2)
    return data


def _second_difference(u: torch.Tensor, a: int, b: int, axes: list[int]) -> torch.Tensor:
    """d^2 u / d index_a d index_b at the inner voxels of `axes`."""
    if a == b:
        other = _inner(u, [c for c in axes if c != a])
        n, dim = u.shape[_DIMS[a]] - 2, _DIMS[a]
        return other.narrow(dim, 0, n) - 2.0 * other.narrow(dim, 1, n) + other.narrow(dim, 2, n)
    u = _inner(u, [c for c in axes if c not in (a, b)])
    for c in (a, b):
        n, dim = u.shape[_DIMS[c]] - 2, _DIMS[c]
        u = 0.5 * (u.narrow(dim, 2, n) - u.narrow(dim, 0, n))
    return u
