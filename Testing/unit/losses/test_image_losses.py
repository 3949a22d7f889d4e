"""Image losses: closed-form values, invariances, masks, gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid
from regsuite.losses import image as image_losses
from regsuite.losses import lncc, mind_ssc, mse, mutual_information, ncc, ngf
from regsuite.ops import mind
from regsuite.ops.filters import gaussian_smooth

from Testing.unit.lattices import grid_of, rotation, sheared_grid, world

SHAPE = (5, 6, 7)
GRID = grid_of(SHAPE)


def random_image(seed: int, shape: tuple[int, int, int] = SHAPE, channels: int = 1) -> torch.Tensor:
    return torch.randn(channels, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOSSES = {
    "mse": mse,
    "ncc": ncc,
    "lncc": lambda f, m, weights=None: lncc(f, m, window=3, weights=weights),
    "lncc_uneven": lambda f, m, weights=None: lncc(f, m, window=(1, 3, 9), weights=weights),
    "ngf": lambda f, m, weights=None: ngf(f, m, GRID, epsilon_per_mm=0.4, weights=weights),
    "mutual_information": lambda f, m, weights=None: mutual_information(f, m, bins=8, weights=weights),
    "mind_ssc": lambda f, m, weights=None: mind_ssc(f, m, dilation=(1, 1, 1), weights=weights),
}
loss_by_name = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@loss_by_name
def test_gradcheck_for_both_images(loss) -> None:
    fixed, moving = random_image(1).requires_grad_(), random_image(2).requires_grad_()
    weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(lambda f, m: loss(f, m, weights), (fixed, moving), fast_mode=True)


@loss_by_name
def test_symmetric_in_its_images(loss) -> None:
    fixed, moving = random_image(1), random_image(2)
    assert float(loss(fixed, moving)) == pytest.approx(float(loss(moving, fixed)), rel=1e-12)


@loss_by_name
def test_an_image_agrees_best_with_itself(loss) -> None:
    fixed = gaussian_smooth(random_image(1), (1.0, 1.0, 1.0))
    assert float(loss(fixed, fixed)) < float(loss(fixed, fixed.roll(1, dims=3))) < math.inf


@loss_by_name
def test_a_mask_changes_the_answer_and_hides_what_is_outside(loss) -> None:
    fixed, moving = random_image(1), random_image(2)
    weights = torch.zeros(SHAPE, dtype=torch.bool)
    weights[1:4, 1:5, :3] = True
    masked = float(loss(fixed, moving, weights))
    assert masked != pytest.approx(float(loss(fixed, moving)), rel=1e-3)
    disturbed = moving.clone()
    disturbed[:, :, :, 6] += 50.0  # beyond the reach of gradients and descriptors
    loose = loss is LOSSES["mind_ssc"]  # its variance clamp follows the mean of the whole image
    assert float(loss(fixed, disturbed, weights)) == pytest.approx(masked, rel=1e-2 if loose else 1e-9)
    assert float(loss(fixed, disturbed)) != pytest.approx(float(loss(fixed, moving)), rel=1e-3)


@loss_by_name
def test_scaling_the_weights_changes_nothing(loss) -> None:
    fixed, moving = random_image(1), random_image(2)
    weights = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert float(loss(fixed, moving, 7.0 * weights)) == pytest.approx(float(loss(fixed, moving, weights)), rel=1e-9)


@loss_by_name
@pytest.mark.parametrize("value", [0.0, 1000.3])
def test_finite_for_constant_images_in_float32(loss, value: float) -> None:
    constant = torch.full((1, *SHAPE), value).requires_grad_()
    for other in (torch.full((1, *SHAPE), -20.0), random_image(1).float()):
        result = loss(constant, other)
        (gradient,) = torch.autograd.grad(result, constant)
        assert math.isfinite(float(result.detach()))
        assert bool(torch.isfinite(gradient).all())
        assert float(gradient.abs().max()) < 1e3


@loss_by_name
def test_bad_input_is_refused(loss) -> None:
    fixed = random_image(1)
    with pytest.raises(InputError, match=r"\(1, 5, 6, 7\) and \(1, 5, 6, 6\)"):
        loss(fixed, fixed[..., :-1])
    with pytest.raises(InputError, match="floating point"):
        loss(fixed.int(), fixed.int())
    with pytest.raises(InputError, match="empty mask"):
        loss(fixed, fixed, torch.zeros(SHAPE))
    with pytest.raises(InputError, match="negative"):
        loss(fixed, fixed, torch.full(SHAPE, -1.0))
    with pytest.raises(InputError, match=r"shape \(5, 6, 7\).*\(7, 6, 5\)"):
        loss(fixed, fixed, torch.ones(7, 6, 5))


def test_mse_literal_value() -> None:
    fixed = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    moving = torch.tensor([1.0, 0.0, 3.0, 7.0]).view(1, 1, 2, 2)
    assert float(mse(fixed, moving)) == 3.25
    assert float(mse(fixed, moving, torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 2, 2))) == 2.0


def test_ncc_literal_values() -> None:
    fixed = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2).double()
    assert float(ncc(fixed, 3.0 * fixed - 11.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(ncc(fixed, -fixed)) == pytest.approx(2.0)
    assert float(ncc(fixed, torch.tensor([1.0, 3.0, 2.0, 4.0]).view(1, 1, 2, 2).double())) == pytest.approx(1.0 - 0.8)
    assert float(ncc(fixed, torch.full_like(fixed, 5.0))) == 1.0


def test_ncc_averages_channels() -> None:
    fixed, moving = random_image(1, channels=2), random_image(2, channels=2)
    each = [float(ncc(fixed[c : c + 1], moving[c : c + 1])) for c in range(2)]
    assert float(ncc(fixed, moving)) == pytest.approx(sum(each) / 2)


def brute_force_lncc(fixed: np.ndarray, moving: np.ndarray, radius: tuple[int, int, int], weights: np.ndarray) -> float:
    total = 0.0
    for index in itertools.product(*(range(n) for n in fixed.shape)):
        box = tuple(slice(max(0, p - r), p + r + 1) for p, r in zip(index, radius, strict=True))
        w, f, m = weights[box].ravel(), fixed[box].ravel(), moving[box].ravel()
        if weights[index] > 0:
            covariance = np.cov(f, m, aweights=w, ddof=0)
            total += weights[index] * (1 - covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1]))
    return total / weights.sum()


@pytest.mark.parametrize("masked", [False, True])
def test_lncc_equals_a_loop_over_windows(masked: bool) -> None:
    fixed, moving = random_image(1), random_image(2)
    weights = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights[:2, :3] = 0.0
    weights = weights if masked else torch.ones_like(weights)
    expected = brute_force_lncc(fixed[0].numpy(), moving[0].numpy(), (1, 2, 1), weights.numpy())
    found = float(lncc(fixed, moving, window=(3, 5, 3), weights=weights if masked else None))
    assert found == pytest.approx(expected, rel=2e-4)  # the variance floor of 1e-5


def test_lncc_survives_a_large_offset_in_float32_and_ignores_contrast() -> None:
    fixed, moving = random_image(1), random_image(2)
    expected = float(lncc(fixed, moving, window=3))
    assert float(lncc((40.0 * fixed - 1000.0).float(), (2e-4 * moving).float(), window=3)) == pytest.approx(expected, rel=1e-4)
    assert float(lncc(fixed, -3.0 * fixed + 8.0, window=3)) == pytest.approx(0.0, abs=1e-3)


def test_lncc_window_must_be_odd() -> None:
    fixed = random_image(1)
    for window in (4, 1, (3, 3), (3, 0, 3)):
        with pytest.raises(InputError, match="window"):
            lncc(fixed, fixed, window=window)


@pytest.mark.parametrize(("degrees", "expected"), [(0.0, 0.0), (90.0, 1.0), (180.0, 0.0), (30.0, 0.25)])
def test_ngf_of_two_ramps_is_sin_squared_of_their_angle(degrees: float, expected: float) -> None:
    x = world(sheared_grid(SHAPE))
    direction = torch.as_tensor(rotation((0, 0, 1), degrees) @ np.array([0.0, 20.0, 0.0]))
    fixed, moving = 20.0 * x[1:2], (direction.view(3, 1, 1, 1) * x).sum(dim=0, keepdim=True)
    assert float(ngf(fixed, moving, sheared_grid(SHAPE), epsilon_per_mm=1e-3)) == pytest.approx(expected, abs=1e-6)


def test_ngf_epsilon_is_intensity_per_mm() -> None:
    grid = Grid((2, 3, 5), np.diag([4.0, 2.0, 1.0, 1.0]))
    ramp = 3.0 * world(grid)[:1]  # 3 / mm along x, whatever the 4 mm voxels
    assert float(ngf(ramp, ramp, grid, epsilon_per_mm=3.0)) == pytest.approx(1.0 - 0.5**2)
    assert float(ngf(ramp, ramp, grid, epsilon_per_mm=(3.0, 1e-9))) == pytest.approx(0.5)
    with pytest.raises(InputError, match="epsilon_per_mm"):
        ngf(ramp, ramp, grid, epsilon_per_mm=0.0)


def test_ngf_is_the_same_at_another_resolution() -> None:
    def value(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> float:
        grid = grid_of(shape, spacing, origin=(0.0, 0.0, 0.0))
        x, y, z = world(grid)
        return float(ngf((x * x + y)[None], (y * y + z)[None], grid, epsilon_per_mm=1.0))

    assert value((20, 24, 28), (0.5, 0.5, 0.5)) == pytest.approx(value((10, 12, 14), (1.0, 1.0, 1.0)), rel=0.03)


def test_mutual_information_of_two_separate_classes_is_ln_2() -> None:
    fixed = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2).double()
    assert float(mutual_information(fixed, 5.0 - 3.0 * fixed, bins=12)) == pytest.approx(-math.log(2.0), rel=1e-9)


def test_mutual_information_of_independent_images_is_zero() -> None:
    fixed = torch.arange(4.0).double().view(1, 1, 4, 1).expand(1, 3, 4, 5)
    moving = torch.tensor([0.0, 3.0, 7.0, 8.0, 20.0]).double().view(1, 1, 1, 5).expand(1, 3, 4, 5)
    assert float(mutual_information(fixed, moving)) == pytest.approx(0.0, abs=1e-9)


def test_mutual_information_range_chunks_and_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, moving = random_image(1), random_image(2)
    whole = float(mutual_information(fixed, moving))
    given = float(
        mutual_information(
            fixed,
            moving,
            fixed_range=(float(fixed.min()), float(fixed.max())),
            moving_range=(float(moving.min()), float(moving.max())),
        )
    )
    assert given == pytest.approx(whole, rel=1e-9)
    monkeypatch.setattr(image_losses, "_MI_CHUNK_VOXELS", 17)
    assert float(mutual_information(fixed, moving)) == pytest.approx(whole, rel=1e-9)
    for bad in ({"bins": 4}, {"fixed_range": (1.0, 1.0)}):
        with pytest.raises(InputError):
            mutual_information(fixed, moving, **bad)
    with pytest.raises(InputError, match="one channel"):
        mutual_information(fixed.expand(2, *SHAPE), moving.expand(2, *SHAPE))


def test_parzen_windows_sum_to_one_over_the_whole_range() -> None:
    positions = torch.linspace(1.0, 30.0, 401, dtype=torch.float64)
    windows = image_losses._cubic_bspline(positions[:, None] - torch.arange(32))
    torch.testing.assert_close(windows.sum(dim=1), torch.ones(401, dtype=torch.float64))
    assert image_losses._cubic_bspline(torch.tensor([0.0, 1.0, -1.0, 2.0, 2.5])).tolist() == pytest.approx(
        [2 / 3, 1 / 6, 1 / 6, 0, 0]
    )


def test_mind_ssc_is_the_difference_of_the_descriptors() -> None:
    fixed, moving = random_image(1).float(), random_image(2).float()
    radius, dilation = (1, 1, 1), (2, 1, 2)
    expected = (mind.mind_ssc(fixed, radius, dilation) - mind.mind_ssc(moving, radius, dilation)).square().mean()
    assert float(expected) > 0.01
    torch.testing.assert_close(mind_ssc(fixed, moving, radius, dilation), expected)
    differentiable = mind_ssc(fixed.clone().requires_grad_(), moving, radius, dilation)  # another path through the code
    torch.testing.assert_close(differentiable.detach(), expected)


def test_mind_ssc_ignores_inverted_contrast() -> None:
    fixed = random_image(1)
    assert float(mind_ssc(fixed, 7.0 - 2.0 * fixed)) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(InputError, match="one channel"):
        mind_ssc(fixed.expand(2, *SHAPE), fixed.expand(2, *SHAPE))
