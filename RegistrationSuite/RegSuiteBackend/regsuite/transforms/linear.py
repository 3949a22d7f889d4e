"""Affine maps of the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite import check
from regsuite.geometry.grid import apply_affine
from regsuite.transforms.base import INVERSE_TOLERANCE_MM, Transform


@dataclass(frozen=True, eq=False)
class AffineTransform(Transform):
    """T(x) = M[:3, :3] x + M[:3, 3], M 4x4 float64, RAS mm -> RAS mm. Inverse exact. Singular M raises InputError."""

    matrix: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", check.affine_matrix("affine transform", self.matrix))

    @classmethod
    def identity(cls) -> AffineTransform:
        """T(x) = x."""
        return cls(np.eye(4))

    @classmethod
    def translation(cls, shift_mm: np.ndarray | list[float]) -> AffineTransform:
        """T(x) = x + shift."""
        matrix = np.eye(4)
        matrix[:3, 3] = shift_mm
        return cls(matrix)

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        return apply_affine(self.matrix, points)

    def inverse(self) -> AffineTransform:
        return AffineTransform(np.linalg.inv(self.matrix))

    def inverse_points(
        self, points: torch.Tensor, tolerance_mm: float = INVERSE_TOLERANCE_MM, iterations: int = 200
    ) -> torch.Tensor:
        """(N, 3) y -> M^-1 y; exact, whatever the tolerance."""
        return self.inverse().map_points(points)

    def to(self, device: torch.device | str) -> AffineTransform:
        return self

    @property
    def determinant(self) -> float:
        """Jacobian determinant, the same everywhere."""
        return float(np.linalg.det(self.matrix[:3, :3]))
