"""Displacements inside networks: u (N, 3, D, H, W) in voxels along (i, j, k), align_corners=False as everywhere in regsuite."""

from __future__ import annotations

import torch
from torch.nn import functional

from regsuite.ops.sampling import sample_displaced as sample

__all__ = ["composed", "resized", "sample"]


def resized(u: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """The same displacement on another lattice of the same box, in that lattice's voxels."""
    if tuple(u.shape[2:]) == tuple(shape):
        return u
    factor = [new / old for new, old in zip(shape[::-1], u.shape[:1:-1], strict=True)]
    out = functional.interpolate(u, size=shape, mode="trilinear", align_corners=False)
    return out * torch.tensor(factor, dtype=u.dtype, device=u.device).view(1, 3, 1, 1, 1)


def composed(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """u of outer(inner(x)): u_inner(x) + u_outer(x + u_inner(x)), on the lattice of `inner`, voxels of that lattice."""
    outer = resized(outer, (int(inner.shape[2]), int(inner.shape[3]), int(inner.shape[4])))
    return inner + sample(outer, inner)
