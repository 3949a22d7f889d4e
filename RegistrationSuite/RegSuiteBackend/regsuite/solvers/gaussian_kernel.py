"""The reproducing kernel of smooth velocities: a sum of Gaussians in millimetres, factorised so that it is exactly symmetric."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from regsuite.ops.filters import apply_matrices

_NODES_PER_SIGMA = 1.2  # of the half kernel: aliasing of the Gaussian below 2e-6
_REACH = 4.0


class GaussianKernel:
    """K m = mean over the scales s of g_s * m, g_s the Gaussian of standard deviation s mm with integral 1; zero beyond the image.

    A Gaussian is the square of one sqrt(2) narrower. That one is taken on nodes as coarse as it allows, K = A A^T with A of
    (voxels, nodes) along each axis: a few matrix products instead of a wide convolution, symmetric and positive to rounding, so
    that <m, K m> = |A^T m|^2 is a squared norm. With `rest_mm` velocities fall to 0 within that distance of the border (K becomes
    w K w), so that nothing moves across it. Axes of one voxel are left alone. Shapes: (C, D, H, W) -> the same.
    """

    def __init__(
        self, shape: Sequence[int], spacing_mm: Sequence[float], scales_mm: Sequence[float], like: torch.Tensor, rest_mm: float =
        0.0
    ) -> None:
        self._factors = [[_axis(n, h, s, rest_mm, like) for n, h in zip(shape, spacing_mm, strict=True)] for s in scales_mm]

    def __call__(self, momentum: torch.Tensor) -> torch.Tensor:
        """K m."""
        total: torch.Tensor | None = None
        for axes in self._factors:
            part = momentum
            for side in (0, 1):
                part = apply_matrices(part, (axes[0][side], axes[1][side], axes[2][side]))
            total = part if total is None else total.add_(part)
        assert total is not None
        return total if len(self._factors) == 1 else total.div_(len(self._factors))


Sides = tuple[torch.Tensor | None, torch.Tensor | None]


def _axis(n: int, h: float, sigma: float, rest: float, like: torch.Tensor) -> Sides:
    """What is applied along one axis, first and second: A^T and A, or the whole of A A^T and nothing when that is cheaper."""
    if n == 1:
        return None, None
    half = _window(n, h, rest)[:, None] * _half(n, h, sigma)
    if 2 * half.shape[1] >= n:
        return (half @ half.T).to(like), None
    return half.T.contiguous().to(like), half.to(like)


def _window(n: int, h: float, rest: float) -> torch.Tensor:
    """(n,) float64: 1 inside, falling as a squared sine to 0 at the border voxels."""
    if rest <= 0.0:
        return torch.ones(n, dtype=torch.float64)
    at = torch.arange(n, dtype=torch.float64)
    share = (torch.minimum(at, n - 1 - at) * h / rest).clamp(max=1.0)
    return torch.sin(0.5 * math.pi * share) ** 2


def _half(n: int, h: float, sigma: float) -> torch.Tensor:
    """(n, nodes) float64 A with A A^T ~ h g_sigma(x - y) between voxel centres h apart."""
    s = sigma / math.sqrt(2.0)
    step = max(s / _NODES_PER_SIGMA, h * 0.5)
    length = (n - 1) * h + 2.0 * _REACH * s
    count = math.ceil(length / step) + 1
    nodes = torch.linspace(-_REACH * s, (n - 1) * h + _REACH * s, count, dtype=torch.float64)
    gap = float(nodes[1] - nodes[0])
    distance = (torch.arange(n, dtype=torch.float64)[:, None] * h - nodes) / s
    return torch.exp(-0.5 * distance**2) * (math.sqrt(h * gap) / (s * math.sqrt(2.0 * math.pi)))
