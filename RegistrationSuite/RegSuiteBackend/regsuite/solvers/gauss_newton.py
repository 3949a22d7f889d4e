"""Gauss-Newton refinement of a displacement lattice under local normalised cross-correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from regsuite.ops.filters import box_count, box_sum
from regsuite.progress import Progress
from regsuite.solvers.elliptic import Smoothness, solve
from regsuite.solvers.frame import Level


@dataclass(frozen=True)
class RefineSettings:
    """window_radius: voxels; smoothness: lambda; robust_gradient: scale at which |grad u - A| counts as sliding (see Smoothness).

    reach: nodes over which A is averaged. Thick slices tell little about the motion across them: its A follows a wider
    neighbourhood, up to `widest_reach` nodes from about three times the finest spacing on (ours).
    affinity: share of A that is free; below 1 a steady stretch costs a little. momentum: share of the last move that goes on before
    the next step is taken (Nesterov): A follows from step to step only, so that smooth motion would take many; 0 for none.
    Stops when the mean step falls below tolerance_mm, or twice in a row the energy falls by less than `tolerance` of itself.
    """

    iterations: int
    window_radius: int
    smoothness: float
    robust_gradient: float
    noise: float
    affinity: float = 1.0
    reach: float = 0.7
    widest_reach: float = 30.0
    cg_iterations: int = 12
    tolerance_mm: float = 0.01
    tolerance: float = 5e-5
    max_step_voxels: float = 1.0
    momentum: float = 0.0

    def reaches(self, spacing: tuple[float, float, float]) -> tuple[float, float, float]:
        """Nodes for the displacement along (i, j, k), voxels `spacing` mm apart along (D, H, W)."""
        thick = [max(1.0, h / (2.0 * min(spacing))) ** 10 for h in reversed(spacing)]
        i, j, k = (min(self.reach * t, max(self.reach, self.widest_reach)) for t in thick)
        return i, j, k


class LocalCorrelation:
    """LNCC of one level, E(u) = mean over voxels of w (1 - max(cc, 0)^2) / 2; what depends on the fixed image alone is kept.

    cc(x) = (<f m> - <f><m> + noise^2) / sqrt((var f + noise^2)(var m + noise^2)), so that equal windows give 1 and no force, flat
    ones too; <.> is the mean over a box window *of the weighted voxels*:
    with a mask as weight, what lies outside neither pulls nor leaks into the windows. The gradient is exact (adjoint windows);
    the matrix is Gauss-Newton's for the locally normalised difference. Along an axis with thick voxels the force is damped by
    sqrt(finest / spacing): linear interpolation between thick slices blurs, which looks like similarity and pulls between slices.
    """

    def __init__(self, level: Level, radius: int, noise: float) -> None:
        self.level = level
        finest = min(level.spacing)
        shape = level.fixed.grid.shape
        self.radius = tuple(0 if n == 1 else max(1, round(radius * finest / h)) for n, h in zip(shape, level.spacing, strict=True))
        self.weight = level.weight
        count = box_count(shape, self.radius, level.fixed.data) if self.weight is None else box_sum(self.weight, self.radius)
        self.norm = 1.0 / count.clamp(min=1e-3)
        self.noise2 = noise * noise
        self.damping = [math.sqrt(finest / h) for h in reversed(level.spacing)]
        f = level.fixed.data
        self.mean_f = self._mean(f)
        self.var_f = (self._mean(f * f) - self.mean_f**2).clamp_(min=0.0).add_(self.noise2)

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        return box_sum(x if self.weight is None else x * self.weight, self.radius).mul_(self.norm)

    def _adjoint(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.norm
        return box_sum(x if self.weight is None else x.mul_(self.weight), self.radius)

    def linearise(self, u: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Energy, force (3, d, h, w) = -dE/du and Gauss-Newton matrix (6, d, h, w): xx, yy, zz, xy, xz, yz on the lattice."""
        level = self.level
        coordinates = level.coordinates(u)
        m = level.warp(coordinates)
        weight = (coordinates.abs().amax(dim=0, keepdim=True) <= 1.0).to(m.dtype)
        if self.weight is not None:
            weight *= self.weight
        if level.moving_weight is not None:
            weight *= level.warp(coordinates, level.moving_weight)
        del coordinates
        f = level.fixed.data
        mean_m = self._mean(m)
        var_m = (self._mean(m * m) - mean_m**2).clamp_(min=0.0).add_(self.noise2)
        a = torch.rsqrt(self.var_f * var_m)
        cc = (self._mean(f * m) - self.mean_f * mean_m).add_(self.noise2) * a
        energy = float(((1.0 - cc.clamp(min=0.0).square_()) * weight).sum() / (2.0 * weight.sum().clamp(min=1.0)))
        agreement = cc.clamp(min=0.0)  # of E = (1 - cc^2) / 2 for cc > 0: windows that do not match lose their say
        a *= agreement
        b = cc.mul_(agreement).div_(var_m)
        q = f * self._adjoint(a) - m * self._adjoint(b) + self._adjoint(b.mul_(mean_m).sub_(a.mul_(self.mean_f)))
        scale = self._adjoint(agreement.div_(var_m)).mul_(weight)
        g = gradient(m, level.spacing)
        for component, damping in enumerate(self.damping):
            g[component] *= damping
        force = level.pool(g * q.mul_(weight))
        gx, gy, gz = g[0], g[1], g[2]
        products = torch.stack([gx * gx, gy * gy, gz * gz, gx * gy, gx * gz, gy * gz])
        return energy, force, level.pool(products.mul_(scale))


def gradient(x: torch.Tensor, spacing: tuple[float, float, float]) -> torch.Tensor:
    """(1, D, H, W) -> (3, D, H, W): central differences per mm along (i, j, k); 0 on the first and last plane."""
    out = torch.zeros(3, *x.shape[1:], dtype=x.dtype, device=x.device)
    for component, axis in enumerate((2, 1, 0)):
        n = x.shape[axis + 1]
        if n < 3:
            continue
        inner = out[component].narrow(axis, 1, n - 2)
        torch.sub(x[0].narrow(axis, 2, n - 2), x[0].narrow(axis, 0, n - 2), out=inner)
        inner.mul_(0.5 / spacing[axis])
    return out


class Similarity(Protocol):
    """What the descent needs to know of a similarity."""

    def linearise(self, u: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Energy, force (3, d, h, w) = -dE/du and Gauss-Newton matrix (6, d, h, w) on the lattice."""
        ...


def refine(
    level: Level,
    u: torch.Tensor,
    settings: RefineSettings,
    progress: Progress,
    history: list,
    tag: str,
    similarity: Similarity | None = None,
) -> torch.Tensor:
    """Minimise E(u) + lambda mean(psi(grad u)) from u (3, d, h, w) mm on level.lattice; E defaults to `LocalCorrelation`."""
    similarity = similarity or LocalCorrelation(level, settings.window_radius, settings.noise)
    limit = settings.max_step_voxels * min(level.spacing)
    reach = settings.reaches(level.spacing)
    previous, stalled = math.inf, 0
    before = u
    for iteration in range(settings.iterations):
        u, before = u + settings.momentum * (u - before), u
        energy, force, matrix = similarity.linearise(u)
        smooth = Smoothness(u, level.lattice_spacing, settings.smoothness, settings.robust_gradient, settings.affinity, reach)
        delta = solve(matrix, force - smooth.pull, smooth, settings.cg_iterations)
        length = delta.square().sum(dim=0, keepdim=True).sqrt_()
        delta *= (limit / length.clamp(min=1e-9)).clamp(max=1.0)
        u = u + delta
        change = float(length.mean())
        history.append({"stage": "refine", "level": tag, "iteration": iteration, "energy": energy, "change_mm": change})
        progress.step(
            (iteration + 1) / settings.iterations,
            f"{tag}, iteration {iteration + 1}, mean squared correlation {1.0 - 2.0 * energy:.4f}",
        )
        stalled = stalled + 1 if previous - energy < settings.tolerance * energy else 0
        previous = energy
        if change < settings.tolerance_mm or stalled == 2:
            break
    return u
