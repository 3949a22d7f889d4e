"""Image: a tensor and the Grid it lies on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid


@dataclass(frozen=True, eq=False)
class Image:
    """Voxel values `data` (C, D, H, W) on `grid`. A (D, H, W) tensor gets one channel. Never modified in place.

    Raises InputError when the tensor's size and the grid's differ.
    """

    data: torch.Tensor
    grid: Grid

    def __post_init__(self) -> None:
        data = self.data if self.data.ndim == 4 else self.data[None]
        if data.ndim != 4 or tuple(data.shape[1:]) != self.grid.shape:
            raise InputError(f"An image on a grid of {self.grid.shape} cannot hold a tensor of {tuple(self.data.shape)}.")
        object.__setattr__(self, "data", data)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.data.shape[0])

    def with_data(self, data: torch.Tensor) -> Image:
        """The same grid under other values."""
        return replace(self, data=data)

    def to(self, device: torch.device | str) -> Image:
        """The same image on another device."""
        return replace(self, data=self.data.to(device))
