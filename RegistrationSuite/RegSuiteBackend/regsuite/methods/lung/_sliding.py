"""What the lung methods share: settings of the refinement that lets tissue slide, and the way from two images to a Result.

A method brings a first displacement (a search, a network); Gauss-Newton steps on LNCC with robust second-order smoothness refine
it from coarse to fine, inside and outside of the lungs apart; the last folds of the lattice are smoothed away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.ops.lungs import lung_mask
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import folding, start
from regsuite.solvers.device import choose_device
from regsuite.solvers.frame import canonical, crop_level, lattice_shape, make_level, sample_displacement, to_transform
from regsuite.solvers.gauss_newton import RefineSettings, refine
from regsuite.solvers.intake import binary, scaled
from regsuite.transforms import Transform

_MARGIN_MM = 12.0  # ours: box kept around a sliding region
_LATTICE_STEP = 2.5  # ours: finest images per node of the displacement lattice
_REGION_CG_ITERATIONS = 30  # ours: a region has no neighbours to lean on; steps solved well carry the motion to its border
_JOINT_LATTICE_MM = 3.0  # ours: a sliding wall is resolved no finer than this, which bounds the size of the field


@dataclass(frozen=True)
class SlidingConfig(Config):
    """Settings of the start and of the refinement. The defaults are ours."""

    start: str = option("translation", start.SAYS, choices=start.POLICIES)
    finest_mm: float = limited(1.5, 0.5, 8.0, "Finest resolution used; finer images are averaged to it", "mm", advanced=False)
    levels: int = limited(
        2, 1, 5, "Resolution levels of the refinement, each twice as coarse as the next; a sliding region gets one more"
    )
    coarse_iterations: int = limited(12, 0, 200, "Largest number of Gauss-Newton steps on the coarser levels")
    fine_iterations: int = limited(12, 0, 200, "Largest number of Gauss-Newton steps on the finest level")
    smoothness: float = limited(1.5, 0.01, 100.0, "Weight of smoothness against similarity", advanced=False)
    sliding_gradient: float = limited(
        0.2, 0.01, 10.0, "Change of displacement (mm per mm) beyond which smoothness yields to sliding"
    )
    sliding_smoothness: float = limited(0.9, 0.01, 1.0, "Share of the smoothness used inside a sliding region")
    window_voxels: int = limited(2, 1, 6, "Radius of the correlation window")
    noise: float = limited(0.01, 0.001, 0.5, "Contrast below which a window counts as noise, in shares of the intensity range")
    lungs: bool = option(True, "Find the lungs of chest CT when no mask is given")
    sliding: bool = option(
        True, "Register inside and outside of the mask (or the lungs found) apart, so that they can slide", advanced=False
    )
    outside_weight: float = limited(0.2, 0.0, 1.0, "Without sliding: weight of what lies outside a given fixed mask")

    @property
    def unrefined(self) -> bool:
        """Is the first displacement the answer?"""
        return self.coarse_iterations == self.fine_iterations == 0


First = Callable[["LungPair", Progress, list[str]], torch.Tensor]
"""first(pair, progress, warnings) -> displacement (3, d, h, w) mm along the fixed axes, on a lattice that fills the fixed box."""


@dataclass
class LungPair:
    """The prepared inputs: fixed and its masks on canonical axes, moving as it lies, all scaled to 0..1, on one device."""

    fixed: Image
    moving: Image
    region: Image | None  # binary: what may slide against the rest
    weight: Image | None  # importance when nothing slides
    moving_weight: Image | None
    device: torch.device
    start: np.ndarray
    most_levels: int | None = None  # what the first displacement leaves to do; None: all of them

    def finest(self, config: SlidingConfig) -> float:
        """mm of the finest level."""
        return max(config.finest_mm, float(min(self.fixed.grid.spacing.min(), self.moving.grid.spacing.min())))


def _load(
    fixed: Image, moving: Image, fixed_mask: Image | None, moving_mask: Image | None, config: SlidingConfig, device: torch.device
) -> LungPair:
    target, source = canonical(scaled(fixed, "fixed").to(device)), scaled(moving, "moving").to(device)
    mask = None if fixed_mask is None else canonical(binary(fixed_mask, "fixed mask").to(device))
    region = weight = None
    if mask is not None and config.sliding:
        region = mask
    elif mask is not None:
        weight = mask.with_data(mask.data + (1.0 - mask.data) * config.outside_weight)
    elif config.lungs and config.sliding:
        region = lung_mask(canonical(fixed.with_data(fixed.data.float()).to(device)))
    moving_weight = None if moving_mask is None else binary(moving_mask, "moving mask").to(device)
    return LungPair(target, source, region, weight, moving_weight, device, np.eye(4))


def run(
    images: tuple[Image, Image],
    masks: tuple[Image | None, Image | None],
    config: SlidingConfig,
    first: First,
    first_stage: str,
    *,
    initial: Transform | None,
    translation_mm: float,
    device: str,
    seed: int,
    progress: ProgressCallback | None,
) -> Result:
    """The whole registration of (fixed, moving) with their masks. first, first_stage: the first displacement and its name;
    translation_mm: resolution of the start's translation. Deterministic."""
    reporter = Progress(progress)
    history: list[dict[str, Any]] = []
    with torch.no_grad():
        with reporter.stage("start", 0.0, 0.1):
            pair = _load(*images, *masks, config, choose_device(device))
            pair.start, warnings = start.initialise(
                pair.fixed, pair.moving, config.start, initial=initial, translation_mm=translation_mm, seed=seed, progress=reporter
            )
        with reporter.stage(first_stage, 0.1, 0.3):
            u = first(pair, reporter, warnings)
        with reporter.stage("refine", 0.3, 0.97):
            u = _refine_regions(pair, u, config, reporter, history)
        with reporter.stage("unfold", 0.97, 1.0):
            u = _unfolded(pair, u, history)
    settled = all(row["change_mm"] < 0.1 * pair.finest(config) for row in history if row.get("last"))
    status = Status.CONVERGED if settled else Status.REACHED_LIMIT
    transform = to_transform(u.cpu(), pair.fixed.grid, pair.start)
    return Result(transform, status, config, tuple(history), dict(reporter.timings_s), str(pair.device), seed, tuple(warnings))


def _unfolded(pair: LungPair, u: torch.Tensor, history: list[dict[str, Any]]) -> torch.Tensor:
    lattice = pair.fixed.grid.resized((int(u.shape[1]), int(u.shape[2]), int(u.shape[3])))
    keep = None if pair.region is None else (sample_displacement(pair.region.data, pair.fixed.grid, lattice)[0] > 0.5).float()
    i, j, k = lattice.spacing
    u, folded = folding.unfold(u, (float(k), float(j), float(i)), keep=keep)
    if folded:
        history.append({"stage": "unfold", "level": "", "iteration": 0, "energy": float(folded)})
    return u


def _refine_regions(
    pair: LungPair, u: torch.Tensor, config: SlidingConfig, reporter: Progress, history: list[dict[str, Any]]
) -> torch.Tensor:
    """One refinement, or, with a sliding region, one outside it and one inside, put together at about the finest resolution."""
    if config.unrefined:
        return u
    if pair.region is None:
        return _refine(pair.weight, pair.moving_weight, pair, u, config, reporter, history, (0.3, 0.97))[0]
    rest = pair.region.with_data(1.0 - pair.region.data)
    outside, _ = _refine(rest, None, pair, u, config, reporter, history, (0.3, 0.7))
    inside, box = _refine(pair.region, pair.moving_weight, pair, u, config, reporter, history, (0.7, 0.97), within=True)
    grid = pair.fixed.grid.resized(lattice_shape(pair.fixed.grid, max(pair.finest(config), _JOINT_LATTICE_MM)))
    belongs = sample_displacement(pair.region.data, pair.fixed.grid, grid) > 0.5
    return torch.where(belongs, sample_displacement(inside, box, grid), sample_displacement(outside, pair.fixed.grid, grid))


def _refine(
    weight: Image | None,
    moving_weight: Image | None,
    pair: LungPair,
    u: torch.Tensor,
    config: SlidingConfig,
    reporter: Progress,
    history: list[dict[str, Any]],
    span: tuple[float, float],
    within: bool = False,
) -> tuple[torch.Tensor, Grid]:
    """All levels from u (mm on a lattice that fills the fixed box); returns the new u and the box that its lattice fills.

    within: a sliding region. Only the box around the weight is worked on, with one level more and its own smoothness. Levels are
    cropped after they were sampled, so that an image on itself stays exactly still.
    """
    finest = pair.finest(config)
    levels = config.levels if pair.most_levels is None else min(config.levels, pair.most_levels)
    plan = [finest * 2**n for n in reversed(range(levels + within))]
    cost = np.cumsum([0.0] + [(1.0 / h) ** 3 for h in plan])
    share = span[0] + (span[1] - span[0]) * cost / cost[-1]
    softness, box = config.sliding_smoothness if within else 1.0, pair.fixed.grid
    for number, spacing in enumerate(plan):
        last = number == len(plan) - 1
        lattice_mm = _LATTICE_STEP * finest if last else spacing
        level = make_level(pair.fixed, pair.moving, pair.start, spacing, lattice_mm, weight, moving_weight)
        if within:
            level = crop_level(level, _MARGIN_MM, lattice_mm)
        settings = RefineSettings(
            iterations=config.fine_iterations if last else config.coarse_iterations,
            window_radius=config.window_voxels,
            smoothness=softness * config.smoothness * min(1.0, 2.0 * finest / lattice_mm),
            robust_gradient=config.sliding_gradient,
            noise=config.noise,
            cg_iterations=_REGION_CG_ITERATIONS if within else RefineSettings.cg_iterations,
        )
        with reporter.share(share[number], share[number + 1]):
            near = sample_displacement(u, box, level.lattice_grid)
            u, box = refine(level, near, settings, reporter, history, f"{spacing:.3g} mm"), level.fixed.grid
        if last and settings.iterations:
            history[-1]["last"] = True
    return u, box
