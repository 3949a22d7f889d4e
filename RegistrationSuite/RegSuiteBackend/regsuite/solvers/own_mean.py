"""The registration that a method of uncertainty makes when no transform is given: the mean of its probabilistic mode."""

from __future__ import annotations

from typing import Any

from regsuite.geometry.image import Image
from regsuite.progress import Progress
from regsuite.solvers import convex, folding
from regsuite.solvers.frame import canonical, lattice_shape, make_level, resize_displacement, to_transform
from regsuite.solvers.gauss_newton import RefineSettings, refine
from regsuite.solvers.start import initialise
from regsuite.transforms import Transform


def own_mean(
    fixed: Image,
    moving: Image,
    refine_mm: float,
    start: str,
    seed: int,
    reporter: Progress,
    history: list[dict[str, Any]],
    warnings: list[str],
) -> Transform:
    """A linear start of the policy `start`, discrete search, Gauss-Newton under local correlation on two levels, unfolded.

    fixed, moving: scaled images on one device; refine_mm: resolution of the last level. Takes half of the span.
    """
    with reporter.stage("start", 0.0, 0.1):
        fixed = canonical(fixed)
        matrix, notes = initialise(fixed, moving, start, seed=seed, progress=reporter)
        warnings.extend(notes)
    with reporter.stage("search", 0.1, 0.25):
        cell = convex.ConvexSettings()
        u = convex.search(make_level(fixed, moving, matrix, cell.cell_mm / 3.0, cell.cell_mm), cell, reporter)
    finest = max(refine_mm, float(min(fixed.grid.spacing.min(), moving.grid.spacing.min())))
    with reporter.stage("refine", 0.25, 0.5):
        for spacing, iterations, share in ((2.0 * finest, 20, (0.25, 0.33)), (finest, 10, (0.33, 0.5))):
            level = make_level(fixed, moving, matrix, spacing, 2.0 * finest)
            settings = RefineSettings(iterations, 2, 1.5, 0.3, 0.01)
            with reporter.share(*share):
                u = refine(level, resize_displacement(u, level.lattice), settings, reporter, history, f"{spacing:.3g} mm")
        shape = lattice_shape(fixed.grid, 2.0 * finest)
        u = resize_displacement(u, shape)
        i, j, k = (float(v) for v in fixed.grid.resized(shape).spacing)
        u, _ = folding.unfold(u, (k, j, i))
    return to_transform(u.cpu(), fixed.grid, matrix)
