"""Symmetric LNCC for stationary velocity fields: both images meet half way, and both pull.

With phi = exp(v / 2) on the lattice, E(v) compares fixed o phi^-1 with moving o T0 o phi. Exchanging the two (T0 = identity)
turns v into -v and leaves E as it is. A step d acts half on each side, so the new map is exp(v/2) exp(d) exp(v/2) =
exp(v + d + O(|v|^2 |d|)): velocities simply add, to second order (symmetric Baker-Campbell-Hausdorff).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from regsuite.geometry.grid import Grid, affine_lattice
from regsuite.ops.filters import box_count, box_sum
from regsuite.ops.sampling import normalise_matrix, sample_normalised
from regsuite.solvers.frame import Level
from regsuite.solvers.gauss_newton import gradient
from regsuite.transforms import AffineTransform, StationaryVelocityField, Transform, compose

_STEP_NODES = 0.25  # scaling and squaring starts from steps of at most this share of a node distance


def flow(v: torch.Tensor, spacing: tuple[float, float, float]) -> torch.Tensor:
    """exp(v) - id on the lattice: v (3, d, h, w) mm along (i, j, k), nodes `spacing` mm apart along (d, h, w); same shape out.

    Scaling and squaring; the border value of v goes on outside.
    """
    size = torch.tensor(v.shape[:0:-1], dtype=v.dtype, device=v.device)
    nodes = torch.tensor(spacing[::-1], dtype=v.dtype, device=v.device)
    scale = (2.0 / (size * nodes)).view(3, 1, 1, 1)
    largest = float((v.abs() / nodes.view(3, 1, 1, 1)).max())
    squarings = max(0, math.ceil(math.log2(max(largest, 1e-9) / _STEP_NODES)))
    shape = (int(v.shape[1]), int(v.shape[2]), int(v.shape[3]))
    base = affine_lattice(shape, normalise_matrix(shape), v.dtype, v.device)
    u = v / 2**squarings
    for _ in range(squarings):
        u = u + sample_normalised(u, base + (u * scale).permute(1, 2, 3, 0))
    return u


class SymmetricCorrelation:
    """E(v) = mean over mid-space voxels of w (1 - cc^2) / 2, cc the local correlation of the two half-way images.

    cc is regularised by noise^2 as in `gauss_newton.LocalCorrelation`. Windows with cc < 0 have no say unless `any_sign`: then
    an inverted contrast attracts as a straight one does. The gradient is exact (adjoint windows), the Gauss-Newton matrix that of
    the mean of both normalised gradients. Weights of fixed and moving are warped along and multiplied.
    """

    def __init__(self, level: Level, radius: int, noise: float, any_sign: bool = False) -> None:
        finest = min(level.spacing)
        shape = level.fixed.grid.shape
        self.level, self.any_sign, self.noise2 = level, any_sign, noise * noise
        self.radius = tuple(0 if n == 1 else max(1, round(radius * finest / h)) for n, h in zip(shape, level.spacing, strict=True))
        self.norm = 1.0 / box_count(shape, self.radius, level.fixed.data)
        self.damping = [math.sqrt(finest / h) for h in reversed(level.spacing)]

    def _mean(self, x: torch.Tensor) -> torch.Tensor:
        return box_sum(x, self.radius).mul_(self.norm)

    def _adjoint(self, x: torch.Tensor) -> torch.Tensor:
        return box_sum(x * self.norm, self.radius)

    def _half_way(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Both images in mid-space and the weight of each voxel there."""
        level = self.level
        spacing = level.lattice_spacing
        to_moving = level.coordinates(flow(0.5 * v, spacing))
        to_fixed = level.mirror.coordinates(flow(-0.5 * v, spacing))
        m, f = level.warp(to_moving), level.mirror.warp(to_fixed)
        inside = [c.abs().amax(dim=0, keepdim=True) <= 1.0 for c in (to_moving, to_fixed)]
        weight = (inside[0] & inside[1]).to(m.dtype)
        if level.moving_weight is not None:
            weight *= level.warp(to_moving, level.moving_weight)
        if level.weight is not None:
            weight *= level.mirror.warp(to_fixed, level.weight)
        return f, m, weight

    def linearise(self, v: torch.Tensor) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Energy, force (3, d, h, w) = -dE/dv and Gauss-Newton matrix (6, d, h, w): xx, yy, zz, xy, xz, yz on the lattice."""
        f, m, weight = self._half_way(v)
        mean_f, mean_m = self._mean(f), self._mean(m)
        var_f = (self._mean(f * f) - mean_f**2).clamp_(min=0.0).add_(self.noise2)
        var_m = (self._mean(m * m) - mean_m**2).clamp_(min=0.0).add_(self.noise2)
        a = torch.rsqrt(var_f * var_m)
        cc = self._mean(f * m) - mean_f * mean_m
        cc = (cc + self.noise2 * cc.sign() if self.any_sign else cc.add_(self.noise2)) * a
        say = cc if self.any_sign else cc.clamp(min=0.0)
        energy = float(((1.0 - say.square()) * weight).sum() / (2.0 * weight.sum().clamp(min=1.0)))
        spread = self._adjoint(say.abs())
        sigma_f, sigma_m = torch.rsqrt(var_f), torch.rsqrt(var_m)
        if self.any_sign:
            sigma_f = sigma_f * cc.sign()
        a *= say
        cc *= say
        b_m, b_f = cc / var_m, cc.div_(var_f)
        pull = self._adjoint(a)
        q_m = f * pull - m * self._adjoint(b_m) + self._adjoint(b_m * mean_m - a * mean_f)
        q_f = m * pull - f * self._adjoint(b_f) + self._adjoint(b_f * mean_f - a * mean_m)
        g_m, g_f = (self._damped_gradient(x) for x in (m, f))
        weight = weight * 0.5
        force = self.level.pool(g_m * q_m.mul_(weight) - g_f * q_f.mul_(weight))
        g = g_m.mul_(sigma_m).add_(g_f.mul_(sigma_f))
        gx, gy, gz = g[0], g[1], g[2]
        products = torch.stack([gx * gx, gy * gy, gz * gz, gx * gy, gx * gz, gy * gz])
        return energy, force, self.level.pool(products.mul_(spread.mul_(weight * 0.5)))

    def _damped_gradient(self, x: torch.Tensor) -> torch.Tensor:
        g = gradient(x, self.level.spacing)
        for component, damping in enumerate(self.damping):
            g[component] *= damping
        return g


def to_velocity_transform(v: torch.Tensor, fixed_grid: Grid, start: np.ndarray) -> Transform:
    """T = T0 o exp(v), v (3, d, h, w) mm along the axes of `fixed_grid` on a lattice that fills its box.

    The lattice is continued beyond the box by the border value, which falls to zero smoothly: the map stays one to one where
    files and other programs read zero.
    """
    grid = fixed_grid.resized((int(v.shape[1]), int(v.shape[2]), int(v.shape[3])))
    border = max(float(v.select(axis, end).norm(dim=0).max()) for axis in (1, 2, 3) for end in (0, -1))
    margin = [0 if n == 1 else 2 + math.ceil(3.0 * border / h) for n, h in zip(grid.shape, grid.spacing[::-1], strict=True)]
    wide = grid.cropped(
        (-margin[0], -margin[1], -margin[2]),
        (grid.shape[0] + 2 * margin[0], grid.shape[1] + 2 * margin[1], grid.shape[2] + 2 * margin[2]),
    )
    for axis, p in enumerate(margin):
        v = _continued(v, axis + 1, p)
    rotation = torch.as_tensor(fixed_grid.direction.copy()).to(v)
    field = StationaryVelocityField(torch.tensordot(rotation, v, dims=1).cpu().float().contiguous(), wide)
    return field if np.allclose(start, np.eye(4), atol=1e-12) else compose(AffineTransform(start), field)


def _continued(v: torch.Tensor, axis: int, margin: int) -> torch.Tensor:
    if not margin:
        return v
    ramp = torch.arange(margin, 0, -1, dtype=v.dtype, device=v.device) - 0.5
    fade = (0.5 + 0.5 * torch.cos(math.pi * ramp / margin)).view([-1 if a == axis else 1 for a in range(4)])
    ends = v.narrow(axis, 0, 1) * fade, v.narrow(axis, v.shape[axis] - 1, 1) * fade.flip(axis)
    return torch.cat([ends[0], v, ends[1]], dim=axis)
