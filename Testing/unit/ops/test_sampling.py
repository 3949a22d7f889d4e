"""Sampling: literal values at, between and beyond the voxels, and laws across grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.ops import sampling
from regsuite.ops.sampling import INTERPOLATIONS, resample, sample_index, sample_normalised, sample_world
from regsuite.transforms import AffineTransform

from Testing.unit.lattices import grid_of, grids, rotation, sheared_grid, world

LINE = torch.tensor([10.0, 20.0, 40.0, 80.0], dtype=torch.float64).view(1, 1, 1, 4)


def at(positions: list[float], interpolation: str = "linear", fill: float | None = None) -> list[float]:
    index = torch.tensor([[p, 0.0, 0.0] for p in positions], dtype=torch.float64)
    return sample_index(LINE, index, interpolation, fill)[0].tolist()


def test_linear_values_and_borders() -> None:
    assert at([0.0, 0.25, 1.5, 3.0]) == pytest.approx([10.0, 12.5, 30.0, 80.0])
    assert at([-0.4, -7.0, 3.4, 9.0]) == pytest.approx([10.0, 10.0, 80.0, 80.0])
    assert at([-0.49, -0.51, 3.49, 3.51], fill=-5.0) == pytest.approx([10.0, -5.0, 80.0, -5.0])


def test_nearest_rounds_halves_up() -> None:
    assert at([-0.5, 0.49, 0.5, 1.5, 2.49, 2.5, 3.4], "nearest") == [10.0, 10.0, 20.0, 40.0, 40.0, 80.0, 80.0]
    assert at([-3.0, 7.0], "nearest") == [10.0, 80.0]
    assert at([-3.0, 7.0, 1.0], "nearest", fill=0.0) == [0.0, 0.0, 20.0]


def test_nearest_is_exact_for_every_type() -> None:
    index = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    for dtype, value in ((torch.int64, 2**53 + 1), (torch.int32, 2**24 + 1), (torch.uint8, 255), (torch.bool, True)):
        out = sample_index(torch.tensor([0, value], dtype=dtype).view(1, 1, 1, 2), index, "nearest", fill=0)
        assert out.dtype == dtype
        assert out.item() == value


def test_cubic_reproduces_a_cubic_polynomial_away_from_the_border() -> None:
    i = torch.arange(41, dtype=torch.float64)
    curve = ((i - 20) ** 3 / 50 - i).view(1, 1, 1, 41)
    positions = torch.tensor([18.0, 19.25, 20.5, 22.9], dtype=torch.float64)
    index = torch.stack([positions, torch.zeros(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)], dim=1)
    expected = (positions - 20) ** 3 / 50 - positions
    torch.testing.assert_close(sample_index(curve, index, "cubic")[0], expected, atol=1e-5, rtol=0)
    assert at([0.0, 1.0, 2.0, 3.0], "cubic") == pytest.approx([10.0, 20.0, 40.0, 80.0])
    assert at([-0.4, 3.4, -1.0], "cubic", fill=0.0) == pytest.approx([10.0, 80.0, 0.0])


def test_index_order_is_i_j_k() -> None:
    data = torch.arange(24.0).view(1, 2, 3, 4)
    index = torch.tensor([[3.0, 2.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for interpolation in INTERPOLATIONS:
        assert sample_index(data, index, interpolation)[0].tolist() == pytest.approx([23.0, 1.0, 4.0, 12.0], abs=1e-4)


def test_gradients_reach_the_values_and_the_positions() -> None:
    data = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    index = (torch.rand(6, 3, dtype=torch.float64) * 1.8 + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda d, p: sample_index(d, p, "linear", fill=0.0), (data, index))


def test_normalise_matrix_puts_voxel_borders_at_minus_one_and_one() -> None:
    matrix = sampling.normalise_matrix((3, 4, 5))
    assert (matrix @ [-0.5, -0.5, -0.5, 1.0]).tolist() == pytest.approx([-1.0, -1.0, -1.0, 1.0])
    assert (matrix @ [4.5, 3.5, 2.5, 1.0]).tolist() == pytest.approx([1.0, 1.0, 1.0, 1.0])
    data = torch.arange(60.0).view(1, 3, 4, 5)
    coordinates = torch.as_tensor((matrix @ [3.0, 2.0, 1.0, 1.0])[:3]).float().view(1, 1, 1, 3)
    assert sample_normalised(data, coordinates).item() == pytest.approx(33.0, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(grids(smallest=3), grids())
def test_linear_resampling_is_exact_for_linear_images(source: Grid, target: Grid) -> None:
    """image(x) = g . x sampled on any other grid is g . x again, wherever that lies inside the voxel centres."""
    g = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64).view(3, 1, 1, 1)
    target = Grid(target.shape, source.affine @ _inside(source, target))
    image = Image((g * world(source)).sum(dim=0), source)
    expected = (g * world(target)).sum(dim=0, keepdim=True)
    torch.testing.assert_close(resample(image, target).data, expected, atol=1e-6, rtol=1e-6)


def _inside(source: Grid, target: Grid) -> np.ndarray:
    """Index -> index matrix that squeezes the target's lattice, turned as it is, into the source's voxel centres."""
    corners = target.corners() - target.centre
    reach = np.abs(corners).max(axis=0)
    half = (np.array(source.size) - 1) / 2
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag(half / reach) @ target.affine[:3, :3]
    matrix[:3, 3] = half - matrix[:3, :3] @ ((np.array(target.size) - 1) / 2)
    return matrix


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resampling_on_the_same_grid_changes_nothing(interpolation: str) -> None:
    image = Image(torch.randn(2, 7, 9, 11, generator=torch.Generator().manual_seed(0)), sheared_grid())
    torch.testing.assert_close(resample(image, image.grid, None, interpolation).data, image.data, atol=2e-5, rtol=0)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_slabs_do_not_show(interpolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image(torch.randn(1, 7, 9, 11, generator=torch.Generator().manual_seed(0)), grid_of())
    target = grid_of((6, 5, 8), turn=rotation((1, 0, 1), 10.0))
    whole = resample(image, target, None, interpolation, fill=-1.0)
    assert whole.data.std() > 0.1
    monkeypatch.setattr(sampling, "_CHUNK_VOXELS", 2 * 5 * 8)
    assert torch.equal(resample(image, target, None, interpolation, fill=-1.0).data, whole.data)


def test_resample_reads_at_the_mapped_point() -> None:
    """moved(x) = moving(T(x)): T moves points by +2 voxels along i, so the picture moves by -2 voxels."""
    grid = grid_of((3, 4, 8))
    spot = torch.zeros(3, 4, 8)
    spot[1, 2, 5] = 7.0
    transform = AffineTransform.translation(2.0 * grid.affine[:3, 0])
    moved = resample(Image(spot, grid), grid, transform, "nearest", fill=0.0)
    assert torch.nonzero(moved.data[0]).tolist() == [[1, 2, 3]]


def test_types_after_resampling() -> None:
    grid = grid_of((2, 3, 4))
    for dtype, interpolation, expected in (
        (torch.int16, "nearest", torch.int16),
        (torch.int16, "linear", torch.float32),
        (torch.uint8, "cubic", torch.float32),
        (torch.float64, "linear", torch.float64),
        (torch.float32, "cubic", torch.float32),
    ):
        assert resample(Image(torch.ones(2, 3, 4).to(dtype), grid), grid, None, interpolation).data.dtype == expected


def test_one_slice_and_one_voxel() -> None:
    grid = Grid((1, 3, 4), np.diag([1.0, 2.0, 5.0, 1.0]))
    image = Image(torch.arange(12.0).view(1, 3, 4), grid)
    points = torch.tensor([[1.5, 2.0, 2.4], [1.5, 2.0, 2.6]], dtype=torch.float64)  # within and beyond half the slice
    for interpolation in ("linear", "cubic"):
        values = sample_world(image, points, interpolation, fill=-1.0)[0].tolist()
        assert values == pytest.approx([5.5, -1.0], abs=0.1)
    assert sample_world(Image(torch.tensor([[[3.0]]]), Grid((1, 1, 1), np.eye(4))), points * 0.0)[0].tolist() == [3.0, 3.0]


def test_unknown_interpolation_is_refused() -> None:
    image = Image(torch.zeros(2, 3, 4), grid_of((2, 3, 4)))
    with pytest.raises(InputError, match="linear, nearest, cubic; found 'spline'"):
        resample(image, image.grid, None, "spline")
    with pytest.raises(InputError, match="interpolation"):
        sample_index(image.data, torch.zeros(1, 3), "lanczos")
