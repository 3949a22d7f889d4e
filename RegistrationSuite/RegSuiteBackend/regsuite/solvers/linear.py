"""Local rigid, similarity and affine registration: multi-resolution descent on mutual information, correlation or edges.

    T(x) = c + expm(W) expm(S) (T0(x) - c) + t        W skew (a rotation), S symmetric (none, a multiple of 1, any)

c is the mean of the sampled points under the start T0 of the level. W and S count in mm at the points' typical distance from c, so
that all parameters weigh alike. Each level looks at one seeded set of points between the voxels (Thevenaz and Unser, IEEE TIP 2000,
name the artefacts of points on the voxels), which makes the energy a smooth function for L-BFGS.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.ops.pyramid import at_spacing
from regsuite.progress import Progress
from regsuite.solvers import lbfgs
from regsuite.solvers.intake import binary, within
from regsuite.solvers.linear_metrics import METRICS, Metric
from regsuite.solvers.linear_problem import KINDS, Problem, sample_points
from regsuite.transforms import AffineTransform

_COARSE_POINTS = 8000  # ours: points compared on the coarser levels, at least


@dataclass(frozen=True)
class LinearSettings:
    """finest_mm: finest resolution, never finer than the images'; levels: resolutions, each twice as coarse as the next; samples:
    points compared on the finest level, a quarter of that on the others; iterations of L-BFGS at each; bins: of the joint
    histogram. turn_degrees: the coarsest level also starts turned by this much to either side about each axis, and the best goes
    on (0: it does not). least_overlap: share of the points that must meet the moving image. tolerance: relative saving of three
    iterations that ends a level."""

    finest_mm: float = 1.0
    levels: int = 4
    samples: int = 60_000
    iterations: int = 60
    bins: int = 32
    turn_degrees: float = 15.0
    least_overlap: float = 0.1
    tolerance: float = 1e-5


@dataclass(frozen=True)
class LinearResult:
    """matrix: 4x4 T, fixed -> moving points, RAS mm; value of the energy on the finest level (lower is better); overlap: share of
    the fixed points that meet the moving image; converged: the finest level ended by its tolerance."""

    matrix: np.ndarray
    value: float
    overlap: float
    converged: bool
    history: tuple[dict[str, float | str], ...] = ()
    warnings: tuple[str, ...] = field(default=())


def align(
    fixed: Image,
    moving: Image,
    *,
    kind: str = "rigid",
    metric: str = "mi",
    start: np.ndarray | None = None,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    settings: LinearSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LinearResult:
    """The nearest linear T with moving(T(x)) like fixed(x), from `start` (4x4, default the identity). Deterministic for a seed.

    fixed, moving: one-channel images on any grids; masks: non-zero where an image counts, on its grid. kind: rigid, similarity or
    affine; metric: mi (other contrasts), ncc (same contrast), ngf (edges), mi+ngf (both). Raises InputError for images without
    contrast, empty masks and images that do not meet under `start`.
    """
    check.choice("kind", kind, tuple(KINDS))
    check.choice("metric", metric, tuple(METRICS))
    settings, progress = settings or LinearSettings(), progress or Progress()
    masks = _checked_mask(fixed, fixed_mask, "fixed mask"), _checked_mask(moving, moving_mask, "moving mask")
    pair = _Pair(within(fixed, masks[0], "fixed"), within(moving, masks[1], "moving"), *masks)
    finest = max(settings.finest_mm, float(min(fixed.grid.spacing.min(), moving.grid.spacing.min())))
    plan = [finest * 2**n for n in reversed(range(settings.levels))]
    matrix = np.eye(4) if start is None else check.affine_matrix("start", start)
    history: list[dict[str, float | str]] = []
    found: _Found | None = None
    for number, spacing in enumerate(plan):
        freedom = "rigid" if number == 0 and len(plan) > 1 else kind  # scales first make sense once the pose is about right
        with progress.part(number / len(plan), (number + 1) / len(plan)):
            samples = settings.samples if number == len(plan) - 1 else max(settings.samples // 4, _COARSE_POINTS)
            measure = METRICS[metric](settings.bins, spacing)
            level = _Level(pair.at(spacing), measure, freedom, samples, settings, seed + number, progress)
            found = level.best(matrix, settings.turn_degrees if number == 0 and len(plan) > 1 else 0.0)
        matrix = found.matrix
        values = enumerate(found.values)
        history += [{"stage": "align", "level": f"{spacing:.3g} mm", "iteration": i, "energy": v} for i, v in values]
    assert found is not None
    return LinearResult(matrix, found.value, found.overlap, found.converged, tuple(history), _warnings(found, settings))


def _checked_mask(image: Image, mask: Image | None, name: str) -> Image | None:
    if mask is None:
        return None
    if mask.grid != image.grid:
        raise InputError(f"The {name} must lie on its image's grid, {image.grid.shape}; found another one, {mask.grid.shape}.")
    return binary(mask, name)


def _warnings(found: _Found, settings: LinearSettings) -> tuple[str, ...]:
    if found.overlap < 2.0 * settings.least_overlap:
        return (f"Only {100 * found.overlap:.0f} % of the compared points lie in both images; check the result with care.",)
    return ()


@dataclass(frozen=True)
class _Pair:
    """Scaled images and binary masks."""

    fixed: Image
    moving: Image
    fixed_mask: Image | None
    moving_mask: Image | None

    def at(self, spacing: float) -> _Pair:
        masks = (None if m is None else at_spacing(m, spacing) for m in (self.fixed_mask, self.moving_mask))
        return _Pair(at_spacing(self.fixed, spacing), at_spacing(self.moving, spacing), *masks)


@dataclass(frozen=True)
class _Found:
    matrix: np.ndarray
    value: float
    overlap: float
    converged: bool
    values: list[float]


class _Level:
    """One resolution: a fixed set of points, and the descent from one or several starts."""

    def __init__(
        self, pair: _Pair, metric: Metric, kind: str, samples: int, settings: LinearSettings, seed: int, progress: Progress
    ) -> None:
        points, weight = sample_points(pair.fixed.grid, pair.fixed_mask, samples, seed)
        self._pair, self._kind, self._settings, self._progress = pair, kind, settings, progress
        self._points, self._weight = points, weight
        self._metric = metric
        metric.prepare(pair.fixed, pair.moving, points)

    def best(self, start: np.ndarray, turn_degrees: float) -> _Found:
        """The descent from `start`, or the best of those from `start` and its turned neighbours."""
        problems = [self._problem(start)]
        if problems[0].overlap() <= 0.0:
            raise InputError("The images (or their masks) do not meet under the start; choose another way to start.")
        if turn_degrees > 0.0 and min(self._pair.fixed.grid.shape) > 1:
            problems += [self._problem(problems[0].turned(turn)) for turn in _turns(turn_degrees)]
        found = []
        for number, problem in enumerate(problems):
            with self._progress.part(number / len(problems), (number + 1) / len(problems)):
                found.append(self._descend(problem))
        return min(found, key=lambda item: (item.value - self._metric.unrelated) * item.overlap)

    def _problem(self, start: np.ndarray) -> Problem:
        mask = self._pair.moving_mask
        return Problem(
            self._points, self._weight, self._pair.moving.grid, mask, self._metric, start, self._kind, self._settings.least_overlap
        )

    def _descend(self, problem: Problem) -> _Found:
        count = self._settings.iterations

        def report(iteration: int, value: float, parts: dict[str, float]) -> None:
            self._progress.step((iteration + 1) / count, f"{value:.4g}")

        self._progress.step(0.0)
        zero = torch.zeros(KINDS[self._kind], dtype=torch.float64)
        step = 0.25 * float(self._pair.fixed.grid.spacing.max())
        end = lbfgs.minimise(problem.energy, zero, count, step, tolerance=self._settings.tolerance, report=report)
        matrix = problem.matrix(end.x)
        return _Found(matrix, end.value, problem.overlap(end.x), end.converged, end.values)


def _turns(degrees: float) -> list[np.ndarray]:
    """(3,) rotation vectors, radians: to either side about each axis."""
    return [sign * np.deg2rad(degrees) * axis for axis in np.eye(3) for sign in (1.0, -1.0)]


def as_transform(result: LinearResult) -> AffineTransform:
    """The public transform of a result."""
    return AffineTransform(result.matrix)
