"""What a metamorphosis of a tumour brings beside the transform: the geodesic as a sequence, what was added, the mass effect."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from regsuite.errors import InputError

from regsuite_slicer import nodes, playback, results, views
from regsuite_slicer.arrays import VolumeData, matrix_to_array

COLUMNS = {
    "from_mm": "From (mm)",
    "to_mm": "To (mm)",
    "displacement_mean_mm": "Moved, mean (mm)",
    "displacement_p95_mm": "Moved, 95 % (mm)",
    "outward_mean_mm": "Outward (mm)",
    "volume_factor_mean": "Volume",
}
"""Key in the report -> title, in the order of the table."""


@dataclass(frozen=True)
class TumourResult(results.SceneResult):
    """metamorphosed, residual: volumes on the patient's grid; geodesic: a volume that shows one time of `sequence` (template to
    patient), played by `browser`; mass_effect: a table node, None without a lesion."""

    metamorphosed: Any = None
    residual: Any = None
    geodesic: Any = None
    sequence: Any = None
    browser: Any = None
    mass_effect: Any = None


def apply_tumour_result(request: results.RequestNodes, folder: Path) -> TumourResult:
    """Put the folder that `regsuite register tumour-wm` wrote into the scene: results.apply_result, then the rest in new nodes.

    Everything is read before the scene is touched. Raises InputError for a folder without a readable result.
    """
    images = {name: nodes.read_volume(folder / f"{name}.nrrd") for name in ("metamorphosed", "residual")}
    frames = read_series(folder / "geodesic.seq.nrrd")
    common = results.apply_result(request, folder)
    name = common.transform.GetName()
    metamorphosed = nodes.set_volume(_new("vtkMRMLScalarVolumeNode", f"{name} with added intensity"), images["metamorphosed"])
    residual = nodes.set_volume(_new("vtkMRMLScalarVolumeNode", f"{name} added intensity"), images["residual"])
    top = results.round_up(float(np.abs(images["residual"].values).max()))
    results.show_as_map(residual, results.jacobian_colours().GetID(), (-top, top), "added")
    _hide_nothing(residual, images["residual"].values, top)
    geodesic, sequence, browser = _place_series(frames, f"{name} over time", request.fixed)
    given = {item.name: getattr(common, item.name) for item in fields(common)}
    return TumourResult(
        **given, metamorphosed=metamorphosed, residual=residual, geodesic=geodesic, sequence=sequence, browser=browser,
        mass_effect=_place_table(common.report.get("findings", {}).get("mass_effect") or [], f"{name} mass effect"),
    )  # fmt: skip


def read_series(path: Path) -> list[VolumeData]:
    """The times of a NAME.seq.nrrd (a channel per time), each as a volume; raises InputError for anything else."""
    import slicer

    with nodes.private_scene() as scene:
        node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "import")
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(os.path.abspath(path))
        storage.SetCenterImage(0)
        if not path.is_file() or not storage.ReadData(node):
            raise InputError(f"Cannot read '{path}': expected an image series, found no such file or another kind of file.")
        values = np.array(slicer.util.arrayFromVolume(node))
        matrix = slicer.vtkMRMLScalarVolumeNode()
        matrix.CopyOrientation(node)
        import vtk

        to_ras = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(to_ras)
    return [VolumeData(np.ascontiguousarray(values[..., n]), matrix_to_array(to_ras)) for n in range(values.shape[-1])]


def show_time(browser: Any, number: int) -> None:
    """Time `number` of the geodesic (0: the template) in the slice views."""
    (shown,) = playback.select(browser, number)
    views.show_overlay(shown, None, fit=False)


def time_text(browser: Any) -> str:
    """ "t = 0.5": from 0, the template, to 1, the patient."""
    return f"t = {playback.index_of(browser):.2g}"


def mass_effect_rows(verdict: Any) -> list[dict[str, float]]:
    """The rows by shell around the lesion that the report in a verdict table (None: there is none) holds."""
    if verdict is None or not verdict.GetAttribute(results.REPORT_ATTRIBUTE):
        return []
    return list(results.report_of(verdict).get("findings", {}).get("mass_effect") or [])


def _place_series(frames: list[VolumeData], name: str, patient: Any) -> tuple[Any, Any, Any]:
    sequence, browser = _new("vtkMRMLSequenceNode", f"{name} frames"), _new("vtkMRMLSequenceBrowserNode", f"{name} player")
    times = [number / max(1, len(frames) - 1) for number in range(len(frames))]
    playback.fill_sequence(sequence, ("time", ""), times, frames, name)
    (shown,) = playback.connect(browser, [sequence], [name])
    if patient is not None and patient.GetDisplayNode() is not None:  # its grey values
        display, given = shown.GetDisplayNode(), patient.GetDisplayNode()
        display.SetAutoWindowLevel(False)
        display.SetWindowLevel(given.GetWindow(), given.GetLevel())
    playback.select(browser, len(frames) - 1)
    return shown, sequence, browser


def _place_table(rows: list[dict[str, float]], name: str) -> Any:
    if not rows:
        return None
    node = _new("vtkMRMLTableNode", name)
    return nodes.fill_table(node, {title: [f"{row[key]:.2f}" for row in rows] for key, title in COLUMNS.items()})


def _hide_nothing(node: Any, values: np.ndarray, top: float) -> None:
    """Nothing added is transparent: only one side of 0 can be, so the larger one is shown."""
    display = node.GetDisplayNode()
    negative = -float(values.min()) > float(values.max())
    display.SetThreshold(*((-top, -0.02 * top) if negative else (0.02 * top, top)))
    display.ApplyThresholdOn()


def _new(class_name: str, name: str) -> Any:
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))
