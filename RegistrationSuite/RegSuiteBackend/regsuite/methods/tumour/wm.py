"""tumour-wm: weighted metamorphosis of a healthy template (moving) onto a patient with a brain tumour (fixed).

Anatomy moves by deformation; intensity may be added only where a mask M_t allows it, which grows inside the given segmentation:

    v = -(rho / mu) K(z grad I),   dz/dt = -div(z v),   dI/dt = -<grad I, v> + mu M_t z,   I_0 = template
    E(z_0) = D(I_1, patient) + lambda * integral over t of |v|_V^2 + rho |z|_{M_t}^2        (means over the image, mm)

Variants of the one energy: `lddmm` (mu = rho = 0, factor 1), `metamorphosis` (M = 1), `weighted-constant` (M = segmentation),
`weighted-evolving` (M_t grown by LDDMM from a seed to the segmentation), `cost-function-masking` (lddmm, D outside the
segmentation).

Reference: Francois, Maillard, Oppenheim, Pallud, Bloch, Gori, Glaunes, Weighted Metamorphosis for Registration of Images with
Different Topologies, WBIR 2022 (paper 02). Differs from the paper in: 3D; the cost of the whole path instead of the initial norm
(no invariant while M_t changes); the factor (rho / mu)^2 of |v|_V^2 kept; means in mm, so that settings mean the same at every
resolution; L-BFGS (Adadelta is there); LNCC as another data term; several Gaussians as kernel; template and z are read through the
composed map instead of being resampled at every step; the lesion's own grey values count on the finest level only (see
`_data_term`); paths that fold are refused. The paper gives no parameter: the defaults are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError, NotInvertibleError
from regsuite.geometry.image import Image
from regsuite.losses.image import lncc
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.ops.filters import apply_matrices, box_sum, upsample_matrix
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import descent, growth, lesion_case, lesion_report, start
from regsuite.solvers.device import choose_device
from regsuite.solvers.frame import to_transform
from regsuite.solvers.gaussian_kernel import GaussianKernel
from regsuite.solvers.geodesic import DataTerm, Geodesic, GeodesicModel
from regsuite.solvers.lattice import Lattice
from regsuite.solvers.lesion_case import LesionCase
from regsuite.transforms import Transform

VARIANTS = ("weighted-evolving", "weighted-constant", "metamorphosis", "lddmm", "cost-function-masking")
_HEAD = 0.1  # ours: of the bright end of the patient
_DEFORMING = ("lddmm", "cost-function-masking")


@dataclass(frozen=True)
class TumourWmConfig(Config):
    """Settings of tumour-wm. The paper names the symbols and gives no numbers; all defaults are ours."""

    variant: str = option(
        "weighted-evolving", "Where intensity may be added: in a growing mask, in the whole lesion, everywhere, or nowhere",
        VARIANTS, advanced=False
    )  # fmt: skip
    regularisation: float = limited(
        1e-5, 0.0, 10.0, "lambda: cost of the geodesic against the data term (images scaled to 0..1)", "", advanced=False
    )
    rho: float = limited(50.0, 0.01, 1e4, "rho: cost of added intensity against deformation; not used by the deforming variants")
    mu: float = limited(1.0, 0.001, 100.0, "mu: intensity added per unit of the residual; not used by the deforming variants")
    kernel_mm: float = limited(
        12.0, 1.0, 60.0, "Width (standard deviation) of the widest Gaussian of the velocity's kernel", "mm", advanced=False
    )
    kernel_scales: int = limited(2, 1, 4, "Number of Gaussians in the kernel, each half as wide as the one before")
    steps: int = limited(10, 2, 60, "Time steps of the geodesic")
    finest_mm: float = limited(
        2.0, 0.5, 8.0, "Finest resolution used for volumes; single slices are used at half of it", "mm", advanced=False
    )
    levels: int = limited(3, 1, 5, "Resolution levels, each twice as coarse as the next")
    coarse_iterations: int = limited(40, 1, 5000, "Largest number of iterations on the coarser levels")
    fine_iterations: int = limited(20, 1, 5000, "Largest number of iterations on the finest level")
    tolerance: float = limited(2e-3, 1e-6, 0.1, "Share of the energy that three iterations must save for L-BFGS to go on")
    anatomy_first: bool = option(True, "Weighted variants: the coarser levels match what lies outside the lesion")
    data_term: str = option("ssd", "Squared differences (paper), or local correlation", ("ssd", "lncc"))
    window_mm: float = limited(14.0, 4.0, 60.0, "Width of the local correlation's window", "mm")
    linear: str = option(
        "affine", "Linear start, found without the lesion; header: as the files say", ("affine", "rigid", "header")
    )
    start: str = option("header", f"Where the linear start begins. {start.SAYS}", start.POLICIES)
    match_intensities: bool = option(True, "Match the template's grey values to the patient's outside the lesion")
    optimiser: str = option("lbfgs", "L-BFGS with line search, or Adadelta (paper)", ("lbfgs", "adadelta"))
    learning_rate: float = limited(1.0, 1e-4, 1e4, "Step length of Adadelta")


PRESETS: dict[str, TumourWmConfig] = {
    "Default": TumourWmConfig(),
    "Preview": TumourWmConfig(finest_mm=4.0, levels=2, coarse_iterations=25, fine_iterations=15, steps=8),
    "Best": TumourWmConfig(finest_mm=1.5, steps=15, coarse_iterations=60, fine_iterations=40),
}
Config = TumourWmConfig  # type: ignore[misc,assignment]  # the registry reads module.Config


def register(
    fixed: Image,
    moving: Image,
    config: TumourWmConfig | None = None,
    *,
    lesion_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Bring the template `moving` onto the patient `fixed`; T maps patient points to template points.

    fixed, moving: one-channel images of one kind (say, both T1) on any grids; both volumes or both one slice. lesion_mask: tumour
    with oedema in the patient, on the fixed grid (the grid of `fixed`); every variant but lddmm and metamorphosis needs it.
    initial: affine start, RAS mm, fixed -> moving points, instead of the linear start. Deterministic. Returns Result with T =
    affine o deformation, and the images and findings that `solvers.lesion_report` describes. Raises InputError for unusable input
    (a lesion that is empty, covers the brain, or misses it; images of opposite contrast), Cancelled.
    """
    config = config or TumourWmConfig()
    reporter = Progress(progress)
    _check_lesion(lesion_mask, config)
    history: list[dict[str, Any]] = []
    with torch.no_grad():
        with reporter.stage("prepare", 0.0, 0.15):
            case = lesion_case.prepare(
                fixed, moving, lesion_mask, initial, _preparation(config, fixed, seed), choose_device(device), reporter
            )
        with reporter.stage("growth", 0.15, 0.2):
            masks = _masks(case, config, reporter)
        with reporter.stage("shoot", 0.2, 0.95):
            z, settled = _descend(case, masks, config, reporter, history)
        with reporter.stage("measure", 0.95, 1.0):
            shooting = _geodesic(case.level(1), masks, config)
            outputs = lesion_report.outputs(case, shooting.frames(z), shooting.model.masks, reporter)
    transform = to_transform(outputs.u.cpu(), case.fixed.grid, case.start)
    inverse = _inverse(transform, case.warnings)
    status = Status.CONVERGED if settled else Status.REACHED_LIMIT
    return Result(
        transform, status, config, tuple(history), dict(reporter.timings_s), str(case.device), seed, tuple(case.warnings),
        images=outputs.images, series=outputs.series, findings=outputs.findings, inverse=inverse,
    )  # fmt: skip


def _inverse(transform: Transform, warnings: list[str]) -> Transform | None:
    try:
        return transform.inverse()
    except NotInvertibleError as error:
        warnings.append(f"No inverse was written. {error}")
        return None


def _check_lesion(lesion: Image | None, config: TumourWmConfig) -> None:
    if lesion is None and config.variant not in ("lddmm", "metamorphosis"):
        raise InputError(
            f"The variant {config.variant} needs a lesion mask (tumour with oedema, on the patient); found none. "
            "The variants lddmm and metamorphosis work without."
        )
    if lesion is not None:
        check.finite_tensor("The lesion mask", lesion.data)


def _preparation(config: TumourWmConfig, fixed: Image, seed: int) -> lesion_case.Preparation:
    finest = 0.5 * config.finest_mm if min(fixed.grid.shape) == 1 else config.finest_mm
    return lesion_case.Preparation(
        finest, config.linear, config.match_intensities, margin_mm=max(8.0, config.kernel_mm), start=config.start, seed=seed
    )


Masks = growth.Growth | None


def _masks(case: LesionCase, config: TumourWmConfig, reporter: Progress) -> Masks:
    """The growth of the mask, when there is one."""
    if config.variant != "weighted-evolving":
        return None
    return growth.grow(case.lesion.data, case.spacing(1), config.steps, partial(reporter.step, 0.5))


def _geodesic(level: lesion_case.CaseLevel, masks: Masks, config: TumourWmConfig) -> Geodesic:
    """The energy's model on one level: what the five variants differ in."""
    lattice = Lattice(level.template.shape[1:], level.spacing, level.template)
    scales = [config.kernel_mm / 2**n for n in range(config.kernel_scales)]
    kernel = GaussianKernel(lattice.shape, level.spacing, scales, level.template, rest_mm=8.0)
    if config.variant in _DEFORMING:
        return Geodesic(level.template, lattice, kernel, GeodesicModel(config.steps, 1.0, 0.0, 0.0))
    weights = None
    if config.variant == "weighted-constant":
        weights = torch.where(level.lesion > growth.NOTHING, level.lesion, 0.0).expand(config.steps + 1, *lattice.shape)
    elif config.variant == "weighted-evolving":
        assert masks is not None
        weights = masks.masks(level.lesion, level.spacing)
    support = None if weights is None else (level.lesion > growth.NOTHING).to(level.lesion.dtype)
    model = GeodesicModel(config.steps, config.rho / config.mu, config.mu, config.rho, weights, support)
    return Geodesic(level.template, lattice, kernel, model)


def _descend(
    case: LesionCase, masks: Masks, config: TumourWmConfig, reporter: Progress, history: list[dict[str, Any]]
) -> tuple[torch.Tensor, bool]:
    """All levels from z = 0; returns z_0 of the finest and whether it converged."""
    z: torch.Tensor | None = None
    factors = [2**n for n in reversed(range(config.levels))]
    cost = np.cumsum([0.0] + [f**-2.5 for f in factors])
    for number, factor in enumerate(factors):
        level = case.level(factor)
        shooting = _geodesic(level, masks, config)
        z = torch.zeros_like(level.template) if z is None else _enlarged(z, level.template.shape[1:])
        data = _data_term(level, config, finest=factor == 1)
        settings = descent.DescentSettings(
            iterations=config.fine_iterations if factor == 1 else config.coarse_iterations,
            optimiser=config.optimiser,
            learning_rate=config.learning_rate,
            tolerance=config.tolerance,
            tag=f"{max(level.spacing):.3g} mm",
        )
        with reporter.share(0.2 + 0.75 * cost[number] / cost[-1], 0.2 + 0.75 * cost[number + 1] / cost[-1]):
            z, settled = descent.descend(shooting, z, data, config.regularisation, settings, reporter, history)
    assert z is not None
    return z, settled


def _enlarged(z: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    d, h, w = (upsample_matrix(a, b, z) for a, b in zip(z.shape[1:], shape, strict=True))
    return apply_matrices(z, (d, h, w))


def _data_term(level: lesion_case.CaseLevel, config: TumourWmConfig, finest: bool) -> DataTerm:
    """D(I_1): mean of w (I_1 - patient)^2, or of 1 - LNCC over the head; w = 1, or 0 in the lesion.

    The lesion is left out by cost-function masking, and by `anatomy_first` above the finest level: at z = 0 moving bright anatomy
    into a bright lesion pays more than adding intensity there, and no later step takes it back.
    """
    early = config.anatomy_first and not finest and config.variant.startswith("weighted")
    weight = 1.0 - level.lesion if early or config.variant == "cost-function-masking" else None
    target = level.fixed
    if config.data_term == "ssd":

        def squared(image: torch.Tensor) -> tuple[float, torch.Tensor]:
            rest = image - target
            weighted = rest if weight is None else rest * weight
            return float((rest * weighted).mean()), weighted * (2.0 / rest.numel())

        return squared
    window = [
        1 if n == 1 else 2 * max(1, round(0.5 * config.window_mm / h)) + 1
        for n, h in zip(target.shape[1:], level.spacing, strict=True)
    ]
    # windows that see the patient's head: elsewhere only noise could correlate
    near = (box_sum((target > _HEAD).to(target.dtype), [n // 2 for n in window]) > 0.5).to(target.dtype)
    weight = near if weight is None else weight * near

    def local(image: torch.Tensor) -> tuple[float, torch.Tensor]:
        with torch.enable_grad():
            variable = image.detach().requires_grad_(True)
            value = lncc(target, variable, window, weight)
            (slope,) = torch.autograd.grad(value, variable)
        return float(value), slope

    return local
