"""Reading tensors between their voxels. The only file that knows grid_sample's normalised coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from regsuite import check
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image

INTERPOLATIONS = ("linear", "nearest", "cubic")
_CHUNK_VOXELS = 8_000_000


class PointMap(Protocol):
    """Anything that maps world points; every transform does."""

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) RAS mm -> (N, 3) RAS mm."""
        ...


def normalise_matrix(shape: tuple[int, int, int]) -> np.ndarray:
    """4x4 map from continuous index (i, j, k) to grid_sample's (x, y, z) with align_corners=False: (2 i + 1) / n - 1.

    Valid for axes of one voxel, where the align_corners=True form divides by zero.
    """
    size = np.array(shape[::-1], dtype=np.float64)
    matrix = np.diag([*(2.0 / size), 1.0])
    matrix[:3, 3] = 1.0 / size - 1.0
    return matrix


def sample_normalised(
    data: torch.Tensor, coordinates: torch.Tensor, mode: str = "bilinear", padding: str = "border"
) -> torch.Tensor:
    """Sample data (C, D, H, W) at coordinates (D', H', W', 3) already in grid_sample's frame -> (C, D', H', W')."""
    return functional.grid_sample(data[None], coordinates[None], mode=mode, padding_mode=padding, align_corners=False)[0]


def sample_displaced(data: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Batches: data(x + u(x)), linear, border values beyond the border: data (N, C, D', H', W'), u (N, 3, D, H, W) in voxels along
    (i, j, k) of its own lattice -> (N, C, D, H, W). Both lattices fill one box. Differentiable in both.
    """
    size = torch.tensor(u.shape[:1:-1], dtype=u.dtype, device=u.device)
    place = normalised_centres(u.shape[2:]).to(u) + 2.0 * u.movedim(1, -1) / size
    return functional.grid_sample(data, place.to(data.dtype), padding_mode="border", align_corners=False)


def normalised_centres(shape: Sequence[int]) -> torch.Tensor:
    """Coordinates of the voxel centres in grid_sample's frame: (H, W) -> (H, W, 2), (D, H, W) -> (D, H, W, 3), float64."""
    lines = [(2.0 * torch.arange(n, dtype=torch.float64) + 1.0) / n - 1.0 for n in shape]
    return torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], dim=-1)


def sample_lattice(data: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Linear, border values outside: data (1, C, [D,] H, W) at (1, [D',] H', W', 2 or 3) in grid_sample's frame."""
    return _lattice_sampler(coordinates)[0](data, coordinates, *_LINEAR_BORDER)


def sample_lattice_back(
    bar: torch.Tensor, data: torch.Tensor, coordinates: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Adjoint of `sample_lattice` without a recorded graph: adjoints of data and of the coordinates, from that of its output."""
    data_bar, bar_of_place = _lattice_sampler(coordinates)[1](bar.contiguous(), data, coordinates, *_LINEAR_BORDER, [True, True])
    return data_bar, bar_of_place


_LINEAR_BORDER = (0, 1, False)  # torch's numbers for linear, padded with border values, align_corners


def _lattice_sampler(coordinates: torch.Tensor) -> tuple[Callable[..., Any], Callable[..., Any]]:
    aten = torch.ops.aten
    if coordinates.shape[-1] == 2:
        return torch.grid_sampler_2d, aten.grid_sampler_2d_backward
    return torch.grid_sampler_3d, aten.grid_sampler_3d_backward


def sample_index(data: torch.Tensor, index: torch.Tensor, interpolation: str = "linear", fill: float | None = None) -> torch.Tensor:
    """Sample `data` (C, D, H, W) at continuous indices (N, 3) = (i, j, k) -> (C, N).

    `interpolation`: linear (floating-point data, differentiable), nearest (any type; halves round up, as in ITK), or cubic
    (interpolating cubic B-spline, scipy on the CPU, no gradient). Within half a voxel of the border voxels the border value
    holds; beyond that the value is `fill`, or the border value when `fill` is None.
    """
    check.choice("interpolation", interpolation, INTERPOLATIONS)
    return _SAMPLERS[interpolation](spline_coefficients(data) if interpolation == "cubic" else data, index, fill)


def _linear(data: torch.Tensor, index: torch.Tensor, fill: float | None) -> torch.Tensor:
    size = torch.tensor(data.shape[:0:-1], dtype=index.dtype, device=index.device)
    normalised = (2.0 * index + 1.0) / size - 1.0
    return _filled(sample_normalised(data, normalised.view(1, 1, -1, 3).to(data.dtype))[:, 0, 0], data, index, fill)


def _nearest(data: torch.Tensor, index: torch.Tensor, fill: float | None) -> torch.Tensor:
    """A gather: exact for every integer type. Halves round up: to even would skip every other voxel on a half-voxel shift."""
    i, j, k = (line.clamp(0, n - 1) for line, n in zip((index + 0.5).floor().long().T, data.shape[:0:-1], strict=True))
    return _filled(data[:, k, j, i], data, index, fill)


def _cubic(coefficients: torch.Tensor, index: torch.Tensor, fill: float | None) -> torch.Tensor:
    limits = np.array(coefficients.shape[1:], dtype=np.float64)[:, None] - 1
    coordinates = np.clip(index.detach().cpu().double().numpy().T[::-1], 0.0, limits)
    planes = [ndimage.map_coordinates(c, coordinates, order=3, mode="mirror", prefilter=False) for c in coefficients.cpu().numpy()]
    return _filled(torch.as_tensor(np.stack(planes)).to(coefficients), coefficients, index, fill)


def spline_coefficients(data: torch.Tensor) -> torch.Tensor:
    """(C, D, H, W) -> cubic B-spline coefficients of the interpolating spline, same shape and type, mirrored borders."""
    planes = [ndimage.spline_filter(c, order=3, output=c.dtype, mode="mirror") for c in data.detach().cpu().numpy()]
    return torch.as_tensor(np.stack(planes)).to(data.device)


def _filled(out: torch.Tensor, data: torch.Tensor, index: torch.Tensor, fill: float | None) -> torch.Tensor:
    if fill is None:
        return out
    size = torch.tensor(data.shape[:0:-1], dtype=index.dtype, device=index.device)
    inside = ((index >= -0.5) & (index <= size - 0.5)).all(dim=1)
    return torch.where(inside, out, torch.as_tensor(fill, dtype=out.dtype, device=out.device))


_SAMPLERS = {"linear": _linear, "nearest": _nearest, "cubic": _cubic}


def sample_world(image: Image, points: torch.Tensor, interpolation: str = "linear", fill: float | None = None) -> torch.Tensor:
    """Sample an image at world points (N, 3) RAS mm -> (C, N)."""
    return sample_index(image.data, image.grid.world_to_index(points), interpolation, fill)


def resample(
    image: Image, grid: Grid, mapping: PointMap | None = None, interpolation: str = "linear", fill: float | None = None
) -> Image:
    """`image` on `grid`: out(x) = image(mapping(x)) with x the world position of each voxel of `grid`.

    mapping: a transform, or None for the identity. Nearest keeps the type of the data; otherwise integer data becomes
    float32. Works in slabs, so the memory beyond the output stays bounded.
    """
    check.choice("interpolation", interpolation, INTERPOLATIONS)
    data = image.data if interpolation == "nearest" or torch.is_floating_point(image.data) else image.data.float()
    out = torch.empty(image.channels, *grid.shape, dtype=data.dtype, device=data.device)
    source = spline_coefficients(data) if interpolation == "cubic" else data  # once, not once per slab
    slab = max(1, _CHUNK_VOXELS // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], slab):
        part = grid.cropped((start, 0, 0), (min(slab, grid.shape[0] - start), *grid.shape[1:]))
        points = part.world_points(torch.float64, data.device).view(-1, 3)
        points = points if mapping is None else mapping.map_points(points)
        values = _SAMPLERS[interpolation](source, image.grid.world_to_index(points), fill)
        out[:, start : start + part.shape[0]] = values.view(-1, *part.shape)
    return Image(out, grid)
