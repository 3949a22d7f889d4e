"""multimodal-csngf: the rigid pose between two images of any modality, from anywhere and any way up.

1. search: a uniform set of rotations, for each all translations at once, by squared normalised gradient fields (NGF) with FFTs;
2. climb: the best distinct poses rise to their maxima, at ever finer resolution, ever fewer of them;
3. confidence: the margin of the winner over its best rival, and the runners-up themselves;
4. refine: mutual information and edges together at 1.5 mm, if the pose is trusted.

Reference: Ofverstedt, Lindblad, Sladoje, Cross-Sim-NGF: FFT-based global rigid multimodal alignment of image volumes using
normalized gradient fields, WBIR 2022 (paper 17).
Differs from the paper in: physical space, any grids; rotations evenly spread and fixed instead of random Euler angles; 24 rotations
share one set of transforms; directions at random count as zero (traceless tensors); the score is sum / overlap^0.75 instead of the
mean; after the first level poses climb by gradient instead of by random perturbation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from regsuite.geometry.image import Image
from regsuite.methods.api import Candidate, Config, Result, Status, limited, option
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import boxes
from regsuite.solvers.device import choose_device
from regsuite.solvers.global_pose import LOW_CONFIDENCE, PoseSettings, coarse_spacing, global_pose
from regsuite.solvers.linear import LinearSettings, align
from regsuite.transforms import AffineTransform

_RIVALS = 5  # ours: poses that reach the last level at least, so that the winner is compared with more than one
_REFINE_MM = 1.5  # ours: finest resolution of the refinement; noise weighs less than at 1 mm
_REACH_STEPS = 0.5  # ours: a refinement that moves a corner further than this, in steps of the search lattice, is not believed
_APART = "The images do not overlap in world space; their places were ignored and every translation was tried."


@dataclass(frozen=True)
class CsngfConfig(Config):
    """Settings of multimodal-csngf; the paper's values are named where ours differ."""

    rotations: int = limited(2304, 240, 100_000, "Rotations of the search, evenly spread (paper: 5000, random)", advanced=False)
    points_across: int = limited(20, 12, 64, "Search lattice: points along the longer axis of the smaller image (paper: 38)")
    levels: int = limited(3, 1, 5, "Resolutions, each twice as fine as the one before", advanced=False)
    poses: int = limited(128, 4, 1000, "Poses that climb after the search; a quarter of them goes on at each level (paper: 20, 3)")
    least_overlap: float = limited(
        0.3, 0.05, 1.0, "Share of the smaller image (or mask) that must overlap (paper: 0.5)", advanced=False
    )
    overlap_power: float = limited(0.75, 0.0, 1.0, "Similarity is sum / overlap^power; 1 is the mean (paper), 0 the sum")
    noise: float = limited(
        1e-3, 1e-6, 0.5, "Change of intensity per lattice step below which an edge is noise, in shares of the range (paper: 1e-5)"
    )
    iterations: int = limited(16, 0, 500, "Steps of each climb")
    refine: str = option(
        "mi+ngf",
        "Measure of the last refinement: mutual information and edges together, one of them, or none",
        choices=("mi+ngf", "mi", "ngf", "none"),
        advanced=False,
    )


PRESETS: dict[str, CsngfConfig] = {
    "Default": CsngfConfig(),
    "Preview": CsngfConfig(rotations=1152, poses=64, iterations=12, refine="none"),
    "Best": CsngfConfig(rotations=9216, points_across=28, levels=4, poses=256, iterations=30),
}


def register(
    fixed: Image,
    moving: Image,
    config: CsngfConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find the rigid T with moving(T(x)) like fixed(x), wherever and whichever way up the images lie.

    fixed, moving: one-channel images on any grids. Masks: only what lies inside counts; their borders are no edges. Returns a
    Result with the pose, the runners-up (`candidates`, the answer first) and `confidence`; a low one adds a warning, and then
    the pose that the headers give, refined, is the answer where they let the images overlap. Deterministic for a seed.
    Raises InputError for unusable input, Cancelled when `progress` returns False.
    """
    config = config or CsngfConfig()
    reporter = Progress(progress)
    where = choose_device(device)
    target, source, *masks = (None if i is None else i.to(where) for i in (fixed, moving, fixed_mask, moving_mask))
    assert target is not None
    assert source is not None
    with torch.no_grad(), reporter.stage("pose", 0.0, 1.0):
        with reporter.part(0.0, 0.85):
            found = global_pose(
                target, source, settings=_settings(config), fixed_mask=masks[0], moving_mask=masks[1], seed=seed, progress=reporter
            )
        if config.refine != "none" and found.confidence >= LOW_CONFIDENCE:
            with reporter.part(0.85, 1.0):
                matrix = _refined(target, source, masks, found.matrix, config, seed, reporter)
            found = replace(found, matrix=matrix, candidates=((matrix, found.candidates[0][1]), *found.candidates[1:]))
    candidates = tuple(Candidate(AffineTransform(matrix), score) for matrix, score in found.candidates)
    apart = boxes.overlap_fraction(fixed, moving) <= 0.0
    history: list[dict[str, Any]] = [
        {"stage": "pose", "level": "candidate", "iteration": n, "energy": -score} for n, (_, score) in enumerate(found.candidates)
    ]
    return Result(
        AffineTransform(found.matrix),
        Status.CONVERGED,
        config,
        tuple(history),
        dict(reporter.timings_s),
        str(where),
        seed,
        (*((_APART,) if apart else ()), *found.warnings),
        candidates=candidates,
        confidence=found.confidence,
    )


def _refined(
    fixed: Image, moving: Image, masks: list[Image | None], start: np.ndarray, config: CsngfConfig, seed: int, reporter: Progress
) -> np.ndarray:
    """The nearest maximum of the chosen measure, unless it lies too far to be the same pose."""
    settings = LinearSettings(finest_mm=_REFINE_MM, levels=1, turn_degrees=0.0, samples=60_000, iterations=30)
    found = align(
        fixed,
        moving,
        metric=config.refine,
        start=start,
        fixed_mask=masks[0],
        moving_mask=masks[1],
        settings=settings,
        seed=seed,
        progress=reporter,
    )
    corners = torch.as_tensor(fixed.grid.corners())
    moved = AffineTransform(found.matrix).map_points(corners) - AffineTransform(start).map_points(corners)
    reach = _REACH_STEPS * coarse_spacing(fixed, moving, config.points_across)
    return found.matrix if float(moved.norm(dim=1).max()) <= reach else start


def _settings(config: CsngfConfig) -> PoseSettings:
    return PoseSettings(
        across=config.points_across,
        rotations=config.rotations,
        keep=tuple(max(_RIVALS, config.poses // 4**level) for level in range(config.levels)),
        least_overlap=config.least_overlap,
        noise=config.noise,
        power=config.overlap_power,
        iterations=config.iterations,
    )


Config = CsngfConfig  # type: ignore[misc,assignment]  # the registry reads module.Config
