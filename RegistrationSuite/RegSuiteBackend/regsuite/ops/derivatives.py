"""Derivatives per world millimetre, right on anisotropic, oblique, mirrored and sheared grids.

With the index -> world matrix A (3x3), the chain rule gives grad_world f = A^-T grad_index f.
"""

from __future__ import annotations

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid

_SLAB_VOXELS = 4_000_000


def index_gradient(data: torch.Tensor, axis: str) -> torch.Tensor:
    """(C, D, H, W) -> (C, D, H, W): df/d(axis) per voxel, axis one of "i", "j", "k" (the last, middle, first of D, H, W).

    Central differences inside, one-sided at the two borders, zero along an axis of one voxel.
    """
    dim = {"k": 1, "j": 2, "i": 3}[axis]
    if data.shape[dim] == 1:
        return torch.zeros_like(data)
    return torch.gradient(data, dim=dim)[0]


def spatial_gradient(data: torch.Tensor, grid: Grid) -> torch.Tensor:
    """World gradient of `data` (C, D, H, W) on `grid` -> (C, 3, D, H, W), [c, b] = df_c / dx_b in 1/mm, b = x, y, z RAS.

    Exact for functions that are linear in the world. Along an axis of one voxel the function counts as constant. Raises
    InputError when the tensor does not lie on the grid.
    """
    _check_on_grid("data", data, grid)
    inverse = torch.as_tensor(np.linalg.inv(grid.affine[:3, :3]), dtype=data.dtype, device=data.device)
    out: torch.Tensor | None = None
    for row, axis in zip(inverse, "ijk", strict=True):  # one axis at a time keeps the peak memory down
        term = index_gradient(data, axis)[:, None] * row.view(1, 3, 1, 1, 1)
        out = term if out is None else out + term
    assert out is not None
    return out


def jacobian_matrix(displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Jacobian of T = id + u for u (3, D, H, W) mm on `grid` -> (3, 3, D, H, W): J[a, b] = delta_ab + du_a / dx_b.

    a, b = x, y, z RAS. Central differences inside, one-sided at the borders. Raises InputError on a size mismatch.
    """
    _check_displacement(displacement, grid)
    identity = torch.eye(3, dtype=displacement.dtype, device=displacement.device)
    return spatial_gradient(displacement, grid) + identity.view(3, 3, 1, 1, 1)


def jacobian_determinant(displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    """det J of T = id + u for u (3, D, H, W) mm on `grid` -> (D, H, W); 1 keeps volume, <= 0 folds.

    det J = det(A + du/d(i, j, k)) / det A, which needs no rotation of the gradients. Works in slabs when no gradient is
    asked for. Raises InputError on a size mismatch.
    """
    _check_displacement(displacement, grid)
    if displacement.requires_grad and torch.is_grad_enabled():
        return _determinant(displacement, grid)
    depth = grid.shape[0]
    slab = max(1, _SLAB_VOXELS // (grid.shape[1] * grid.shape[2]))
    parts = []
    for start in range(0, depth, slab):
        low, high = max(0, start - 1), min(depth, start + slab + 1)  # one plane of margin: central differences stay central
        part = _determinant(displacement[:, low:high], grid)
        parts.append(part[start - low : start - low + min(slab, depth - start)])
    return torch.cat(parts)


def _determinant(displacement: torch.Tensor, grid: Grid) -> torch.Tensor:
    columns = []
    for column, axis in zip(grid.affine[:3, :3].T, "ijk", strict=True):
        vector = torch.as_tensor(column.copy(), dtype=displacement.dtype, device=displacement.device)
        columns.append(index_gradient(displacement, axis) + vector.view(3, 1, 1, 1))
    return triple_product(*columns) / float(np.linalg.det(grid.affine[:3, :3]))


def triple_product(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """det[a b c] = a . (b x c) for vectors (3, ...) -> (...)."""
    return a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0])


def _check_displacement(displacement: torch.Tensor, grid: Grid) -> None:
    if displacement.ndim != 4 or displacement.shape[0] != 3:
        raise InputError(f"A displacement must have shape (3, D, H, W), found {tuple(displacement.shape)}.")
    _check_on_grid("displacement", displacement, grid)


def _check_on_grid(name: str, data: torch.Tensor, grid: Grid) -> None:
    if data.ndim != 4 or tuple(data.shape[1:]) != grid.shape:
        raise InputError(f"'{name}' must have shape (C, {', '.join(map(str, grid.shape))}) as its grid, found {tuple(data.shape)}.")
