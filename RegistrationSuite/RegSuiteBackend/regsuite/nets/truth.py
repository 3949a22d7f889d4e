"""How far a network's displacement is from the true one, where that is known."""

from __future__ import annotations

import torch
from torch.nn import functional

from regsuite.errors import InputError
from regsuite.nets.fields import resized, sample
from regsuite.nets.pair import Pair, world_mm

_OUTSIDE = 0.1  # ours: say of a voxel outside the mask


def error_mm(u: torch.Tensor, pair: Pair) -> torch.Tensor:
    """Mean of sqrt(|u - truth|^2 + 1 mm^2) - 1 mm over the lattice of u (1, 3, d, h, w), voxels inside the fixed mask ten times.

    Raises InputError when the pair's true motion is not known.
    """
    if pair.truth is None:
        raise InputError("The error of a displacement needs a pair whose true motion is known.")
    shape = (int(u.shape[2]), int(u.shape[3]), int(u.shape[4]))
    error = world_mm(u - resized(pair.truth, shape), pair.grid).square().sum(dim=0).add(1.0).sqrt() - 1.0
    if pair.fixed_mask is None:
        return error.mean()
    weight = _OUTSIDE + functional.adaptive_avg_pool3d(pair.fixed_mask, shape)[0, 0]
    return (weight * error).sum() / weight.sum()


def both_errors_mm(u: torch.Tensor, pair: Pair) -> torch.Tensor:
    """Mean of `error_mm` of the answers to `Pair.both_ways`, (2, 3, d, h, w): the way back, looked up where the truth leads, must
    undo it."""
    if pair.truth is None:
        raise InputError("The error of a displacement needs a pair whose true motion is known.")
    truth = resized(pair.truth, (int(u.shape[2]), int(u.shape[3]), int(u.shape[4])))
    return 0.5 * (error_mm(u[:1], pair) + error_mm(-sample(u[1:], truth), pair))
