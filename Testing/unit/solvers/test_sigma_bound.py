"""The bound is what it says: expectations against sampling, slopes against differences, minima against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from regsuite.solvers import sigma_bound
from regsuite.solvers.sigma_bound import Bound, curve_slope, expected_curve, minimise

RADII = (1.0, 2.0, 4.0, 8.0)
CURVES = torch.tensor([0.3, 0.2, 1.5, 2.0], dtype=torch.float64)


def the_curve(r: torch.Tensor) -> torch.Tensor:
    """0 at 0, linear through CURVES at RADII, constant beyond, written out apart from the code under test."""
    knots, values = [0.0, *RADII, 1e9], [0.0, *CURVES.tolist(), CURVES[-1].item()]
    out = torch.zeros_like(r)
    for a, b, u, v in zip(knots, knots[1:], values, values[1:], strict=False):
        inside = (r >= a) & (r < b)
        out[inside] = u + (v - u) * (r[inside] - a) / (b - a)
    return out


@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0, 12.0])
def test_the_expected_cost_is_the_mean_over_draws(sigma: float) -> None:
    n = torch.randn(400_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    drawn = float(the_curve((sigma * n).abs()).mean())
    exact = float(expected_curve(CURVES[:, None], RADII, torch.tensor([sigma], dtype=torch.float64)))
    assert exact == pytest.approx(drawn, abs=0.005)


def a_bound(weight: float = 1.0, shape: tuple[int, int, int] = (6, 7, 8), stiffness: float = 2.0) -> Bound:
    generator = torch.Generator().manual_seed(3)
    curves = torch.rand(4, *shape, generator=generator, dtype=torch.float64).cumsum(0)
    field = stiffness * (0.5 + torch.rand(shape, generator=generator, dtype=torch.float64))
    return Bound(curves, RADII, field, (5.0, 4.0, 3.0), 30.0, weight, (0.01, 1000.0))


def test_the_slope_is_the_derivative_of_the_expected_cost() -> None:
    bound = a_bound()
    x = torch.linspace(-2, 3, 336, dtype=torch.float64).view(6, 7, 8).requires_grad_()
    expected_curve(bound.curves, RADII, x.exp()).sum().backward()
    torch.testing.assert_close(x.grad, curve_slope(bound.curves, RADII, x.detach().exp()), atol=1e-12, rtol=1e-9)


def test_the_minimum_has_no_slope_left_and_everything_around_it_is_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigma_bound, "_PLAN", ((4, 80), (2, 40), (1, 1000)))  # to the very end: the fit itself stops earlier
    bound = a_bound()
    found, change = minimise(bound, lambda fraction: None)
    assert change < 1e-4
    x = found.clone().requires_grad_()
    bound.value(x).backward()
    assert float(x.grad.abs().max()) * x.numel() < 5e-3
    here = float(bound.value(found))
    generator = torch.Generator().manual_seed(5)
    for size in (0.05, 0.5):
        for _ in range(5):
            assert float(bound.value(found + size * torch.randn(found.shape, generator=generator, dtype=torch.float64))) > here


def test_without_images_sigma_follows_from_the_smoothness_alone() -> None:
    """Far from the border: 1 = lambda sigma^2 sum over the six neighbours of (1 - rho) / h^2."""
    shape, stiffness = (40, 40, 40), 0.5
    bound = Bound(
        torch.zeros(4, *shape, dtype=torch.float64), RADII, torch.full(shape, stiffness, dtype=torch.float64),
        (5.0, 5.0, 5.0), 10.0, 1.0, (0.01, 1000.0),
    )  # fmt: skip
    found, _ = minimise(bound, lambda fraction: None)
    expected = 1.0 / math.sqrt(stiffness * 6.0 * (1.0 - math.exp(-25.0 / 400.0)) / 25.0)
    assert float(found[20, 20, 20].exp()) == pytest.approx(expected, rel=0.02)


def test_images_narrow_sigma_and_disagreement_near_by_widens_it() -> None:
    shape = (8, 8, 8)
    flat = torch.zeros(4, *shape, dtype=torch.float64)
    sigmas = []
    for height in (-2.0, 0.0, 2.0, 20.0):
        curves = flat + height * torch.tensor([0.25, 0.5, 1.0, 1.0], dtype=torch.float64).view(4, 1, 1, 1)
        bound = Bound(curves, RADII, torch.full(shape, 1.0, dtype=torch.float64), (4.0, 4.0, 4.0), 30.0, 1.0, (0.01, 1000.0))
        sigmas.append(float(minimise(bound, lambda fraction: None)[0].exp().mean()))
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[-1] < 0.5 * sigmas[1]
