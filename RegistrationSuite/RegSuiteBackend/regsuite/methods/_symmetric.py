"""What the brain methods share: settings and the way to T = T0 o exp(v), v refined under symmetric LNCC from coarse to fine.

A method may bring a first velocity (a network); without one v begins at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.ops.sampling import resample
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import start
from regsuite.solvers.device import choose_device
from regsuite.solvers.frame import Level, canonical, make_level, resize_displacement
from regsuite.solvers.gauss_newton import RefineSettings, refine
from regsuite.solvers.intake import binary, brain_box, foreground_box, on_grid_of, scaled
from regsuite.solvers.prealign import KINDS, STARTS, prealign
from regsuite.solvers.velocity import SymmetricCorrelation, to_velocity_transform
from regsuite.transforms import AffineTransform, Transform

_MARGIN_MM = 10.0  # ours: kept around what the image shows
_BRAIN_MARGIN_MM = 12.0  # ours: kept around the brain
# Ours: on coarse levels every stretch costs. Where brightness changes with age, windows of 2 to 4 cm take its slope for a
# stretch; were a steady one free there, the map would drift by millimetres and the finest level not bring it back.
_COARSE_AFFINITY = 0.0


@dataclass(frozen=True)
class SymmetricConfig(Config):
    """Settings of the start and of the refinement. All defaults are ours."""

    linear: str = option(
        "affine", "Linear start, when none is given: none, rigid, or rigid and then affine", choices=KINDS, advanced=False
    )
    start: str = option("auto", f"Before that, {start.SAYS}; auto: translation, without a linear start header", choices=STARTS)
    brain_box: bool = option(True, "Work on the box around the brain where one is found; beyond it only the linear start holds")
    finest_mm: float = limited(0.8, 0.4, 8.0, "Finest resolution used; finer images are averaged to it", "mm", advanced=False)
    most_megavoxels: float = limited(
        4.0, 0.1, 100.0, "A large brain is worked on at a resolution that leaves about this many million voxels"
    )
    levels: int = limited(3, 1, 6, "Resolution levels, each twice as coarse as the next")
    coarse_iterations: int = limited(8, 0, 200, "Largest number of Gauss-Newton steps on the coarser levels")
    fine_iterations: int = limited(8, 0, 200, "Largest number of Gauss-Newton steps on the finest level")
    smoothness: float = limited(1.0, 0.001, 100.0, "Weight of smoothness against similarity", advanced=False)
    steep_gradient: float = limited(0.15, 0.01, 10.0, "Change of velocity (mm per mm) beyond which smoothness yields")
    affinity: float = limited(0.97, 0.0, 1.0, "Share of a steady stretch that costs nothing on the finest level")
    momentum: float = limited(0.75, 0.0, 0.9, "Share of each move that goes on into the next step, on the finest level")
    lattice_voxels: float = limited(2.0, 1.0, 4.0, "Distance of the velocity's nodes on the finest level, in voxels")
    window_voxels: int = limited(2, 1, 6, "Radius of the correlation window")
    noise: float = limited(0.02, 0.001, 0.5, "Contrast below which a window counts as noise, in shares of the intensity range")
    contrast: str = option(
        "same",
        "any: an inverted contrast attracts too (infants before and after myelination)",
        choices=("same", "any"),
        advanced=False,
    )


First = Callable[[Image, Image, np.ndarray, Progress, list[str]], Image]
"""first(fixed, moving, start, progress, warnings) -> velocity, three channels in mm along the axes of fixed, on any grid."""


def run(
    images: tuple[Image, Image],
    masks: tuple[Image | None, Image | None],
    config: SymmetricConfig,
    first: First | None = None,
    *,
    initial: Transform | None,
    device: str,
    seed: int,
    progress: ProgressCallback | None,
) -> Result:
    """The whole registration of (fixed, moving) with their masks. Deterministic."""
    reporter = Progress(progress)
    warnings: list[str] = []
    history: list[dict[str, Any]] = []
    with torch.no_grad():
        where = choose_device(device)
        with reporter.stage("start", 0.0, 0.1):
            target, source = canonical(scaled(images[0], "fixed").to(where)), scaled(images[1], "moving").to(where)
            given = _masks(*masks, where)
            matrix = _linear_start(target, source, given[0], initial, config, warnings, seed, reporter)
        found = None
        if first is not None:
            with reporter.stage("network", 0.1, 0.2):
                found = first(target, source, matrix, reporter, warnings)
        with reporter.stage("refine", 0.2 if first else 0.1, 1.0):
            target, source = _cropped(target, config), foreground_box(source, _MARGIN_MM)
            weights = [None if m is None else on_grid_of(m, i) for m, i in zip(given, (target, source), strict=True)]
            v = _refine(target, source, matrix, weights, found, config, reporter, history)
    finest = _finest(target, source, config)
    settled = all(row["change_mm"] < 0.1 * finest for row in history if row.get("last"))
    status = Status.CONVERGED if settled else Status.REACHED_LIMIT
    transform = to_velocity_transform(v, target.grid, matrix)
    return Result(transform, status, config, tuple(history), dict(reporter.timings_s), str(where), seed, tuple(warnings))


def _masks(fixed_mask: Image | None, moving_mask: Image | None, device: torch.device) -> tuple[Image | None, Image | None]:
    return (
        None if fixed_mask is None else canonical(binary(fixed_mask, "fixed mask").to(device)),
        None if moving_mask is None else binary(moving_mask, "moving mask").to(device),
    )


def _linear_start(
    fixed: Image,
    moving: Image,
    fixed_mask: Image | None,
    initial: Transform | None,
    config: SymmetricConfig,
    warnings: list[str],
    seed: int,
    reporter: Progress,
) -> np.ndarray:
    if initial is not None:
        if not isinstance(initial, AffineTransform):
            raise InputError("The initial transform must be rigid or affine; found a deformable one.")
        return np.array(initial.matrix)
    metric = "mi" if config.contrast == "any" else "ncc"
    matrix, said = prealign(
        fixed, moving, config.linear, reporter, metric=metric, fixed_mask=fixed_mask, policy=config.start, seed=seed
    )
    warnings.extend(said)
    return matrix


def _cropped(fixed: Image, config: SymmetricConfig) -> Image:
    part = foreground_box(fixed, _MARGIN_MM)
    return brain_box(part, _BRAIN_MARGIN_MM) if config.brain_box else part


def _finest(fixed: Image, moving: Image, config: SymmetricConfig) -> float:
    """mm of the finest level: a small brain is worked on more finely than a large one, never more finely than it was scanned."""
    volume = fixed.grid.voxels * fixed.grid.voxel_volume
    scanned = float(min(fixed.grid.spacing.min(), moving.grid.spacing.min()))
    return max(config.finest_mm, scanned, float(np.cbrt(volume / (1e6 * config.most_megavoxels))))


def _refine(
    fixed: Image,
    moving: Image,
    matrix: np.ndarray,
    weights: list[Image | None],
    found: Image | None,
    config: SymmetricConfig,
    reporter: Progress,
    history: list[dict[str, Any]],
) -> torch.Tensor:
    """All levels from the velocity found, or 0; returns v (3, d, h, w) mm on the finest lattice."""
    finest = _finest(fixed, moving, config)
    plan = [finest * 2**n for n in reversed(range(config.levels))]
    cost = np.cumsum([0.0] + [(1.0 / h) ** 3 for h in plan])
    v: torch.Tensor | None = None
    for number, spacing in enumerate(plan):
        last = number == len(plan) - 1
        lattice_mm = config.lattice_voxels * finest if last else spacing
        level = make_level(fixed, moving, matrix, spacing, lattice_mm, weights[0], weights[1])
        v = _begin(level, found) if v is None else resize_displacement(v, level.lattice)
        settings = RefineSettings(
            iterations=config.fine_iterations if last else config.coarse_iterations,
            window_radius=config.window_voxels,
            smoothness=config.smoothness * min(1.0, 2.0 * finest / lattice_mm),
            robust_gradient=config.steep_gradient,
            noise=config.noise,
            affinity=config.affinity if last else _COARSE_AFFINITY,
            momentum=config.momentum if last else 0.0,
        )
        similarity = SymmetricCorrelation(level, config.window_voxels, config.noise, config.contrast == "any")
        with reporter.part(cost[number] / cost[-1], cost[number + 1] / cost[-1]):
            v = refine(level, v, settings, reporter, history, f"{spacing:.3g} mm", similarity)
        if last and settings.iterations:
            history[-1]["last"] = True
    assert v is not None
    return v


def _begin(level: Level, found: Image | None) -> torch.Tensor:
    if found is None:
        return torch.zeros(3, *level.lattice, device=level.fixed.data.device)
    return resample(found, level.lattice_grid).data
