"""Gauss-Newton refinement of a displacement lattice under local normalised cross-correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from regsuite.ops.filters import box_count, box_sum
from regsuite.progress import Progress
from regsuite.solvers.elliptic import Smoothness, solve
from regsuite.solvers.frame import Level


@dataclass(frozen=True)
class RefineSettings:
    """window_radius: voxels; smoothness: lambda; robust_gradient: Charbonnier scale of |grad u|."""

    iterations: int
    window_radius: int
    smoothness: float
    robust_gradient: float
    noise: float
    affinity: float = 0.0
    reach: float = 2.0
    cg_iterations: int = 12
    tolerance_mm: float = 0.01
    max_step_voxels: float = 1.0


class LocalCorrelation:
    """LNCC of one level with everything that depends on the fixed image alone computed once."""

    def __init__(self, level: Level, radius: int, noise: float) -> None:
        self.level = level
        finest = min(level.spacing)
        self.radius = tuple(0 if n == 1 else max(1, round(radius * finest / h)) for n, h in zip(level.fixed.grid.shape, level.spacing, strict=True))
        self.norm = 1.0 / box_count(level.fixed.grid.shape, self.radius, level.fixed.data)
        self.noise2 = noise * noise
        f = level.fixed.data
        self.mean_f = self._mean(f)
        self.var_f = (self._mean(f * f) - self.mean_f**2).clamp_(min=0.0).add_(self.noise2)
        self.grad_f = gradient(f, level.spacing)

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        return box_sum(x, self.radius).mul_(self.norm)

    def linearise(self, u: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Energy (mean of 1 - cc), force (3, d, h, w) = -dE/du and Gauss-Newton matrix (6, d, h, w) on the lattice."""
        level = self.level
        coordinates = level.coordinates(u)
        m = level.warp(coordinates)
        inside = ((coordinates.abs() <= 1.0).all(dim=0, keepdim=True)).to(m.dtype)
        if level.weight is not None:
            inside = inside * level.weight
        f = level.fixed.data
        mean_m = self._mean(m)
        var_m = (self._mean(m * m) - mean_m**2).clamp_(min=0.0).add_(self.noise2)
        a = torch.rsqrt(self.var_f * var_m)
        cc = (self._mean(f * m) - self.mean_f * mean_m) * a
        b = cc / var_m
        q = f * self._mean(a) - m * self._mean(b) + self._mean(b * mean_m - a * self.mean_f)
        scale = self._mean(1.0 / var_m) * inside
        g = gradient(m, level.spacing)
        q *= inside
        force = level.pool(g * q)
        gx, gy, gz = g[0], g[1], g[2]
        products = torch.stack([gx * gx, gy * gy, gz * gz, gx * gy, gx * gz, gy * gz])
        matrix = level.pool(products.mul_(scale))
        energy = float(((1.0 - cc) * inside).sum() / inside.sum().clamp(min=1.0))
        return energy, force, matrix


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


def refine(level: Level, u: torch.Tensor, settings: RefineSettings, progress: Progress, history: list, tag: str, wall: torch.Tensor | None = None) -> torch.Tensor:
    """Minimise mean(1 - LNCC) + lambda mean(psi(|grad u|)) from u (3, d, h, w) mm on level.lattice; returns the new u."""
    similarity = LocalCorrelation(level, settings.window_radius, settings.noise)
    limit = settings.max_step_voxels * min(level.spacing)
    for iteration in range(settings.iterations):
        energy, force, matrix = similarity.linearise(u)
        smooth = Smoothness(u, level.lattice_spacing, settings.smoothness, settings.robust_gradient, settings.affinity, settings.reach, wall)
        delta = solve(matrix, force - smooth.pull, smooth, settings.cg_iterations)
        length = delta.square().sum(dim=0, keepdim=True).sqrt_()
        delta *= (limit / length.clamp(min=1e-9)).clamp(max=1.0)
        u = u + delta
        change = float(length.mean())
        history.append({"stage": "refine", "level": tag, "iteration": iteration, "energy": energy, "change_mm": change})
        progress.step((iteration + 1) / settings.iterations, f"{tag}, iteration {iteration + 1}, similarity {1.0 - energy:.4f}")
        if not math.isfinite(change) or change < settings.tolerance_mm:
            break
    return u
