"""Separable filters and pyramids: laws, literal values and borders."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.ops import filters
from regsuite.ops.pyramid import at_spacing, level_shape

from Testing.unit.lattices import grid_of, world

SHAPE = (6, 9, 13)


def random_data(channels: int = 2) -> torch.Tensor:
    return torch.randn(channels, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_apply_matrices_is_the_tensor_product() -> None:
    generator = torch.Generator().manual_seed(1)
    d, h, w = (torch.randn(m, n, generator=generator, dtype=torch.float64) for m, n in ((3, 6), (11, 9), (5, 13)))
    data = random_data()
    expected = torch.einsum("ad,be,cf,ndef->nabc", d, h, w, data)
    torch.testing.assert_close(filters.apply_matrices(data, (d, h, w)), expected)
    torch.testing.assert_close(filters.apply_matrices(data, (None, h, None)), torch.einsum("be,ndef->ndbf", h, data))
    assert filters.apply_matrices(data, (None, None, None)) is data


def test_gaussian_keeps_constants_and_has_its_sigma() -> None:
    constant = torch.full((1, *SHAPE), 3.5)
    torch.testing.assert_close(filters.gaussian_smooth(constant, (1.0, 2.5, 0.7)), constant)
    spike = torch.zeros(1, 1, 1, 61, dtype=torch.float64)
    spike[..., 30] = 1.0
    smooth = filters.gaussian_smooth(spike, (0.0, 0.0, 3.0))[0, 0, 0]
    offset = torch.arange(61, dtype=torch.float64) - 30
    assert float(smooth.sum()) == pytest.approx(1.0, abs=1e-3)
    assert float((smooth * offset**2).sum()) == pytest.approx(9.0, rel=0.01)
    assert float(smooth[30]) == pytest.approx(1.0 / (3.0 * math.sqrt(2 * math.pi)), rel=1e-3)


def test_gaussian_axes_are_d_h_w_and_sigma_zero_is_nothing() -> None:
    spike = torch.zeros(1, 5, 5, 5)
    spike[0, 2, 2, 2] = 1.0
    smooth = filters.gaussian_smooth(spike, (1.0, 0.0, 0.0))[0]
    assert smooth[1, 2, 2] > 0.1
    assert smooth[2, 1, 2] == 0.0
    assert smooth[2, 2, 1] == 0.0
    assert filters.gaussian_smooth(spike, (0.0, 0.0, 0.0)) is spike


@pytest.mark.parametrize("radius", [(1, 2, 3), (0, 4, 1), (5, 20, 7)])
def test_box_sum_and_mean_equal_a_loop(radius: tuple[int, int, int]) -> None:
    data = random_data()
    total, mean, count = filters.box_sum(data, radius), filters.box_mean(data, radius), filters.box_count(SHAPE, radius, data)
    for index in ((0, 0, 0), (5, 8, 12), (2, 4, 6), (1, 0, 11)):
        box = data[(slice(None), *(slice(max(0, p - r), p + r + 1) for p, r in zip(index, radius, strict=True)))]
        at = (slice(None), *index)
        torch.testing.assert_close(total[at], box.sum(dim=(1, 2, 3)))
        torch.testing.assert_close(mean[at], box.mean(dim=(1, 2, 3)))
        assert int(count[(0, *index)]) == box[0].numel()


def test_box_sum_leaves_its_input_alone_and_is_differentiable() -> None:
    data = random_data(1)[:, :3, :4, :5].clone().requires_grad_()
    before = data.detach().clone()
    for radius in ((1, 1, 2), (0, 0, 4)):
        assert torch.autograd.gradcheck(lambda d, r=radius: filters.box_sum(d, r), data, fast_mode=True)
    assert torch.equal(data.detach(), before)


def test_resampling_matrices_keep_linear_images_inside() -> None:
    """Same box, other number of voxels: world positions as values must come out as the new positions."""
    grid = grid_of((12, 16, 20))
    for shape in ((6, 8, 10), (24, 32, 40)):
        matrices = [
            filters.upsample_matrix(n, m, torch.zeros((), dtype=torch.float64)) for n, m in zip(grid.shape, shape, strict=True)
        ]
        found = filters.apply_matrices(world(grid), (matrices[0], matrices[1], matrices[2]))
        inner = (slice(None), *(slice(3, -3) for _ in shape))
        torch.testing.assert_close(found[inner], world(grid.resized(shape))[inner])
    assert filters.upsample_matrix(7, 7, torch.zeros(())) is None


def test_downsample_keeps_constants_positions_and_kills_alternation() -> None:
    grid = grid_of((12, 24, 30))
    shape = (6, 8, 10)
    coarse = filters.downsample(world(grid), shape)
    inner = (slice(None), *(slice(1, -1) for _ in shape))
    torch.testing.assert_close(coarse[inner], world(grid.resized(shape))[inner], atol=0.02, rtol=0)
    torch.testing.assert_close(filters.downsample(torch.ones(1, 12, 24, 30), shape), torch.ones(1, *shape))
    alternating = ((torch.arange(30) % 2) * 2.0 - 1.0).view(1, 1, 1, 30).expand(1, 12, 24, 30)
    assert float(filters.downsample(alternating, shape).abs().max()) < 0.2
    assert torch.equal(filters.downsample(alternating, (12, 24, 30)), alternating)


def test_level_shape_never_refines_and_never_vanishes() -> None:
    grid = Grid((10, 100, 60), np.diag([1.0, 0.5, 4.0, 1.0]))
    assert level_shape(grid, 2.0) == (10, 25, 30)
    assert level_shape(grid, 0.1) == (10, 100, 60)
    assert level_shape(grid, 1e4) == (1, 1, 1)


def test_at_spacing_carries_its_grid() -> None:
    grid = grid_of((8, 24, 20), (1.0, 0.75, 3.0))
    image = Image(world(grid)[:1].clone(), grid)
    coarse = at_spacing(image, 3.0)
    assert coarse.grid.shape == (8, 6, 7)
    np.testing.assert_allclose(coarse.grid.centre, grid.centre, atol=1e-9)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(coarse.data[inner], world(coarse.grid)[:1][inner], atol=0.05, rtol=0)
    assert at_spacing(image, 0.5) is image
