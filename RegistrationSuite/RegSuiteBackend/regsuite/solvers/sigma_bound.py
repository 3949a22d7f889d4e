"""The variational bound of a deformation's uncertainty, minimised for the standard deviation of each component.

q(z) = N(u, G C C^T G^T) around the given displacement u, C a Gaussian kernel of `kernel_mm` with rows of unit L2 norm, so that the
diagonal G = sigma holds true marginal standard deviations. Per component, on a lattice with spacings h:

    L(sigma) = sum_i [ w E_n h_i(sigma_i |n|) - log sigma_i ] + sum_edges lambda_e / (2 h_e^2) (s_i^2 + s_j^2 - 2 rho_e s_i s_j)

with n ~ N(0, 1), h_i(r) how much worse the images agree r mm away (negative where they agree better), rho_e = exp(-h_e^2 / (4
kernel^2)) the correlation of neighbours: only they enter, nothing else of the covariance is stored. Source: Smolders et al., WBIR
2022, equations 2 to 4. Differs from the paper in: the expected image term is integrated exactly over h, a curve that is linear
between the probed distances, where the paper draws one sample; sigma is solved for, where the paper trains a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from regsuite.ops.filters import apply_matrices, downsample, upsample_matrix
from regsuite.ops.random_fields import neighbour_correlation

_DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
_START_MM = 3.0
_LONGEST_STEP = 0.7  # of log sigma
_PLAN = ((4, 80), (2, 40), (1, 30))  # coarsening of the lattice, largest number of sweeps


@dataclass(frozen=True)
class Bound:
    """One component's bound on a lattice.

    curves (K, d, h, w): expected cost at the distances radii_mm, over twice the noise variance, relative to distance 0, constant
    beyond the last; stiffness (d, h, w): lambda, 1/(mm/mm)^2; spacing: mm along (D, H, W); limits_mm: of sigma.
    """

    curves: torch.Tensor
    radii_mm: tuple[float, ...]
    stiffness: torch.Tensor
    spacing: tuple[float, float, float]
    kernel_mm: float
    weight: float
    limits_mm: tuple[float, float]

    def resized(self, shape: Sequence[int]) -> Bound:
        """The same bound on a coarser lattice over the same box."""
        own = self.stiffness.shape
        spacing = [h * n / m for h, n, m in zip(self.spacing, own, shape, strict=True)]
        curves = downsample(self.curves, shape)
        stiffness = downsample(self.stiffness[None], shape)[0]
        return Bound(
            curves, self.radii_mm, stiffness, (spacing[0], spacing[1], spacing[2]), self.kernel_mm, self.weight, self.limits_mm
        )

    def edges(self) -> list[tuple[int, torch.Tensor, float]]:
        """(axis, lambda_e / h_e^2, rho_e) of the edges along each axis that has any."""
        found = []
        for axis, mm in enumerate(self.spacing):
            n = self.stiffness.shape[axis]
            if n > 1:
                mean = 0.5 * (self.stiffness.narrow(axis, 0, n - 1) + self.stiffness.narrow(axis, 1, n - 1))
                found.append((axis, mean / mm**2, neighbour_correlation(mm, self.kernel_mm)))
        return found

    def value(self, log_sigma: torch.Tensor) -> torch.Tensor:
        """L / number of nodes, differentiable in log_sigma (d, h, w)."""
        sigma = log_sigma.exp()
        total = (self.weight * expected_curve(self.curves, self.radii_mm, sigma) - log_sigma).sum()
        for axis, stiffness, rho in self.edges():
            n = sigma.shape[axis]
            a, b = sigma.narrow(axis, 0, n - 1), sigma.narrow(axis, 1, n - 1)
            total = total + (0.5 * stiffness * (a * a + b * b - 2.0 * rho * a * b)).sum()
        return total / sigma.numel()


def expected_curve(curves: torch.Tensor, radii_mm: Sequence[float], sigma: torch.Tensor) -> torch.Tensor:
    """E h(sigma |n|), n ~ N(0, 1): curves (K, ...) at radii_mm, 0 at 0, linear between, constant beyond; sigma (...) -> (...)."""

    def below(r: float) -> torch.Tensor:
        return torch.special.ndtr(r / sigma)

    out = 2.0 * curves[-1] * (1.0 - below(radii_mm[-1]))
    r0, h0 = 0.0, torch.zeros_like(sigma)
    for r1, h1 in zip(radii_mm, curves, strict=True):
        slope = (h1 - h0) / (r1 - r0)
        out = (
            out
            + 2.0 * (h0 - slope * r0) * (below(r1) - below(r0))
            + 2.0 * slope * sigma * (_normal(r0, sigma) - _normal(r1, sigma))
        )
        r0, h0 = r1, h1
    return out


def curve_slope(curves: torch.Tensor, radii_mm: Sequence[float], sigma: torch.Tensor) -> torch.Tensor:
    """sigma d/dsigma of `expected_curve`: only the normal density at the probed distances is needed."""
    out, h0 = torch.zeros_like(sigma), torch.zeros_like(sigma)
    r0, density0 = 0.0, torch.full_like(sigma, _DENSITY)
    for r1, h1 in zip(radii_mm, curves, strict=True):
        density1 = _normal(r1, sigma)
        out += (h1 - h0) * (2.0 / (r1 - r0)) * (density0 - density1)
        r0, h0, density0 = r1, h1, density1
    return out.mul_(sigma)


def _normal(r: float, sigma: torch.Tensor) -> torch.Tensor:
    return torch.exp(-0.5 * (r / sigma) ** 2) * _DENSITY


def minimise(bound: Bound, tick: Callable[[float], None]) -> tuple[torch.Tensor, float]:
    """log sigma (d, h, w) at a minimum of the bound, coarse to fine, and the mean size of the last step.

    Each sweep takes a damped Newton step at every node with its neighbours held. tick(fraction) is called after every sweep.
    """
    own = bound.stiffness.shape
    shapes = [tuple(max(1, math.ceil(n / factor)) for n in own) for factor, _ in _PLAN]
    work = [sweeps * math.prod(shape) for shape, (_, sweeps) in zip(shapes, _PLAN, strict=True)]
    done, x, change = 0.0, None, 0.0
    for shape, (_, sweeps), cost in zip(shapes, _PLAN, work, strict=True):
        level = bound if shape == tuple(own) else bound.resized(shape)
        if x is None:
            x = torch.full(shape, math.log(_START_MM), dtype=bound.curves.dtype, device=bound.curves.device)
        else:
            d, h, w = (upsample_matrix(a, b, x) for a, b in zip(x.shape, shape, strict=True))
            x = apply_matrices(x[None], (d, h, w))[0]
        for sweep in range(sweeps):
            x, change = _sweep(level, x)
            tick((done + cost * (sweep + 1) / sweeps) / sum(work))
        done += cost
    assert x is not None
    return x, change


def _sweep(bound: Bound, x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """One simultaneous step of all nodes; returns the new log sigma and the mean size of the step."""
    sigma = x.exp()
    own, pull = torch.zeros_like(sigma), torch.zeros_like(sigma)
    for axis, stiffness, rho in bound.edges():
        n = sigma.shape[axis]
        for first, second in ((0, 1), (1, 0)):
            own.narrow(axis, first, n - 1).add_(stiffness)
            pull.narrow(axis, first, n - 1).add_(stiffness * sigma.narrow(axis, second, n - 1), alpha=rho)
    data = bound.weight * curve_slope(bound.curves, bound.radii_mm, sigma)
    own, pull = own * sigma * sigma, pull * sigma
    curvature = (data.clamp(min=0.0) + 2.0 * own - pull + 0.5).clamp(min=0.5)
    step = ((data + own - pull - 1.0) / curvature).clamp(-_LONGEST_STEP, _LONGEST_STEP)
    low, high = (math.log(v) for v in bound.limits_mm)
    return (x - step).clamp(low, high), float(step.abs().mean())
