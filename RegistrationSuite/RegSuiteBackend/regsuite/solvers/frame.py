"""The working frame of a pair: fixed image with canonical axes, moving image as it lies, and a linear start between them.

Inside the solvers a displacement is u (3, d, h, w): millimetres along the fixed image's own (i, j, k) axes, on a lattice that
fills the same box of space as the fixed image. The map is T(x) = T0(x + R u(x)), R the fixed axes, T0 the linear start.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from regsuite.geometry.grid import Grid, affine_lattice
from regsuite.geometry.image import Image
from regsuite.ops.filters import Matrices, apply_matrices, upsample_matrix
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import normalise_matrix, resample, sample_normalised
from regsuite.transforms import AffineTransform, DisplacementField, Transform, compose


def canonical(image: Image) -> Image:
    """Permute and flip the voxel axes so that (i, j, k) run closest to +R, +A, +S. Exact; the world is untouched.

    Registering canonical images makes the result independent of how the file happens to store its axes.
    """
    cost = np.abs(image.grid.direction)
    axes = max(itertools.permutations(range(3)), key=lambda order: sum(cost[world, axis] for world, axis in enumerate(order)))
    affine = image.grid.affine[:, [*axes, 3]].copy()
    data = image.data.permute(0, *(3 - axes[w] for w in (2, 1, 0)))
    size = [image.grid.size[a] for a in axes]
    for w in range(3):
        if affine[w, w] < 0:
            affine[:3, 3] += affine[:3, w] * (size[w] - 1)
            affine[:3, w] *= -1.0
            data = data.flip(3 - w)
    return Image(data.contiguous(), Grid((size[2], size[1], size[0]), affine))


def crop(image: Image, mask: Image, margin_mm: float) -> Image:
    """The part of `image` around the non-zero voxels of `mask` (same grid) and `margin_mm` beyond."""
    index = torch.nonzero(mask.data[0])
    low, high = index.amin(dim=0).tolist(), index.amax(dim=0).tolist()
    margin = [int(np.ceil(margin_mm / h)) for h in image.grid.spacing[::-1]]
    first = [max(0, a - m) for a, m in zip(low, margin, strict=True)]
    last = [min(n - 1, b + m) for n, b, m in zip(image.grid.shape, high, margin, strict=True)]
    shape = (last[0] - first[0] + 1, last[1] - first[1] + 1, last[2] - first[2] + 1)
    part = image.data[:, first[0] : last[0] + 1, first[1] : last[1] + 1, first[2] : last[2] + 1].contiguous()
    return Image(part, image.grid.cropped((first[0], first[1], first[2]), shape))


@dataclass(frozen=True)
class Level:
    """One resolution: fixed and moving (1, D, H, W) with their grids, and the lattice the displacement lives on."""

    fixed: Image
    moving: Image
    start: np.ndarray  # 4x4 T0, world -> world
    lattice: tuple[int, int, int]
    weight: torch.Tensor | None = None  # (1, D, H, W) importance of each fixed voxel
    moving_weight: torch.Tensor | None = None  # the same for the moving voxels

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between fixed voxels along (D, H, W)."""
        i, j, k = self.fixed.grid.spacing
        return float(k), float(j), float(i)

    @cached_property
    def lattice_grid(self) -> Grid:
        """The lattice as a grid in the world."""
        return self.fixed.grid.resized(self.lattice)

    @cached_property
    def lattice_spacing(self) -> tuple[float, float, float]:
        """mm between lattice nodes along (D, H, W)."""
        i, j, k = self.lattice_grid.spacing
        return float(k), float(j), float(i)

    @cached_property
    def mirror(self) -> Level:
        """The same lattice with the fixed image in the moving one's place, without a start: samples the fixed image."""
        return Level(self.fixed, self.fixed, np.eye(4), self.lattice)

    @cached_property
    def _to_moving(self) -> np.ndarray:
        """4x4: fixed index -> moving normalised coordinate under T0."""
        moving = self.moving.grid
        return normalise_matrix(moving.shape) @ moving.inverse_affine() @ self.start @ self.fixed.grid.affine

    @cached_property
    def _mm_to_moving(self) -> torch.Tensor:
        """(3, 3): displacement in mm along the fixed axes -> change of moving normalised coordinate."""
        return torch.as_tensor(self._to_moving[:3, :3] / self.fixed.grid.spacing).to(self.fixed.data)

    @cached_property
    def _base(self) -> torch.Tensor:
        """(3, D, H, W) moving normalised coordinate of every fixed voxel at u = 0."""
        lattice = affine_lattice(self.fixed.grid.shape, self._to_moving, self.fixed.data.dtype, self.fixed.data.device)
        return lattice.permute(3, 0, 1, 2).contiguous()

    @cached_property
    def up(self) -> Matrices:
        """Separable linear interpolation from lattice to voxels."""
        d, h, w = (upsample_matrix(a, b, self.fixed.data) for a, b in zip(self.lattice, self.fixed.grid.shape, strict=True))
        return d, h, w

    @cached_property
    def down(self) -> Matrices:
        """Its normalised adjoint: the weighted mean of the voxels around each node."""
        d, h, w = (None if m is None else m.T / m.sum(dim=0)[:, None] for m in self.up)
        return d, h, w

    def coordinates(self, u: torch.Tensor) -> torch.Tensor:
        """(3, d, h, w) mm -> (3, D, H, W) moving normalised coordinates of T at the fixed voxels."""
        change = torch.tensordot(self._mm_to_moving, u, dims=1)
        return apply_matrices(change, self.up) + self._base

    def warp(self, coordinates: torch.Tensor, data: torch.Tensor | None = None) -> torch.Tensor:
        """Moving (or `data` on the moving grid) at normalised `coordinates` (3, D, H, W) -> (C, D, H, W)."""
        data = self.moving.data if data is None else data
        return sample_normalised(data, coordinates.permute(1, 2, 3, 0))

    def pool(self, data: torch.Tensor) -> torch.Tensor:
        """(C, D, H, W) -> (C, d, h, w) means around the nodes."""
        return apply_matrices(data, self.down)


def lattice_shape(grid: Grid, spacing_mm: float) -> tuple[int, int, int]:
    """Nodes (d, h, w) about `spacing_mm` apart, never finer than the grid's voxels, at least 2 along an axis longer than 1."""
    shape = []
    for n, mm in zip(grid.shape, grid.spacing[::-1], strict=True):
        nodes = int(np.ceil(n * mm / max(spacing_mm, mm) - 1e-6))
        shape.append(min(n, max(nodes, 2)))
    return shape[0], shape[1], shape[2]


def make_level(
    fixed: Image,
    moving: Image,
    start: np.ndarray,
    spacing_mm: float,
    lattice_mm: float,
    weight: Image | None = None,
    moving_weight: Image | None = None,
) -> Level:
    """Both images at about `spacing_mm`, with a lattice of about `lattice_mm`; the weights lie on their images' grids."""
    small = at_spacing(fixed, spacing_mm)
    masks = [None if w is None else at_spacing(w, spacing_mm).data for w in (weight, moving_weight)]
    return Level(small, at_spacing(moving, spacing_mm), start, lattice_shape(small.grid, lattice_mm), masks[0], masks[1])


def crop_level(level: Level, margin_mm: float, lattice_mm: float) -> Level:
    """The part of a level around its weight, with a lattice of about `lattice_mm` of its own."""
    if level.weight is None:
        return level
    weight = level.fixed.with_data(level.weight)
    mask = weight.with_data((level.weight > 0.01).float())
    fixed = crop(level.fixed, mask, margin_mm)
    return replace(level, fixed=fixed, weight=crop(weight, mask, margin_mm).data, lattice=lattice_shape(fixed.grid, lattice_mm))


def resize_displacement(u: torch.Tensor, lattice: tuple[int, int, int]) -> torch.Tensor:
    """u (3, d, h, w) mm onto another lattice over the same box of space, linearly."""
    d, h, w = (upsample_matrix(a, b, u) for a, b in zip(u.shape[1:], lattice, strict=True))
    return apply_matrices(u, (d, h, w))


def sample_displacement(u: torch.Tensor, box: Grid, target: Grid) -> torch.Tensor:
    """u (3, d, h, w) on a lattice that fills `box`, linearly at the voxels of `target`; the border value holds outside."""
    return resample(Image(u, box.resized((int(u.shape[1]), int(u.shape[2]), int(u.shape[3])))), target).data


def to_transform(u: torch.Tensor, fixed_grid: Grid, start: np.ndarray) -> Transform:
    """The public transform: DisplacementField on the lattice's own grid, composed with the linear start when there is one."""
    grid = fixed_grid.resized((int(u.shape[1]), int(u.shape[2]), int(u.shape[3])))
    rotation = torch.as_tensor(fixed_grid.direction.copy()).to(u)
    field_ = DisplacementField(torch.tensordot(rotation, u, dims=1).cpu().float(), grid)
    if np.allclose(start, np.eye(4), atol=1e-12):
        return field_
    return compose(AffineTransform(start), field_)
