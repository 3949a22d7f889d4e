"""Stationary velocity fields: diffeomorphic maps by scaling and squaring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.grid import Grid, affine_lattice
from regsuite.ops.sampling import sample_index
from regsuite.transforms.base import Transform
from regsuite.transforms.displacement import DisplacementField

_MAX_STEP_VOXELS = 0.25


@dataclass(frozen=True, eq=False)
class StationaryVelocityField(Transform):
    """T = exp(v), the flow of dx/dt = v(x) at t = 1; v (3, D, H, W) mm, RAS components, on `grid`; v = 0 outside it.

    Scaling and squaring: u_0 = v / 2^n with n so that |u_0| <= 1/4 voxel, then n times u <- u + u o (id + u). The inverse
    is exp(-v). It undoes exp(v) up to the interpolation of the lattice (first tested: 0.05 voxel on smooth fields).
    """

    velocity: torch.Tensor
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.velocity.shape) != (3, *self.grid.shape):
            raise InputError(f"A velocity field on {self.grid.shape} needs shape (3, D, H, W), found {tuple(self.velocity.shape)}.")
        check.finite_tensor("The velocity field", self.velocity)

    @cached_property
    def exponential(self) -> DisplacementField:
        """The displacement field exp(v) - id on the velocity's own grid."""
        largest = float(self.velocity.norm(dim=0).max())
        squarings = max(0, math.ceil(math.log2(max(largest, 1e-9) / (_MAX_STEP_VOXELS * float(self.grid.spacing.min())))))
        u = self.velocity / 2**squarings
        index = affine_lattice(self.grid.shape, np.eye(4), u.dtype, u.device).view(-1, 3)
        to_index = torch.as_tensor(self.grid.inverse_affine()[:3, :3]).to(u)
        for _ in range(squarings):
            there = index + (to_index @ u.view(3, -1)).T
            u = u + sample_index(u, there, "linear", fill=0.0).view(u.shape)
        return DisplacementField(u, self.grid)

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        return self.exponential.map_points(points)

    def inverse(self) -> StationaryVelocityField:
        return StationaryVelocityField(-self.velocity, self.grid)

    def to(self, device: torch.device | str) -> StationaryVelocityField:
        if self.velocity.device == torch.device(device):
            return self  # with its exponential, once it is known
        return StationaryVelocityField(self.velocity.to(device), self.grid)
