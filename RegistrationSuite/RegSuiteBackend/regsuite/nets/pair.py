"""What a network is trained and tried on: two images on one grid, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from regsuite.geometry.grid import Grid


@dataclass(frozen=True, eq=False)
class Pair:
    """fixed, moving: (1, 1, D, H, W) float32 in 0..1 on `grid`. Masks: the same shape, 0 or 1. truth: the true displacement
    (1, 3, D, H, W) in voxels along (i, j, k). Labels: (1, D, H, W) integers on `grid`. judged (1, 5, D, H, W): what
    `solvers.sigma_inputs` makes of a given displacement (`moving` is then the moved image); error, sigma (1, 3, D, H, W) mm: how
    far that displacement is off, and the standard deviation that was fitted to it. points, moves (K, 3): matched points of the
    fixed image and their displacement, voxels along (i, j, k), where no dense truth is known. What is unknown is None.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    grid: Grid
    fixed_mask: torch.Tensor | None = None
    moving_mask: torch.Tensor | None = None
    truth: torch.Tensor | None = None
    fixed_labels: torch.Tensor | None = None
    moving_labels: torch.Tensor | None = None
    judged: torch.Tensor | None = None
    error: torch.Tensor | None = None
    sigma: torch.Tensor | None = None
    points: torch.Tensor | None = None
    moves: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Pair:
        """The same pair on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), torch.Tensor)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})

    def swapped(self) -> Pair:
        """The way back, as far as it is known: images and masks."""
        return Pair(self.moving, self.fixed, self.grid, self.moving_mask, self.fixed_mask)

    def both_ways(self) -> tuple[torch.Tensor, torch.Tensor]:
        """fixed and moving (2, 1, D, H, W) of the pair and of the way back: a network's two answers in one go."""
        return torch.cat([self.fixed, self.moving]), torch.cat([self.moving, self.fixed])


def world_mm(u: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(1, 3, D, H, W) voxels along (i, j, k) of a lattice that fills the box of `grid` -> (3, D, H, W) mm, RAS components."""
    lattice = grid.resized((int(u.shape[2]), int(u.shape[3]), int(u.shape[4])))
    return torch.tensordot(torch.as_tensor(lattice.affine[:3, :3].copy()).to(u), u[0], dims=1)


def voxels(u_mm: torch.Tensor, grid: Grid) -> torch.Tensor:
    """(3, D, H, W) mm, RAS components, on `grid` -> (1, 3, D, H, W) in its voxels: the inverse of `world_mm`."""
    return torch.tensordot(torch.as_tensor(grid.inverse_affine()[:3, :3].copy()).to(u_mm), u_mm, dims=1)[None]
