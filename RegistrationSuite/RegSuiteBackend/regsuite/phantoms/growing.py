"""How the `growth` phantom grows: a smooth stationary velocity given in closed form, and its flow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from regsuite.transforms import AffineTransform, Transform

_STEPS = 4  # Runge-Kutta steps for an amount of 1; the flow is exact to about 1e-4 mm


@dataclass(frozen=True, eq=False)
class GrowthTransform(Transform):
    """T = outer o flow(v, amount) o inner, exact in points; outer and inner are rigid (the pose of the head in each scan).

    v(x) = rate * x + sum_n gain_n (x - c_n) exp(-|x - c_n|^2 / (2 s_n^2)), mm per unit of amount: the whole head swells by `rate`,
    and each centre by 3 gain_n more. The inverse is the flow of -amount between the inverse poses.
    """

    centres: torch.Tensor  # (K, 3) RAS mm
    gains: torch.Tensor  # (K,)
    widths: torch.Tensor  # (K,) mm
    rate: float
    amount: float
    outer: AffineTransform
    inner: AffineTransform

    def _velocity(self, x: torch.Tensor) -> torch.Tensor:
        v = self.rate * x
        for centre, gain, width in zip(self.centres, self.gains, self.widths, strict=True):
            away = x - centre
            v = v + away * (gain * torch.exp(away.square().sum(dim=1, keepdim=True) / (-2.0 * width**2)))
        return v

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        x = self.inner.map_points(points.double())
        steps = math.ceil(_STEPS * abs(self.amount))
        h = self.amount / max(steps, 1)
        for _ in range(steps):
            a = self._velocity(x)
            b = self._velocity(x + 0.5 * h * a)
            c = self._velocity(x + 0.5 * h * b)
            d = self._velocity(x + h * c)
            x = x + (h / 6.0) * (a + 2.0 * b + 2.0 * c + d)
        return self.outer.map_points(x).to(points.dtype)

    def inverse(self) -> GrowthTransform:
        return replace(self, amount=-self.amount, outer=self.inner.inverse(), inner=self.outer.inverse())

    def to(self, device: torch.device | str) -> GrowthTransform:
        return replace(self, centres=self.centres.to(device), gains=self.gains.to(device), widths=self.widths.to(device))

    def between(self, amount: float, inner: np.ndarray, outer: np.ndarray) -> GrowthTransform:
        """The same growth by another amount between other poses (4x4: head -> scan for `outer`, scan -> head for `inner`)."""
        return replace(self, amount=amount, inner=AffineTransform(inner), outer=AffineTransform(outer))


def amount_at(age_years: float) -> float:
    """Grown share of the way to adulthood: fast at first, then slower; 0 at birth, 1 - 1/e at 3 years."""
    return 1.0 - float(np.exp(-age_years / 3.0))


def random_growth(rng: np.random.Generator, places: dict[str, np.ndarray]) -> GrowthTransform:
    """A growth whose centres lie in the given places (RAS mm): lobes swell, one of them most, ventricles shrink or swell."""
    centres = np.stack(list(places.values())) + rng.uniform(-4.0, 4.0, (len(places), 3))
    gains = np.array([rng.uniform(-0.12, 0.12) if "ventricle" in name else rng.uniform(0.0, 0.12) for name in places])
    gains[int(rng.integers(len(gains)))] += 0.1
    widths = rng.uniform(14.0, 22.0, len(places))
    one = AffineTransform.identity()
    fields = (torch.from_numpy(centres), torch.from_numpy(gains), torch.from_numpy(widths))
    return GrowthTransform(*fields, rate=float(rng.uniform(0.03, 0.06)), amount=0.0, outer=one, inner=one)
