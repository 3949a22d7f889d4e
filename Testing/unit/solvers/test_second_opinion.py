"""A registration made anew and a refined one beside a transform that is wrong by a known field."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.ops.filters import gaussian_smooth
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers.intake import scaled
from regsuite.solvers.own_mean import own_mean
from regsuite.solvers.second_opinion import compare, linear_start, refine_given
from regsuite.solvers.sigma_evidence import Evidence, gather
from regsuite.transforms import AffineTransform, DisplacementField

from Testing.unit.lattices import smooth_field

GRID = Grid((34, 38, 42), np.array([[-2.9, 0.1, 0, 40], [0.1, 3.0, 0.2, -50], [0, -0.2, 3.1, -40], [0, 0, 0, 1.0]]))


@pytest.fixture(scope="module")
def pair() -> tuple[Image, Image, DisplacementField, DisplacementField]:
    """fixed, moving, the true map and one that is wrong by up to 5 mm."""
    noise = torch.randn(1, *GRID.shape, generator=torch.Generator().manual_seed(0))
    moving = Image(gaussian_smooth(noise, (1.5, 1.5, 1.5)), GRID)
    true = DisplacementField(smooth_field(GRID, 5.0, seed=2, sigma=8.0).float(), GRID)
    wrong = DisplacementField(true.field + smooth_field(GRID, 5.0, seed=3, sigma=8.0).float(), GRID)
    return scaled(resample(moving, GRID, true), "fixed"), scaled(moving, "moving"), true, wrong


def inner(values: torch.Tensor) -> torch.Tensor:
    return values[..., 5:-5, 5:-5, 5:-5]


def evidence_of(pair: tuple[Image, Image, DisplacementField, DisplacementField]) -> Evidence:
    fixed, moving, _, wrong = pair
    return gather(fixed, moving, wrong, 3.0, 4.0, lambda fraction: None)


def test_both_opinions_see_the_error(pair: tuple[Image, Image, DisplacementField, DisplacementField]) -> None:
    fixed, moving, true, wrong = pair
    evidence = evidence_of(pair)
    error = true.displacement(evidence.grid) - wrong.displacement(evidence.grid)
    anew = own_mean(fixed, moving, 3.0, "translation", 0, Progress(), [], [])
    refined = refine_given(fixed, moving, wrong, 3.0, Progress(), (0.0, 1.0))
    for other in (anew, refined):
        opinion = compare(other, evidence.displacement, evidence.grid, evidence.residual_at)
        missed = inner(opinion.difference - error).square().mean().sqrt()
        assert float(missed) < 0.35 * float(inner(error).square().mean().sqrt())
        assert float(inner(opinion.residual).mean()) < 0.5 * float(inner(evidence.residual).mean())


def test_the_residual_of_the_given_transform_is_that_of_the_evidence(
    pair: tuple[Image, Image, DisplacementField, DisplacementField],
) -> None:
    evidence = evidence_of(pair)
    torch.testing.assert_close(evidence.residual_at(pair[3]), evidence.residual)


def test_only_what_turns_or_scales_gives_a_start() -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    turn[:3, 3] = (5.0, 100.0, -3.0)
    found = linear_start(AffineTransform(turn), GRID)
    assert not isinstance(found, str) and np.allclose(found, turn, atol=1e-9)
    assert linear_start(AffineTransform.translation([30.0, 0.0, 5.0]), GRID) == "translation"
