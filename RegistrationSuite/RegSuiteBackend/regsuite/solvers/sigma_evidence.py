"""What a pair of images and a given transform say about the transform's error: how the images disagree at it and around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.derivatives import spatial_gradient
from regsuite.ops.filters import downsample, gaussian_smooth
from regsuite.ops.pyramid import at_spacing, level_shape
from regsuite.ops.sampling import resample, sample_index
from regsuite.transforms.base import Transform

RADII_MM = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Distances from the given transform at which the images are compared, along every world axis, both ways."""
_WINDOW_NODES = 1.5  # standard deviation of the window in which disagreement is averaged, in lattice steps
_NORMALISE_MM = 8.0
_NOISES = 2.0  # contrast of this many noise levels counts half


@dataclass(frozen=True)
class Evidence:
    """On a lattice `grid` over the fixed image's box; components along world x, y, z.

    residual (d, h, w): mean squared difference of the locally normalised images at T; even, odd (3, K, d, h, w): even and odd part
    of its change at T +- RADII_MM[k] along each axis, 0 beyond the moving image; displacement (3, d, h, w): T(x) - x in mm;
    contrast, brightness (d, h, w): local variance of the fixed image over that of its noise, and local mean of its scaled values;
    residual_at: the residual at another transform.
    """

    grid: Grid
    residual: torch.Tensor
    even: torch.Tensor
    odd: torch.Tensor
    displacement: torch.Tensor
    contrast: torch.Tensor
    brightness: torch.Tensor
    residual_at: Callable[[Transform], torch.Tensor]

    def smooth(self, data: torch.Tensor, width_mm: float) -> torch.Tensor:
        """Gaussian mean of (C, d, h, w) with a standard deviation of `width_mm`."""
        return gaussian_smooth(data, [width_mm / float(h) for h in self.grid.spacing[::-1]])

    def strain(self) -> torch.Tensor:
        """(3, d, h, w): squared length of the gradient of each component of the displacement, (mm/mm)^2."""
        gradient = spatial_gradient(self.displacement, self.grid)
        steady = gradient.mean(dim=(2, 3, 4), keepdim=True)  # turning or scaling as a whole is no strain
        return (gradient - steady).square().sum(dim=1)

    def shifts(self, width_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared distance (3, d, h, w), mm^2, to where the images agree best along each axis, and the share of disagreement
        that goes away there, 0 where T itself is best; the costs are averaged over `width_mm` first."""
        squares, gains = [], []
        for even, odd in zip(self.even, self.odd, strict=True):
            cost = self.smooth(torch.cat([even + odd, even - odd]), width_mm)
            least, where = cost.min(dim=0)
            radii = torch.tensor(RADII_MM * 2, dtype=cost.dtype, device=cost.device)
            gain = -least.clamp(max=0.0)
            squares.append(torch.where(gain > 0, radii[where] ** 2, 0.0))
            gains.append(gain / (self.residual + 0.05))
        return torch.stack(squares), torch.stack(gains)


def noise_level(image: Image) -> float:
    """Standard deviation of a scaled image's noise: median absolute second difference along i, background left out."""
    data = image.data[0]
    if data.shape[2] < 3:
        return 0.01
    second = (data[..., 2:] - 2.0 * data[..., 1:-1] + data[..., :-2]).abs()[data[..., 1:-1] > 0.02]
    if not second.numel():
        return 0.01
    thin = second[:: max(1, second.numel() // 1_000_000)]
    return max(1.4826 / math.sqrt(6.0) * float(thin.median()), 1e-4)


def local_moments(image: Image) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance (1, D, H, W) in Gaussian windows of 8 mm."""
    sigma = [_NORMALISE_MM / float(h) for h in image.grid.spacing[::-1]]
    mean = gaussian_smooth(image.data, sigma)
    return mean, (gaussian_smooth(image.data.square(), sigma) - mean.square()).clamp_(min=0.0)


def normalised(image: Image, noise: float) -> Image:
    """(I - local mean) / sqrt(local variance + (2 noise)^2) in windows of 8 mm: bones and faint vessels weigh alike, and slow
    changes of brightness (lungs filling with air, coil fields) drop out."""
    mean, variance = local_moments(image)
    return image.with_data((image.data - mean) / variance.add_((_NOISES * noise) ** 2).sqrt_())


def gather(
    fixed: Image, moving: Image, transform: Transform, finest_mm: float, lattice_mm: float, tick: Callable[[float], None]
) -> Evidence:
    """Compare scaled images (one channel, 0..1, one device) at T and around it; tick(fraction) is called after every comparison."""
    fixed, moving = at_spacing(fixed, finest_mm), at_spacing(moving, finest_mm)
    own_noise = noise_level(fixed)
    noise = max(own_noise, noise_level(moving))
    target, source = normalised(fixed, noise), normalised(moving, noise)
    index, shape = _moving_index(transform, target.grid, source.grid), level_shape(fixed.grid, lattice_mm)
    grid = fixed.grid.resized(shape)
    window = [_WINDOW_NODES * lattice_mm / float(h) for h in fixed.grid.spacing[::-1]]
    size = torch.tensor(source.grid.size, dtype=index.dtype, device=index.device)

    def inside(at: torch.Tensor) -> torch.Tensor:
        return ((at >= -0.5) & (at <= size - 0.5)).all(dim=1)

    def difference(at: torch.Tensor) -> torch.Tensor:
        return (target.data.view(-1) - sample_index(source.data, at)[0]).square()

    def pooled(values: torch.Tensor) -> torch.Tensor:
        return downsample(gaussian_smooth(values.view(1, *fixed.grid.shape), window), shape)[0]

    here, covered = difference(index), inside(index)
    residual = pooled(here * covered)
    even = torch.empty(3, len(RADII_MM), *shape, dtype=residual.dtype, device=residual.device)
    odd = torch.empty_like(even)
    steps = torch.as_tensor(source.grid.inverse_affine()[:3, :3].T.copy()).to(index)
    for axis in range(3):
        for number, radius in enumerate(RADII_MM):
            sides = []
            for sign in (1.0, -1.0):
                there = index + sign * radius * steps[axis]
                sides.append(pooled((difference(there) - here) * (covered & inside(there))))
                tick((axis * len(RADII_MM) + number + 0.5 * len(sides)) / (3 * len(RADII_MM)))
            even[axis, number], odd[axis, number] = (sides[0] + sides[1]) / 2, (sides[0] - sides[1]) / 2

    def residual_at(other: Transform) -> torch.Tensor:
        at = _moving_index(other, target.grid, source.grid)
        return pooled(difference(at) * inside(at))

    mean, variance = local_moments(fixed)
    contrast, brightness = (resample(fixed.with_data(v), grid).data[0] for v in (variance / own_noise**2, mean))
    displacement = transform.displacement(grid, residual.device)
    return Evidence(grid, residual, even, odd, displacement, contrast, brightness, residual_at)


def _moving_index(transform: Transform, fixed: Grid, moving: Grid) -> torch.Tensor:
    """(N, 3) float32 continuous index in the moving image of T at every fixed voxel; worked out in slabs."""
    slab = max(1, 2_000_000 // (fixed.shape[1] * fixed.shape[2]))
    parts = []
    for start in range(0, fixed.shape[0], slab):
        part = fixed.cropped((start, 0, 0), (min(slab, fixed.shape[0] - start), *fixed.shape[1:]))
        points = transform.map_points(part.world_points(torch.float64).view(-1, 3))
        parts.append(moving.world_to_index(points).float())
    return torch.cat(parts)
