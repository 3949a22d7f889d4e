"""Phantom growth: exact maps, known local growth, contrast that changes with age."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.phantoms import Phantom, make_phantom
from regsuite.phantoms.growing import amount_at
from regsuite.transforms import compose

SIZE = (44, 50, 44)


@pytest.fixture(scope="module")
def child() -> Phantom:
    return make_phantom("growth", 3, size=SIZE, ages=(0.0, 2.0, 5.0), oblique=True)


def test_the_map_between_two_scans_goes_through_the_anatomy(child: Phantom) -> None:
    first, _, last = child.series
    points = child.fixed_landmarks
    through = compose(last.to_anatomy.inverse(), first.to_anatomy).map_points(points)
    assert torch.allclose(child.transform.map_points(points), through, atol=1e-3)
    assert torch.allclose(child.transform.inverse().map_points(child.moving_landmarks), points, atol=1e-3)


def test_labels_follow_the_map(child: Phantom) -> None:
    grid = child.fixed.grid
    points = grid.world_points(torch.float64).view(-1, 3)
    index = child.moving.grid.world_to_index(child.transform.map_points(points)).round().long()
    size = torch.tensor(child.moving.grid.size)
    inside = ((index >= 0) & (index < size)).all(dim=1)
    i, j, k = index[inside].T
    moved = child.moving_labels.data[0, k, j, i]
    fixed = child.fixed_labels.data.view(-1)[inside]
    for label in (3, 4, 7):
        overlap = ((fixed == label) & (moved == label)).sum() * 2 / ((fixed == label).sum() + (moved == label).sum())
        assert float(overlap) > 0.8, label


def test_growth_is_what_the_volumes_show(child: Phantom) -> None:
    volumes = [float((s.mask.data > 0).sum()) * s.image.grid.voxel_volume for s in child.series]
    assert volumes[0] < volumes[1] < volumes[2]
    grid = child.fixed.grid
    determinant = jacobian_determinant(child.transform.displacement(grid), grid)
    grown = float(determinant[child.fixed_mask.data[0] > 0].mean())
    assert grown == pytest.approx(volumes[2] / volumes[0], rel=0.02)
    local = determinant[child.fixed_mask.data[0] > 0]
    assert float(local.quantile(0.99) - local.quantile(0.01)) > 0.1
    assert float(determinant.min()) > 0.5


def test_white_matter_is_darker_than_grey_at_birth_and_brighter_later(child: Phantom) -> None:
    contrast = []
    for scan in child.series:
        image, labels = scan.image.data, scan.labels.data
        white = image[(labels == 3) | (labels == 4)].median()
        contrast.append(float(white / image[labels == 6].median()))
    assert contrast[0] < 0.85
    assert contrast[0] < contrast[1] < contrast[2]
    assert contrast[1] > 1.1


def test_the_same_seed_gives_the_same_bytes_and_another_another_child() -> None:
    a, b, c = (make_phantom("growth", seed, size=(24, 28, 24), ages=(2.0, 3.0)) for seed in (5, 5, 6))
    assert torch.equal(a.series[1].image.data, b.series[1].image.data)
    assert not torch.equal(a.fixed_labels.data, c.fixed_labels.data)


def test_growth_slows_down() -> None:
    assert amount_at(0.0) == 0.0
    assert amount_at(3.0) == pytest.approx(1.0 - math.exp(-1.0))
    assert np.diff([amount_at(age) for age in range(10)]).min() > 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ages": (2.0,)}, "two or more"),
        ({"ages": (3.0, 3.0)}, "must increase"),
        ({"ages": (2.0, 30.0)}, "age"),
        ({"size": (24, 24, 8)}, "24 to 512"),
        ({"noise": 2.0}, "noise"),
        ({"oblique": 1}, "true or false"),
    ],
)
def test_impossible_options_are_refused(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_phantom("growth", 0, **options)
