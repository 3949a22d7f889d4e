"""How badly two images on one grid agree. Functions of tensors (C, D, H, W); lower is better; channels are averaged.

`weights` is a mask or non-negative weights, (D, H, W) or (1, D, H, W): voxels of weight 0 have no influence at all.
All raise InputError on shapes that differ, on integer images and on an empty mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.losses._common import checked_pair, checked_weights, weighted_mean
from regsuite.ops import mind
from regsuite.ops.derivatives import spatial_gradient
from regsuite.ops.filters import box_mean, box_sum

_TINY = 1e-15  # its square is still a normal float32
_RELATIVE_VARIANCE_FLOOR = 1e-5  # ours: windows whose variance is below this share of the image's are flat
_MI_CHUNK_VOXELS = 262_144


def mse(fixed: torch.Tensor, moving: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared difference: mean (f - m)^2, in intensity^2."""
    checked_pair(fixed, moving)
    return weighted_mean((fixed - moving) ** 2, checked_weights(weights, fixed))


def ncc(fixed: torch.Tensor, moving: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """1 - r with r the (weighted) Pearson correlation of all voxels; 0 perfect, 1 unrelated or constant, 2 inverted.

    r = cov(f, m) / sqrt(var f var m). No unit; unchanged by f -> a f + b, a > 0.
    """
    checked_pair(fixed, moving)
    w = checked_weights(weights, fixed)
    w = torch.ones_like(fixed[:1]) if w is None else w
    w = w / w.sum()
    axes = (1, 2, 3)
    f = fixed - (w * fixed).sum(dim=axes, keepdim=True)
    m = moving - (w * moving).sum(dim=axes, keepdim=True)
    covariance = (w * f * m).sum(dim=axes)
    variances = (w * f * f).sum(dim=axes) * (w * m * m).sum(dim=axes)
    constant = variances <= _TINY**2  # no correlation, and no gradient either
    return torch.where(constant, 1.0, 1.0 - covariance / variances.clamp(min=_TINY**2).sqrt()).mean()


def lncc(
    fixed: torch.Tensor, moving: torch.Tensor, window: int | Sequence[int] = 9, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Local correlation: mean over x of 1 - cc(x), cc = cov_x(f, m)^2 / (var_x f var_x m), in [0, 1].

    Moments are taken over a box of `window` voxels (odd; one number or one for each of D, H, W) by box sums, over the
    part of it inside the image and the mask. Flat windows count as unrelated (cc = 0): each variance is raised by 1e-5 of
    the image's own. No unit. Source: Cachier et al. 2003; Avants et al., Med. Image Anal. 2008.
    """
    checked_pair(fixed, moving)
    sizes = (window,) * 3 if isinstance(window, int) else tuple(window)
    if len(sizes) != 3 or any(n < 1 or n % 2 == 0 for n in sizes) or max(sizes) == 1:
        raise InputError(f"'window' must be odd voxel counts with at least one above 1, found {window!r}.")
    radius = tuple(n // 2 for n in sizes)
    w = checked_weights(weights, fixed)
    ones = torch.ones_like(fixed[:1]) if w is None else w
    total = box_sum(ones, radius).clamp(min=_TINY)

    def local(values: torch.Tensor) -> torch.Tensor:
        return box_sum(values * ones, radius) / total

    f, floor_f = _centred(fixed, ones)
    m, floor_m = _centred(moving, ones)
    mean_f, mean_m = local(f), local(m)
    covariance = local(f * m) - mean_f * mean_m
    variance_f = (local(f * f) - mean_f * mean_f).clamp(min=0.0) + floor_f
    variance_m = (local(m * m) - mean_m * mean_m).clamp(min=0.0) + floor_m
    return weighted_mean(1.0 - covariance * covariance / (variance_f * variance_m), w)


def _centred(data: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Data minus its mean (float32 would lose the local variance of large values), and the variance floor (C, 1, 1, 1)."""
    axes, total = (1, 2, 3), weights.sum()
    centred = data - (weights * data).sum(dim=axes, keepdim=True) / total
    variance = (weights * centred * centred).sum(dim=axes, keepdim=True) / total
    return centred, _RELATIVE_VARIANCE_FLOOR * variance + _TINY


def ngf(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    grid: Grid,
    epsilon_per_mm: float | tuple[float, float],
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalised gradient fields, squared: mean of 1 - <n_f, n_m>^2 with n_g = grad g / sqrt(|grad g|^2 + epsilon^2).

    0 where edges are parallel or opposite, 1 where they cross or nothing happens. Gradients are world gradients on `grid`
    in intensity/mm; `epsilon_per_mm` (one number, or fixed and moving) is the gradient below which an edge counts as
    noise, in the same unit. Unchanged by rotation of the world. Source: Haber and Modersitzki, MICCAI 2006.
    """
    checked_pair(fixed, moving)
    epsilons = epsilon_per_mm if isinstance(epsilon_per_mm, tuple) else (epsilon_per_mm, epsilon_per_mm)
    if len(epsilons) != 2 or not all(e > 0.0 for e in epsilons):
        raise InputError(f"'epsilon_per_mm' must be positive, found {epsilon_per_mm!r}.")
    grad_f, grad_m = spatial_gradient(fixed, grid), spatial_gradient(moving, grid)
    product = (grad_f * grad_m).sum(dim=1)
    square_f = (grad_f * grad_f).sum(dim=1) + epsilons[0] ** 2
    square_m = (grad_m * grad_m).sum(dim=1) + epsilons[1] ** 2
    return weighted_mean(1.0 - product * product / (square_f * square_m), checked_weights(weights, fixed))


def mutual_information(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    bins: int = 32,
    weights: torch.Tensor | None = None,
    fixed_range: tuple[float, float] | None = None,
    moving_range: tuple[float, float] | None = None,
) -> torch.Tensor:
    """Minus the mutual information in nats: -sum_ab p(a, b) ln(p(a, b) / (p(a) p(b))); 0 for unrelated or constant images.

    p is the joint histogram of `bins` x `bins` Parzen windows (cubic B-splines, which sum to 1 and are smooth). The ranges
    default to the images' minimum and maximum within the mask; values outside a given range are clamped to it. One
    channel only. Source: Mattes et al. 2003; Thevenaz and Unser 2000. Deterministic; memory bounded by chunks.
    """
    checked_pair(fixed, moving)
    if fixed.shape[0] != 1:
        raise InputError(f"Mutual information takes one channel, found {fixed.shape[0]}.")
    if bins < 5:
        raise InputError(f"'bins' must be at least 5, found {bins}.")
    w = checked_weights(weights, fixed)
    f, m = fixed.reshape(-1), moving.reshape(-1)
    if w is None:
        flat = torch.full_like(f, 1.0 / f.numel())
    else:
        keep = w.reshape(-1) > 0
        f, m, flat = f[keep], m[keep], w.reshape(-1)[keep] / w.sum()
    f, m = _bin_position(f, bins, fixed_range), _bin_position(m, bins, moving_range)
    joint = torch.zeros(bins, bins, dtype=f.dtype, device=f.device)
    chunks = zip(f.split(_MI_CHUNK_VOXELS), m.split(_MI_CHUNK_VOXELS), flat.split(_MI_CHUNK_VOXELS), strict=True)
    for part in chunks:  # recomputed in the backward pass: the (voxels, bins) windows are never all alive
        joint = joint + checkpoint(_joint_histogram, *part, bins, use_reentrant=False, preserve_rng_state=False)
    independent = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    return -(joint * (joint.clamp(min=_TINY) / independent.clamp(min=_TINY)).log()).sum()


def _bin_position(values: torch.Tensor, bins: int, limits: tuple[float, float] | None) -> torch.Tensor:
    """Continuous bin coordinate in [1, bins - 2], so that every window lies wholly on the histogram."""
    if limits is None:
        low, high = values.min(), values.max()
    else:
        low, high = (torch.as_tensor(v, dtype=values.dtype, device=values.device) for v in limits)
        if not limits[0] < limits[1]:
            raise InputError(f"An intensity range must increase, found {limits!r}.")
    return 1.0 + ((values - low) / (high - low).clamp(min=_TINY)).clamp(0.0, 1.0) * (bins - 3)


def _joint_histogram(f: torch.Tensor, m: torch.Tensor, w: torch.Tensor, bins: int) -> torch.Tensor:
    centres = torch.arange(bins, dtype=f.dtype, device=f.device)
    return (_cubic_bspline(f[:, None] - centres) * w[:, None]).T @ _cubic_bspline(m[:, None] - centres)


def _cubic_bspline(t: torch.Tensor) -> torch.Tensor:
    """Cubic B-spline: 2/3 at 0, 1/6 at 1, 0 from 2 on; its integer translates sum to 1."""
    a = t.abs()
    return torch.where(a < 1.0, 2.0 / 3.0 - a * a * (1.0 - a / 2.0), (2.0 - a).clamp(min=0.0) ** 3 / 6.0)


def mind_ssc(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    radius: Sequence[int] = (1, 1, 1),
    dilation: Sequence[int] = (2, 2, 2),
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared difference of the 12 MIND-SSC channels of two one-channel images: mean (D_f - D_m)^2, in [0, 1].

    `radius` and `dilation` in voxels (D, H, W). The descriptors look up to dilation + radius voxels beyond a voxel: the mask
    weighs the comparison, not what the descriptors have seen. The gradient holds the limits of the variance clamp fixed.
    Source: Heinrich et al., MICCAI 2013.
    """
    checked_pair(fixed, moving)
    if fixed.shape[0] != 1:
        raise InputError(f"MIND-SSC takes one channel, found {fixed.shape[0]}.")
    w = checked_weights(weights, fixed)
    difference = _descriptor(fixed, radius, dilation) - _descriptor(moving, radius, dilation)
    return weighted_mean(difference * difference, w)


def _descriptor(data: torch.Tensor, radius: Sequence[int], dilation: Sequence[int]) -> torch.Tensor:
    """mind.mind_ssc, and the same without its in-place steps where the gradient of the image is wanted."""
    if not (data.requires_grad and torch.is_grad_enabled()):
        return mind.mind_ssc(data, radius, dilation)
    pad = [p for d in reversed(tuple(dilation)) for p in (d, d)]
    padded = functional.pad(data[None], pad, mode="replicate")[0, 0]

    def shifted(offset: Sequence[int]) -> torch.Tensor:
        return padded[tuple(slice(d + o * d, d + o * d + n) for o, d, n in zip(offset, dilation, data.shape[1:], strict=True))]

    squares = torch.stack([(shifted(a) - shifted(b)) ** 2 for a, b in mind.PAIRS])
    distance = box_mean(squares, radius)
    distance = distance - distance.amin(dim=0, keepdim=True)
    variance = distance.mean(dim=0, keepdim=True)
    typical = float(variance.detach().mean())
    if typical <= 0.0:
        return torch.ones_like(distance) + 0.0 * distance
    return torch.exp(-distance / variance.clamp(0.001 * typical, 1000.0 * typical))
