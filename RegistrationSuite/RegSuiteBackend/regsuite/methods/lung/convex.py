"""lung-convex: training-free registration of the breathing lung; also a general choice for CT and MR of one patient.

1. start: header, or centring without overlap, then the best translation by MIND-SSC over all shifts (FFT);
2. search: coupled convex discrete optimisation on MIND-SSC with inverse consistency, +-32 mm (WBIR 2022, paper 13);
3. refine: multi-level Gauss-Newton on LNCC with robust second-order smoothness that lets tissue slide (ours);
4. unfold: the last folds of the lattice are smoothed away.

References: Siebert and Heinrich, WBIR 2022; Heinrich and Hansen, VoxelMorph++, WBIR 2022 (instance refinement); Vishnevskiy et al.,
Isotropic total variation regularisation of displacements, IEEE TMI 2017 (sliding).
Differs from paper 13 in: no learned feature fusion; Gauss-Newton on LNCC instead of Adam on MIND; robust generalised smoothness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.ops.lungs import lung_mask
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import convex, folding, start
from regsuite.solvers.device import choose_device
from regsuite.solvers.frame import (
    canonical,
    crop_level,
    lattice_shape,
    make_level,
    sample_displacement,
    to_transform,
)
from regsuite.solvers.gauss_newton import RefineSettings, refine
from regsuite.solvers.intake import binary, scaled
from regsuite.transforms import Transform

_MARGIN_MM = 12.0  # ours: box kept around a sliding region
_LATTICE_STEP = 2.5  # ours: finest images per node of the displacement lattice
_REGION_CG_ITERATIONS = 30  # ours: a region has no neighbours to lean on; steps solved well carry the motion to its border
_JOINT_LATTICE_MM = 3.0  # ours: a sliding wall is resolved no finer than this, which bounds the size of the field


@dataclass(frozen=True)
class LungConvexConfig(Config):
    """Settings of lung-convex. The defaults are ours; the papers' values are named where they exist."""

    start: str = option("translation", start.SAYS, choices=start.POLICIES)
    search: bool = option(True, "Search large motion first (discrete, all displacements at once)", advanced=False)
    range_mm: float = limited(
        32.0, 4.0, 96.0, "Largest motion the search looks for along each axis (paper: about 32)", "mm", advanced=False
    )
    cell_mm: float = limited(8.5, 4.0, 32.0, "Size of a search cell", "mm")
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


PRESETS: dict[str, LungConvexConfig] = {
    "Default": LungConvexConfig(),
    "Preview": LungConvexConfig(cell_mm=12.0, finest_mm=3.5, coarse_iterations=10, fine_iterations=8),
    "Best": LungConvexConfig(finest_mm=1.0, levels=3, coarse_iterations=25, fine_iterations=25),
}


def register(
    fixed: Image,
    moving: Image,
    config: LungConvexConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find T with moving(T(x)) like fixed(x).

    fixed, moving: one-channel images on any grids. fixed_mask: region that matters (outside counts `outside_weight`), its border
    may slide. moving_mask: moving voxels outside it are ignored. initial: affine start, RAS mm, fixed -> moving points.
    Returns Result with T = affine o displacement field on a lattice of its own that fills the fixed image's box. Deterministic.
    Raises InputError for unusable input, Cancelled when `progress` returns False.
    """
    config = config or LungConvexConfig()
    reporter = Progress(progress)
    history: list[dict[str, Any]] = []
    with torch.no_grad():
        with reporter.stage("start", 0.0, 0.1):
            pair = _load(fixed, moving, fixed_mask, moving_mask, config, choose_device(device))
            pair.start, warnings = start.initialise(
                pair.fixed, pair.moving, config.start, initial=initial, translation_mm=config.cell_mm, seed=seed, progress=reporter
            )
        with reporter.stage("search", 0.1, 0.3):
            u = _search(pair, config, reporter)
        with reporter.stage("refine", 0.3, 0.97):
            u = _refine_regions(pair, u, config, reporter, history)
        with reporter.stage("unfold", 0.97, 1.0):
            keep = (
                None
                if pair.region is None
                else (sample_displacement(pair.region.data, pair.fixed.grid, _lattice(pair, u))[0] > 0.5).float()
            )
            spacing = _lattice(pair, u).spacing[::-1]
            u, folded = folding.unfold(u, (float(spacing[0]), float(spacing[1]), float(spacing[2])), keep=keep)
            if folded:
                history.append({"stage": "unfold", "level": "", "iteration": 0, "energy": float(folded)})
    settled = all(row["change_mm"] < 0.1 * pair.finest(config) for row in history if row.get("last"))
    status = Status.CONVERGED if settled else Status.REACHED_LIMIT
    transform = to_transform(u.cpu(), pair.fixed.grid, pair.start)
    return Result(transform, status, config, tuple(history), dict(reporter.timings_s), str(pair.device), seed, tuple(warnings))


@dataclass
class _Pair:
    """The prepared inputs: fixed and its masks on canonical axes, moving as it lies, all scaled to 0..1, on one device."""

    fixed: Image
    moving: Image
    region: Image | None  # binary: what may slide against the rest
    weight: Image | None  # importance when nothing slides
    moving_weight: Image | None
    device: torch.device
    start: np.ndarray

    def finest(self, config: LungConvexConfig) -> float:
        """mm of the finest level."""
        return max(config.finest_mm, float(min(self.fixed.grid.spacing.min(), self.moving.grid.spacing.min())))


def _load(
    fixed: Image, moving: Image, fixed_mask: Image | None, moving_mask: Image | None, config: LungConvexConfig, device: torch.device
) -> _Pair:
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
    return _Pair(target, source, region, weight, moving_weight, device, np.eye(4))


def _lattice(pair: _Pair, u: torch.Tensor) -> Grid:
    return pair.fixed.grid.resized((int(u.shape[1]), int(u.shape[2]), int(u.shape[3])))


def _search(pair: _Pair, config: LungConvexConfig, reporter: Progress) -> torch.Tensor:
    level = make_level(pair.fixed, pair.moving, pair.start, config.cell_mm / 3.0, config.cell_mm)
    if not config.search:
        return torch.zeros(3, *level.lattice, device=pair.device)
    return convex.search(level, convex.ConvexSettings(config.cell_mm, config.range_mm), reporter)


def _refine_regions(
    pair: _Pair, u: torch.Tensor, config: LungConvexConfig, reporter: Progress, history: list[dict[str, Any]]
) -> torch.Tensor:
    """One refinement, or, with a sliding region, one outside it and one inside, put together at about the finest resolution."""
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
    pair: _Pair,
    u: torch.Tensor,
    config: LungConvexConfig,
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
    plan = [finest * 2**n for n in reversed(range(config.levels + within))]
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


Config = LungConvexConfig  # type: ignore[misc,assignment]  # the registry reads module.Config
