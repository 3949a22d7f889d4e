"""Breathing with sliding: an exact, invertible map of the chest from exhale (fixed) to inhale (moving).

The pleura is an analytic surface in either state: a tube q = 1 with q = (|X|^p + |Y|^p)^(1/p), X = x / a(z),
Y = (y - c(z)) / b(z), where the half axes a, b and the centre c differ between exhale and inhale. In the coordinates
(X, Y, z) inside and wall move separately,

    inside (q < 1):  z' = z + d_in(X, Y, z),   (X', Y') = (X, Y) + (1 - q^p) w(X, Y, z)
    wall   (q >= 1): z' = z + d_out(X, Y, z),  (X', Y') = (X, Y)

so both take q = 1 onto q' = 1: the displacement is continuous across the pleura along its normal (to second order in the
jump) and jumps along it by d_in - d_out. At the spine both vanish: the mediastinum hangs there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite.errors import NotInvertibleError
from regsuite.transforms import Transform

POWER = 2.5
SPINE_FIXED_MM, SPINE_FREE_MM = 20.0, 68.0
INVERSE_TOLERANCE_MM = 1e-6
_CHUNK = 100_000


@dataclass(frozen=True)
class Cavity:
    """The tube inside the ribs at one state of breathing; lengths mm, RAS. `thin_*`: relative loss of half axes."""

    width_mm: float
    depth_mm: float
    back_mm: float = -85.0
    thin_width: float = 0.0
    thin_depth: float = 0.0

    def back(self, z: torch.Tensor) -> torch.Tensor:
        """y of the back wall in the midline; the same in every state of breathing (kyphosis)."""
        return self.back_mm + 9.0 * ((z - 10.0) / 140.0) ** 2

    def axes(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Half width a(z), half depth b(z), centre c(z) (all mm)."""
        top = 0.5 * (1.0 + torch.tanh((z - 108.0) / 50.0))
        low = 0.5 * (1.0 - torch.tanh((z - 20.0) / 60.0))
        a = self.width_mm * (1.0 - 0.5 * top) * (1.0 - self.thin_width * (0.4 + 0.6 * low))
        b = self.depth_mm * (1.0 - 0.38 * top) * (1.0 - self.thin_depth * (0.4 + 0.6 * low))
        return a, b, self.back(z) + b

    def normalise(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3) mm -> X, Y, each (N,)."""
        a, b, c = self.axes(points[:, 2])
        return points[:, 0] / a, (points[:, 1] - c) / b

    def distance(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) -> (N,) signed distance to the pleura in mm to first order, in the axial plane; negative inside."""
        a, b, c = self.axes(points[:, 2])
        x, y = (points[:, 0] / a).abs(), ((points[:, 1] - c) / b).abs()
        q = level(x, y).clamp(min=1e-6) ** (1.0 / POWER)
        x, y = x / q, y / q
        slope = torch.hypot(x * x.sqrt() / a, y * y.sqrt() / b)
        return (q - 1.0) / slope


def power(x: torch.Tensor) -> torch.Tensor:
    """|x|^2.5 without the slow general power."""
    x = x.abs()
    return x * x * x.sqrt()


def level(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """q^p = |X|^p + |Y|^p: below 1 inside the pleura."""
    return power(x) + power(y)


@dataclass(frozen=True, eq=False)
class Motion:
    """Numbers of one breath. Lengths mm, +x right, +y anterior, +z superior; positions in exhale.

    amplitude_mm scales the descent; the others are relative. waves: (M, 7) float64 = wave vector (rad/mm), phase,
    amplitude vector (mm) of the small local components.
    """

    amplitude_mm: float
    middle_mm: float
    steepness_mm: float
    side: float
    posterior: float
    lobe: float
    heart_hold: float
    heart_pulse: float
    heart_centre: tuple[float, float, float]
    rib_rise_mm: float
    waves: np.ndarray


def fissure_level(points: torch.Tensor) -> torch.Tensor:
    """(N, 3) -> (N,) mm above the oblique fissures (negative: lower lobe), the same plane on both sides."""
    return (points[:, 2] - 8.0 + 0.85 * (points[:, 1] + 10.0) - 0.06 * points[:, 0].abs()) / 1.31


@dataclass(frozen=True, eq=False)
class BreathingTransform(Transform):
    """The exact map exhale -> inhale, computed in float64; `inverse()` to 1e-6 mm. Runs on the CPU."""

    exhale: Cavity
    inhale: Cavity
    motion: Motion

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        p = points.detach().cpu().double()
        inside = level(*self.exhale.normalise(p)) < 1.0
        out = torch.empty_like(p)
        out[inside] = self.map_region(p[inside], True)
        out[~inside] = self.map_region(p[~inside], False)
        return out.to(points)

    def map_region(self, points: torch.Tensor, inside: bool) -> torch.Tensor:
        """(N, 3) -> (N, 3) by the inside's map or the wall's, wherever the points lie; in the points' precision."""
        x, y = self.exhale.normalise(points)
        dx, dy, dz = self._inside(points, x, y) if inside else self._wall(points, y)
        z = points[:, 2] + dz
        a, b, c = self.inhale.axes(z)
        return torch.stack([a * x + dx, c + b * y + dy, z], dim=1)

    def inverse_region(self, points: torch.Tensor, inside: bool) -> torch.Tensor:
        """(N, 3) float64 inhale -> exhale of one region's map, by Newton's method with halved steps where it overshoots.

        Raises NotInvertibleError where 1e-6 mm is not reached.
        """
        return torch.cat([self._newton(part, inside) for part in points.split(_CHUNK)])

    def _newton(self, target: torch.Tensor, inside: bool) -> torch.Tensor:
        probe = 1e-4 * torch.eye(3, dtype=target.dtype)
        x = target.clone()
        miss = self.map_region(x, inside) - target
        damping = torch.ones(len(x), 1, dtype=x.dtype)
        for _ in range(60):
            left = torch.nonzero(miss.norm(dim=1) > INVERSE_TOLERANCE_MM)[:, 0]
            if not len(left):
                return x
            here, gap = x[left], miss[left]
            value = gap + target[left]
            slope = torch.stack([(self.map_region(here + h, inside) - value) / 1e-4 for h in probe], dim=2)
            trial = here - damping[left] * torch.linalg.solve(slope, gap)
            trial_miss = self.map_region(trial, inside) - target[left]
            better = trial_miss.norm(dim=1, keepdim=True) < gap.norm(dim=1, keepdim=True)
            x[left] = torch.where(better, trial, here)
            miss[left] = torch.where(better, trial_miss, gap)
            damping[left] = torch.where(better, (2.0 * damping[left]).clamp(max=1.0), 0.5 * damping[left])
        raise NotInvertibleError(f"The breathing motion could not be inverted to {INVERSE_TOLERANCE_MM:g} mm: it folds.")

    def _inside(self, p: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Displacement of the inside: two in-plane parts (mm of inhale, zero at the pleura) and the axial one."""
        m = self.motion
        free = self._free(p)
        heart = p - torch.tensor(m.heart_centre, dtype=p.dtype)
        near = torch.exp(-(heart**2).sum(1) / (2 * 36.0**2))
        descent = 0.5 * (1.0 - torch.tanh((p[:, 2] - m.middle_mm) / m.steepness_mm))
        descent = descent * (1.0 + m.side * torch.tanh(p[:, 0] / 30.0)) * (1.0 - m.posterior * y)
        descent = descent * (1.0 - m.lobe * torch.tanh(fissure_level(p) / 9.0)) * (1.0 - m.heart_hold * near)
        local = torch.zeros_like(p)
        apex = 0.5 * (1.0 - torch.tanh((p[:, 2] - 105.0) / 20.0))
        for wave in torch.from_numpy(m.waves).to(p.dtype):
            local += torch.sin(p @ wave[:3] + wave[3])[:, None] * wave[4:]
        local = local * (free * apex)[:, None] + m.heart_pulse * heart * (near * free)[:, None]
        window = (1.0 - level(x, y)).clamp(min=0.0)
        return window * local[:, 0], window * local[:, 1], local[:, 2] - m.amplitude_mm * descent * free

    def _wall(self, p: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Displacement of the wall: the ribs' front ends rise."""
        zero = torch.zeros_like(y)
        return zero, zero, self.motion.rib_rise_mm * 0.5 * (1.0 + torch.tanh(1.4 * y)) * self._free(p)

    def _free(self, p: torch.Tensor) -> torch.Tensor:
        """0 at the spine, 1 away from it: a quintic step in the distance from the spine's axis."""
        distance = torch.hypot(p[:, 0], p[:, 1] - self.exhale.back(p[:, 2]) - 22.0)
        t = ((distance - SPINE_FIXED_MM) / (SPINE_FREE_MM - SPINE_FIXED_MM)).clamp(0.0, 1.0)
        return t**3 * (10.0 + t * (6.0 * t - 15.0))

    def inverse(self) -> Transform:
        return _InverseBreathing(self)

    def to(self, device: torch.device | str) -> BreathingTransform:
        return self


@dataclass(frozen=True, eq=False)
class _InverseBreathing(Transform):
    """Inhale -> exhale, each point by the region it lies in."""

    forward: BreathingTransform

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        p = points.detach().cpu().double()
        inside = level(*self.forward.inhale.normalise(p)) < 1.0
        out = torch.empty_like(p)
        out[inside] = self.forward.inverse_region(p[inside], True)
        out[~inside] = self.forward.inverse_region(p[~inside], False)
        return out.to(points)

    def inverse(self) -> Transform:
        return self.forward

    def to(self, device: torch.device | str) -> _InverseBreathing:
        return self


def random_motion(rng: np.random.Generator, scale: float) -> Motion:
    """A breath drawn from `rng`; `scale` (1 = a deep one) multiplies everything but the centre positions."""
    count = 9
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    number = 2 * np.pi / rng.uniform(48.0, 95.0, (count, 1))
    amplitude = rng.normal(size=(count, 3)) * 0.7
    waves = np.concatenate([direction * number, rng.uniform(0, 2 * np.pi, (count, 1)), amplitude * scale], axis=1)
    return Motion(
        amplitude_mm=24.0 * scale,
        middle_mm=rng.uniform(25.0, 40.0),
        steepness_mm=rng.uniform(66.0, 82.0),
        side=rng.uniform(0.04, 0.09) * rng.choice([-1.0, 1.0]),
        posterior=rng.uniform(0.04, 0.12),
        lobe=rng.uniform(0.05, 0.1),
        heart_hold=rng.uniform(0.25, 0.4),
        heart_pulse=rng.uniform(0.05, 0.09) * rng.choice([-1.0, 1.0]) * min(scale, 1.0),
        heart_centre=(-16.0, 20.0, -28.0),
        rib_rise_mm=rng.uniform(1.5, 3.0) * scale,
        waves=waves,
    )
