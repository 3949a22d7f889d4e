"""Points of an image that can be told from their surroundings in every direction."""

from __future__ import annotations

import torch
from torch.nn import functional

from regsuite.ops.filters import gaussian_smooth

_TINY = 1e-12


def distinctiveness(data: torch.Tensor, spacing: tuple[float, float, float], sigma_voxels: float = 1.4) -> torch.Tensor:
    """(1, D, H, W) -> (D, H, W): 1 / trace(S^-1), S the structure tensor (gradient products under a Gaussian), per mm^2.

    spacing: mm along (D, H, W). Large only where the image changes along all three axes. Source: Foerstner and Guelch 1987;
    Rohr 2001. Gradients by the five-point difference [1, -8, 0, 8, -1] / 12, borders repeated.
    """
    slopes = [_five_point(data[0], axis) / h for axis, h in enumerate(spacing)]
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    products = torch.stack([slopes[a] * slopes[b] for a, b in pairs])
    a, b, c, d, e, f = gaussian_smooth(products, (sigma_voxels,) * 3)
    adjugate = (b * c - f * f) + (a * c - e * e) + (a * b - d * d)
    determinant = a * (b * c - f * f) - d * (d * c - e * f) + e * (d * f - b * e)
    return determinant.clamp(min=0.0) / adjugate.clamp(min=_TINY)


def spread_keypoints(strength: torch.Tensor, allowed: torch.Tensor, count: int) -> torch.Tensor:
    """(K, 3) indices (k, j, i), strongest first, K <= count: in each of the cells that hold `allowed` (D, H, W, bool) voxels, the
    allowed voxel of the largest `strength`. So points are everywhere, and nothing outside `allowed` has a say."""
    shown = torch.where(allowed, strength, torch.full_like(strength, -1.0))[None, None]
    side = max(1, int((float(allowed.sum()) / max(count, 1)) ** (1.0 / 3.0)))
    while True:
        best, place = functional.max_pool3d(shown, side, stride=side, ceil_mode=True, return_indices=True)
        if int((best >= 0.0).sum()) <= count:
            break
        side += 1
    found, where = best[best >= 0.0], place[best >= 0.0]
    order = found.sort(descending=True, stable=True).indices
    flat, (_, h, w) = where[order], strength.shape
    return torch.stack([flat // (h * w), flat // w % h, flat % w], dim=1)


def eroded(mask: torch.Tensor, voxels: tuple[int, int, int]) -> torch.Tensor:
    """(D, H, W) bool without what lies within `voxels` (along D, H, W) of something outside; the image's border is no outside."""
    pad = [2 * n + 1 for n in voxels]
    outside = functional.max_pool3d((~mask)[None, None].float(), pad, stride=1, padding=list(voxels))
    return outside[0, 0] < 0.5


def _five_point(data: torch.Tensor, axis: int) -> torch.Tensor:
    n = data.shape[axis]
    if n == 1:
        return torch.zeros_like(data)
    place = torch.arange(n, device=data.device)
    total = torch.zeros_like(data)
    for offset, weight in ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0)):
        total += weight / 12.0 * data.index_select(axis, (place + offset).clamp(0, n - 1))
    return total
