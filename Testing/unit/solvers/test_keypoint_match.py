"""Keypoints and their matches: what counts as distinct, exact agreement on a tree, known shifts found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regsuite.ops.filters import gaussian_smooth
from regsuite.ops.keypoints import distinctiveness, eroded, spread_keypoints
from regsuite.ops.mind import mind_ssc
from regsuite.solvers.keypoint_match import MatchSettings, candidate_costs, lowest, match, propagate

MM = (2.0, 1.5, 1.0)


def texture(seed: int = 0, shape: tuple[int, int, int] = (30, 32, 34)) -> torch.Tensor:
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    return gaussian_smooth(noise, (1.2, 1.2, 1.2))


def grid_points(step: int = 5, first: int = 9, last: int = 22) -> torch.Tensor:
    line = torch.arange(first, last, step)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1).view(-1, 3)


def test_corners_count_edges_and_planes_do_not() -> None:
    image = torch.zeros(1, 24, 24, 24)
    image[:, 10:, 10:, 10:] = 1.0
    strength = distinctiveness(image, (1.0, 1.0, 1.0))
    corner, edge, plane = (float(strength[p]) for p in ((10, 10, 10), (10, 10, 20), (10, 20, 20)))
    assert corner > 20.0 * edge
    assert corner > 1000.0 * plane
    found = spread_keypoints(strength, torch.ones(24, 24, 24, dtype=torch.bool), 1)[0]
    assert float((found - 10).abs().max()) <= 1


def test_keypoints_are_spread_allowed_and_strongest_first() -> None:
    strength = distinctiveness(texture(), (1.0, 1.0, 1.0))
    allowed = torch.zeros(30, 32, 34, dtype=torch.bool)
    allowed[:, :16] = True
    found = spread_keypoints(strength, allowed, 40)
    assert 20 <= len(found) <= 40
    assert int(found[:, 1].max()) < 16
    values = strength[tuple(found.T)]
    assert torch.equal(values, values.sort(descending=True).values)
    apart = torch.cdist(found.double(), found.double()) + 99.0 * torch.eye(len(found))
    assert float(apart.min(dim=1).values.median()) > 4.0
    assert float(values.mean()) > 1.5 * float(strength[:, :16].mean())


def test_a_mask_loses_its_rim_but_not_at_the_border_of_the_image() -> None:
    mask = torch.zeros(9, 10, 11, dtype=torch.bool)
    mask[:, 2:8, :7] = True
    left = torch.zeros_like(mask)
    left[:, 4:6, :6] = True
    assert torch.equal(eroded(mask, (1, 2, 1)), left)


def test_marginals_are_exact() -> None:
    """Against all 27^4 assignments of four keypoints with three candidates along each axis."""
    rng = np.random.default_rng(2)
    points = torch.tensor([[0, 0, 0], [3, 0, 0], [3, 4, 0], [0, 0, 7]])
    cost = torch.from_numpy(rng.uniform(0, 1, (4, 3, 3, 3)))
    belief = propagate(cost, points, MM, 0.4).flatten(1)
    mm = np.array(list(itertools.product((-1, 0, 1), repeat=3))) * MM
    pay = ((mm[:, None] - mm[None]) ** 2).sum(axis=2)
    total = np.zeros((27,) * 4)
    for n in range(4):
        total = total + cost[n].numpy().ravel().reshape([27 if a == n else 1 for a in range(4)])
    for a, b in ((0, 1), (1, 2), (0, 3)):  # the minimum spanning tree of these points
        length = np.linalg.norm((points[a] - points[b]).numpy() * np.array(MM))
        total = total + (0.4 / length * pay).reshape([27 if c in (a, b) else 1 for c in range(4)])
    for n in range(4):
        exact = total.min(axis=tuple(a for a in range(4) if a != n))
        ours = belief[n].numpy()
        assert np.allclose(ours - ours.min(), exact - exact.min(), atol=1e-9)


@pytest.mark.parametrize(("symmetric", "stride"), [(False, 1), (True, 1), (True, 2)])
def test_a_shift_is_found_and_nothing_moves_without_one(symmetric: bool, stride: int) -> None:
    image = texture(1)
    features, shifted = mind_ssc(image), mind_ssc(image.roll((2, -1, 3), dims=(1, 2, 3)))
    settings = MatchSettings(4, 0.02, symmetric, stride=stride)
    found = match(features, shifted, None, grid_points(), MM, settings)
    assert float((found - torch.tensor([2.0, -1.0, 3.0])).abs().median()) < 0.15
    assert float((found.round() - torch.tensor([2.0, -1.0, 3.0])).abs().max()) <= 1.0
    still = match(features, features, None, grid_points(), MM, settings)
    assert float(still.abs().max()) < 1e-3


def test_neighbours_correct_a_lonely_error() -> None:
    """One keypoint's costs prefer a wrong candidate a little; agreement brings it back."""
    points = grid_points()
    cost = torch.full((len(points), 5, 5, 5), 1.0)
    cost[:, 3, 2, 2] = 0.0
    cost[13, 3, 2, 2], cost[13, 0, 0, 0] = 0.1, 0.0
    assert lowest(cost, False)[13].tolist() == [-2.0, -2.0, -2.0]
    assert lowest(propagate(cost, points, MM, 0.3), False)[13].tolist() == [1.0, 0.0, 0.0]


def test_what_the_moving_mask_hides_does_not_attract() -> None:
    features = mind_ssc(texture(1))
    inside = torch.ones(1, 30, 32, 34)
    inside[:, :, :, 17:] = 0.0
    points = torch.tensor([[15, 15, 16]])
    cost = candidate_costs(features, features, inside, points, MatchSettings(3, 0.0, False), lambda f: None)
    hidden, seen = cost[0, :, :, 4:], cost[0, :, :, :4]
    assert float(hidden.std()) < 1e-2
    assert float(seen.std()) > 0.1
