"""The folder of `regsuite slices` into the scene, and views of single slices."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regsuite_slicer import nodes, results, views
from regsuite_slicer.arrays import VolumeData, ijk_to_ras
from regsuite_slicer.logic_base import in_scene

ROLES = {name: f"RegistrationSuite.{name.capitalize()}" for name in ("placed", "emulated", "difference")}
"""Reference roles of the table of slices: the n-th node of each belongs to its n-th row."""
BONE_ROLE = "RegistrationSuite.Bone"
"""Reference role of a slice: the label map or segmentation that holds the bone in it."""
_COLUMNS = ("slice", "place", "moved", "confidence")
_BINS = 48
_COLOURS = ((0.27, 0.0, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.37, 0.79, 0.38), (0.99, 0.91, 0.14))


@dataclass(frozen=True)
class SliceNodes:
    """The nodes of a job: volume, slices, the node for the quantitative map (None: a new one), the segmentation of regions."""

    volume: Any
    slices: tuple[Any, ...]
    quantitative: Any = None
    regions: Any = None


@dataclass(frozen=True)
class SlicesInScene:
    """What a job made. One node per slice in transforms, placed, emulated and differences; regions is None without labels."""

    table: Any
    slices_table: Any
    quantitative: Any
    transforms: tuple[Any, ...]
    placed: tuple[Any, ...]
    emulated: tuple[Any, ...]
    differences: tuple[Any, ...]
    regions: Any
    report: dict[str, Any]
    warnings: tuple[str, ...] = ()
    transform: Any = None
    volume: Any = None


def apply_slices(outputs: SliceNodes, folder: str | Path) -> SlicesInScene:
    """Read everything, then make the nodes; on an error remove what was made. Raises InputError for a damaged folder."""
    folder = Path(folder)
    report = results.read_report(folder)
    count = len(report["slices"])
    stems = [f"slice_{n + 1:02d}" for n in range(count)]
    transforms = [nodes.read_transform(folder / f"{stem}.h5") for stem in stems]
    placed = [nodes.read_volume(folder / f"{stem}_placed.nrrd") for stem in stems]
    emulated = [nodes.read_volume(folder / f"{stem}_emulated.nrrd") for stem in stems]
    quantitative = nodes.read_volume(folder / "quantitative.nrrd")
    names = [_name(outputs, report, n) for n in range(count)]
    made: list[Any] = []
    try:
        table = _new("vtkMRMLTableNode", "Slices verdict", made)
        nodes.fill_table(table, results.verdict_columns(report))
        table.SetAttribute(results.REPORT_ATTRIBUTE, json.dumps(report))
        moved = tuple(
            nodes.set_transform(_new("vtkMRMLTransformNode", f"{name} to volume", made), item)
            for name, item in zip(names, transforms, strict=True)
        )
        shown: dict[str, list[Any]] = {"placed": [], "emulated": [], "difference": []}
        for name, real, seen in zip(names, placed, emulated, strict=True):
            rest = VolumeData(difference(real.values, seen.values), real.affine)
            for what, data in (("placed", real), ("emulated", seen), ("difference", rest)):
                shown[what].append(nodes.set_volume(_new("vtkMRMLScalarVolumeNode", f"{name} {what}", made), data))
        slices_table = _new("vtkMRMLTableNode", "Slices in the volume", made)
        nodes.fill_table(slices_table, _columns(names, report))
        for what, items in shown.items():
            for item in items:
                slices_table.AddNodeReferenceID(ROLES[what], item.GetID())
        regions = _regions(report, nodes.segment_names(outputs.regions), made)
        chosen = outputs.quantitative if in_scene(outputs.quantitative) else None  # it may have been deleted meanwhile
        target = chosen or _new("vtkMRMLScalarVolumeNode", "Quantitative map", made)
        _place_map(nodes.set_volume(target, quantitative), placed)
    except Exception:
        for item in reversed(made):
            views.remove_node(item)
        raise
    parts = (tuple(shown[what]) for what in ("placed", "emulated", "difference"))
    return SlicesInScene(table, slices_table, target, moved, *parts, regions, report)


def difference(real: np.ndarray, emulated: np.ndarray) -> np.ndarray:
    """real - E[real | emulated], the mean of the real values in each of 48 equally filled bins of the emulated ones."""
    edges = np.unique(np.quantile(emulated, np.linspace(0.0, 1.0, _BINS + 1)))
    index = np.clip(np.searchsorted(edges, emulated, side="right") - 1, 0, max(len(edges) - 2, 0))
    sums = np.bincount(index.ravel(), real.ravel().astype(np.float64), minlength=len(edges))
    counts = np.bincount(index.ravel(), minlength=len(edges))
    return (real - (sums / np.maximum(counts, 1))[index]).astype(np.float32)


def bones_of(slices: Sequence[Any]) -> list[Any]:
    """The bone labels of each slice, None where there are none."""
    return [node.GetNodeReference(BONE_ROLE) for node in slices]


def table_rows(table: Any, slices: list[Any]) -> list[tuple[str, ...]]:
    """Rows for the panel: the listed slices by name, whether their bone is set; place, move and confidence where the table of
    slices holds them."""
    found: dict[str, tuple[str, ...]] = {}
    if table is not None:
        data = table.GetTable()
        rows = [tuple(data.GetValue(r, c).ToString() for c in range(4)) for r in range(data.GetNumberOfRows())]
        found = {row[0]: row[1:] for row in rows}
    bones = ["" if bone is None else "set" for bone in bones_of(slices)]
    return [(node.GetName(), bone, *found.get(node.GetName(), ("", "", ""))) for node, bone in zip(slices, bones, strict=True)]


def place_in_words(node: Any) -> str:
    """Where a slice says it lies, as its file or DICOM header gave it: centre, normal and thickness; and which bone is set."""
    affine = ijk_to_ras(node)
    size = np.array(node.GetImageData().GetDimensions()) if node.GetImageData() is not None else np.ones(3)
    centre = affine[:3] @ [*((size - 1) / 2), 1.0]
    thickness = float(np.linalg.norm(affine[:3, 2]))
    normal = affine[:3, 2] / max(thickness, 1e-9)
    texts = [", ".join(f"{value:.{digits}f}" for value in row) for row, digits in ((centre, 1), (normal, 3))]
    bone = node.GetNodeReference(BONE_ROLE)
    end = f"; bone: {bone.GetName()}" if bone is not None else ""
    return f"Centre {texts[0]} mm (R, A, S), normal {texts[1]}, thickness {thickness:.3g} mm{end}"


def show_slice(table: Any, row: int, what: str) -> None:
    """Turn the red view to the plane of a slice and show its placed, emulated or difference volume there alone."""
    import slicer

    node = table.GetNthNodeReference(ROLES[what], row) if table is not None else None
    if node is None:
        return
    slicer.util.setSliceViewerLayers(background=node, foreground=None)
    for name in ("Red",):
        view = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
        if view is not None:
            view.RotateToVolumePlane(node)
            centre = [0.0] * 6
            node.GetRASBounds(centre)
            view.JumpSliceByCentering(*((centre[2 * axis] + centre[2 * axis + 1]) / 2 for axis in range(3)))


def is_flat(node: Any) -> bool:
    """Whether a volume is one slice of an image; labels are none."""
    image = node.GetImageData()
    return not node.IsA("vtkMRMLLabelMapVolumeNode") and image is not None and min(image.GetDimensions()) == 1


def _name(outputs: SliceNodes, report: Mapping[str, Any], n: int) -> str:
    """The slice's node, when every node held one slice; else its number."""
    whole = len(outputs.slices) == len(report["slices"])
    return str(outputs.slices[n].GetName()) if whole else f"Slice {n + 1}"


def _columns(names: list[str], report: Mapping[str, Any]) -> dict[str, list[str]]:
    rows = report["slices"]
    return {
        "slice": names,
        "place": [f"{row['slot']}{', behind' if row['reversed'] else ''}" for row in rows],
        "moved": [f"{row['shift_mm']:.1f} mm, {row['turn_deg']:.0f}\u00b0" for row in rows],
        "confidence": [f"{row['confidence']:.2f} {row['level']}" for row in rows],
    }


def _regions(report: Mapping[str, Any], names: list[str], made: list[Any]) -> Any:
    """The table of regions; names: of the segments 1, 2, ... (else the labels' numbers)."""
    rows = report.get("regions") or []
    if not rows:
        return None
    node = _new("vtkMRMLTableNode", "Values by region", made)
    titles = [names[row["label"] - 1] if 0 < row["label"] <= len(names) else str(row["name"]) for row in rows]
    keys = ("voxels", "mean", "std", "median", "p05", "p95", "pure_voxels", "pure_mean", "pure_std")
    return nodes.fill_table(node, {"region": titles} | {key: [f"{row[key]:.4g}" for row in rows] for key in keys})


def _place_map(node: Any, placed: list[VolumeData]) -> None:
    """Colours over the range of the slices' values; nothing where no slice passes."""
    values = np.concatenate([item.values.ravel() for item in placed])
    values = values[values > 0] if (values > 0).any() else values  # what is 0 or less is not shown
    low, high = (float(v) for v in np.percentile(values, (2, 98)))
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    colours = results.colours("RegSuiteValueColours", "Values: low (violet), high (yellow)", _COLOURS)
    results.show_as_map(node, colours.GetID(), (low, max(high, low + 1e-6)), "slice values")
    display = node.GetDisplayNode()
    display.SetInterpolate(False)  # between a value and the 0 beside it there is nothing
    display.SetThreshold(float(values[values > 0].min()) * 1e-3 if (values > 0).any() else low, float(values.max()))
    display.SetApplyThreshold(True)


def _new(class_name: str, name: str, made: list[Any]) -> Any:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))
    made.append(node)
    return node
