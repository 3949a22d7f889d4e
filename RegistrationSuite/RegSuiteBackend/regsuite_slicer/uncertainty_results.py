"""What the uncertainty panel brings into the scene: a map of sigma with a legend, a table in words, and doses with their bands."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from regsuite.errors import InputError

from regsuite_slicer import dose_results, nodes, results, views

UNCERTAINTY, DOSE = "uncertainty", "dose"  # folders, as regsuite.pipeline.uncertain_dose names them


@dataclass(frozen=True)
class UncertaintyNodes:
    """The nodes of a job: its inputs, and the volume for the map and the table that the user chose (None: new ones)."""

    fixed: Any
    moving: Any
    transform: Any
    sigma: Any = None
    table: Any = None
    dose: Any = None
    structures: Any = None


@dataclass(frozen=True)
class UncertaintyInScene:
    """What a job made: the map of |sigma| in mm, the table, the report, and what became of the dose (None without one)."""

    sigma: Any
    table: Any
    report: dict[str, Any]
    warnings: tuple[str, ...] = ()
    dose: dose_results.DoseInScene | None = None


def apply_job(outputs: UncertaintyNodes, folder: Path) -> UncertaintyInScene:
    """The folder of the worker's `uncertain_dose`: first the doses, then the map; on an error nothing of either stays."""
    if not (folder / DOSE).is_dir():
        return apply_uncertainty(outputs, folder / UNCERTAINTY)
    dose = dose_results.apply_dose(folder / DOSE, outputs.dose.GetName(), outputs.fixed, outputs.structures)
    try:
        return dataclasses.replace(apply_uncertainty(outputs, folder / UNCERTAINTY), dose=dose, warnings=dose.warnings)
    except Exception:
        dose.remove()
        raise


def apply_uncertainty(outputs: UncertaintyNodes, folder: str | Path) -> UncertaintyInScene:
    """Read everything, then make the nodes; on an error remove what was made. Raises InputError for a damaged folder."""
    folder = Path(folder)
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        columns = in_words(report)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"Cannot read '{folder}': expected the result of 'uncertainty', found {type(error).__name__}.") from error
    magnitude = nodes.read_volume(folder / "sigma_magnitude.nrrd")
    name = outputs.transform.GetName() if outputs.transform is not None else "Transform"
    made: list[Any] = []
    try:
        sigma = outputs.sigma or _new("vtkMRMLScalarVolumeNode", f"{name} sigma mm", made)
        nodes.set_volume(sigma, magnitude)
        top = results.round_up(float(np.percentile(magnitude.values[magnitude.values > 0], 98))) if magnitude.values.any() else 1.0
        results.show_as_map(sigma, results.displacement_colours().GetID(), (0.0, top), "sigma, mm")
        table = outputs.table or _new("vtkMRMLTableNode", f"{name} uncertainty", made)
        nodes.fill_table(table, columns)
        table.SetAttribute(results.REPORT_ATTRIBUTE, json.dumps(report))
    except Exception:
        for item in reversed(made):
            views.remove_node(item)
        raise
    return UncertaintyInScene(sigma, table, report)


def in_words(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """The table as columns of text, as in every panel: What, Before, After (here: the figure), Assessment."""
    sigma, folds, fit = report["sigma_mm"], report.get("folding_of_samples"), report.get("calibration")
    headline = f"Half of the body is known to {sigma['p50']:.1f} mm or better, 95 % of it to {sigma['p95']:.1f} mm (one sigma)."
    rows = [("Uncertainty", "", "", headline)]
    rows += [
        ("Sigma, 5 % (mm)", "", f"{sigma['p05']:.2f}", ""),
        ("Sigma, median (mm)", "", f"{sigma['p50']:.2f}", ""),
        ("Sigma, 95 % (mm)", "", f"{sigma['p95']:.2f}", ""),
        ("Errors go together over (mm)", "", f"{report['correlation_mm']:.0f}", ""),
    ]
    if folds:
        rows += [(f"Samples: {key.replace('_', ' ')}", "", f"{value:.3g}", "") for key, value in folds.items() if _number(value)]
    if fit is None:
        rows.append(("Note", "", "", "No landmarks were given: how well these figures hold for this pair was not measured."))
    rows += [("Warning", "", "", text) for text in report.get("warnings", [])]
    return {title: [row[n] for row in rows] for n, title in enumerate(("What", "Before", "After", "Assessment"))}


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _new(class_name: str, name: str, made: list[Any]) -> Any:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))
    made.append(node)
    return node
