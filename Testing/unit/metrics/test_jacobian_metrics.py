"""Jacobian determinants of transforms, and their summary."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid
from regsuite.metrics import jacobian, jacobian_determinant, jacobian_statistics
from regsuite.ops import derivatives
from regsuite.transforms import AffineTransform, DisplacementField, StationaryVelocityField, compose

from Testing.unit.lattices import grid_of, sheared_grid, smooth_field

GRIDS = pytest.mark.parametrize("grid", [grid_of(), sheared_grid(), grid_of((1, 9, 11))], ids=["oblique", "sheared", "slice"])


def shear() -> AffineTransform:
    matrix = np.eye(4)
    matrix[:3] = [[1.2, 0.1, -0.2, 9.0], [0.3, 0.8, 0.1, -4.0], [0.0, -0.1, 1.1, 3.0]]
    return AffineTransform(matrix)


@GRIDS
def test_affine_is_exact_everywhere(grid: Grid) -> None:
    expected = 1.2 * (0.8 * 1.1 + 0.01) - 0.1 * 0.33 + -0.2 * -0.03  # cofactors of the first row: 1.041
    assert shear().determinant == pytest.approx(expected)
    det = jacobian_determinant(shear(), grid)
    assert det.shape == grid.shape
    assert det.numpy() == pytest.approx(np.full(grid.shape, 1.041), abs=1e-6)


@GRIDS
def test_field_on_its_own_grid_equals_central_differences(grid: Grid) -> None:
    field = smooth_field(grid, 1.5, seed=1)
    det = jacobian_determinant(DisplacementField(field, grid), grid)
    torch.testing.assert_close(det, derivatives.jacobian_determinant(field, grid).float(), atol=1e-6, rtol=1e-6)
    assert det.std() > 0.01


def test_slabs_do_not_show_and_ticks_are_fractions(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of()
    transform = DisplacementField(smooth_field(grid, 1.5, seed=2), grid)
    whole = jacobian_determinant(transform, grid)
    monkeypatch.setattr(jacobian, "_SLAB_VOXELS", 2 * 9 * 11)
    ticks: list[float] = []
    assert torch.equal(jacobian_determinant(transform, grid, ticks.append), whole)
    assert ticks == [0.0, 2 / 7, 4 / 7, 6 / 7]


def test_chain_rule_with_an_affine_part() -> None:
    """det d(A o T) = det A det dT at the same point; det d(T o A)(x) = det A det dT(A x)."""
    grid = grid_of((12, 14, 16))
    field = DisplacementField(smooth_field(grid, 2.0, seed=3), grid)
    affine = shear()
    inner = grid.cropped((3, 3, 3), (6, 7, 8))
    outer_first = jacobian_determinant(compose(affine, field), inner)
    torch.testing.assert_close(outer_first, affine.determinant * jacobian_determinant(field, inner), atol=1e-5, rtol=1e-5)
    source = Grid(inner.shape, affine.inverse().matrix @ inner.affine)  # A maps these voxels onto those of `inner`
    inner_first = jacobian_determinant(compose(field, affine), source)
    torch.testing.assert_close(inner_first, affine.determinant * jacobian_determinant(field, inner), atol=1e-5, rtol=1e-5)


def test_a_velocity_field_does_not_fold_where_its_displacement_would() -> None:
    grid = grid_of((14, 16, 18), (1.0, 1.0, 1.0))
    velocity = smooth_field(grid, 5.0, seed=1, sigma=1.6)
    added = jacobian_statistics(jacobian_determinant(DisplacementField(velocity, grid), grid))
    flowed = jacobian_statistics(jacobian_determinant(StationaryVelocityField(velocity, grid), grid))
    assert added["folding_count"] > 0
    assert flowed["folding_count"] == 0


def test_statistics_of_known_numbers() -> None:
    det = (torch.arange(101).view(1, 1, 101) - 10) / 10.0
    stats = jacobian_statistics(det)
    assert stats["min"] == -1.0
    assert stats["max"] == 9.0
    assert stats["p01"] == pytest.approx(-0.9, abs=1e-6)
    assert stats["p99"] == pytest.approx(8.9, abs=1e-6)
    assert stats["folding_count"] == 11  # -1.0, ..., -0.1 and 0 itself
    assert stats["folding_percent"] == pytest.approx(1100 / 101)
    spread = jacobian_statistics(torch.tensor([math.exp(-0.5), math.exp(0.5), -3.0]))
    assert spread["std_log"] == pytest.approx(0.5)
    assert math.isnan(jacobian_statistics(torch.tensor([-1.0, -2.0]))["std_log"])


def test_statistics_inside_a_mask() -> None:
    det = torch.tensor([[[1.0, -1.0], [2.0, 5.0]]])
    inside = jacobian_statistics(det, torch.tensor([[[1, 0], [1, 0]]]))
    assert (inside["min"], inside["max"], inside["folding_percent"]) == (1.0, 2.0, 0.0)
    with pytest.raises(InputError, match="empty"):
        jacobian_statistics(det, torch.zeros(1, 2, 2))
    with pytest.raises(InputError, match=r"\(1, 2, 2\), found \(2, 2\)"):
        jacobian_statistics(det, torch.ones(2, 2))


def test_folds_of_samples_are_counted_as_they_come() -> None:
    from regsuite.geometry import Grid
    from regsuite.metrics.sample_folds import SampleFolds

    grid = Grid((4, 4, 8), np.diag([2.0, 2.0, 2.0, 1.0]))
    x = grid.world_points().permute(3, 0, 1, 2)[0]
    still, folded = torch.zeros(3, *grid.shape), torch.zeros(3, *grid.shape)
    folded[0] = torch.where(x > 7.0, -3.0 * (x - 8.0), torch.zeros_like(x))  # det = 1 - 3 in the upper half
    half = x > 9.0  # three of eight columns, all folded
    everywhere, there = SampleFolds(), SampleFolds(half)
    for counter in (everywhere, there):
        counter.add(still, grid)
        counter.add(folded, grid)
    assert there.statistics() == {
        "samples": 2, "folding_percent_mean": 50.0, "folding_percent_max": 100.0, "jacobian_min": pytest.approx(-2.0)
    }  # fmt: skip
    assert everywhere.statistics()["folding_percent_max"] == pytest.approx(50.0)  # the kink's own voxel has det = 1 - 1.5
    with pytest.raises(InputError, match="empty"):
        SampleFolds(torch.zeros_like(half))
    with pytest.raises(InputError, match="No sample"):
        SampleFolds().statistics()
