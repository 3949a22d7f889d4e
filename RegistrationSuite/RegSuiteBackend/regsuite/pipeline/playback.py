"""Growth to look at: the mean brain in the shape of any age, and how much each place has grown until then."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import linalg

from regsuite.geometry import Grid, Image
from regsuite.io import write_image
from regsuite.ops.sampling import resample
from regsuite.solvers.velocity import to_velocity_transform
from regsuite.transforms import AffineTransform, Transform, compose

if TYPE_CHECKING:
    from regsuite.pipeline.longitudinal import Growth

_SPACING_MM = 2.0
_GREY = 1000.0  # white matter, about


def write_frames(growth: Growth, count: int, folder: Path) -> list[float]:
    """`count` pictures at evenly spaced ages: frame_NNN.nrrd (brightness) and growth_NNN.nrrd (% more volume than at the first
    age, 0 outside the brain). Returns the ages."""
    folder.mkdir()
    ages = [float(age) for age in np.linspace(growth.ages[0], growth.ages[-1], count)]
    for number, (picture, change) in enumerate(frames(growth, ages), start=1):
        write_image(picture, folder / f"frame_{number:03d}.nrrd")
        write_image(change, folder / f"growth_{number:03d}.nrrd")
    return ages


def frames(growth: Growth, ages: list[float]) -> Iterator[tuple[Image, Image]]:
    """(brightness int16, percent of growth float32) at each age, both on one grid of the mid-space's box.

    Between two scans the velocity, the logarithm of the linear part and the brightness change evenly. The pose of the head (the
    rotation of the linear part, and its translation) is left out, so that only growth moves.
    """
    grid = _display_grid(growth.grid)
    moved = [resample(s, grid, t, fill=0.0).data for s, t in zip(growth.scans, growth.group.transforms, strict=True)]
    mask = growth.mask.with_data((growth.mask.data > 0).float())
    first = growth.group.log_jacobians[0]
    for age in ages:
        n, share = _place(growth.ages, age)
        shape = shape_at(growth, n, share)
        back = shape.inverse()
        picture = resample(Image((1.0 - share) * moved[n] + share * moved[n + 1], grid), grid, back, fill=0.0).data
        log = (1.0 - share) * growth.group.log_jacobians[n] + share * growth.group.log_jacobians[n + 1] - first
        change = resample(Image(log.float()[None], growth.group.lattice), grid, back).data
        inside = resample(mask, grid, back, fill=0.0).data > 0.5
        brightness = (picture * _GREY).round().clamp(0.0, 32000.0).to(torch.int16)
        yield Image(brightness, grid), Image((100.0 * change.expm1() * inside).float(), grid)


def shape_at(growth: Growth, n: int, share: float) -> Transform:
    """Mid-space points -> the same points at `share` (0 to 1) of the way from scan n to scan n + 1, without the head's pose."""
    group = growth.group
    v = (1.0 - share) * group.velocities[n] + share * group.velocities[n + 1]
    logs = [_log_stretch(group.starts[k]) for k in (n, n + 1)]
    stretch = np.real(linalg.expm((1.0 - share) * logs[0] + share * logs[1]))
    centre = growth.grid.index_to_world(torch.tensor([[(s - 1) / 2.0 for s in growth.grid.size]], dtype=torch.float64))[0].numpy()
    matrix = np.eye(4)
    matrix[:3, :3] = stretch
    matrix[:3, 3] = centre - stretch @ centre
    grown = to_velocity_transform(v, growth.grid, np.eye(4))
    return compose(AffineTransform(matrix), grown)


def _log_stretch(start: np.ndarray) -> np.ndarray:
    """log S of the polar decomposition start = R S, S symmetric and positive."""
    return np.real(linalg.logm(linalg.polar(start[:3, :3])[1]))


def _place(ages: tuple[float, ...], age: float) -> tuple[int, float]:
    """Number of the interval that holds an age, and the share of it that has passed."""
    for n, (low, high) in enumerate(itertools.pairwise(ages)):
        if age <= high:
            return n, max(0.0, (age - low) / (high - low))
    return len(ages) - 2, 1.0


def _display_grid(grid: Grid) -> Grid:
    shape = [max(2, round(n * h / max(_SPACING_MM, h))) for n, h in zip(grid.shape, grid.spacing[::-1], strict=True)]
    return grid.resized((shape[0], shape[1], shape[2]))
