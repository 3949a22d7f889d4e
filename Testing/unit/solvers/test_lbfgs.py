"""L-BFGS: exact on small problems, monotone, frugal, honest about the end."""

from __future__ import annotations

import math

import pytest
import torch
from regsuite.solvers.lbfgs import minimise


def rosenbrock(x: torch.Tensor) -> tuple[float, torch.Tensor, dict[str, float]]:
    y = x.clone().requires_grad_(True)
    with torch.enable_grad():
        value = (100.0 * (y[1:] - y[:-1] ** 2) ** 2 + (1.0 - y[:-1]) ** 2).sum()
        (gradient,) = torch.autograd.grad(value, y)
    return value.item(), gradient, {"all": value.item()}


def test_the_rosenbrock_valley_is_followed_to_its_end() -> None:
    start = torch.full((6,), -1.0, dtype=torch.float64)
    found = minimise(rosenbrock, start, 300, 0.1, tolerance=1e-12)
    assert torch.allclose(found.x, torch.ones(6, dtype=torch.float64), atol=1e-4)
    assert all(b < a for a, b in zip(found.values, found.values[1:], strict=False))
    assert found.evaluations < 1.6 * len(found.values)
    assert found.converged


def test_few_iterations_are_no_convergence() -> None:
    found = minimise(rosenbrock, torch.full((6,), -1.0, dtype=torch.float64), 5, 0.1)
    assert not found.converged
    assert len(found.values) == 6


def test_a_start_at_the_minimum_stays() -> None:
    found = minimise(rosenbrock, torch.ones(4, dtype=torch.float64), 10, 0.1)
    assert found.converged
    assert torch.equal(found.x, torch.ones(4, dtype=torch.float64))


def test_values_that_are_not_finite_shorten_the_step() -> None:
    def wall(x: torch.Tensor) -> tuple[float, torch.Tensor, dict[str, float]]:
        value = float(x[0]) - math.log(float(x[0])) if float(x[0]) > 0 else math.nan
        return value, 1.0 - 1.0 / x, {}

    found = minimise(wall, torch.tensor([8.0], dtype=torch.float64), 50, 100.0, tolerance=1e-12)
    assert float(found.x[0]) == pytest.approx(1.0, abs=1e-4)
