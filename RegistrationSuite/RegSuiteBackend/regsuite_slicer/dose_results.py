"""The folder of `regsuite dose` into the scene: carried doses, their spread, the table of metrics and the histograms."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from regsuite.errors import InputError

from regsuite_slicer import dvh_nodes, nodes, results, views
from regsuite_slicer.arrays import VolumeData

DOSE_ATTRIBUTE, UNIT_NAME, UNIT_VALUE = "DicomRtImport.DoseVolume", "DicomRtImport.DoseUnitName", "DicomRtImport.DoseUnitValue"
COLOURS = "Dose_ColorTable"
_TITLES = {
    "nominal": "dose", "mean": "mean dose", "p05": "dose P05", "p50": "dose P50", "p95": "dose P95", "sigma": "dose spread Gy",
}  # fmt: skip
_IS_DOSE = ("nominal", "mean")
"""What somebody would get; a percentile or a spread of single voxels is no dose plan and is not marked as one."""
_SHOW_FROM = 0.05  # of the range: below it a map is transparent


@dataclass(frozen=True)
class DoseInScene:
    """Volumes by kind (nominal, and with samples mean, p05, p50, p95, sigma), the table of metrics whose references are the bands,
    the chart of bands, SlicerRT's table and chart (None without structures); probabilities: by carried structure, 0..1; made:
    every node."""

    volumes: dict[str, Any]
    table: Any = None
    chart: Any = None
    nominal_table: Any = None
    nominal_chart: Any = None
    warnings: tuple[str, ...] = ()
    probabilities: dict[str, Any] = field(default_factory=dict)
    made: tuple[Any, ...] = ()

    def remove(self) -> None:
        """Take every node out of the scene again."""
        for item in reversed(self.made):
            views.remove_node(item)


def apply_dose(folder: Path, name: str, fixed: Any, segmentation: Any) -> DoseInScene:
    """Read everything, then make the nodes; on an error remove what was made. Raises InputError for a damaged folder.

    name: of the dose that was carried; fixed: the volume whose study the doses join (or None).
    """
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        curves = dvh_nodes.read_curves(folder, report)
        present = [kind for kind in _TITLES if (folder / f"dose_{kind}.nrrd").is_file()]
        columns, warnings = dvh_nodes.metric_columns(curves), tuple(report["warnings"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"Cannot read '{folder}': expected the result of 'dose', found {type(error).__name__}.") from error
    images = {kind: nodes.read_volume(folder / f"dose_{kind}.nrrd") for kind in present}
    shares = {path.stem.removeprefix("probability_"): nodes.read_volume(path) for path in sorted(folder.glob("probability_*.nrrd"))}
    made: list[Any] = []

    def make(class_name: str, title: str) -> Any:
        import slicer

        made.append(slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(title)))
        return made[-1]

    try:
        volumes = {kind: _place_volume(kind, image, f"{name} {_TITLES[kind]}", make, images) for kind, image in images.items()}
        _into_study([volumes[kind] for kind in _IS_DOSE if kind in volumes], fixed)
        carried = {key: _place_probability(key, image, make) for key, image in shares.items()}
        if not curves:
            return DoseInScene(volumes, warnings=warnings, probabilities=carried, made=tuple(made))
        table, chart = make("vtkMRMLTableNode", f"{name} metrics"), make("vtkMRMLPlotChartNode", f"{name} DVH bands")
        nodes.fill_table(table, columns)
        table.SetAttribute(results.REPORT_ATTRIBUTE, json.dumps(report))
        dvh_nodes.place_bands(curves, table, chart, make)
        nominal = dvh_nodes.place_nominal(curves, volumes["nominal"], segmentation, make)
    except Exception:
        DoseInScene({}, made=tuple(made)).remove()
        raise
    return DoseInScene(volumes, table, chart, nominal[0], nominal[1], (*warnings, *nominal[2]), carried, tuple(made))


def show_dose(fixed: Any, volume: Any, table: Any, chart: Any, opacity: float = 0.5) -> None:
    """A map over the fixed volume in a layout with slices, table and chart (slices alone without a table)."""
    import slicer

    if table is not None and chart is not None:
        layout = slicer.util.getNodesByClass("vtkMRMLLayoutNode")[0]
        layout.SetViewArrangement(layout.SlicerLayoutFourUpPlotTableView)
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetActiveTableID(table.GetID())
        selection.SetActivePlotChartID(chart.GetID())
        slicer.app.applicationLogic().PropagateTableSelection()
        slicer.app.applicationLogic().PropagatePlotChartSelection()
    if fixed is not None and volume is not None:
        views.show_overlay(fixed, volume, opacity)


def dose_colours() -> Any:
    """The colour table that SlicerRT uses for doses, when it has made one; else ours under its name: blue - green - red."""
    import slicer

    found = [n for n in slicer.util.getNodesByClass("vtkMRMLColorTableNode") if n.GetName() == COLOURS]
    anchors = ((0.0, 0.0, 0.55), (0.0, 0.45, 1.0), (0.0, 0.85, 0.75), (0.4, 0.95, 0.2), (1.0, 0.85, 0.0), (0.85, 0.0, 0.0))
    return found[0] if found else results.colours(f"RegSuite{COLOURS}", COLOURS, anchors)


def _place_volume(kind: str, image: VolumeData, title: str, make: Callable[..., Any], images: dict[str, VolumeData]) -> Any:
    """A float volume in Gy, never below 0, with colours, a window that all doses share, and a legend."""
    node = make("vtkMRMLScalarVolumeNode", title)
    values = np.maximum(image.values.astype(np.float32, copy=False), 0.0)
    nodes.set_volume(node, VolumeData(values, image.affine))
    if kind == "sigma":
        top = results.round_up(float(np.percentile(values[values > 0], 99.5)) if values.any() else 1.0)
        colours, unit = results.displacement_colours(), "spread, Gy"
    else:
        top, colours, unit = float(images["nominal"].values.max()) or 1.0, dose_colours(), "Gy"
    results.show_as_map(node, colours.GetID(), (0.0, top), unit)
    display = node.GetDisplayNode()
    display.SetThreshold(_SHOW_FROM * top, max(top, float(values.max())))
    display.ApplyThresholdOn()
    if kind in _IS_DOSE:
        node.SetAttribute(DOSE_ATTRIBUTE, "1")
    return node


def _place_probability(name: str, image: VolumeData, make: Callable[..., Any]) -> Any:
    """The share of samples in which a carried structure covers a voxel, transparent where none does."""
    node = make("vtkMRMLScalarVolumeNode", f"{name} probability")
    nodes.set_volume(node, VolumeData(image.values.astype(np.float32, copy=False), image.affine))
    results.show_as_map(node, results.displacement_colours().GetID(), (0.0, 1.0), "probability")
    node.GetDisplayNode().SetThreshold(_SHOW_FROM, 1.0)
    node.GetDisplayNode().ApplyThresholdOn()
    return node


def _into_study(doses: list[Any], fixed: Any) -> None:
    """Under the study of the fixed volume, or a new one: there SlicerRT looks for the unit."""
    import slicer

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    item = hierarchy.GetItemByDataNode(fixed) if fixed is not None else 0
    study = hierarchy.GetItemAncestorAtLevel(item, level) if item else 0
    study = study or hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Carried dose")
    if not hierarchy.GetItemAttribute(study, UNIT_NAME):
        hierarchy.SetItemAttribute(study, UNIT_NAME, "Gy")
        hierarchy.SetItemAttribute(study, UNIT_VALUE, "1.0")
    for node in doses:
        own = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(study, node)
        hierarchy.SetItemParent(own, study)
