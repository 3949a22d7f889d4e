"""The same numbers as scipy and numpy: smoothing, gradients, interpolation, correlation, mutual information."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid
from regsuite.losses import curvature, lncc, mutual_information, ncc
from regsuite.ops.derivatives import spatial_gradient
from regsuite.ops.filters import box_mean, gaussian_smooth
from regsuite.ops.sampling import sample_index
from scipy import ndimage, stats

SHAPE = (11, 13, 17)
DATA = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OTHER = 0.5 * DATA + torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_gaussian_is_ndimages_away_from_the_border() -> None:
    sigma = (0.8, 1.0, 1.2)
    expected = ndimage.gaussian_filter(DATA[0].numpy(), sigma, truncate=4.0)
    inner = tuple(slice(int(np.ceil(4 * s)), -int(np.ceil(4 * s))) for s in sigma)
    assert float(np.abs(gaussian_smooth(DATA, sigma)[0].numpy() - expected)[inner].max()) < 1e-4


def test_box_mean_is_ndimages_away_from_the_border() -> None:
    expected = ndimage.uniform_filter(DATA[0].numpy(), (3, 5, 9))
    np.testing.assert_allclose(box_mean(DATA, (1, 2, 4))[0].numpy()[1:-1, 2:-2, 4:-4], expected[1:-1, 2:-2, 4:-4], atol=1e-12)


def test_gradient_is_numpys_on_an_axis_aligned_grid() -> None:
    grid = Grid(SHAPE, np.array([[1.5, 0, 0, 3], [0, 2.0, 0, 4], [0, 0, 2.5, 5], [0, 0, 0, 1.0]]))
    k, j, i = np.gradient(DATA[0].numpy(), 2.5, 2.0, 1.5)
    np.testing.assert_allclose(spatial_gradient(DATA, grid)[0].numpy(), np.stack([i, j, k]), atol=1e-12)


@pytest.mark.parametrize(("name", "order"), [("linear", 1), ("nearest", 0), ("cubic", 3)])
def test_interpolation_is_map_coordinates(name: str, order: int) -> None:
    share = torch.rand(300, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    index = share * (torch.tensor(SHAPE[::-1]) - 1.0)
    expected = ndimage.map_coordinates(DATA[0].numpy(), index.numpy().T[::-1], order=order, mode="mirror")
    np.testing.assert_allclose(sample_index(DATA, index, name)[0].numpy(), expected, atol=1e-9)


def test_ncc_is_pearsons_r() -> None:
    r = stats.pearsonr(DATA.flatten().numpy(), OTHER.flatten().numpy()).statistic
    assert 0.3 < r < 0.7
    assert float(ncc(DATA, OTHER)) == pytest.approx(1.0 - r, rel=1e-9)


def test_lncc_is_pearsons_r_squared_in_one_window() -> None:
    """A window of 11 covers a crop of 5 from every voxel, so every local correlation is that of the crop."""
    crop = (slice(None), slice(3, 8), slice(4, 9), slice(5, 10))
    r = stats.pearsonr(DATA[crop].flatten().numpy(), OTHER[crop].flatten().numpy()).statistic
    assert float(lncc(DATA[crop], OTHER[crop], window=11)) == pytest.approx(1.0 - r * r, rel=1e-4)


def test_mutual_information_of_gaussians_approaches_its_formula() -> None:
    """-1/2 ln(1 - r^2) for jointly normal images; the Parzen windows blur it downwards a little."""
    generator = torch.Generator().manual_seed(3)
    a = torch.randn(1, 30, 40, 50, generator=generator, dtype=torch.float64)
    b = 0.8 * a + 0.6 * torch.randn(a.shape, generator=generator, dtype=torch.float64)
    truth = -0.5 * np.log(1 - 0.64)
    found = -float(mutual_information(a, b, bins=48))
    assert 0.9 * truth < found < 1.03 * truth


def test_curvature_is_ndimages_laplacian() -> None:
    u = torch.cat([DATA, OTHER, DATA - OTHER])
    grid = Grid(SHAPE, np.diag([1.0, 1.0, 1.0, 1.0]))
    expected = sum(float((ndimage.laplace(c.numpy())[1:-1, 1:-1, 1:-1] ** 2).mean()) for c in u)
    assert float(curvature(u, grid)) == pytest.approx(expected, rel=1e-9)
