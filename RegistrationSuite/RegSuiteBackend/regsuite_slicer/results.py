"""The folder of a finished registration into the scene: transform, moved volume, maps, verdict table.

Everything is read before the scene is touched, so a damaged folder leaves the scene as it was. Names follow regsuite's own scenes:
the transform is called "MOVING to FIXED", as it shows the moving image on the fixed one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from regsuite.errors import InputError

from regsuite_slicer import nodes, views
from regsuite_slicer.arrays import VolumeData, image_array, require_image

REPORT_ATTRIBUTE = "RegistrationSuite.Report"
"""Attribute of the verdict table: the whole report as JSON, saved with the scene."""
JACOBIAN_RANGE = (0.0, 2.0)
_HIDDEN_BELOW = 0.01  # of the range of a displacement map
_WHOLE_FROM = 20.0  # width of a window whose legend needs no fractions; two digits of a T1 in ms would be 1.4e+03


@dataclass(frozen=True)
class RequestNodes:
    """The nodes of a job: its inputs, and the outputs that the user chose (None: a new transform and table; no volume).

    want_volume: make a new volume when none is chosen; linear: the result is a matrix, and a new transform node a linear one.
    Nodes that are deleted while the job runs are treated as not chosen.
    """

    fixed: Any
    moving: Any
    transform: Any = None
    volume: Any = None
    table: Any = None
    want_volume: bool = False
    linear: bool = False


@dataclass(frozen=True)
class SceneResult:
    """The nodes that hold a result (None where there is none), the report, and warnings, one sentence each."""

    transform: Any
    table: Any
    report: dict[str, Any]
    volume: Any = None
    jacobian: Any = None
    displacement: Any = None
    warnings: tuple[str, ...] = ()


def apply_result(request: RequestNodes, out_folder: str | Path) -> SceneResult:
    """Put the folder that `regsuite register` wrote into the scene.

    transform.h5 becomes the transform from parent of the output node, with the references `spatialRegistrationFixed` and
    `spatialRegistrationMoving` and a display node that shows nothing yet. moved.nrrd becomes the output volume, when one is
    wanted, with the window of the moving one and its voxel type, rounded, where that is whole numbers. jacobian.nrrd and
    displacement.nrrd, where the folder has them, become float volumes with colours, a fixed window and a legend. report.json
    becomes the verdict table. New nodes lie beside the fixed one in the subject hierarchy. The inputs are not touched and
    nothing is shown: see views.py. Raises InputError for a folder without a readable result.
    """
    folder = Path(out_folder)
    report = read_report(folder)
    transform = nodes.read_transform(folder / "transform.h5")
    wanted = _alive(request.volume) or request.want_volume
    moved = nodes.read_volume(folder / "moved.nrrd") if wanted else None
    maps = {
        name: nodes.read_volume(folder / f"{name}.nrrd")
        for name in ("jacobian", "displacement")
        if (folder / f"{name}.nrrd").is_file()
    }

    base = f"{_name(request.moving, report, 'moving')} to {_name(request.fixed, report, 'fixed')}"
    warnings = _missing(request)
    made: list[Any] = []
    try:
        volume = _place_volume(request, moved, f"{_name(request.moving, report, 'moving')} registered", made)
        jacobian = _place_jacobian(maps.get("jacobian"), f"{base} Jacobian", made)
        displacement = _place_displacement(maps.get("displacement"), f"{base} displacement mm", report, made)
        table = _chosen(request.table, "vtkMRMLTableNode", f"{base} verdict", made)
        nodes.fill_table(table, verdict_columns(report))
        table.SetAttribute(REPORT_ATTRIBUTE, json.dumps(report))
        node = _place_transform(request, transform, base, made)
    except Exception:
        for item in reversed(made):
            views.remove_node(item)
        raise
    for item in (node, volume, jacobian, displacement, table):
        _place_beside(item, request.fixed, item in made)
    return SceneResult(node, table, report, volume, jacobian, displacement, warnings)


def read_report(folder: str | Path) -> dict[str, Any]:
    """report.json of a result folder; raises InputError when there is none, or another kind of file."""
    path = Path(folder) / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot read '{path}': expected the report of a registration, found {type(error).__name__}."
        ) from error
    if not isinstance(report, dict) or not {"metrics", "verdict"} <= set(report):
        raise InputError(f"Cannot read '{path}': expected the report of a registration, found other content.")
    return report


def report_of(table: Any) -> dict[str, Any]:
    """The report that a verdict table keeps."""
    return dict(json.loads(table.GetAttribute(REPORT_ATTRIBUTE)))


def verdict_columns(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """The verdict table as columns of text: What, Before, After, Assessment. First row: the headline; then the measures; then
    the reasons and warnings, each with its level."""
    before, after = (_measures(report["metrics"].get(key) or {}) for key in ("before", "after"))
    verdict = report["verdict"]
    rows = [("Verdict", "", "", verdict["headline"])]
    rows += [(name, before.get(name, ""), after.get(name, ""), "") for name in dict.fromkeys([*after, *before])]
    rows += [(item["level"].capitalize(), "", "", item["text"]) for item in verdict.get("reasons", [])]
    rows += [("Warning", "", "", text) for text in report.get("warnings", [])]
    if report.get("status") not in (None, "converged"):
        rows.append(("Status", "", "", str(report.get("status_message") or report["status"])))
    return {title: [row[n] for row in rows] for n, title in enumerate(("What", "Before", "After", "Assessment"))}


def _measures(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of one side (before or after) by the name that a reader knows; what was not measured is left out."""
    found: dict[str, str] = {}

    def put(name: str, group: str | None, key: str, form: str) -> None:
        values = metrics if group is None else metrics.get(group) or {}
        value = values.get(key)
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[name] = format(value, form)

    put("Correlation", "similarity", "ncc", ".3f")
    put("Mutual information", "similarity", "mutual_information", ".3f")
    put("Landmarks", "landmarks_tre_mm", "count", "d")
    put("Landmark distance, mean (mm)", "landmarks_tre_mm", "mean", ".2f")
    put("Landmark distance, worst (mm)", "landmarks_tre_mm", "max", ".2f")
    put("Dice, mean", None, "dice_mean", ".3f")
    put("Folding (% of the region)", None, "folding_percent", ".3f")
    put("Volume change, lowest (Jacobian)", "jacobian", "min", ".2f")
    put("Volume change, 1 % (Jacobian)", "jacobian", "p01", ".2f")
    put("Volume change, 99 % (Jacobian)", "jacobian", "p99", ".2f")
    put("Volume change, highest (Jacobian)", "jacobian", "max", ".2f")
    put("Displacement, mean (mm)", "displacement_mm", "mean", ".1f")
    put("Displacement, largest (mm)", "displacement_mm", "max", ".1f")
    put("Fixed region covered (%)", None, "covered_percent", ".0f")
    return found


def _alive(node: Any) -> Any:
    """The node if it still is in the scene, else None."""
    import slicer

    here = node is not None and node.GetScene() is not None and slicer.mrmlScene.GetNodeByID(node.GetID() or "") is node
    return node if here else None


def _name(node: Any, report: Mapping[str, Any], role: str) -> str:
    """The node's name (deleted nodes keep theirs), else the file's."""
    if node is not None and node.GetName():
        return str(node.GetName())
    return str(report.get("files", {}).get(role, role)).split(".")[0]


def _missing(request: RequestNodes) -> tuple[str, ...]:
    roles = ("fixed", "moving", "transform", "volume", "table")
    gone = [role for role in roles if getattr(request, role) is not None and not _alive(getattr(request, role))]
    made = (
        "a new node holds the result"
        if {"transform", "volume", "table"} & set(gone)
        else "the result does not refer to it"
    )
    return (f"Deleted during the run: the {', '.join(gone)} node; {made}.",) if gone else ()


def _chosen(node: Any, class_name: str, name: str, made: list[Any]) -> Any:
    """The user's node, or a new one with a unique name, which is noted in `made`."""
    import slicer

    if _alive(node):
        return node
    new = slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))
    made.append(new)
    return new


def _place_transform(request: RequestNodes, transform: Any, name: str, made: list[Any]) -> Any:
    node = _chosen(request.transform, "vtkMRMLLinearTransformNode" if request.linear else "vtkMRMLTransformNode", name, made)
    nodes.set_transform(node, transform)
    fixed, moving = _alive(request.fixed), _alive(request.moving)
    for role, input_node in ((node.GetFixedNodeReferenceRole(), fixed), (node.GetMovingNodeReferenceRole(), moving)):
        node.SetNodeReferenceID(role, input_node.GetID() if input_node else None)
    views.prepare_transform_display(node, fixed)
    return node


def _place_volume(request: RequestNodes, moved: VolumeData | None, name: str, made: list[Any]) -> Any:
    if moved is None:
        return None
    moving = _alive(request.moving)
    if moving:
        moved = VolumeData(_in_type_of(moved.values, _integer_type(moving)), moved.affine)
    node = nodes.set_volume(_chosen(request.volume, "vtkMRMLScalarVolumeNode", name, made), moved)
    if moving and moving.GetDisplayNode() is not None:
        source, display = moving.GetDisplayNode(), node.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(source.GetWindow(), source.GetLevel())
        if source.GetColorNodeID():
            display.SetAndObserveColorNodeID(source.GetColorNodeID())
    return node


def _place_jacobian(volume: VolumeData | None, name: str, made: list[Any]) -> Any:
    """Determinants (1 keeps volume): blue shrinks, white stays, red grows; black is a fold."""
    if volume is None:
        return None
    node = nodes.set_volume(_chosen(None, "vtkMRMLScalarVolumeNode", name, made), _floating(volume))
    show_as_map(node, jacobian_colours().GetID(), JACOBIAN_RANGE, "Jacobian")
    return node


def _place_displacement(volume: VolumeData | None, name: str, report: Mapping[str, Any], made: list[Any]) -> Any:
    """Lengths in mm; the window ends at a round number above the report's largest displacement."""
    if volume is None:
        return None
    node = nodes.set_volume(_chosen(None, "vtkMRMLScalarVolumeNode", name, made), _floating(volume))
    largest = (report["metrics"].get("after", {}).get("displacement_mm") or {}).get("max") or float(volume.values.max())
    top = round_up(largest)
    show_as_map(node, displacement_colours().GetID(), (0.0, top), "mm")
    node.GetDisplayNode().SetLowerThreshold(_HIDDEN_BELOW * top)
    node.GetDisplayNode().SetUpperThreshold(max(float(volume.values.max()), top))
    node.GetDisplayNode().ApplyThresholdOn()
    return node


def round_up(value: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, 50 ... (and 0.1, 0.2, ...) that is not below `value` > 0; 1 for no length at all."""
    if not value > 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(value))
    return next(step * decade for step in (1.0, 2.0, 5.0, 10.0) if step * decade >= value * (1 - 1e-9))


def jacobian_colours() -> Any:
    """The scene's colour table for Jacobian maps over JACOBIAN_RANGE: dark blue - white - dark red, the lowest value black."""
    anchors = ((0.02, 0.1, 0.4), (0.2, 0.5, 0.9), (1.0, 1.0, 1.0), (0.95, 0.4, 0.2), (0.45, 0.0, 0.05))
    return colours("RegSuiteJacobianColours", "Jacobian: shrinks (blue), grows (red)", anchors, black_lowest=True)


def displacement_colours() -> Any:
    """The scene's colour table for lengths: dark violet (none) - green - yellow (far), each brighter than the one below."""
    anchors = ((0.2, 0.0, 0.3), (0.2, 0.3, 0.55), (0.13, 0.57, 0.55), (0.4, 0.8, 0.35), (1.0, 0.93, 0.2))
    return colours("RegSuiteDisplacementColours", "Displacement", anchors, black_lowest=False)


def growth_colours() -> Any:
    """The scene's colour table for changes around 0: light blue (much less) - dark (none) - yellow (much more). Dark in the middle,
    because what does not change, and what lies outside the brain, then only dims the anatomy below."""
    anchors = ((0.65, 0.95, 1.0), (0.1, 0.5, 1.0), (0.05, 0.05, 0.05), (0.95, 0.25, 0.05), (1.0, 0.95, 0.35))
    return colours("RegSuiteGrowthColours", "Change: less (blue), more (red)", anchors, black_lowest=False)


def colours(tag: str, name: str, anchors: tuple[tuple[float, float, float], ...], black_lowest: bool = False) -> Any:
    """A colour table of 256 steps through evenly spaced colours; one for each scene, found again by its tag."""
    import slicer

    existing = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if existing is not None:
        return existing
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetName(name)
    table.SetSingletonTag(tag)
    table.SetNumberOfColors(256)
    at = np.linspace(0.0, 1.0, 256)
    rgb = np.stack(
        [np.interp(at, np.linspace(0.0, 1.0, len(anchors)), channel) for channel in np.transpose(anchors)], axis=1
    )
    if black_lowest:
        rgb[0] = 0.0
    for index, (red, green, blue) in enumerate(rgb.tolist()):
        table.SetColor(index, str(index), red, green, blue, 1.0)
    return slicer.mrmlScene.AddNode(table)


def show_as_map(node: Any, colour_id: str, window: tuple[float, float], unit: str) -> None:
    """Colours, a fixed window and a colour legend (shown with the volume), in whole numbers where the window is wide."""
    import slicer

    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(colour_id)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(*window)
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
    legend.SetTitleText(unit)
    legend.SetLabelFormat("%.0f" if window[1] - window[0] >= _WHOLE_FROM else "%.2g")
    legend.SetVisibility(True)


def _floating(volume: VolumeData) -> VolumeData:
    """A map never loses its fractions, nor its zeros, to an integer type."""
    return VolumeData(volume.values.astype(np.float32, copy=False), volume.affine)


def _integer_type(node: Any) -> np.dtype | None:
    dtype = image_array(require_image(node)).dtype
    return dtype if np.issubdtype(dtype, np.integer) else None


def _in_type_of(values: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    """`values` rounded to the integer type of the moving volume, so that a CT stays a CT; as they are when it is not whole."""
    if dtype is None or values.dtype == dtype:
        return values
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _place_beside(node: Any, fixed: Any, new: bool) -> None:
    """Give a new node the same parent item (study or folder) as the fixed one in the subject hierarchy."""
    import slicer

    if node is None or not new or not _alive(fixed):
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    beside = hierarchy.GetItemByDataNode(fixed)
    parent = hierarchy.GetItemParent(beside) if beside else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)
