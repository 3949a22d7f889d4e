"""`regsuite dvh`: dose and structures in, curves, a table of metrics and a page to read out."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from regsuite.dose.dvh import Histogram, outside_share, structure_histogram
from regsuite.dose.metrics import Curve, Metric, Value, cumulative, differential, parse_metrics, table
from regsuite.dose.structures import Structure, load_structures
from regsuite.errors import InputError
from regsuite.io.atomic import staged_folder
from regsuite.io.rt_dose import Dose, read_dose
from regsuite.pipeline.report import INTENDED_USE, SCHEMA_VERSION, clean, geometry, versions
from regsuite.progress import Progress, ProgressCallback

CURVES, DIFFERENTIAL, METRICS, PICTURE, REPORT = "dvh.csv", "dvh_differential.csv", "metrics.csv", "dvh.png", "report.json"
_SLIGHT = 1e-3


@dataclass(frozen=True)
class DvhRequest:
    """Paths and choices of one evaluation. structures: NAME=PATH or PATH; space: of surfaces that do not say it themselves."""

    dose: str
    structures: tuple[str, ...]
    out: str
    space: str | None = None
    metrics: tuple[str, ...] = ()
    dose_unit: str | None = None
    ends: str = "taper"


@dataclass(frozen=True, eq=False)
class StructureDose:
    """What one structure gets: its curves and numbers; bands where there are samples."""

    structure: Structure
    nominal: Histogram
    values: tuple[Value, ...]
    cumulative: Curve
    differential: Curve


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All structures of one dose, and what the user should know about the input."""

    structures: tuple[StructureDose, ...]
    notes: tuple[str, ...] = ()
    samples: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def run_dvh(request: DvhRequest, progress: ProgressCallback | None = None) -> Path:
    """Read, evaluate, write dvh.csv, dvh_differential.csv, metrics.csv, dvh.png and report.json; returns the folder.

    Raises InputError for what cannot be evaluated (see read_dose and load_structures) or OutputError; then nothing is written.
    """
    stages = Progress(progress)
    with staged_folder(request.out) as folder:
        with stages.stage("Reading", 0.0, 0.4):
            metrics = parse_metrics(request.metrics)
            dose = read_dose(request.dose, request.dose_unit)
            structures = read_structures(request.structures, dose, request.space, request.ends)
        with stages.stage("Histograms", 0.4, 0.9):
            evaluation = evaluate(dose, structures, metrics, stages)
        with stages.stage("Writing", 0.9, 1.0):
            evaluation.facts.update(kind="dvh", dose=Path(request.dose).name, ends_of_contours=request.ends)
            evaluation.facts["dose_grid"] = geometry(dose.image)
            write_evaluation(evaluation, folder, stages)
    return Path(request.out)


def read_structures(sources: Sequence[str], dose: Dose, space: str | None, ends: str, frame: str | None = None) -> list[Structure]:
    """Load the structures and refuse those of another DICOM frame of reference than `frame` (default: the dose's)."""
    structures = load_structures(sources, float(dose.image.grid.spacing.min()), space, ends)
    frame = frame or dose.frame_of_reference
    for structure in structures:
        other = structure.frame_of_reference
        if frame and other and other != frame:
            raise InputError(
                f"The dose and the structure '{structure.name}' lie in different frames of reference ({frame} and {other}); "
                "register them and carry the dose over with 'regsuite dose' first."
            )
    return structures


def evaluate(dose: Dose, structures: Sequence[Structure], metrics: Sequence[Metric], stages: Progress) -> Evaluation:
    """Nominal DVH of every structure, one after the other."""
    notes = [*dose.notes]
    found = []
    for number, structure in enumerate(structures):
        notes += [*structure.notes, *outside_notes(structure, outside_share(dose.image.grid, structure.occupancy))]
        tick = partial(stages.step, (number + 0.5) / len(structures), structure.name)
        nominal = structure_histogram(dose.image, structure.occupancy, tick=tick)
        found.append(summarise(structure, nominal, metrics))
    return Evaluation(tuple(found), tuple(notes))


def summarise(
    structure: Structure, nominal: Histogram, metrics: Sequence[Metric], samples: Sequence[Histogram] = ()
) -> StructureDose:
    """Curves and metrics of one structure."""
    values = tuple(table(metrics, nominal, samples))
    return StructureDose(structure, nominal, values, cumulative(nominal, samples), differential(nominal, samples))


def outside_notes(structure: Structure, share: float) -> list[str]:
    """A note when part of a structure gets no dose because the dose grid ends; InputError when all of it does."""
    if share > 1.0 - _SLIGHT:
        raise InputError(f"The structure '{structure.name}' lies outside the dose: none of it is inside the dose grid.")
    if share > _SLIGHT:
        return [f"{100 * share:.1f} % of '{structure.name}' lies outside the dose grid and counts as 0 Gy."]
    return []


def write_evaluation(evaluation: Evaluation, folder: Path, stages: Progress) -> None:
    """The files of one evaluation into an existing folder."""
    warnings = list(evaluation.notes)
    curves = [(s.structure.name, s.cumulative) for s in evaluation.structures]
    _write_curves(folder / CURVES, ("structure", "dose_gy", "volume_percent", "p05", "p95"), curves)
    curves = [(s.structure.name, s.differential) for s in evaluation.structures]
    _write_curves(folder / DIFFERENTIAL, ("structure", "dose_gy", "volume_percent_per_gy", "p05", "p95"), curves)
    with (folder / METRICS).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("structure", "metric", "value", "unit", "p05", "p95"))
        for item in evaluation.structures:
            for v in item.values:
                writer.writerow((item.structure.name, v.metric, number(v.value), v.unit, number(v.p05), number(v.p95)))
    stages.step(0.3)
    if evaluation.structures and importlib.util.find_spec("matplotlib") is None:  # 3D Slicer does not bring it
        warnings.append(f"{PICTURE} was not drawn: matplotlib is not installed (pip install matplotlib).")
    elif evaluation.structures:
        from regsuite.pipeline.dvh_figure import draw_dvh

        draw_dvh(evaluation, folder / PICTURE)
    report = {
        "schema_version": SCHEMA_VERSION,
        "intended_use": INTENDED_USE,
        "versions": versions(),
        "samples": evaluation.samples,
        **evaluation.facts,
        "warnings": warnings,
        "structures": [_facts(item) for item in evaluation.structures],
        "timings_s": {stage: round(seconds, 3) for stage, seconds in stages.timings_s.items()},
    }
    (folder / REPORT).write_text(json.dumps(clean(report), indent=2) + "\n", encoding="utf-8")


def _facts(item: StructureDose) -> dict[str, Any]:
    values = {v.metric: {"value": v.value, "unit": v.unit, "p05": v.p05, "p95": v.p95} for v in item.values}
    return {"name": item.structure.name, "colour": list(item.structure.colour), "metrics": values}


def _write_curves(path: Path, header: Sequence[str], curves: Sequence[tuple[str, Curve]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for name, curve in curves:
            blank = np.full(len(curve.dose_gy), np.nan)
            low_band, high_band = (blank if band is None else band for band in (curve.p05, curve.p95))
            for dose, value, low, high in zip(curve.dose_gy, curve.value, low_band, high_band, strict=True):
                writer.writerow((name, f"{dose:.4f}", number(value), number(low), number(high)))


def number(value: float | None) -> str:
    """Six significant digits; empty for what is not defined."""
    return "" if value is None or not np.isfinite(value) else f"{value:.6g}"
