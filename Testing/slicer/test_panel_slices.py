"""The panel of slices: listed, placed, looked at; and its logic in a console."""
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import app, panel, views
from harness.qt import dialogs

app.start()

import lung_case  # noqa: E402
import slicer  # noqa: E402
from regsuite_slicer import nodes, slice_results  # noqa: E402
from regsuite_slicer.arrays import VolumeData, write_nrrd  # noqa: E402
from regsuite_slicer.sample_data import load_slice_phantom  # noqa: E402

MODULE = lung_case.SUITE / "SliceToVolume" / "SliceToVolume.py"
FAST = {"finest_mm": 4.0, "iterations": 10, "range_mm": 20.0}


@pytest.fixture
def opened(scene: Any) -> Iterator[panel.Panel]:
    dialogs.reset()
    shown = lung_case.open_panel(MODULE)
    yield shown
    shown.close()
    lung_case.close_shared_pool()
    assert lung_case.leftovers() == []


def test_click_through_to_the_result(opened: panel.Panel, photo_dir: Path) -> None:
    ui, view = opened.ui, views.SliceView("Red", (360, 360))
    assert ui.applyButton.toolTip == "Select the volume."
    volume, *slices = load_slice_phantom("hip-radial", "Hip", "HipT2", seed=5, size=(64, 64, 64), bones=True)
    before = [slicer.util.arrayFromVolume(node).copy() for node in (volume, *slices)]
    ui.volumeSelector.setCurrentNode(volume)
    assert ui.applyButton.toolTip == "Select the slices."
    ui.sliceSelector.setCurrentNode(slices[2])
    panel.click(ui.addSliceButton)
    assert ui.slicesTable.rowCount == 1
    ui.slicesTable.setCurrentCell(0, 0)
    panel.click(ui.removeSliceButton)
    assert ui.slicesTable.rowCount == 0 and not ui.applyButton.enabled
    panel.click(ui.addAllButton)
    assert [ui.slicesTable.item(row, 0).text() for row in range(6)] == [node.GetName() for node in slices]
    told = ui.slicesTable.item(2, 1).toolTip()
    assert "Centre" in told and "thickness 3 mm" in told and told.endswith("bone: HipT2_03_bones")
    assert ui.applyButton.toolTip == "The slices have bones; select the bone in the volume as well."
    ui.volumeMaskSelector.setCurrentNode(slicer.util.getNode("Hip_bones"))
    ui.labelsSelector.setCurrentNode(slicer.util.getNode("Hip_regions"))
    _take_bones_away_and_back(ui)
    assert not ui.uprightComboBox.enabled
    ui.localiserSelector.setCurrentNode(slices[0])
    assert ui.uprightComboBox.enabled and opened.logic.furtherOf(opened.widget.parameters) == {"upright": "j"}
    ui.localiserSelector.setCurrentNode(None)
    panel.photograph(opened, photo_dir / "slices-panel-ready.png")
    for name, value in FAST.items():
        opened.widget._controls["slices-qmri"].widgets[f"slicesQmri.{name}"].value = value

    panel.click(ui.applyButton)
    panel.wait_until(lambda: opened.widget.run is None, 1200, "the slices to be placed")
    _check_outputs(opened, volume, slices, before)
    _look(opened, view, photo_dir)
    assert opened.logic.missing({"volume": volume, "slices": [volume]}, slice_results.SliceNodes(volume, ())) != ""


def _check_outputs(opened: panel.Panel, volume: Any, slices: list[Any], before: list[np.ndarray]) -> None:
    """Nodes, tables and report; the inputs are as they were."""
    ui = opened.ui
    parameters = opened.widget.parameters
    assert parameters.verdictTable is not None, ui.statusLabel.text
    assert "Good" in ui.verdictLabel.text or "Check" in ui.verdictLabel.text
    assert ui.slicesTable.item(0, 4).text().split()[1] in ("good", "check", "poor")
    assert all(np.array_equal(slicer.util.arrayFromVolume(n), v) for n, v in zip((volume, *slices), before, strict=True))
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTransformNode")]
    assert {f"{node.GetName()} to volume" for node in slices} <= set(names)
    assert slicer.util.arrayFromVolume(parameters.outputVolume).max() > 30.0
    report = json.loads(parameters.verdictTable.GetAttribute("RegistrationSuite.Report"))
    assert len(report["files"]["slice_masks"]) == 6 and not any("no hull" in text for text in report["warnings"])
    regions = slicer.util.getNode("Values by region").GetTable()
    titles = [regions.GetColumnName(n) for n in range(regions.GetNumberOfColumns())]
    assert {"region", "mean", "pure_mean"} <= set(titles)
    assert regions.GetValueByName(0, "region").ToString() == "femur"


def _look(opened: panel.Panel, view: views.SliceView, photo_dir: Path) -> None:
    """The map with its legend, and the three views of the selected slice."""
    ui, parameters = opened.ui, opened.widget.parameters
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(parameters.outputVolume)
    assert legend.GetVisibility() and legend.GetTitleText() == "slice values"
    legend.SetVisibility(False)
    plain = _shot(view)
    legend.SetVisibility(True)
    pictures = [_shot(view)]
    white = [int((picture[:, 270:].min(axis=-1) > 230).sum()) for picture in (plain, *pictures)]
    assert white[1] > white[0] + 300  # the words of the legend
    for button in (ui.showRealButton, ui.showEmulatedButton, ui.showDifferenceButton):
        panel.click(button)
        pictures.append(_shot(view))
    assert all(float(np.std(picture)) > 5.0 for picture in pictures)
    panel.photograph_with_views(opened, pictures, photo_dir / "slices-panel-result.png")


def _take_bones_away_and_back(ui: Any) -> None:
    """One slice without a bone stops the run; set again it may start."""
    ui.slicesTable.setCurrentCell(1, 0)
    ui.boneSelector.setCurrentNode(None)
    panel.click(ui.setBoneButton)
    assert ui.slicesTable.item(1, 1).text() == "" and ui.slicesTable.item(0, 1).text() == "set"
    assert ui.applyButton.toolTip.startswith("'HipT2_02' has no bone yet")
    ui.boneSelector.setCurrentNode(slicer.util.getNode("HipT2_02_bones"))
    ui.slicesTable.setCurrentCell(1, 0)
    panel.click(ui.setBoneButton)
    assert ui.applyButton.enabled


def _shot(view: views.SliceView) -> np.ndarray:
    view.fit()
    return view.render()


def test_segments_of_one_name_get_one_number(scene: Any, tmp_path: Path) -> None:
    """The bone of a slice is drawn as a segment; the volume's segmentation holds it as its second one."""
    names = {"volume": ["pelvis", "femur"], "slice": ["vessel", "femur"]}
    made = {}
    for title, segments in names.items():
        made[title] = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", title)
        for n, name in enumerate(segments):
            box = slicer.vtkOrientedImageData()
            box.SetDimensions(4, 4, 1)
            box.AllocateScalars(3, 1)
            box.SetOrigin(10.0 * n, 0.0, 0.0)
            box.GetPointData().GetScalars().Fill(1)
            made[title].AddSegmentFromBinaryLabelmapRepresentation(box, name)
    grid = VolumeData(np.zeros((1, 6, 20), np.float32), np.eye(4))
    numbers = nodes.numbers_like(made["slice"], made["volume"])
    assert sorted(numbers.values()) == [2, 3]
    labels = nodes.export_labels(made["slice"], grid, tmp_path / "a.nrrd", numbers=numbers).values
    assert labels[0, 1, 1] == 3 and labels[0, 1, 11] == 2 and labels[0, 5].max() == 0
    assert nodes.export_labels(made["slice"], grid, tmp_path / "b.nrrd").values[0, 1, 11] == 2
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    assert nodes.numbers_like(made["slice"], other) is None and nodes.numbers_like(made["slice"], None) is None


def _ids() -> set[str]:
    scene = slicer.mrmlScene
    return {scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes())}


def test_a_map_that_was_deleted_meanwhile_is_made_anew(scene: Any, tmp_path: Path) -> None:
    """And nothing of a damaged folder reaches the scene."""
    values = np.random.default_rng(0).uniform(200.0, 1500.0, (1, 8, 8)).astype(np.float32)
    for name in ("slice_01_placed", "slice_01_emulated", "quantitative"):
        write_nrrd(VolumeData(values, np.eye(4)), tmp_path / f"{name}.nrrd")
    matrix = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "given")
    nodes.export_transform(matrix, tmp_path / "slice_01.h5")
    row = {"slot": 1, "reversed": False, "shift_mm": 1.0, "turn_deg": 2.0, "confidence": 0.7, "level": "good"}
    report = {"metrics": {}, "verdict": {"headline": "Good: a test.", "reasons": []}, "slices": [row], "regions": [{"label": 1}]}
    chosen = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "map")
    before = _ids()
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(KeyError):
        slice_results.apply_slices(slice_results.SliceNodes(None, (), chosen), tmp_path)
    assert _ids() == before and chosen.GetImageData() is None
    (tmp_path / "report.json").write_text(json.dumps({**report, "regions": []}))
    slicer.mrmlScene.RemoveNode(chosen)
    made = slice_results.apply_slices(slice_results.SliceNodes(None, (), chosen), tmp_path)
    assert made.quantitative is not chosen and made.quantitative.GetScene() is not None
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(made.quantitative)
    assert legend.GetLabelFormat() == "%.0f"


def test_the_difference_knows_no_contrast() -> None:
    random = np.random.default_rng(0)
    emulated = random.uniform(size=(1, 60, 60))
    real = 3.0 - 2.0 * np.abs(emulated - 0.4)
    assert np.abs(slice_results.difference(real, emulated)).max() < 0.1
    real[0, 20:25, 30:35] += 2.0
    assert slice_results.difference(real, emulated)[0, 20:25, 30:35].mean() > 1.5
