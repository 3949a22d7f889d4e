"""The panel of slices: listed, placed, looked at; and its logic in a console."""
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
import slicer  # noqa: E402
from regsuite_slicer import slice_results  # noqa: E402
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
    ui = opened.ui
    assert ui.applyButton.toolTip == "Select the volume."
    volume, *slices = load_slice_phantom("hip-radial", "Hip", "HipT2", seed=5, size=(64, 64, 64))
    before = [slicer.util.arrayFromVolume(node).copy() for node in (volume, *slices)]
    ui.volumeSelector.setCurrentNode(volume)
    assert ui.applyButton.toolTip == "Select the slices."
    ui.sliceSelector.setCurrentNode(slices[2])
    panel.click(ui.addSliceButton)
    assert ui.slicesTable.rowCount == 1 and ui.applyButton.enabled
    ui.slicesTable.setCurrentCell(0, 0)
    panel.click(ui.removeSliceButton)
    assert ui.slicesTable.rowCount == 0 and not ui.applyButton.enabled
    panel.click(ui.addAllButton)
    assert [ui.slicesTable.item(row, 0).text() for row in range(6)] == [node.GetName() for node in slices]
    panel.photograph(opened, photo_dir / "slices-panel-ready.png")
    for name, value in FAST.items():
        opened.widget._controls["slices-qmri"].widgets[f"slicesQmri.{name}"].value = value

    panel.click(ui.applyButton)
    panel.wait_until(lambda: opened.widget.run is None, 400, "the slices to be placed")
    parameters = opened.widget.parameters
    assert parameters.verdictTable is not None, ui.statusLabel.text
    assert "Good" in ui.verdictLabel.text or "Check" in ui.verdictLabel.text
    assert "(" in ui.slicesTable.item(0, 3).text()
    assert all(np.array_equal(slicer.util.arrayFromVolume(n), v) for n, v in zip((volume, *slices), before, strict=True))
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLTransformNode")]
    assert {f"{node.GetName()} to volume" for node in slices} <= set(names)
    assert slicer.util.arrayFromVolume(parameters.outputVolume).max() > 30.0

    pictures = [_shot()]
    for button in (ui.showRealButton, ui.showEmulatedButton, ui.showDifferenceButton):
        panel.click(button)
        pictures.append(_shot())
    assert all(float(np.std(picture)) > 5.0 for picture in pictures)
    panel.photograph_with_views(opened, pictures, photo_dir / "slices-panel-result.png")
    assert opened.logic.missing({"volume": volume, "slices": [volume]}, slice_results.SliceNodes(volume, ())) != ""


def _shot() -> np.ndarray:
    view = views.SliceView("Red", (360, 360))
    view.fit()
    return view.render()


def test_the_difference_knows_no_contrast() -> None:
    random = np.random.default_rng(0)
    emulated = random.uniform(size=(1, 60, 60))
    real = 3.0 - 2.0 * np.abs(emulated - 0.4)
    assert np.abs(slice_results.difference(real, emulated)).max() < 0.1
    real[0, 20:25, 30:35] += 2.0
    assert slice_results.difference(real, emulated)[0, 20:25, 30:35].mean() > 1.5
