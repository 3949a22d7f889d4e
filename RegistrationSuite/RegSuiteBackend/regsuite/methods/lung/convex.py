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

from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.ops.lungs import lung_mask
from regsuite.ops.sampling import resample
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import convex, folding, start
from regsuite.solvers.device import choose_device
from regsuite.solvers.frame import canonical, lattice_shape, make_level, resize_displacement, to_transform
from regsuite.solvers.gauss_newton import RefineSettings, refine
from regsuite.transforms import AffineTransform, Transform


@dataclass(frozen=True)
class LungConvexConfig(Config):
    """Settings of lung-convex. The defaults are ours; the papers' values are named where they exist."""

    search: bool = option(True, "Search large motion first (discrete, all displacements at once)", advanced=False)
    range_mm: float = limited(32.0, 4.0, 96.0, "Largest motion the search looks for along each axis (paper: about 32)", "mm", advanced=False)
    cell_mm: float = limited(8.0, 4.0, 32.0, "Size of a search cell", "mm")
    finest_mm: float = limited(1.5, 0.5, 8.0, "Finest resolution used; finer images are averaged to it", "mm", advanced=False)
    levels: int = limited(3, 1, 5, "Resolution levels of the refinement, each twice as coarse as the next")
    coarse_iterations: int = limited(15, 0, 200, "Largest number of Gauss-Newton steps on the coarser levels")
    fine_iterations: int = limited(10, 0, 200, "Largest number of Gauss-Newton steps on the finest level")
    smoothness: float = limited(3.0, 0.01, 100.0, "Weight of smoothness against similarity", advanced=False)
    sliding_gradient: float = limited(0.2, 0.01, 10.0, "Change of displacement (mm per mm) beyond which smoothness yields to sliding")
    sliding_wall: float = limited(1.0, 0.01, 1.0, "Share of smoothness kept across the border of the lungs (1 = no special treatment)")
    window_voxels: int = limited(2, 1, 6, "Radius of the correlation window")
    noise: float = limited(0.01, 0.001, 0.5, "Contrast below which a window counts as noise, in shares of the intensity range")
    lungs: bool = option(True, "Find the lungs of chest CT when no mask is given")
    outside_weight: float = limited(0.2, 0.0, 1.0, "Weight of what lies outside a given fixed mask")


PRESETS: dict[str, LungConvexConfig] = {
    "Default": LungConvexConfig(),
    "Preview": LungConvexConfig(finest_mm=3.0, levels=2, coarse_iterations=10, fine_iterations=6),
    "Best": LungConvexConfig(finest_mm=1.0, levels=4, coarse_iterations=25, fine_iterations=25),
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
    where = choose_device(device)
    warnings: list[str] = []
    history: list[dict[str, Any]] = []
    with torch.no_grad():
        with reporter.stage("start", 0.0, 0.1):
            target, source = canonical(_prepared(fixed, "fixed").to(where)), _prepared(moving, "moving").to(where)
            lungs = _lungs(fixed, fixed_mask, config, where)
            weight = _weight(fixed_mask, config, where)
            matrix = _linear_start(target, source, initial, config, warnings, reporter)
        with reporter.stage("search", 0.1, 0.3):
            u = _search(target, source, matrix, config, reporter)
        with reporter.stage("refine", 0.3, 0.97):
            u, status = _refine(target, source, matrix, u, weight, moving_mask, lungs, config, reporter, history)
        with reporter.stage("unfold", 0.97, 1.0):
            spacing = target.grid.resized(_shape(u)).spacing[::-1]
            u, folded = folding.unfold(u, tuple(float(h) for h in spacing))  # type: ignore[arg-type]
            if folded:
                history.append({"stage": "unfold", "level": "", "iteration": 0, "energy": float(folded)})
    transform = to_transform(u.cpu(), target.grid, matrix)
    return Result(transform, status, config, tuple(history), dict(reporter.timings_s), str(where), seed, tuple(warnings))


def _shape(u: torch.Tensor) -> tuple[int, int, int]:
    return int(u.shape[1]), int(u.shape[2]), int(u.shape[3])


def _prepared(image: Image, name: str) -> Image:
    """Scaled so that the 0.5 and 99.5 percentiles become 0 and 1."""
    if image.channels != 1:
        raise InputError(f"The {name} image must have one channel, found {image.channels}.")
    data = image.data.float()
    sample = data.flatten()[:: max(1, data.numel() // 500_000)].sort().values
    low, high = float(sample[int(0.005 * len(sample))]), float(sample[int(0.995 * (len(sample) - 1))])
    if high <= low:
        low, high = float(data.min()), float(data.max())
    if not np.isfinite(low + high) or high <= low:
        raise InputError(f"The {name} image is constant ({low:g} everywhere) or not finite; expected an image with contrast.")
    return image.with_data(((data.clamp(low, high) - low) / (high - low)))


def _lungs(fixed: Image, mask: Image | None, config: LungConvexConfig, where: torch.device) -> Image | None:
    if mask is not None:
        return canonical(mask.with_data((mask.data > 0.5).float()).to(where))
    return lung_mask(canonical(fixed.with_data(fixed.data.float()).to(where))) if config.lungs else None


def _weight(mask: Image | None, config: LungConvexConfig, where: torch.device) -> Image | None:
    if mask is None:
        return None
    inside = (mask.data > 0.5).float()
    return canonical(mask.with_data(inside + (1.0 - inside) * config.outside_weight).to(where))


def _linear_start(
    fixed: Image, moving: Image, initial: Transform | None, config: LungConvexConfig, warnings: list[str], reporter: Progress
) -> np.ndarray:
    if initial is not None:
        if not isinstance(initial, AffineTransform):
            raise InputError("The initial transform must be rigid or affine; found a deformable one.")
        return np.array(initial.matrix)
    matrix = np.eye(4)
    if start.overlap_fraction(fixed, moving) <= 0.0:
        matrix = start.centring(fixed, moving)
        warnings.append("The images do not overlap in world space; their centres were aligned first. Check the result with care.")
    if min(fixed.grid.shape) > 1:
        reporter.step(0.5, "translation")
        moved, gain = start.best_translation(fixed, moving, matrix, config.cell_mm)
        if gain > 0.05:
            matrix = moved
    return matrix


def _search(fixed: Image, moving: Image, matrix: np.ndarray, config: LungConvexConfig, reporter: Progress) -> torch.Tensor:
    level = make_level(fixed, moving, matrix, config.cell_mm / 3.0, config.cell_mm)
    if not config.search:
        return torch.zeros(3, *level.lattice, device=fixed.data.device)
    return convex.search(level, convex.ConvexSettings(config.cell_mm, config.range_mm), reporter)


def _refine(
    fixed: Image,
    moving: Image,
    matrix: np.ndarray,
    u: torch.Tensor,
    weight: Image | None,
    moving_mask: Image | None,
    lungs: Image | None,
    config: LungConvexConfig,
    reporter: Progress,
    history: list[dict[str, Any]],
) -> tuple[torch.Tensor, Status]:
    finest = max(config.finest_mm, float(min(fixed.grid.spacing.min(), moving.grid.spacing.min())))
    plan = [finest * 2**n for n in reversed(range(config.levels))]
    cost = np.cumsum([0.0] + [(1.0 / h) ** 3 for h in plan])
    status = Status.CONVERGED
    for number, spacing in enumerate(plan):
        last = number == len(plan) - 1
        lattice_mm = 2.0 * spacing if last else spacing
        level = make_level(fixed, moving, matrix, spacing, lattice_mm, weight)
        settings = RefineSettings(
            iterations=config.fine_iterations if last else config.coarse_iterations,
            window_radius=config.window_voxels,
            smoothness=config.smoothness * min(1.0, 2.0 * finest / lattice_mm),
            robust_gradient=config.sliding_gradient,
            noise=config.noise,
            affinity=1.0,
            reach=0.7,
        )
        wall = _wall(lungs, level.lattice_grid, config)
        with reporter.stage("refine", 0.3 + 0.67 * cost[number] / cost[-1], 0.3 + 0.67 * cost[number + 1] / cost[-1]):
            u = refine(level, resize_displacement(u, level.lattice), settings, reporter, history, f"{spacing:.3g} mm", wall)
        if last and settings.iterations and history and history[-1]["change_mm"] > 0.1 * finest:
            status = Status.REACHED_LIMIT
    return u, status


def _wall(lungs: Image | None, grid: Any, config: LungConvexConfig) -> torch.Tensor | None:
    """(d, h, w) smoothness weight of the lattice: `sliding_wall` on nodes at the lungs' border, 1 elsewhere."""
    if lungs is None or config.sliding_wall >= 1.0:
        return None
    share = resample(lungs, grid).data[0]
    return torch.where((share > 0.02) & (share < 0.98), config.sliding_wall, 1.0)


Config = LungConvexConfig  # type: ignore[misc,assignment]  # the registry reads module.Config
