"""Small pairs of images as files and in memory: blobs on unequal, anisotropic, oblique, off-centre grids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Grid, Image
from regsuite.io import write_image

from Testing.unit.lattices import grid_of, rotation

SHIFT = np.array([3.0, -2.0, 4.0])
"""mm RAS: what is at x in the fixed image is at x + SHIFT in the moving one."""


def fixed_grid() -> Grid:
    return grid_of((14, 18, 22), spacing=(2.0, 2.5, 3.0))


def moving_grid() -> Grid:
    """Another grid around the shifted anatomy: finer along i, turned the other way, with a wider view."""
    shape, spacing, turn = (20, 22, 30), np.array([1.8, 2.4, 2.6]), rotation((2, -1, 1), -15.0)
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    middle = (np.array(shape[::-1]) - 1) / 2
    affine[:3, 3] = fixed_grid().centre + SHIFT - affine[:3, :3] @ middle
    return Grid(shape, affine)


def blobs(grid: Grid, offset: np.ndarray, scale: float = 100.0) -> Image:
    """Two Gaussian blobs around the middle of the fixed grid, moved by `offset` mm; float32."""
    points = grid.world_points(torch.float64)
    middle = torch.as_tensor(fixed_grid().centre + offset)
    large = (points - middle - torch.tensor([2.0, 1.0, -3.0])).square().sum(-1)
    small = (points - middle - torch.tensor([-9.0, 6.0, 8.0])).square().sum(-1)
    return Image((scale * (torch.exp(-large / 160) + 0.7 * torch.exp(-small / 40))).float(), grid)


def box_mask(grid: Grid, margin: int = 3) -> Image:
    """uint8: 1 except within `margin` voxels of the border."""
    data = torch.zeros(grid.shape, dtype=torch.uint8)
    data[margin:-margin, margin:-margin, margin:-margin] = 1
    return Image(data, grid)


@dataclass(frozen=True)
class Pair:
    """A pair in memory and as files in `folder`."""

    folder: Path
    fixed: Image
    moving: Image

    def path(self, name: str) -> str:
        """fixed.nrrd, moving.nrrd, or a new name in the folder."""
        return str(self.folder / name)

    def write(self, name: str, image: Image) -> str:
        """Write an image into the folder and return its path."""
        write_image(image, self.folder / name)
        return self.path(name)


def make_pair(folder: Path) -> Pair:
    """Write fixed.nrrd and moving.nrrd."""
    pair = Pair(folder, blobs(fixed_grid(), np.zeros(3)), blobs(moving_grid(), SHIFT))
    pair.write("fixed.nrrd", pair.fixed)
    pair.write("moving.nrrd", pair.moving)
    return pair
