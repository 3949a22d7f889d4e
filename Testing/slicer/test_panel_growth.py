"""The panel of growth: scans listed with ages, measured, looked at and played; and its logic in a console."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import app, panel, views
from harness.qt import dialogs

app.start()

import lung_case  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import slicer  # noqa: E402
from regsuite_slicer import growth_results, install, scan_list  # noqa: E402
from regsuite_slicer.job import JobError  # noqa: E402
from regsuite_slicer.sample_data import load_growth_phantom  # noqa: E402

MODULE = lung_case.SUITE / "PediatricLongitudinal" / "PediatricLongitudinal.py"


@pytest.fixture
def opened(scene: Any) -> Iterator[panel.Panel]:
    dialogs.reset()
    shown = lung_case.open_panel(MODULE)
    yield shown
    shown.close()
    lung_case.close_shared_pool()
    assert lung_case.leftovers() == []


def shots(*names: str) -> list[np.ndarray]:
    pictures = []
    for name in names:
        view = views.SliceView(name, (380, 380))
        view.fit()
        if name == "Yellow":
            view.logic.SetSliceOffset(view.logic.GetSliceOffset() + 18.0)  # beside the gap between the hemispheres
        pictures.append(view.render())
    return pictures


def fill_list(ui: Any, scans: list[Any], ages: list[float]) -> None:
    """List the scans in a mixed order, with one wrong age that is then mended in the list."""
    for n in (1, 0, 2):
        ui.scanSelector.setCurrentNode(scans[n])
        ui.ageSpinBox.value = ages[n] if n != 2 else ages[0]
        panel.click(ui.addScanButton)
    assert "same age" in ui.applyButton.toolTip and not ui.applyButton.enabled
    row = next(n for n in range(3) if ui.scansTable.item(n, 0).text() == scans[2].GetName())
    ui.scansTable.item(row, 1).setText("five")
    assert "Give the age" in ui.applyButton.toolTip
    row = next(n for n in range(3) if ui.scansTable.item(n, 0).text() == scans[2].GetName())
    ui.scansTable.item(row, 1).setText(f"{ages[2]:g}")
    assert [ui.scansTable.item(n, 0).text() for n in range(3)] == [scan.GetName() for scan in scans]


def test_click_through_to_the_result(opened: panel.Panel, photo_dir: Path) -> None:
    ui = opened.ui
    assert ui.applyButton.toolTip == "Select the scans."
    scans, ages, regions = load_growth_phantom("Child", "Child regions", seed=1, size=(56, 64, 56))
    before = [slicer.util.arrayFromVolume(node).copy() for node in scans]
    fill_list(ui, scans, ages)
    ui.regionsSelector.setCurrentNode(regions)
    ui.qualityComboBox.setCurrentText("Preview")
    assert ui.applyButton.enabled, ui.applyButton.toolTip
    assert not ui.playButton.enabled and not ui.showGrowthButton.enabled
    panel.photograph(opened, photo_dir / "growth-panel-ready.png")

    panel.click(ui.applyButton)
    panel.wait_until(lambda: opened.widget.run is None, 400, "growth to be measured")
    parameters = opened.widget.parameters
    assert parameters.verdictTable is not None, ui.statusLabel.text
    assert "grew by" in ui.verdictLabel.text
    assert all(np.array_equal(slicer.util.arrayFromVolume(n), v) for n, v in zip(scans, before, strict=True))
    assert ui.scansTable.item(0, 3).text() == "" and ui.scansTable.item(2, 3).text().startswith("+")
    check_curves(parameters.chart, parameters.volumesTable)
    three = shots("Red", "Green", "Yellow")
    assert all(coloured(picture) > 0.03 for picture in three)
    photo = [*three, views.chart_image(parameters.chart, (380, 380))]
    panel.photograph_with_views(opened, photo, photo_dir / "growth-panel-result.png")
    check_play(opened, parameters.browser, photo_dir)
    assert parameters.outputTransform.GetNodeReference("spatialRegistrationMoving") is scans[2]


def coloured(picture: np.ndarray) -> float:
    """Share of the pixels that are not grey."""
    return float((np.ptp(picture.astype(int), axis=2) > 40).mean())


def check_curves(chart: Any, table: Any) -> None:
    names = [chart.GetNthPlotSeriesNode(n).GetName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names[0] == "brain" and {"left cortex", "ventricles"} <= set(names)
    assert slicer.util.arrayFromTableColumn(table, growth_results.AGE).tolist() == [2.0, 3.0, 5.0]
    brain = slicer.util.arrayFromTableColumn(table, "brain")
    assert brain[0] == 100.0 and 102.0 < brain[1] < brain[2] < 115.0


def check_play(opened: panel.Panel, browser: Any, photo_dir: Path) -> None:
    ui = opened.ui
    assert browser.GetNumberOfItems() == 16 and ui.ageSlider.maximum == 15
    rows = []
    for item in (15, 7, 0):
        ui.ageSlider.value = item
        rows.append(np.concatenate(shots("Green", "Yellow"), axis=0))
        assert ui.ageLabel.text == f"{2.0 + 3.0 * item / 15:.1f} years"
    views.save_png(np.concatenate(rows[::-1], axis=1), photo_dir / "growth-panel-play.png")
    assert coloured(rows[2]) < 0.01 < coloured(rows[1]) < coloured(rows[0])
    panel.click(ui.playButton)
    assert browser.GetPlaybackActive()
    panel.click(ui.showGrowthButton)
    assert not browser.GetPlaybackActive()


def test_a_list_is_saved_with_the_scene_and_edited(opened: panel.Panel) -> None:
    ui = opened.ui
    nodes = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("A", "B")]
    for node in nodes:
        slicer.util.updateVolumeFromArray(node, np.ones((9, 9, 9)))
    nodes[1].SetAttribute(scan_list.AGE_ATTRIBUTE, "0.5")
    ui.scanSelector.setCurrentNode(nodes[0])
    ui.ageSpinBox.value = 3.0
    panel.click(ui.addScanButton)
    assert "two scans" in ui.applyButton.toolTip
    ui.scanSelector.setCurrentNode(nodes[1])
    assert ui.ageSpinBox.value == 0.5
    panel.click(ui.addScanButton)
    assert scan_list.scans_of(opened.widget.parameters) == [(nodes[1], 0.5, None), (nodes[0], 3.0, None)]
    ui.scansTable.setCurrentCell(0, 0)
    panel.click(ui.removeScanButton)
    slicer.mrmlScene.RemoveNode(nodes[0])
    assert scan_list.scans_of(opened.widget.parameters) == []


def test_brain_masks_are_listed_and_handed_on(opened: panel.Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    ui, logic = opened.ui, opened.logic
    scans = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("A", "B")]
    masks = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", f"{name} brain") for name in ("A", "B")]
    for n, node in enumerate([*scans, *masks]):
        slicer.util.updateVolumeFromArray(node, np.full((9, 9, 9), n + 1, dtype=np.int16))
    for scan, age, mask in zip(scans, (3.0, 2.0), (masks[0], None), strict=True):
        ui.scanSelector.setCurrentNode(scan)
        ui.ageSpinBox.value = age
        ui.maskSelector.setCurrentNode(mask)
        panel.click(ui.addScanButton)
        assert ui.maskSelector.currentNode() is None
    assert ui.applyButton.toolTip == "Give a brain mask for every scan or for none; 'B' has none."
    ui.maskSelector.setCurrentNode(masks[1])
    panel.click(ui.addScanButton)  # B again: it gets the mask
    assert ui.applyButton.enabled and [ui.scansTable.item(n, 4).text() for n in (0, 1)] == ["B brain", "A brain"]
    assert scan_list.scans_of(opened.widget.parameters) == [(scans[1], 2.0, masks[1]), (scans[0], 3.0, masks[0])]

    found: list[list[int]] = []

    def submit(request: dict[str, Any], *, on_failed: Any, **_: Any) -> None:
        found.append([int(sitk.GetArrayFromImage(sitk.ReadImage(path)).max()) for path in request["masks"]])
        on_failed(JobError(f"'{Path(request['masks'][1]).name}' is empty.", "input"))

    monkeypatch.setattr(install, "ensure_torch", lambda **_: install.Outcome(install.State.INSTALLED, ""))
    monkeypatch.setattr(logic.pool, "submit", submit)
    panel.click(ui.applyButton)
    panel.wait_until(lambda: opened.widget.run is None, 20, "the refusal")
    assert found == [[4, 3]] and "'A brain' is empty." in ui.statusLabel.text
    slicer.mrmlScene.RemoveNode(masks[0])
    assert "'A' has none" in ui.applyButton.toolTip


def test_a_failure_leaves_the_scene_as_it_was(opened: panel.Panel) -> None:
    flat = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Flat")
    slicer.util.updateVolumeFromArray(flat, np.random.default_rng(0).uniform(size=(4, 20, 20)))
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Other")
    slicer.util.updateVolumeFromArray(other, np.random.default_rng(0).uniform(size=(4, 20, 20)))
    before = lung_case.scene_state()
    with pytest.raises(Exception, match="'Flat' has 4 slices along one axis; expected a volume of at least 8"):
        opened.logic.measure([flat, other], [1.0, 2.0], "Preview")
    assert lung_case.scene_state() == before
