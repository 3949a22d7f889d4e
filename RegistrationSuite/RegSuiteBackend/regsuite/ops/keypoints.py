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


def spread_keypoints(strength: torch.Tensor, allowed: torch.Tensor, count: int, radius: int, least: float = 0.01) -> torch.Tensor:
    """(K, 3) indices (k, j, i), K <= count, strongest first: local maxima of `strength` (D, H, W) within +-radius, both taken where
    `allowed` (bool) only. Those below `least` times the strongest tenth's level are noise and are left out."""
    strength = torch.where(allowed, strength, torch.zeros_like(strength))
    highest = functional.max_pool3d(strength[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]
    index = ((strength >= highest) & (strength > 0.0)).nonzero()
    found = strength[tuple(index.T)]
    if not len(found):
        return index
    found, order = found.sort(descending=True, stable=True)
    enough = int((found > least * found[len(found) // 10]).sum())
    return index[order[: min(count, enough)]]


def _five_point(data: torch.Tensor, axis: int) -> torch.Tensor:
    n = data.shape[axis]
    if n == 1:
        return torch.zeros_like(data)
    place = torch.arange(n, device=data.device)
    total = torch.zeros_like(data)
    for offset, weight in ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0)):
        total += weight / 12.0 * data.index_select(axis, (place + offset).clamp(0, n - 1))
    return total
