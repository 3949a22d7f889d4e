"""`regsuite uncertainty`: how far a given transform may be off, voxel by voxel, and whether that statement holds at landmarks."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io import read_image, read_transform, write_image, write_transform
from regsuite.io.atomic import staged_folder
from regsuite.methods import registry
from regsuite.methods.api import Result
from regsuite.metrics.calibration import calibration, recalibration
from regsuite.metrics.sample_folds import SampleFolds
from regsuite.ops.pyramid import level_shape
from regsuite.ops.sampling import resample, sample_world
from regsuite.pipeline import memory
from regsuite.pipeline.inputs import Inputs, Truth, check_device, check_inputs, load_truth
from regsuite.pipeline.region import foreground
from regsuite.pipeline.report import INTENDED_USE, SCHEMA_VERSION, clean, geometry, versions
from regsuite.progress import Progress, ProgressCallback
from regsuite.transforms import Transform, sample_transforms

METHOD = "uncertainty-elbo"
METHODS = tuple(key for key, row in registry.METHODS.items() if row.area == "uncertainty")
SIGMA, MAGNITUDE, REPORT, OVERVIEW = "sigma.nrrd", "sigma_magnitude.nrrd", "report.json", "overview.png"
DEFAULT_CORRELATION_MM = 15.0
_FOLDS_MM = 3.0  # samples are smooth: their folds are counted on a grid of about this
_FEWEST_LANDMARKS = 10


@dataclass(frozen=True)
class UncertaintyRequest:
    """Paths: a pair and the transform (fixed -> moving points, any kind that read_transform reads) -> the folder `out`.

    samples: fields drawn to count folds; write_samples: also write each as sample_01.h5 ... . Landmarks measure the calibration
    and, with `recalibrate`, scale sigma by the one factor that fits them best.
    """

    fixed: str
    moving: str
    transform: str
    out: str
    samples: int = 50
    write_samples: bool = False
    fixed_landmarks: str | None = None
    moving_landmarks: str | None = None
    recalibrate: bool = False
    preset: str = "Default"
    settings: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    method: str = METHOD

    def __post_init__(self) -> None:
        check.choice("method", self.method, METHODS)


@dataclass(frozen=True)
class Uncertainty:
    """sigma (3, D, H, W) mm along x, y, z on the fixed grid, the kernel of its correlation, and what was measured."""

    inputs: Inputs
    transform: Transform
    sigma: Image
    correlation_mm: float
    result: Result
    calibration: dict[str, Any] | None

    @property
    def magnitude(self) -> Image:
        """(1, D, H, W) mm: the root of the summed squares of the components."""
        return self.sigma.with_data(self.sigma.data.norm(dim=0, keepdim=True))


def estimate_uncertainty(
    fixed: Image | str | Path,
    moving: Image | str | Path,
    transform: Transform | str | Path,
    *,
    method: str = METHOD,
    preset: str | None = None,
    settings: dict[str, Any] | None = None,
    truth: Truth | None = None,
    recalibrate: bool = False,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Uncertainty:
    """The uncertainty of a transform between two images (images or paths); see `regsuite.transforms.sample_transforms` for samples.

    method: one of METHODS; truth: landmarks to measure the calibration with; recalibrate: scale sigma by the factor that fits
    them. Raises InputError.
    """
    check_device(device)
    check.choice("method", method, METHODS)
    config = registry.config_for(method, preset, settings)
    names = {n: f"'{Path(v).name}'" for n, v in (("fixed", fixed), ("moving", moving)) if not isinstance(v, Image)}
    pair = [item if isinstance(item, Image) else read_image(item) for item in (fixed, moving)]
    given = transform if isinstance(transform, Transform) else read_transform(transform)
    inputs = check_inputs(pair[0], pair[1], initial=given, names=names)
    if inputs.notes and "do not overlap" in " ".join(inputs.notes):
        raise InputError(f"{inputs.notes[-1]} Is this the transform of these images, from fixed to moving points?")
    result = (
        registry.get(method)
        .load()
        .register(inputs.fixed, inputs.moving, config, initial=given, device=device, seed=seed, progress=progress)
    )
    sigma, found = result.images["sigma"], None
    if truth is not None and truth.fixed_landmarks is not None and truth.moving_landmarks is not None:
        sigma, found = _at_landmarks(given, sigma, truth.fixed_landmarks, truth.moving_landmarks, recalibrate)
    return Uncertainty(inputs, given, sigma, config.correlation_mm, result, found)


def _at_landmarks(
    transform: Transform, sigma: Image, fixed: torch.Tensor, moving: torch.Tensor, recalibrate: bool
) -> tuple[Image, dict[str, Any]]:
    """sigma, recalibrated if asked for, and the calibration before (and after)."""
    inside = sigma.grid.contains(fixed)
    if int(inside.sum()) < _FEWEST_LANDMARKS:
        raise InputError(
            f"Calibration needs at least {_FEWEST_LANDMARKS} landmarks inside the fixed image, "
            f"found {int(inside.sum())} of {len(fixed)}."
        )
    errors = (transform.map_points(fixed) - moving)[inside]
    stated = sample_world(sigma, fixed[inside]).T
    scale = recalibration(errors, stated)
    report: dict[str, Any] = {"as_stored": calibration(errors, stated), "scale": scale, "applied": recalibrate}
    if recalibrate:
        report["recalibrated"] = calibration(errors, scale * stated)
        sigma = sigma.with_data(scale * sigma.data)
    return sigma, report


def read_sigma(path: str | Path) -> tuple[Image, float]:
    """sigma (3, D, H, W) mm from sigma.nrrd, and the correlation kernel in mm from the report.json beside it (15 without one).

    Raises InputError for a file that does not hold three non-negative components.
    """
    image = read_image(path, channels=3)
    if bool((image.data < 0).any()):
        raise InputError(f"'{Path(path).name}' holds negative values; expected standard deviations in mm.")
    report = Path(path).with_name(REPORT)
    try:
        facts = json.loads(report.read_text(encoding="utf-8"))
        return image, float(facts["correlation_mm"])
    except (OSError, ValueError, KeyError, TypeError):
        return image, DEFAULT_CORRELATION_MM


def run_uncertainty(request: UncertaintyRequest, progress: ProgressCallback | None = None) -> Path:
    """Do the job and return the folder with sigma.nrrd, sigma_magnitude.nrrd, report.json and overview.png, all or nothing.

    Raises InputError for unusable input, OutputError when `out` cannot be written, Cancelled when `progress` returned False.
    """
    stages = Progress(progress)
    memory.reset_peak()
    if not 0 <= request.samples <= 10_000:
        raise InputError(f"'samples' must lie in [0, 10000], found {request.samples}.")
    with staged_folder(request.out) as folder:
        with stages.stage("Reading", 0.0, 0.05):
            truth = load_truth(request.fixed_landmarks, request.moving_landmarks, None, None)

        def share(fraction: float, stage: str, detail: str) -> object:
            return None if progress is None else progress(0.05 + 0.6 * fraction, stage, detail)

        found = estimate_uncertainty(
            request.fixed, request.moving, request.transform, method=request.method, preset=request.preset,
            settings=request.settings, truth=truth, recalibrate=request.recalibrate, device=request.device, seed=request.seed,
            progress=share,
        )  # fmt: skip
        stages.timings_s |= found.result.timings_s
        with stages.stage("Sampling", 0.65, 0.9):
            folds = _samples(found, request, folder, stages)
        report = _report(request, found, folds)
        with stages.stage("Writing", 0.9, 1.0):
            write_image(found.sigma, folder / SIGMA)
            write_image(found.magnitude, folder / MAGNITUDE)
            if importlib.util.find_spec("matplotlib") is None:
                report["warnings"].append(f"{OVERVIEW} was not drawn: matplotlib is not installed (pip install matplotlib).")
            else:
                from regsuite.pipeline.uncertainty_figure import draw_uncertainty

                draw_uncertainty(found, report, folder / OVERVIEW)
        report["timings_s"] = {name.lower(): round(seconds, 3) for name, seconds in stages.timings_s.items()}
        (folder / REPORT).write_text(json.dumps(clean(report), indent=2) + "\n", encoding="utf-8")
    stages.step(1.0)
    return Path(request.out)


def _samples(found: Uncertainty, request: UncertaintyRequest, folder: Path, stages: Progress) -> dict[str, Any] | None:
    """Folding statistics of the samples on a grid of about 3 mm, in the body; with write_samples the files as well."""
    if not request.samples:
        return None
    grid = found.sigma.grid.resized(level_shape(found.sigma.grid, _FOLDS_MM))
    body = resample(Image(foreground(found.inputs.fixed).float()[None], found.sigma.grid), grid).data[0] > 0.5
    folds = SampleFolds(body)
    coarse = resample(found.sigma, grid)
    digits = len(str(request.samples))
    streams = sample_transforms(found.transform, coarse, found.correlation_mm, request.samples, seed=request.seed)
    for number, sample in enumerate(streams, start=1):
        folds.add(sample.field, sample.grid)
        if request.write_samples:
            write_transform(sample, folder / f"sample_{number:0{digits}d}.h5")
        stages.step(number / request.samples, f"sample {number} of {request.samples}")
    return folds.statistics()


def _report(request: UncertaintyRequest, found: Uncertainty, folds: dict[str, Any] | None) -> dict[str, Any]:
    import dataclasses

    row = registry.get(request.method)
    paths = ("fixed", "moving", "transform", "fixed_landmarks", "moving_landmarks")
    body = foreground(found.inputs.fixed)
    lengths = found.magnitude.data[0][body]
    thin = lengths[:: max(1, lengths.numel() // 500_000)]
    quantiles = thin.quantile(torch.tensor([0.05, 0.5, 0.95])).tolist()
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "uncertainty",
        "intended_use": INTENDED_USE,
        "method": row.key,
        "title": row.title,
        "reference": row.reference,
        "preset": request.preset,
        "settings": request.settings,
        "config": dataclasses.asdict(found.result.config),
        "seed": request.seed,
        "device": found.result.device,
        "versions": versions(),
        "files": {name: Path(path).name for name in paths if (path := getattr(request, name))},
        "inputs": {"fixed": geometry(found.inputs.fixed), "moving": geometry(found.inputs.moving)},
        "peak_memory_mib": memory.peak_mib(),
        "status": found.result.status.value,
        "warnings": [*found.inputs.notes, *found.result.warnings],
        "correlation_mm": found.correlation_mm,
        "sigma_mm": {
            "region": "foreground",
            "mean": float(thin.mean()),
            **dict(zip(("p05", "p50", "p95"), quantiles, strict=True)),
        },
        "folding_of_samples": folds,
        "calibration": found.calibration,
    }
