"""One registration from files to a folder of results, and the same from images in Python."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regsuite.geometry import Image
from regsuite.io import read_image, read_labels, read_transform, write_image, write_transform
from regsuite.io.atomic import staged_folder
from regsuite.methods import registry
from regsuite.methods.api import Result
from regsuite.metrics import jacobian_determinant
from regsuite.pipeline import memory
from regsuite.pipeline.apply import apply
from regsuite.pipeline.evaluate import IDENTITY, Region, field_statistics, image_similarity, truth_metrics
from regsuite.pipeline.inputs import Inputs, Truth, check_device, check_inputs, load_inputs, load_truth
from regsuite.pipeline.report import geometry, registration_report
from regsuite.pipeline.request import RegistrationRequest
from regsuite.pipeline.verdict import judge
from regsuite.progress import Progress, ProgressCallback
from regsuite.transforms import Transform

JACOBIAN, DISPLACEMENT = "jacobian", "displacement"
INVERSE = "inverse_transform.h5"
TRANSFORM, MOVED, REPORT, OVERVIEW, SCENE = "transform.h5", "moved.nrrd", "report.json", "overview.png", "scene.mrb"


@dataclass(frozen=True)
class Outcome:
    """A finished registration, the moved image on the fixed grid, and what was measured."""

    inputs: Inputs
    result: Result
    moved: Image
    region: Region
    report: dict[str, Any]


def run_registration(request: RegistrationRequest, progress: ProgressCallback | None = None) -> Path:
    """Do the job and return the folder `request.out` with transform.h5, moved.nrrd, report.json, overview.png (scene.mrb).

    The files appear together at the end or not at all. Raises InputError for unusable input, OutputError when `out` cannot
    be written, Cancelled when `progress` returned False.
    """
    stages = Progress(progress)
    memory.reset_peak()
    config = registry.config_for(request.method, request.preset, request.settings)
    out = Path(request.out)
    with staged_folder(out) as folder:
        with stages.stage("Reading", 0.0, 0.04):
            inputs = load_inputs(request)
            truth = load_truth(request.fixed_landmarks, request.moving_landmarks, request.fixed_labels, request.moving_labels)
        result = _run_method(request, config, inputs, stages, progress)
        outcome = _measure(request, inputs, result, truth, stages)
        _write(folder, request, outcome, stages)
        report = outcome.report | {"timings_s": _timings(stages, result)}
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    stages.step(1.0)
    return out


def register(
    method: str,
    fixed: Image | str | Path,
    moving: Image | str | Path,
    *,
    preset: str | None = None,
    settings: dict[str, Any] | None = None,
    fixed_mask: Image | str | Path | None = None,
    moving_mask: Image | str | Path | None = None,
    lesion_mask: Image | str | Path | None = None,
    initial: Transform | str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Register `moving` to `fixed` (images or paths) and return the Result; result.transform maps fixed to moving points.

    Applies the same checks as the command line and raises InputError; see `regsuite.apply` for the moved image.
    """
    config = registry.config_for(method, preset, settings)
    check_device(device)
    inputs = check_inputs(
        fixed if isinstance(fixed, Image) else read_image(fixed),
        moving if isinstance(moving, Image) else read_image(moving),
        fixed_mask=fixed_mask if fixed_mask is None or isinstance(fixed_mask, Image) else read_labels(fixed_mask),
        moving_mask=moving_mask if moving_mask is None or isinstance(moving_mask, Image) else read_labels(moving_mask),
        lesion_mask=lesion_mask if lesion_mask is None or isinstance(lesion_mask, Image) else read_labels(lesion_mask),
        initial=initial if initial is None or isinstance(initial, Transform) else read_transform(initial),
        flat=registry.get(method).flat,
    )
    return _call(method, config, inputs, device, seed, progress)


def _run_method(
    request: RegistrationRequest, config: Any, inputs: Inputs, stages: Progress, progress: ProgressCallback | None
) -> Result:
    def share(fraction: float, stage: str, detail: str) -> object:
        return None if progress is None else progress(0.04 + 0.78 * fraction, stage, detail)

    began = time.perf_counter()
    result = _call(request.method, config, inputs, request.device, request.seed, share)
    stages.timings_s["Registration"] = time.perf_counter() - began
    return result


def _call(method: str, config: Any, inputs: Inputs, device: str, seed: int, progress: ProgressCallback | None) -> Result:
    row = registry.get(method)
    extra = {name: getattr(inputs, name) for name in row.takes}
    result: Result = row.load().register(
        inputs.fixed, inputs.moving, config, **extra, device=device, seed=seed, progress=progress
    )
    return result


def _measure(request: RegistrationRequest, inputs: Inputs, result: Result, truth: Truth, stages: Progress) -> Outcome:
    fixed, moving = inputs.fixed, inputs.moving
    transform = result.transform.to("cpu")
    with stages.stage("Resampling", 0.82, 0.86):
        moved = apply(transform, moving, fixed)
    with stages.stage("Measuring", 0.86, 0.94):
        region = Region.of(fixed, inputs.fixed_mask)
        before = {"similarity": image_similarity(fixed, moving, None, region)}
        stages.step(0.2)
        after: dict[str, Any] = {"similarity": image_similarity(fixed, moving, transform, region)}
        before |= truth_metrics(IDENTITY, truth)
        after |= truth_metrics(transform, truth)
        stages.step(0.4)
        tick: Callable[[float], None] = lambda fraction: stages.step(0.4 + 0.6 * fraction)  # noqa: E731
        after |= field_statistics(transform, fixed.grid, moving.grid, region, tick)
    warnings = (*inputs.notes, *(item for item in result.warnings if item not in inputs.notes))
    report = registration_report(
        request,
        registry.get(request.method),
        result,
        inputs={"fixed": geometry(fixed), "moving": geometry(inputs.moving)},
        timings_s={},
        warnings=warnings,
        before=before,
        after=after,
        verdict=judge(before, after, result.status.value, result.confidence),
    )
    return Outcome(inputs, result, moved, region, report)


def _write(folder: Path, request: RegistrationRequest, outcome: Outcome, stages: Progress) -> None:
    from regsuite.pipeline.scene import write_scene

    if importlib.util.find_spec("matplotlib") is None:  # 3D Slicer does not bring it; the scene shows more than the page
        warning = f"{OVERVIEW} was not drawn: matplotlib is not installed (pip install matplotlib)."
        outcome.report["warnings"] = [*outcome.report["warnings"], warning]
    else:
        from regsuite.pipeline.overview import draw_overview  # matplotlib is only loaded here

        with stages.stage("Drawing", 0.94, 0.97):
            draw_overview(outcome, folder / OVERVIEW)
    with stages.stage("Writing", 0.97, 1.0):
        write_transform(outcome.result.transform.to("cpu"), folder / TRANSFORM)
        stages.step(0.4)
        write_image(outcome.moved, folder / MOVED)
        _write_extras(folder, outcome.result)
        if request.maps:
            stages.step(0.5)
            _write_maps(folder, outcome)
        if request.scene:
            stages.step(0.6)
            write_scene(outcome, folder / SCENE)


def _write_extras(folder: Path, result: Result) -> None:
    """What the method brings beside the transform: its inverse, images (NAME.nrrd) and series (NAME.seq.nrrd, a channel per
    time)."""
    if result.inverse is not None:
        write_transform(result.inverse.to("cpu"), folder / INVERSE)
    for name, image in result.images.items():
        write_image(image.to("cpu"), folder / f"{name}.nrrd")
    for name, image in result.series.items():
        write_image(image.to("cpu"), folder / f"{name}.seq.nrrd")


def _write_maps(folder: Path, outcome: Outcome) -> None:
    """On the fixed grid: jacobian.nrrd, det dT/dx (1 keeps volume), and displacement.nrrd, |T(x) - x| in mm."""
    grid, transform = outcome.inputs.fixed.grid, outcome.result.transform.to("cpu")
    write_image(Image(jacobian_determinant(transform, grid)[None], grid), folder / f"{JACOBIAN}.nrrd")
    write_image(Image(transform.displacement(grid).norm(dim=0, keepdim=True).float(), grid), folder / f"{DISPLACEMENT}.nrrd")


def _timings(stages: Progress, result: Result) -> dict[str, float]:
    """Seconds by stage; the method's own stages follow `registration`, which is their whole; `total` is everything."""
    own = {name.lower(): seconds for name, seconds in stages.timings_s.items()}
    total = sum(own.values())
    inner = {f"registration: {name.lower()}": seconds for name, seconds in result.timings_s.items()}
    ordered = {name: own.pop(name) for name in ("reading", "registration")} | inner | own | {"total": total}
    return {name: round(seconds, 3) for name, seconds in ordered.items()}
