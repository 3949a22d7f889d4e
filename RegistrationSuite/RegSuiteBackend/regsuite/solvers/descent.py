"""Descent on the energy of a geodesic by its initial residual z_0."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from regsuite.progress import Progress
from regsuite.solvers.geodesic import DataTerm, Geodesic
from regsuite.solvers.lbfgs import minimise

_SHRINK, _SHRINKS = 0.8, 30


@dataclass(frozen=True)
class DescentSettings:
    """optimiser: lbfgs | adadelta (with its learning_rate); tolerance: relative saving in three iterations below which L-BFGS
    stops."""

    iterations: int
    optimiser: str = "lbfgs"
    learning_rate: float = 1.0
    tolerance: float = 2e-3
    tag: str = ""


def descend(
    shooting: Geodesic,
    z: torch.Tensor,
    data: DataTerm,
    weight: float,
    settings: DescentSettings,
    progress: Progress,
    history: list[dict[str, Any]],
) -> tuple[torch.Tensor, bool]:
    """Minimise shooting.energy from z (1, D, H, W): the best z_0 and whether it converged. Adds a row per iteration to `history`.

    A start whose path folds (it came from a coarser level) is made smaller first.
    """
    done = 0
    for _ in range(_SHRINKS):
        if not shooting.folds(z):
            break
        z = _SHRINK * z

    def tick() -> None:
        progress.step((done + 0.5) / settings.iterations, settings.tag)

    def report(iteration: int, value: float, parts: dict[str, float]) -> None:
        nonlocal done
        done = iteration + 1
        history.append({"stage": "shoot", "level": settings.tag, "iteration": iteration, "energy": value, **parts})
        progress.step(done / settings.iterations, f"{settings.tag}, iteration {done}, energy {value:.4g}")

    def energy(there: torch.Tensor) -> tuple[float, torch.Tensor, dict[str, float]]:
        return shooting.energy(there, data, weight, tick)

    if settings.optimiser == "adadelta":
        return _adadelta(energy, z, settings, report), False
    first = shooting.first_change(0.5 * max(shooting.lattice.spacing))
    found = minimise(energy, z, settings.iterations, first, tolerance=settings.tolerance, report=report)
    return found.x, found.converged


def _adadelta(energy: Any, z: torch.Tensor, settings: DescentSettings, report: Any) -> torch.Tensor:
    """The paper's optimiser; keeps the best z seen, and goes back to it with half the rate from a path that folds."""
    x = z.clone().requires_grad_(True)
    optimiser = torch.optim.Adadelta([x], lr=settings.learning_rate)
    best, lowest = z, float("inf")
    for iteration in range(settings.iterations):
        value, gradient, parts = energy(x.detach())
        if not math.isfinite(value):
            with torch.no_grad():
                x.copy_(best)
            optimiser.param_groups[0]["lr"] *= 0.5
            continue
        if value < lowest:
            best, lowest = x.detach().clone(), value
        x.grad = gradient * gradient.numel()  # of the sum, as the published code descends: Adadelta's floor is absolute
        optimiser.step()
        report(iteration, value, parts)
    return best
