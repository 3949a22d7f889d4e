"""Streamed samples of an uncertain transform: sigma is the true standard deviation, the correlation is as said, seeds hold."""

from __future__ import annotations

import math
import tracemalloc
from itertools import islice

import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.ops.random_fields import SmoothNoise, neighbour_correlation
from regsuite.transforms import AffineTransform, sample_transforms

from Testing.unit.lattices import grid_of, world

GRID = grid_of((9, 12, 10), (3.0, 2.0, 5.0))
MEAN = AffineTransform.translation([1.0, -2.0, 30.0])


def a_sigma(scale: float = 1.0) -> Image:
    """Different for each component and voxel, 0 somewhere."""
    ramp = (world(GRID) - world(GRID).amin(dim=(1, 2, 3), keepdim=True)).float() / 20.0
    return Image(scale * ramp * torch.tensor([1.0, 0.5, 2.0]).view(3, 1, 1, 1), GRID)


def test_sigma_is_the_standard_deviation_of_every_voxel() -> None:
    sigma = a_sigma()
    errors = torch.stack([t.field - MEAN.displacement(GRID) for t in sample_transforms(MEAN, sigma, 6.0, 3000, seed=1)])
    relative = (errors.std(dim=0, correction=0) / sigma.data)[sigma.data > 0.01]
    assert float((relative - 1.0).abs().max()) < 5.0 / math.sqrt(2 * 3000)  # five standard errors of a standard deviation
    assert float(relative.mean()) == pytest.approx(1.0, abs=0.004)
    assert float((errors.mean(dim=0).abs() / sigma.data.clamp(min=1e-3)).max()) < 5.0 / math.sqrt(3000)
    assert float(errors[:, sigma.data == 0].abs().max()) < 1e-5


@pytest.mark.parametrize("kernel_mm", [2.0, 6.0, 40.0])
def test_correlation_falls_off_as_stated_along_every_axis_and_up_to_the_border(kernel_mm: float) -> None:
    noise = SmoothNoise(GRID, kernel_mm)
    fields = torch.stack([noise.draw(3, k) for k in range(1000)])
    for place in ((0, 0, 0), (4, 6, 5)):
        here = fields[:, :, place[0], place[1], place[2]]
        assert float(here.var(dim=0, correction=0).mean()) == pytest.approx(1.0, abs=0.08)
        for axis, step_mm in enumerate(GRID.spacing[::-1]):
            for steps in (1, 3):
                other = list(place)
                other[axis] += steps
                there = fields[:, :, other[0], other[1], other[2]]
                expected = math.exp(-((steps * step_mm) ** 2) / (4 * kernel_mm**2))
                assert float((here * there).mean()) == pytest.approx(expected, abs=0.1)
                assert neighbour_correlation(steps * step_mm, kernel_mm) == pytest.approx(expected)
    across = (fields[:, 0] * fields[:, 1]).mean()
    assert abs(float(across)) < 0.08  # components are independent


def test_a_sample_depends_on_its_number_and_seed_alone() -> None:
    sigma = a_sigma()
    five = [t.field for t in sample_transforms(MEAN, sigma, 10.0, 5, seed=4)]
    again = next(islice(sample_transforms(MEAN, sigma, 10.0, 2, seed=4, first=3), 0, 1)).field
    assert torch.equal(five[3], again)
    assert not torch.equal(five[0], five[1])
    other = next(sample_transforms(MEAN, sigma, 10.0, 1, seed=5)).field
    assert not torch.equal(five[0], other)


def test_samples_map_points_around_the_mean() -> None:
    point = GRID.index_to_world(torch.tensor([[4.0, 5.0, 4.0]], dtype=torch.float64))
    sigma = Image(torch.full((3, *GRID.shape), 2.0), GRID)
    mapped = torch.cat([t.map_points(point) for t in sample_transforms(MEAN, sigma, 8.0, 600)])
    assert float((mapped.mean(0) - MEAN.map_points(point)[0]).norm()) < 0.4
    assert mapped.std(dim=0).tolist() == pytest.approx([2.0, 2.0, 2.0], rel=0.12)


def test_only_one_sample_is_alive_at_a_time() -> None:
    grid = grid_of((40, 40, 40), (2.0, 2.0, 2.0))
    sigma = Image(torch.ones(3, *grid.shape), grid)
    stream = sample_transforms(MEAN, sigma, 20.0, 10**6)  # more than any memory could hold
    tracemalloc.start()
    for sample in islice(stream, 5):
        assert sample.field.shape == (3, 40, 40, 40)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="three components"):
        sample_transforms(MEAN, Image(torch.ones(1, *GRID.shape), GRID), 10.0, 3)
    with pytest.raises(InputError, match="negative"):
        sample_transforms(MEAN, a_sigma(-1.0), 10.0, 3)
    with pytest.raises(InputError, match="NaN"):
        sample_transforms(MEAN, a_sigma(float("nan")), 10.0, 3)
    for bad in ({"count": 0}, {"count": 2.5}, {"seed": -1}, {"first": -1}):
        with pytest.raises(InputError, match=next(iter(bad))):
            sample_transforms(MEAN, a_sigma(), 10.0, **({"count": 3} | bad))
    for bad_mm in (0.0, 0.5, float("nan"), -3.0):
        with pytest.raises(InputError, match="correlation_mm"):
            sample_transforms(MEAN, a_sigma(), bad_mm, 3)
