"""The registration that a method of uncertainty makes: the mean of its probabilistic mode, or an opinion beside another's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from regsuite.geometry.image import Image
from regsuite.progress import Progress
from regsuite.solvers import convex, folding
from regsuite.solvers.frame import Level, canonical, make_level, resize_displacement, to_transform
from regsuite.solvers.gauss_newton import RefineSettings, refine
from regsuite.solvers.start import initialise
from regsuite.transforms import Transform

_PLAN = ((2.0, 20), (1.0, 10))
_SETTINGS = (2, 1.5, 0.3, 0.01)  # window, smoothness, sliding, noise


def own_mean(
    fixed: Image,
    moving: Image,
    refine_mm: float,
    start: str | np.ndarray,
    seed: int,
    reporter: Progress,
    history: list[dict[str, Any]],
    warnings: list[str],
    span: tuple[float, float] = (0.0, 0.5),
) -> Transform:
    """A linear start (a policy, or a 4 x 4 matrix), discrete search, Gauss-Newton under local correlation on two levels, unfolded.

    fixed, moving: scaled images on one device; refine_mm: resolution of the last level; span: share of the progress.
    """
    marks = [span[0] + share * (span[1] - span[0]) for share in (0.0, 0.2, 0.5, 1.0)]
    with reporter.stage("start", marks[0], marks[1]):
        fixed = canonical(fixed)
        matrix, notes = initialise(fixed, moving, start, seed=seed, progress=reporter) if isinstance(start, str) else (start, [])
        warnings.extend(notes)
    with reporter.stage("search", marks[1], marks[2]):
        cell = convex.ConvexSettings()
        u = convex.search(make_level(fixed, moving, matrix, cell.cell_mm / 3.0, cell.cell_mm), cell, reporter)
    with reporter.stage("refine", marks[2], marks[3]):
        level, u = coarse_to_fine(fixed, moving, matrix, u, refine_mm, _PLAN, reporter, history)
        u, _ = folding.unfold(u, level.lattice_spacing)
    return to_transform(u.cpu(), fixed.grid, matrix)


def coarse_to_fine(
    fixed: Image,
    moving: Image,
    matrix: np.ndarray,
    u: torch.Tensor,
    refine_mm: float,
    plan: tuple[tuple[float, int], ...],
    reporter: Progress,
    history: list[dict[str, Any]],
) -> tuple[Level, torch.Tensor]:
    """The last level and u on its lattice, from u (3, d, h, w) mm on any lattice over the same box; plan: resolutions in shares of
    the finest with the largest numbers of steps."""
    finest = max(refine_mm, float(min(fixed.grid.spacing.min(), moving.grid.spacing.min())))
    for number, (coarser, iterations) in enumerate(plan):
        level = make_level(fixed, moving, matrix, coarser * finest, 2.0 * finest)
        with reporter.part(number / len(plan), (number + 1) / len(plan)):
            settings = RefineSettings(iterations, *_SETTINGS)
            u = refine(level, resize_displacement(u, level.lattice), settings, reporter, history, f"{coarser * finest:.3g} mm")
    return level, u
