"""uncertainty-elbo beyond the contract: any transform, sigma where it belongs, the same in the world whatever the axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite.geometry import Grid, Image
from regsuite.io import read_transform
from regsuite.methods.uncertainty import _calibration, _network, _terms, elbo
from regsuite.ops.filters import gaussian_smooth
from regsuite.transforms import AffineTransform, DisplacementField, StationaryVelocityField, Transform, compose

PREVIEW = elbo.PRESETS["Preview"]
GRID = Grid((30, 34, 38), np.diag([3.0, 3.0, 3.0, 1.0]))


def scan(noise_seed: int) -> Image:
    """Structure in the half of small x, nothing but faint noise in the other."""
    generator = torch.Generator().manual_seed(0)
    texture = gaussian_smooth(torch.randn(1, *GRID.shape, generator=generator), (1.5, 1.5, 1.5)) * 300.0
    texture[..., 19:] = 0.0
    return Image(texture + 2.0 * torch.randn(1, *GRID.shape, generator=generator.manual_seed(noise_seed)), GRID)


@pytest.fixture(scope="module")
def textured() -> Image:
    return scan(1)


@pytest.fixture(scope="module")
def again() -> Image:
    """The same under other noise."""
    return scan(2)


def sigma_of(fixed: Image, moving: Image, transform: Transform) -> torch.Tensor:
    return elbo.register(fixed, moving, PREVIEW, initial=transform).images["sigma"].data


def test_sigma_is_low_at_structure_and_high_where_all_looks_the_same(textured: Image, again: Image) -> None:
    sigma = sigma_of(textured, again, AffineTransform(np.eye(4)))
    assert float(sigma[..., 24:34].mean()) > 1.5 * float(sigma[..., 4:14].mean())


def test_a_wrong_transform_gets_a_larger_sigma_than_a_right_one(textured: Image, again: Image) -> None:
    right = sigma_of(textured, again, AffineTransform(np.eye(4)))[..., 4:14]
    wrong = sigma_of(textured, again, AffineTransform.translation([0.0, 0.0, 8.0]))[..., 4:14]
    assert float(wrong.mean()) > 2.0 * float(right.mean())


def test_every_kind_of_transform_is_taken_and_given_back(textured: Image, tmp_path: Path) -> None:
    spline = sitk.BSplineTransformInitializer(sitk.Image([38, 34, 30], sitk.sitkFloat32), [3, 3, 3])
    spline.SetParameters([0.5] * len(spline.GetParameters()))
    sitk.WriteTransform(spline, str(tmp_path / "spline.tfm"))
    affine = AffineTransform.translation([1.0, 0.0, 0.0])
    still = torch.zeros(3, *GRID.shape)
    kinds = (affine, DisplacementField(still, GRID), StationaryVelocityField(still, GRID), read_transform(tmp_path / "spline.tfm"))
    for transform in (*kinds, compose(affine, kinds[1])):
        result = elbo.register(textured, textured, PREVIEW, initial=transform)
        point = torch.tensor([[40.0, 50.0, 45.0]], dtype=torch.float64)
        assert torch.equal(result.transform.map_points(point), transform.map_points(point))
        assert torch.isfinite(result.images["sigma"].data).all()
        assert result.images["sigma"].grid == GRID


def test_components_stay_with_the_world_when_the_axes_of_the_file_change(textured: Image, again: Image) -> None:
    """x and z of the file swapped: the same field in the world, component by component."""
    swapped = Image(textured.data.permute(0, 3, 2, 1).contiguous(), Grid((38, 34, 30), GRID.affine[:, [2, 1, 0, 3]]))
    shift = AffineTransform.translation([4.0, 0.0, 0.0])
    first, second = sigma_of(textured, again, shift), sigma_of(swapped, again, shift).permute(0, 3, 2, 1)
    inner = (slice(None), slice(4, -4), slice(4, -4), slice(4, -4))
    assert float((first / second).log().abs()[inner].mean()) < 0.05
    assert float(first[0].mean()) > 1.2 * float(first[1].mean())  # wrong along x, and said so for x


def test_without_a_transform_it_brings_its_own_mean(textured: Image, again: Image) -> None:
    """The mode with a mean of its own: the moving scan lies 6 mm further along x in the world."""
    affine = GRID.affine.copy()
    affine[0, 3] += 6.0
    result = elbo.register(textured, Image(again.data, Grid(GRID.shape, affine)), PREVIEW)
    points = GRID.cropped((8, 8, 5), (12, 16, 10)).world_points(torch.float64).view(-1, 3)
    moved = result.transform.map_points(points) - points
    assert float((moved - torch.tensor([6.0, 0.0, 0.0])).norm(dim=1).mean()) < 0.7
    sigma = result.images["sigma"].data
    assert float(sigma[..., 24:34].mean()) > 1.5 * float(sigma[..., 4:14].mean())


def test_a_turned_scan_is_no_doubt(textured: Image, again: Image) -> None:
    """The moving scan lies turned by 90 degrees in the world, and the transform says so: as sure as when it is not."""
    turn = np.array([[0.0, -1.0, 0.0, 120.0], [1.0, 0.0, 0.0, -30.0], [0.0, 0.0, 1.0, 12.0], [0.0, 0.0, 0.0, 1.0]])
    turned = Image(again.data, Grid(again.grid.shape, turn @ again.grid.affine))
    straight = sigma_of(textured, again, AffineTransform(np.eye(4)))[..., 4:14]
    assert float(sigma_of(textured, turned, AffineTransform(turn))[..., 4:14].mean()) < 1.5 * float(straight.mean())


def test_the_stored_curve_rises_and_goes_on_beyond_its_ends() -> None:
    before, after = np.array(_network.KNOTS).T
    assert (np.diff(before) > 0).all()
    assert (np.diff(after) > 0).all()
    x = torch.linspace(-6.0, 6.0, 500, dtype=torch.float64)
    assert (_calibration.curve(x).diff() > 0).all()
    at = torch.tensor(before)
    torch.testing.assert_close(_calibration.curve(at), torch.tensor(after))


def test_the_network_is_bounded_and_the_first_terms_are_not() -> None:
    assert len(_network.MEANS) == len(_network.SPREADS) == len(_terms.NAMES) == len(_network.HIDDEN_WEIGHTS[0])
    assert min(_network.SLOPES) > 0.0, "more evidence of error, more sigma"
    usual = torch.tensor(_network.MEANS)[:, None, None, None, None].expand(-1, 3, 2, 2, 2).clone()
    strange = usual.clone()
    strange[_terms.LINEAR :] = 1e3
    change = (_calibration.before_curve(strange) - _calibration.before_curve(usual)).abs()
    assert float(change.max()) <= 2.0 * _calibration.BOUND
    far = usual.clone()
    far[0] += 20.0
    assert float((_calibration.before_curve(far) - _calibration.before_curve(usual)).min()) > 20.0 * _network.SLOPES[0] - 2.5
    found = _calibration.recalibrated(usual)
    ratio = found - _calibration.before_curve(usual)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), atol=1e-5, rtol=1e-5)  # one factor for the three components
