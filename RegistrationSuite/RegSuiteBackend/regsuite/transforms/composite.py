"""Maps applied one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regsuite.errors import InputError
from regsuite.transforms.base import INVERSE_TOLERANCE_MM, Transform


@dataclass(frozen=True, eq=False)
class CompositeTransform(Transform):
    """T = parts[0] o parts[1] o ... o parts[-1]: the last part is applied to the point first (ITK's order as well)."""

    parts: tuple[Transform, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("A composite transform needs at least one part, found none.")

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        for part in reversed(self.parts):
            points = part.map_points(points)
        return points

    def inverse(self) -> CompositeTransform:
        return CompositeTransform(tuple(part.inverse() for part in reversed(self.parts)))

    def inverse_points(
        self, points: torch.Tensor, tolerance_mm: float = INVERSE_TOLERANCE_MM, iterations: int = 200
    ) -> torch.Tensor:
        """(N, 3) y -> x, part by part, each to tolerance_mm / number of parts; raises NotInvertibleError as they do."""
        for part in self.parts:
            points = part.inverse_points(points, tolerance_mm / len(self.parts), iterations)
        return points

    def to(self, device: torch.device | str) -> CompositeTransform:
        return CompositeTransform(tuple(part.to(device) for part in self.parts))
