"""Samples of an uncertain transform, streamed: T_s(x) = T(x) + sigma(x) n_s(x), n_s a smooth random field of unit variance."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.ops.random_fields import SmoothNoise
from regsuite.transforms.base import Transform
from regsuite.transforms.displacement import DisplacementField


def sample_transforms(
    transform: Transform, sigma: Image, correlation_mm: float, count: int, *, seed: int = 0, first: int = 0
) -> Iterator[DisplacementField]:
    """Yield `count` random transforms T_s, fixed -> moving points, one at a time; nothing is kept between two.

    transform: the mean T. sigma: Image (3, D, H, W), mm, the standard deviation of T(x) along world x, y, z at each voxel; its
    grid is the grid of the samples. correlation_mm: standard deviation of the Gaussian kernel that makes the errors smooth; errors
    d mm apart correlate by exp(-d^2 / (4 correlation_mm^2)), the three components are independent. Covariance G C C^T G^T of
    Smolders et al., WBIR 2022, with unit L2 rows of C, so that sigma is the true standard deviation of every voxel.
    Sample number k depends on (seed, first + k) alone: any one can be drawn again, and two streams of different seeds are
    independent. Each sample holds its displacements on sigma's grid (float32, mm), linear in between, zero outside as always.
    Raises InputError for a sigma that is not three non-negative finite components, a bad count, seed or correlation.
    """
    _check(sigma, count, seed, first)
    noise = SmoothNoise(sigma.grid, correlation_mm)
    return _stream(transform, sigma, noise, range(first, first + count), seed)  # checks above run at the call, not at next()


def _stream(transform: Transform, sigma: Image, noise: SmoothNoise, numbers: range, seed: int) -> Iterator[DisplacementField]:
    mean = transform.displacement(sigma.grid)
    spread = sigma.data.float().cpu()
    for number in numbers:
        field = noise.draw(seed, number)
        yield DisplacementField(torch.addcmul(mean, field, spread, out=field), sigma.grid)


def _check(sigma: Image, count: int, seed: int, first: int) -> None:
    if sigma.channels != 3:
        raise InputError(f"The sigma field must have three components (x, y, z in mm), found {sigma.channels}.")
    check.finite_tensor("The sigma field", sigma.data)
    if bool((sigma.data < 0).any()):
        raise InputError(f"The sigma field must not be negative, found {float(sigma.data.min()):g} mm.")
    for name, value, low in (("count", count, 1), ("seed", seed, 0), ("first", first, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(f"'{name}' must be a whole number of at least {low}, found {value!r}.")
