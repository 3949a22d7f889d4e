"""Grid: the immutable geometry that travels with every tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError


@dataclass(frozen=True, eq=False)
class Grid:
    """A sampling lattice: `shape` (D, H, W) and `affine`, the 4x4 float64 map index (i, j, k, 1) -> RAS mm.

    Index (0, 0, 0) is the *centre* of the first voxel. The affine may be oblique, anisotropic or mirrored; a singular
    one raises InputError. Two grids are equal when shape and affine are equal to 1e-5 mm over the whole lattice.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"A grid needs three sizes of at least 1 voxel, found {self.shape}.")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", check.affine_matrix("grid affine", self.affine))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and bool(np.abs(self.corners() - other.corners()).max() < 1e-5)

    def __hash__(self) -> int:
        return hash(self.shape)

    @property
    def size(self) -> tuple[int, int, int]:
        """Number of voxels along (i, j, k), the reverse of `shape`."""
        d, h, w = self.shape
        return w, h, d

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    @cached_property
    def spacing(self) -> np.ndarray:
        """(3,) mm between neighbours along (i, j, k)."""
        return _read_only(np.linalg.norm(self.affine[:3, :3], axis=0))

    @cached_property
    def direction(self) -> np.ndarray:
        """(3, 3) unit axes as columns, RAS."""
        return _read_only(self.affine[:3, :3] / self.spacing)

    @property
    def voxel_volume(self) -> float:
        """mm^3 of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def centre(self) -> np.ndarray:
        """(3,) RAS mm of the middle of the lattice."""
        return _read_only(self.affine[:3, :3] @ ((np.array(self.size) - 1) / 2.0) + self.affine[:3, 3])

    def corners(self) -> np.ndarray:
        """(8, 3) RAS mm of the outermost voxel centres."""
        last = np.array(self.size) - 1
        index = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)]) * last
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def inverse_affine(self) -> np.ndarray:
        """4x4 map RAS mm -> continuous index (i, j, k)."""
        return np.linalg.inv(self.affine)

    def index_to_world(self, index: torch.Tensor) -> torch.Tensor:
        """(N, 3) continuous index (i, j, k) -> (N, 3) RAS mm."""
        return apply_affine(self.affine, index)

    def world_to_index(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) RAS mm -> (N, 3) continuous index (i, j, k)."""
        return apply_affine(self.inverse_affine(), points)

    def world_points(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> torch.Tensor:
        """(D, H, W, 3) RAS mm of every voxel centre."""
        return affine_lattice(self.shape, self.affine, dtype, device)

    def contains(self, points: torch.Tensor) -> torch.Tensor:
        """(N,) bool: is the point inside the box of voxel centres, half a voxel of margin included?"""
        index = self.world_to_index(points)
        limit = torch.tensor(self.size, dtype=index.dtype, device=index.device) - 0.5
        return ((index >= -0.5) & (index <= limit)).all(dim=1)

    def resized(self, shape: tuple[int, int, int]) -> Grid:
        """The same box of space (voxel borders kept) cut into `shape` voxels."""
        factor = np.array(self.size) / np.array(shape[::-1])
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * factor
        affine[:3, 3] = self.affine[:3, :3] @ ((factor - 1) / 2.0) + self.affine[:3, 3]
        return Grid(shape, affine)

    def cropped(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
        """The sub-lattice that begins at tensor index `start` (k, j, i; may be negative) and holds `shape` voxels."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ np.array(start[::-1], dtype=np.float64) + self.affine[:3, 3]
        return Grid(shape, affine)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def apply_affine(matrix: np.ndarray, points: torch.Tensor) -> torch.Tensor:
    """(..., 3) points -> (..., 3): M[:3, :3] @ p + M[:3, 3] with a 4x4 float64 matrix, in the points' dtype."""
    m = torch.as_tensor(np.array(matrix), dtype=points.dtype, device=points.device)
    return points @ m[:3, :3].T + m[:3, 3]


def affine_lattice(
    shape: tuple[int, int, int], matrix: np.ndarray, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """(D, H, W, 3): matrix @ (i, j, k, 1) at every voxel of `shape`; built by broadcasting, one output pass."""
    out = torch.empty(*shape, 3, dtype=dtype, device=device)
    k, j, i = (torch.arange(n, dtype=torch.float64, device=device) for n in shape)
    for row in range(3):
        a, b, c, t = (float(v) for v in matrix[row])
        line = (a * i).view(1, 1, -1) + (b * j).view(1, -1, 1)
        out[..., row] = (line + (c * k + t).view(-1, 1, 1)).to(dtype)
    return out
