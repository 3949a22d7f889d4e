"""uncertainty-elbo: how far a given deformation may be off, in mm, for each component and voxel; fitted to the pair, no training.

1. compare: both images, locally normalised, at the transform and 1 to 32 mm off it along each axis;
2. second opinion: the pair registered anew, and the given transform refined: where they disagree, and match better or worse;
3. bound: the variational bound of paper 07 with q = N(u, G C C^T G^T), minimised for G; unit L2 rows of C make sigma = G the true
   standard deviation of every voxel;
4. recalibrate: by stored constants (`_calibration`) that weigh 1 to 3, fitted on phantoms of other seeds.

Without a given transform the method registers first and reports the uncertainty of its own mean (probabilistic mode).

Reference: Smolders, Lomax, Weber and Albertini, Deformable Image Registration Uncertainty Quantification Using Deep Learning for
Dose Accumulation in Adaptive Proton Therapy, WBIR 2022; Dalca et al., Med. Image Anal. 2019 (probabilistic mean).
Differs from paper 07 in: no network; locally normalised images instead of Hounsfield units; the noise variance sigma_I^2 is the
local mean square difference (+- noise_mm) instead of a tuned constant; the smoothness lambda is learned from the given field's own
strain instead of tuned; the expected image term is integrated, not sampled; unit L2 kernel (the paper's sigma is not marginal);
the second opinion and the recalibration are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.methods.uncertainty import _calibration, _maps
from regsuite.methods.uncertainty._terms import terms
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers.device import choose_device
from regsuite.solvers.intake import scaled
from regsuite.solvers.own_mean import own_mean
from regsuite.solvers.second_opinion import compare, linear_start, refine_given
from regsuite.solvers.sigma_bound import Bound, minimise
from regsuite.solvers.sigma_evidence import RADII_MM, Evidence, gather
from regsuite.solvers.start import POLICIES, SAYS
from regsuite.transforms import Transform

_LEAST_NOISE = 0.01  # ours: noise variance of normalised images that are alike; two scans of one noise level differ by more
_SETTLED = 0.01  # ours: mean change of log sigma below which the bound counts as minimised


@dataclass(frozen=True)
class ElboConfig(Config):
    """Settings of uncertainty-elbo. The paper's values are named where they exist; the other defaults are ours."""

    correlation_mm: float = _maps.correlation_setting()
    finest_mm: float = limited(3.0, 1.0, 10.0, "Resolution at which the images are compared; finer ones are averaged", "mm")
    lattice_mm: float = limited(4.0, 2.0, 20.0, "Distance of the nodes on which sigma is solved for", "mm", advanced=False)
    noise_mm: float = limited(35.0, 4.0, 200.0, "Width over which the images' disagreement gives the noise variance", "mm")
    strain_mm: float = limited(20.0, 4.0, 200.0, "Width over which the field's strain gives the smoothness", "mm")
    least_strain: float = limited(0.05, 0.001, 1.0, "Strain below which a field counts as this much strained", "mm/mm")
    data_weight: float = limited(1.0, 0.01, 100.0, "Weight of the images against the smoothness")
    refine_mm: float = limited(3.0, 1.0, 8.0, "Finest resolution of the second opinion, and of the own mean", "mm")
    start: str = option("translation", f"Start of the own registration. {SAYS}", choices=POLICIES)


PRESETS: dict[str, ElboConfig] = {
    "Default": ElboConfig(),
    "Preview": ElboConfig(finest_mm=4.0, lattice_mm=6.0, refine_mm=4.0),
    "Best": ElboConfig(finest_mm=2.0, lattice_mm=3.0, refine_mm=2.0),
}


def register(
    fixed: Image,
    moving: Image,
    config: ElboConfig | None = None,
    *,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """The uncertainty of `initial` (any transform, fixed -> moving points), or of a registration of its own when there is none.

    fixed, moving: one-channel images on any grids. Returns Result with transform = `initial` itself (or the own mean) and
    images["sigma"] (3, D, H, W): standard deviation of T(x) in mm along world x, y, z on the fixed grid, and
    images["sigma_magnitude"] (1, D, H, W): the root of the sum of their squares. findings["correlation_mm"]: the kernel for samples
    of the field.
    Deterministic. Raises InputError for unusable input, Cancelled when `progress` returns False.
    """
    config = config or ElboConfig()
    reporter = Progress(progress)
    warnings: list[str] = []
    history: list[dict[str, Any]] = []
    where = choose_device(device)
    with torch.no_grad():
        target, source = scaled(fixed, "fixed").to(where), scaled(moving, "moving").to(where)
        anew = None
        if initial is None:
            anew = own_mean(target, source, config.refine_mm, config.start, seed, reporter, history, warnings, (0.0, 0.4))
        transform = anew if initial is None else initial
        assert transform is not None
        found, lattice, change = terms_of(target, source, transform, config, anew, reporter, history)
        with reporter.stage("recalibrate", 0.97, 1.0):
            images = _maps.maps(_calibration.recalibrated(found).exp().clamp(*_maps.LIMITS_MM), lattice, fixed.grid)
    status = Status.CONVERGED if change < _SETTLED else Status.REACHED_LIMIT
    return Result(
        transform.to("cpu"), status, config, tuple(history), dict(reporter.timings_s), str(where), seed, tuple(warnings),
        images=images, findings=_maps.findings(images, config.correlation_mm),
    )  # fmt: skip


def terms_of(
    target: Image,
    source: Image,
    transform: Transform,
    config: ElboConfig,
    anew: Transform | None = None,
    reporter: Progress | None = None,
    history: list[dict[str, Any]] | None = None,
) -> tuple[torch.Tensor, Grid, float]:
    """What the recalibration looks at (K, 3, d, h, w), the lattice, and how much the bound's minimum still moved.

    target, source: scaled images on one device; anew: an independent registration of them, made where it is None.
    """
    reporter, history, where = reporter or Progress(), [] if history is None else history, target.data.device
    given = transform.to(where)
    with reporter.stage("compare", 0.4, 0.55):
        evidence = gather(target, source, given, config.finest_mm, config.lattice_mm, reporter.step)
    if anew is None:
        start = linear_start(transform, target.grid)
        anew = own_mean(target, source, config.refine_mm, start, 0, reporter, [], [], (0.55, 0.75))
    refined = refine_given(target, source, given, config.refine_mm, reporter, (0.75, 0.85))
    opinions = [compare(o.to(where), evidence.displacement, evidence.grid, evidence.residual_at) for o in (anew, refined)]
    with reporter.stage("bound", 0.85, 0.97):
        log_sigma, change = _bound_minimum(evidence, config, reporter, history, (0.85, 0.97))
    return terms(evidence, log_sigma, *opinions), evidence.grid, change


def _bound_minimum(
    evidence: Evidence,
    config: ElboConfig,
    reporter: Progress,
    history: list[dict[str, Any]],
    span: tuple[float, float] = (0.0, 1.0),
) -> tuple[torch.Tensor, float]:
    """log sigma (3, d, h, w) at the minimum of each component's bound, and the largest last change."""
    noise = evidence.smooth(evidence.residual[None], config.noise_mm)[0].clamp(min=_LEAST_NOISE)
    strain = evidence.smooth(evidence.strain(), config.strain_mm)
    stiffness = 1.0 / (strain + config.least_strain**2)
    spacing = evidence.grid.spacing[::-1]
    found, changes = [], []
    for axis in range(3):
        bound = Bound(
            evidence.even[axis] / (2.0 * noise),
            RADII_MM,
            stiffness[axis],
            (float(spacing[0]), float(spacing[1]), float(spacing[2])),
            config.correlation_mm,
            config.data_weight,
            _maps.LIMITS_MM,
        )
        step = (span[1] - span[0]) / 3.0
        with reporter.share(span[0] + step * axis, span[0] + step * (axis + 1)):
            log_sigma, change = minimise(bound, reporter.step)
        history.append({"stage": "bound", "level": "xyz"[axis], "iteration": 0, "energy": float(bound.value(log_sigma))})
        found.append(log_sigma)
        changes.append(change)
    return torch.stack(found), max(changes)


Config = ElboConfig  # type: ignore[misc,assignment]  # the registry reads module.Config
