"""The exact map of a brain in which a tumour has grown: patient points to points of the healthy template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite.transforms import Transform


@dataclass(frozen=True, eq=False)
class MassEffect(Transform):
    """T = affine o between o growth, RAS mm, float64.

    growth: points at a distance r from `centre` come from s(r): s = r seed / tumour inside the tumour, and outside
    s^n = r^n - (tumour^n - seed^n) w(r), n the number of dimensions: tissue keeps its volume where w = 1; w falls smoothly from
    1 at the tumour to 0 at `reach_mm`, where nothing moves. between: the difference of two people, sines (M, 7) = wave vector
    (rad / mm), phase, amplitude vector (mm). affine: 4x4, how the template lies. flat: growth within the axial plane (n = 2).
    """

    centre: np.ndarray
    seed_mm: float
    tumour_mm: float
    reach_mm: float
    waves: np.ndarray
    affine: np.ndarray
    flat: bool = False

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        p = points.detach().cpu().double()
        p = self.before_growth(p)
        p = p + self._between(p)
        matrix = torch.from_numpy(np.array(self.affine))
        return (p @ matrix[:3, :3].T + matrix[:3, 3]).to(points)

    def before_growth(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) patient points -> where they were before the tumour grew, in the patient's own frame."""
        offset = points - torch.from_numpy(np.array(self.centre)).to(points)
        if self.flat:
            offset = offset * offset.new_tensor([1.0, 1.0, 0.0])
        r = offset.norm(dim=1, keepdim=True)
        return points + offset * (self._earlier(r) / r.clamp(min=1e-9) - 1.0)

    def _earlier(self, r: torch.Tensor) -> torch.Tensor:
        n = 2 if self.flat else 3
        t = ((r - self.tumour_mm) / (self.reach_mm - self.tumour_mm)).clamp(0.0, 1.0)
        window = 1.0 - t**3 * (10.0 + t * (6.0 * t - 15.0))
        grown = self.tumour_mm**n - self.seed_mm**n
        outside = (r**n - grown * window).clamp(min=self.seed_mm**n) ** (1.0 / n)
        return torch.where(r < self.tumour_mm, r * (self.seed_mm / self.tumour_mm), outside)

    def _between(self, p: torch.Tensor) -> torch.Tensor:
        waves = torch.from_numpy(np.array(self.waves))
        phase = p @ waves[:, :3].T + waves[:, 3]
        return torch.sin(phase) @ waves[:, 4:]

    def inverse(self) -> Transform:
        return _Inverse(self)

    def to(self, device: torch.device | str) -> MassEffect:
        return self


@dataclass(frozen=True, eq=False)
class _Inverse(Transform):
    forward: MassEffect

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        return self.forward.inverse_points(points, 1e-6)

    def inverse(self) -> Transform:
        return self.forward

    def to(self, device: torch.device | str) -> _Inverse:
        return self
