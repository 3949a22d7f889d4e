"""Slices into a volume, from files to a folder of results."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from regsuite.geometry import Grid, Image
from regsuite.io import write_image, write_transform
from regsuite.io.atomic import staged_folder
from regsuite.methods import registry
from regsuite.ops.padding import has_data
from regsuite.ops.regions import label_shares, region_rows
from regsuite.ops.sampling import resample
from regsuite.ops.scatter import emulated_slice, scatter
from regsuite.pipeline import memory
from regsuite.pipeline.evaluate import mutual_information
from regsuite.pipeline.report import INTENDED_USE, SCHEMA_VERSION, clean, geometry, versions
from regsuite.pipeline.slices_inputs import SlicesInputs, SlicesRequest, load_slices
from regsuite.progress import Progress, ProgressCallback
from regsuite.transforms import AffineTransform

REPORT, OVERVIEW, STACK, REGIONS = "report.json", "overview.png", "stack.h5", "regions.csv"
QUANTITATIVE, WEIGHT = "quantitative.nrrd", "quantitative_weight.nrrd"


@dataclass(frozen=True)
class Placement:
    """A finished job: what the method found, emulated slices before and after, the values in the volume, the report."""

    inputs: SlicesInputs
    result: Any
    emulated: tuple[Image, ...]
    before: tuple[Image, ...]
    quantitative: Image
    weight: Image
    regions: list[dict[str, Any]]
    report: dict[str, Any]


def run_slices(request: SlicesRequest, progress: ProgressCallback | None = None) -> Path:
    """Do the job and return the folder `request.out`.

    It holds for each slice, numbered in the order given, slice_NN.h5 (maps its given position to its true one in the volume),
    slice_NN_placed.nrrd (its pixels at the true place) and slice_NN_emulated.nrrd (what the volume shows there); stack.h5, the
    move that all slices share; quantitative.nrrd with quantitative_weight.nrrd on the volume's grid; regions.csv with labels;
    report.json and overview.png. The files appear together at the end or not at all. Raises as run_registration does.
    """
    stages = Progress(progress)
    memory.reset_peak()
    config = registry.config_for(request.method, request.preset, request.settings)
    out = Path(request.out)
    with staged_folder(out) as folder:
        with stages.stage("Reading", 0.0, 0.04):
            inputs = load_slices(request)

        def share(fraction: float, stage: str, detail: str) -> object:
            return None if progress is None else progress(0.04 + 0.8 * fraction, stage, detail)

        placement = place(request, inputs, config, stages, share)
        _write(folder, placement, stages)
    stages.step(1.0)
    return out


def place(
    request: SlicesRequest, inputs: SlicesInputs, config: Any, stages: Progress, progress: ProgressCallback | None
) -> Placement:
    """Run the method on checked inputs, emulate, scatter and judge."""
    row = registry.get(request.method)
    result = row.load().register(
        inputs.slices, inputs.volume, config, slice_masks=inputs.slice_masks, volume_mask=inputs.volume_mask,
        device=request.device, seed=request.seed, progress=progress,
    )  # fmt: skip
    poses = [item.matrix for item in result.slices]
    with stages.stage("Emulating", 0.84, 0.86):
        before = tuple(emulated_slice(inputs.volume, image.grid, np.eye(4)) for image in inputs.slices)
        emulated = tuple(emulated_slice(inputs.volume, image.grid, pose) for image, pose in zip(inputs.slices, poses, strict=True))
    with stages.stage("Bringing values into the volume", 0.86, 0.92):
        images = inputs.values or inputs.slices
        held = [image.with_data(has_data(image.data[0, 0])[None, None].float()) for image in images]  # padding is no value
        quantitative, weight = scatter(images, poses, inputs.volume.grid, stages.step, held)
        regions: list[dict[str, Any]] = []
        if inputs.labels is not None:
            labels = inputs.labels
            if labels.grid != inputs.volume.grid:
                labels = resample(labels, inputs.volume.grid, None, "nearest", fill=0.0)
            regions = region_rows(quantitative, weight, labels, shares=label_shares(labels, weight, images, poses))
    rows = [_row(inputs, result, n, before[n], emulated[n]) for n in range(len(poses))]
    report = _report(request, row, inputs, result, rows, regions)
    return Placement(inputs, result, emulated, before, quantitative, weight, regions, report)


def _row(inputs: SlicesInputs, result: Any, n: int, before: Image, after: Image) -> dict[str, Any]:
    """One line of the table of slices."""
    grid, pose = inputs.slices[n].grid, result.slices[n].matrix
    moved = Grid(grid.shape, pose @ grid.affine)
    real = inputs.slices[n].data
    return {
        "slice": n + 1,
        "file": inputs.names[n].strip("'"),
        "slot": result.slots[n] + 1,
        "reversed": bool(result.sides[n]),
        "turn_deg": float(np.rad2deg(np.linalg.norm(Rotation.from_matrix(pose[:3, :3]).as_rotvec()))),
        "shift_mm": float(np.linalg.norm(moved.centre - grid.centre)),
        "centre_ras_mm": moved.centre.tolist(),
        "normal_ras": moved.direction[:, 2].tolist(),
        "information_before": _information(real, before.data),
        "information_after": _information(real, after.data),
        **result.certainty[n],
    }


def _information(real: torch.Tensor, emulated: torch.Tensor) -> float:
    a, b = real.flatten().double().numpy(), emulated.flatten().double().numpy()
    limits = [(float(np.percentile(v, 0.5)), float(np.percentile(v, 99.5)) + 1e-6) for v in (a, b)]
    return mutual_information(a, b, limits[0], limits[1])


def _mean(rows: list[dict[str, Any]], when: str) -> float:
    return float(np.mean([row[f"information_{when}"] for row in rows]))


def _verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The report in words: how sure the places are, and whether the slices agree better with the volume than before."""
    counts = {level: sum(row["level"] == level for row in rows) for level in ("good", "check", "poor")}
    level = "poor" if counts["poor"] * 2 > len(rows) else "check" if counts["poor"] + counts["check"] else "good"
    before, after = _mean(rows, "before"), _mean(rows, "after")
    reasons = [{"level": level, "text": f"{counts['good']} of {len(rows)} slices lie where the images clearly say so."}]
    for name in ("check", "poor"):
        listed = ", ".join(str(row["slice"]) for row in rows if row["level"] == name)
        if listed:
            reasons.append({"level": name, "text": f"Look at slice {listed}: other places would fit nearly as well."})
    better = after > before
    text = f"Mutual information with the volume: {before:.3f} nats before, {after:.3f} after (mean of the slices)."
    reasons.append({"level": "good" if better else "poor", "text": text})
    level = level if better else "poor"
    headlines = {
        "good": "Good: every slice has one clear place. Confirm it in the pictures.",
        "check": "Check: look at the slices named below before using them.",
        "poor": "Poor: the slices could not be placed reliably.",
    }
    return {"level": level, "headline": headlines[level], "reasons": reasons}


def _report(
    request: SlicesRequest, row: Any, inputs: SlicesInputs, result: Any, rows: list[dict[str, Any]], regions: list[dict[str, Any]]
) -> dict[str, Any]:
    files = {
        "volume": request.volume, "volume_mask": request.volume_mask, "labels": request.labels, "localiser": request.localiser
    }  # fmt: skip
    return clean(
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "slices",
            "intended_use": INTENDED_USE,
            "method": row.key,
            "title": row.title,
            "reference": row.reference,
            "preset": request.preset,
            "settings": request.settings,
            "config": dataclasses.asdict(result.config),
            "seed": result.seed,
            "device": result.device,
            "versions": versions(),
            "files": {name: Path(path).name for name, path in files.items() if path}
            | {name: [Path(path).name for path in getattr(request, name)] for name in ("slices", "slice_masks", "values")},
            "inputs": {"volume": geometry(inputs.volume), "slices": [geometry(image) for image in inputs.slices]},
            "timings_s": {name: round(seconds, 3) for name, seconds in result.timings_s.items()},
            "peak_memory_mib": memory.peak_mib(),
            "status": result.status.value,
            "status_message": result.status.message,
            "warnings": [*inputs.notes, *result.warnings],
            "history": [dict(item) for item in result.history],
            "stack_matrix_ras": result.transform.matrix.tolist(),
            "metrics": {
                when: {"similarity": {"ncc": None, "mutual_information": _mean(rows, when)}} for when in ("before", "after")
            },
            "slices": rows,
            "regions": regions,
            "verdict": _verdict(rows),
        }
    )


def _write(folder: Path, placement: Placement, stages: Progress) -> None:
    inputs, result, tick = placement.inputs, placement.result, stages.step
    report = placement.report
    if importlib.util.find_spec("matplotlib") is None:
        report["warnings"] = [*report["warnings"], f"{OVERVIEW} was not drawn: matplotlib is not installed."]
    else:
        from regsuite.pipeline.slices_overview import draw_slices

        with stages.stage("Drawing", 0.92, 0.95):
            draw_slices(placement, folder / OVERVIEW)
    with stages.stage("Writing", 0.95, 1.0):
        _write_slices(folder, placement, tick)
        write_transform(result.transform, folder / STACK)
        write_image(placement.quantitative, folder / QUANTITATIVE)
        write_image(placement.weight, folder / WEIGHT)
        if inputs.labels is not None:
            _write_table(folder / REGIONS, placement.regions)
        (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _write_slices(folder: Path, placement: Placement, tick: Callable[[float], None]) -> None:
    inputs = placement.inputs
    for n, image in enumerate(inputs.slices):
        stem = f"slice_{n + 1:02d}"
        pose = placement.result.slices[n].matrix
        placed = Grid(image.grid.shape, pose @ image.grid.affine)
        given = pose if inputs.arranged is None else pose @ inputs.arranged[n]
        write_transform(AffineTransform(given), folder / f"{stem}.h5")
        write_image(Image(image.data, placed), folder / f"{stem}_placed.nrrd")
        write_image(Image(placement.emulated[n].data, placed), folder / f"{stem}_emulated.nrrd")
        tick(0.6 * (n + 1) / len(inputs.slices))


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    names = ["label", "name", "voxels", "volume_mm3", "mean", "std", "median", "p05", "p95"]
    names += ["pure_voxels", "pure_share", "pure_mean", "pure_std"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
