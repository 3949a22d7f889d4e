"""The reproducing kernel of smooth velocities: a sum of Gaussians in millimetres, factorised so that it is exactly symmetric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

_NODES_PER_SIGMA = 1.2  # of the half kernel: aliasing of the Gaussian below 2e-6
_REACH = 4.0
_NEGLIGIBLE = 1e-6  # of the largest entry
_LEAST_BLOCK = 48  # voxels: smaller matrix products are not quicker


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
        lines = [(axis, shape[axis - 1], spacing_mm[axis - 1]) for axis in (1, 2, 3) if shape[axis - 1] > 1]
        self._factors = [[(axis, _factor(n, h, s, rest_mm, like)) for axis, n, h in lines] for s in scales_mm]

    def __call__(self, momentum: torch.Tensor) -> torch.Tensor:
        """K m."""
        total: torch.Tensor | None = None
        for axes in self._factors:
            part = momentum
            for axis, factor in axes:
                part = factor.gather(part, axis)
            for axis, factor in reversed(axes):
                part = factor.spread(part, axis)
            total = part if total is None else total.add_(part)
        assert total is not None
        return total if len(self._factors) == 1 else total.div_(len(self._factors))


class _Factor:
    """A along one axis (n, nodes), by blocks of the voxels, as it is 0 far from its diagonal; or the whole of A A^T when that is
    cheaper, all of it in `gather`."""

    def __init__(self, half: torch.Tensor, reach: float, like: torch.Tensor) -> None:
        n, nodes = half.shape
        self.whole = (half @ half.T).to(like) if 2 * nodes >= n else None
        self.shape = (n, n if self.whole is not None else nodes)
        count = max(1, int(n // max(_LEAST_BLOCK, reach)))
        edges = [round(n * k / count) for k in range(count + 1)]
        self.blocks = []
        for first, last in pairwise(edges):
            used = torch.nonzero(half[first:last].amax(dim=0) > _NEGLIGIBLE * half.max())[:, 0]
            low, high = int(used[0]), int(used[-1]) + 1
            self.blocks.append((slice(first, last), slice(low, high), half[first:last, low:high].contiguous().to(like)))

    def gather(self, data: torch.Tensor, axis: int) -> torch.Tensor:
        """A^T along `axis` of (C, D, H, W)."""
        if self.whole is not None:
            return _multiply(self.whole, data, axis)
        if len(self.blocks) == 1:
            return _multiply(self.blocks[0][2].T, data, axis)
        shape = list(data.shape)
        shape[axis] = self.shape[1]
        out = data.new_zeros(shape)
        for voxels, nodes, block in self.blocks:
            _along(out, axis, nodes).add_(_multiply(block.T, _along(data, axis, voxels), axis))
        return out

    def spread(self, data: torch.Tensor, axis: int) -> torch.Tensor:
        """A along `axis`."""
        if self.whole is not None:
            return data
        parts = [_multiply(block, _along(data, axis, nodes), axis) for _, nodes, block in self.blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


def _along(data: torch.Tensor, axis: int, part: slice) -> torch.Tensor:
    return data[(slice(None),) * axis + (part,)]


def _multiply(matrix: torch.Tensor, data: torch.Tensor, axis: int) -> torch.Tensor:
    """`matrix` applied along an axis of (C, D, H, W)."""
    if axis == 3:
        return data @ matrix.T
    if axis == 2:
        return torch.matmul(matrix, data)
    c, d, h, w = data.shape
    return torch.matmul(matrix, data.reshape(c, d, h * w)).view(c, -1, h, w)


def _factor(n: int, h: float, sigma: float, rest: float, like: torch.Tensor) -> _Factor:
    return _Factor(_window(n, h, rest)[:, None] * _half(n, h, sigma), _REACH * sigma / (math.sqrt(2.0) * h), like)


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
