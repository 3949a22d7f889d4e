"""Limited-memory BFGS with a line search, for energies whose gradient is expensive: about one evaluation per iteration."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

Energy = Callable[[torch.Tensor], tuple[float, torch.Tensor, dict[str, float]]]
"""x -> value, gradient of the shape of x, named parts of the value."""
Report = Callable[[int, float, dict[str, float]], None]
"""report(iteration, value, parts): called once per iteration; may raise Cancelled."""

_ARMIJO, _WOLFE = 1e-4, 0.9
_MAX_TRIALS = 12


@dataclass(frozen=True)
class Minimum:
    """x, its value and parts; converged: stopped by the tolerance; evaluations of the energy; values after each iteration."""

    x: torch.Tensor
    value: float
    parts: dict[str, float]
    converged: bool
    evaluations: int
    values: list[float] = field(default_factory=list)


def minimise(
    energy: Energy,
    x: torch.Tensor,
    iterations: int,
    first_change: float,
    memory: int = 10,
    tolerance: float = 1e-3,
    patience: int = 3,
    report: Report = lambda iteration, value, parts: None,
) -> Minimum:
    """Minimise from x. Stops when `patience` iterations together save less than `tolerance` of the value, or after `iterations`.

    first_change: largest absolute change of an entry of x that the first step tries. The step along a direction is halved (by
    parabola) until the value falls enough (Armijo), and doubled while the slope still falls steeply (weak Wolfe), which keeps the
    curvature of every pair positive. Sums are taken in float64. Source: Nocedal and Wright, Numerical Optimization, 2006, alg. 7.5.
    """
    value, gradient, parts = energy(x)
    pairs: deque[tuple[torch.Tensor, torch.Tensor, float]] = deque(maxlen=memory)
    values, evaluations, converged = [value], 1, False
    for iteration in range(iterations):
        direction = _direction(gradient, pairs)
        slope = _dot(gradient, direction)
        largest = float(direction.abs().max())
        if slope >= 0.0 or largest == 0.0:
            converged = True
            break
        step = 1.0 if pairs else first_change / largest
        found = _search(energy, x, value, slope, direction, step)
        evaluations += found.evaluations
        if found.x is None:
            if not pairs:
                converged = True
                break
            pairs.clear()  # the model was wrong: once more along the gradient
            continue
        s, y = found.x - x, found.gradient - gradient
        curvature = _dot(s, y)
        if curvature > 1e-10 * math.sqrt(_dot(s, s) * _dot(y, y)):
            pairs.append((s, y, curvature))
        x, value, gradient, parts = found.x, found.value, found.gradient, found.parts
        values.append(value)
        report(iteration, value, parts)
        if len(values) > patience and values[-1 - patience] - value < tolerance * abs(value):
            converged = True
            break
    return Minimum(x, value, parts, converged, evaluations, values)


@dataclass
class _Trial:
    x: torch.Tensor | None
    value: float
    gradient: torch.Tensor
    parts: dict[str, float]
    evaluations: int


def _search(energy: Energy, x: torch.Tensor, value: float, slope: float, direction: torch.Tensor, step: float) -> _Trial:
    low, high = 0.0, math.inf
    best: _Trial | None = None
    for count in range(1, _MAX_TRIALS + 1):
        there = torch.add(x, direction, alpha=step)
        new, gradient, parts = energy(there)
        if not math.isfinite(new) or new > value + _ARMIJO * step * slope:
            high = step
            curvature = (new - value - slope * step) / step**2 if math.isfinite(new) else math.inf
            ideal = -slope / (2.0 * curvature) if curvature > 0.0 else 0.0
            step = low + 0.5 * (high - low) if best else min(max(ideal, 0.1 * step), 0.5 * step)
            if best is not None and high - low < 0.3 * high:
                break
            continue
        if best is None or new < best.value:
            best = _Trial(there, new, gradient, parts, count)
        if _dot(gradient, direction) >= _WOLFE * slope or count > 4:
            break
        low = step
        step = 2.0 * step if math.isinf(high) else 0.5 * (low + high)
    if best is None:
        return _Trial(None, value, x, {}, count)
    best.evaluations = count
    return best


def _direction(gradient: torch.Tensor, pairs: deque[tuple[torch.Tensor, torch.Tensor, float]]) -> torch.Tensor:
    q, alphas = gradient.clone(), []
    for s, y, curvature in reversed(pairs):
        alpha = _dot(s, q) / curvature
        alphas.append(alpha)
        q.add_(y, alpha=-alpha)
    if pairs:
        s, y, curvature = pairs[-1]
        q.mul_(curvature / _dot(y, y))
    for (s, y, curvature), alpha in zip(pairs, reversed(alphas), strict=True):
        q.add_(s, alpha=alpha - _dot(y, q) / curvature)
    return q.neg_()


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.dot(a.reshape(-1).double(), b.reshape(-1).double()))
