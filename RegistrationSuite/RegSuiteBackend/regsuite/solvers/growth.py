"""The mask of a lesion growing from a seed: where, at each time, metamorphosis may add intensity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from regsuite.ops.filters import apply_matrices, downsample, gaussian_smooth, upsample_matrix
from regsuite.solvers.gaussian_kernel import GaussianKernel
from regsuite.solvers.geodesic import Geodesic, GeodesicModel
from regsuite.solvers.lattice import Lattice
from regsuite.solvers.lbfgs import minimise

_SEED_SHARE = 0.06  # of the volume of a part: the published 3D scripts' threshold
_LEAST_PART = 0.02  # of the lesion: smaller separate parts get no seed of their own
_WORK_MM = 3.0
_ITERATIONS = 40
_KERNEL_SHARE = 0.5  # of the lesion's radius
_WEIGHT = 1e-7  # of the geodesic's cost: an image of 0 and 1 is to be matched
_MARGIN_MM = 10.0
NOTHING = 1e-3


@dataclass(frozen=True)
class Ball:
    """centre along the tensor axes (D, H, W), mm from the first voxel centre; radius mm."""

    centre: tuple[float, float, float]
    radius: float


def seeds(lesion: torch.Tensor, spacing_mm: tuple[float, float, float]) -> list[Ball]:
    """One ball in the deepest point of every separate part of the lesion (D, H, W), 0..1, that holds 2 % of it or more."""
    inside = lesion.cpu().numpy() > 0.5
    parts, count = ndimage.label(inside)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    lengths = [h for n, h in zip(inside.shape, spacing_mm, strict=True) if n > 1]
    voxel = float(np.prod(lengths))
    balls = []
    for number, size in enumerate(sizes, start=1):
        if size < _LEAST_PART * sizes.sum():
            continue
        part = np.pad(parts == number, [(0, 0) if n == 1 else (1, 1) for n in inside.shape])
        depth = ndimage.distance_transform_edt(part, sampling=spacing_mm)
        at = np.unravel_index(int(depth.argmax()), depth.shape)
        volume = _SEED_SHARE * size * voxel
        radius = (volume / np.pi) ** 0.5 if len(lengths) == 2 else (0.75 * volume / np.pi) ** (1.0 / 3.0)
        radius = min(max(radius, 1.0 * max(lengths)), float(depth.max()))
        shifted = [(i - (n > 1)) * h for i, n, h in zip(at, inside.shape, spacing_mm, strict=True)]
        balls.append(Ball((float(shifted[0]), float(shifted[1]), float(shifted[2])), radius))
    return balls


def draw(balls: list[Ball], lattice: Lattice, like: torch.Tensor, offset_mm: Sequence[float], edge_mm: float) -> torch.Tensor:
    """(1, D, H, W): the balls, with soft edges; offset: of the lattice's first voxel centre."""
    out = torch.zeros(1, *lattice.shape, dtype=like.dtype, device=like.device)
    for ball in balls:
        square = torch.zeros_like(out)
        for axis, h in zip(lattice.axes, lattice.spacing, strict=True):
            view = [1, 1, 1, 1]
            view[axis] = -1
            line = torch.arange(lattice.shape[axis - 1], dtype=like.dtype, device=like.device).view(view) * h + offset_mm[axis - 1]
            square = square + (line - ball.centre[axis - 1]) ** 2
        out = torch.maximum(out, torch.special.ndtr((ball.radius - square.sqrt()) / edge_mm))
    return out


@dataclass(frozen=True)
class Growth:
    """Backward maps u_k (steps + 1, d, D, H, W) mm of the shrinking lesion on a block of a lattice of `shape`; u_0 = 0.

    block: first and last + 1 voxel along (D, H, W). The lattice fills the same box of space as the lesion's.
    """

    maps: torch.Tensor
    shape: tuple[int, int, int]
    block: list[tuple[int, int]]

    def masks(self, lesion: torch.Tensor, spacing_mm: tuple[float, float, float]) -> torch.Tensor:
        """(steps + 1, D, H, W) M_t on the lattice of `lesion` (1, D, H, W), 0..1, over the same box of space.

        M_1 is the lesion itself; before, the lesion seen through the maps, within the lesion. Exactly 0 elsewhere.
        """
        lattice = Lattice(lesion.shape[1:], spacing_mm, lesion)
        limit = torch.where(lesion > NOTHING, lesion.clamp(0.0, 1.0), 0.0)
        ups = [
            (torch.eye(a).to(lesion) if (m := upsample_matrix(a, b, lesion)) is None else m)[:, first:last]
            for a, b, (first, last) in zip(self.shape, lesion.shape[1:], self.block, strict=True)
        ]
        out = []
        for u in reversed(self.maps):
            seen = lattice.sample(limit, apply_matrices(u, (ups[0], ups[1], ups[2])))
            out.append(torch.minimum(torch.where(seen > NOTHING, seen, 0.0), limit)[0])
        out[-1] = limit[0]  # beyond rounding
        return torch.stack(out)


def grow(
    lesion: torch.Tensor,
    spacing_mm: tuple[float, float, float],
    steps: int,
    tick: Callable[[], None] = lambda: None,
) -> Growth:
    """LDDMM between balls in the lesion's depth and the lesion (1, D, H, W), 0..1: the time-dependent mask of the paper.

    Worked out around the lesion at 3 mm, or the images' own spacing if that is coarser. Source: WBIR 2022, "Weighted Function
    Construction". Differs from it in: the geodesic is shot from the lesion to the balls and read backwards, so that it ends in the
    lesion itself and what it does not reach is a part of the seed; the kernel is half as wide as the lesion (a narrow one crushes
    the shell at the front instead of moving the inside); the seed lies at the deepest point (the centre of the bounding box may lie
    outside), one for every separate part.
    """
    full, spacing = _work_lattice(lesion.shape[1:], spacing_mm)
    source = downsample(lesion, full)
    balls = seeds(source[0], spacing) or seeds((source[0] >= 0.9 * source.max()).float(), spacing)
    block = [_span(source, axis, spacing[axis - 1]) for axis in (1, 2, 3)]
    k, j, i = (slice(a, b) for a, b in block)
    source = source[:, k, j, i].contiguous()
    lattice = Lattice(source.shape[1:], spacing, source)
    edge = 0.7 * max(lattice.spacing)
    target = draw(balls, lattice, source, [a * h for (a, _), h in zip(block, spacing, strict=True)], edge)
    source = gaussian_smooth(source, [0.0 if n == 1 else 0.5 for n in source.shape[1:]])
    kernel = GaussianKernel(lattice.shape, spacing, (max(_KERNEL_SHARE * _radius(source, lattice), 2.0 * edge),), source)
    shooting = Geodesic(source, lattice, kernel, GeodesicModel(steps, 1.0, 0.0, 0.0))

    def data(image: torch.Tensor) -> tuple[float, torch.Tensor]:
        rest = image - target
        return float((rest * rest).mean()), rest * (2.0 / rest.numel())

    def energy(z: torch.Tensor) -> tuple[float, torch.Tensor, dict[str, float]]:
        return shooting.energy(z, data, _WEIGHT, tick)

    first = shooting.first_change(0.5 * max(lattice.spacing))
    z = minimise(energy, torch.zeros_like(source), _ITERATIONS, first, tolerance=0.02).x
    return Growth(torch.stack([frame.u for frame in shooting.frames(z)]), full, block)


def _radius(lesion: torch.Tensor, lattice: Lattice) -> float:
    """mm of the ball, or disc, as large as the lesion."""
    size = float(lesion.sum()) * float(np.prod(lattice.spacing))
    return (size / np.pi) ** 0.5 if lattice.dimensions == 2 else (0.75 * size / np.pi) ** (1.0 / 3.0)


def _work_lattice(
    shape: Sequence[int], spacing_mm: tuple[float, float, float]
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    factor = [1 if n == 1 else max(1, round(_WORK_MM / h)) for n, h in zip(shape, spacing_mm, strict=True)]
    d, h, w = (max(min(n, 8), round(n / f)) for n, f in zip(shape, factor, strict=True))
    a, b, c = (mm * n / m for mm, n, m in zip(spacing_mm, shape, (d, h, w), strict=True))
    return (d, h, w), (a, b, c)


def _span(target: torch.Tensor, axis: int, h: float) -> tuple[int, int]:
    """First and last + 1 voxel along a tensor axis of the lesion and a margin around it."""
    n = target.shape[axis]
    if n == 1:
        return 0, 1
    others = [a for a in (1, 2, 3) if a != axis]
    index = torch.nonzero(target.amax(dim=(0, *others)) > NOTHING)[:, 0]
    margin = math.ceil(_MARGIN_MM / h)
    return max(0, int(index[0]) - margin), min(n, int(index[-1]) + margin + 1)
