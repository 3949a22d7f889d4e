"""Displacement fields on a grid of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.ops.sampling import sample_index
from regsuite.transforms.base import INVERSE_TOLERANCE_MM, Transform


@dataclass(frozen=True, eq=False)
class DisplacementField(Transform):
    """T(x) = x + u(x): u (3, D, H, W) float, mm, RAS components, linear between the voxels of `grid`.

    Outside the grid (more than half a voxel beyond its border voxels) u = 0, as in ITK, so SimpleITK reading the saved
    file gives the same map everywhere. Raises InputError on a size mismatch or a non-finite value.
    """

    field: torch.Tensor
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.field.shape) != (3, *self.grid.shape):
            raise InputError(
                f"A displacement field on {self.grid.shape} needs shape (3, D, H, W), found {tuple(self.field.shape)}."
            )
        check.finite_tensor("The displacement field", self.field)

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        index = self.grid.world_to_index(points)
        return points + sample_index(self.field, index, "linear", fill=0.0).T.to(points.dtype)

    def inverse(self, tolerance_mm: float = INVERSE_TOLERANCE_MM) -> DisplacementField:
        """Field v on the same grid with |T(y + v(y)) - y| <= tolerance at every voxel centre y; linear in between.

        Where the pre-image of y lies beyond the grid, the border value of u is taken to go on there: u itself jumps to zero,
        and a jump has no inverse. Raises NotInvertibleError as `inverse_points` does.
        """
        continued = _BorderContinued(self.field, self.grid)
        points = self.grid.world_points(torch.float64, self.field.device).view(-1, 3)
        back = torch.cat([continued.inverse_points(p, tolerance_mm) - p for p in points.split(2_000_000)])
        return DisplacementField(back.T.reshape(3, *self.grid.shape).to(self.field.dtype), self.grid)

    def to(self, device: torch.device | str) -> DisplacementField:
        return DisplacementField(self.field.to(device), self.grid)


class _BorderContinued(DisplacementField):
    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        index = self.grid.world_to_index(points)
        return points + sample_index(self.field, index, "linear").T.to(points.dtype)
