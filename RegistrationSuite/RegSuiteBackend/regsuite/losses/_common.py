"""What every loss does with its inputs and its weights."""

from __future__ import annotations

import torch

from regsuite.errors import InputError


def checked_pair(fixed: torch.Tensor, moving: torch.Tensor) -> None:
    """Raise InputError unless both are (C, D, H, W) floating-point tensors of one shape."""
    if fixed.ndim != 4 or fixed.shape != moving.shape:
        raise InputError(
            f"'fixed' and 'moving' must have one shape (C, D, H, W), found {tuple(fixed.shape)} and {tuple(moving.shape)}."
        )
    if not (torch.is_floating_point(fixed) and torch.is_floating_point(moving)):
        raise InputError(f"'fixed' and 'moving' must be floating point, found {fixed.dtype} and {moving.dtype}.")


def checked_weights(weights: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """(D, H, W) or (1, D, H, W) mask or non-negative weights -> (1, D, H, W) in the dtype of `like`; None stays None.

    Raises InputError on another shape, a negative weight, or when nothing is left (an empty mask).
    """
    if weights is None:
        return None
    shape = tuple(like.shape[1:])
    if tuple(weights.shape) not in (shape, (1, *shape)):
        raise InputError(f"'weights' must have shape {shape} as the image, found {tuple(weights.shape)}.")
    out = weights.view(1, *shape).to(dtype=like.dtype, device=like.device)
    if bool((out < 0).any()):
        raise InputError("'weights' must not be negative, found negative values.")
    if not bool((out > 0).any()):
        raise InputError("'weights' is zero everywhere (an empty mask); expected at least one voxel above zero.")
    return out


def weighted_mean(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Mean of (C, D, H, W) over channels and voxels, voxels weighted by (1, D, H, W): sum(w v) / (C sum(w))."""
    if weights is None:
        return values.mean()
    return (values * weights).sum() / (weights.sum() * values.shape[0])
