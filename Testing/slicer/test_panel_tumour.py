"""The brain tumour panel, clicked from an empty scene to a result: transform, sequence, residual, table of the mass effect."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import app, panel

app.start()

import lung_case  # noqa: E402
import numpy as np  # noqa: E402
import slicer  # noqa: E402

pytest_plugins = ["lung_fixtures"]
MODULE = lung_case.SUITE / "BrainTumourMetamorphosis" / "BrainTumourMetamorphosis.py"
FAST = {"finest_mm": 6.0, "levels": 1, "fine_iterations": 6, "steps": 4}
_MAKE = (
    "import sys; from pathlib import Path; from regsuite.phantoms import make_phantom; "
    "from regsuite.pipeline.phantom import write_phantom; out = Path(sys.argv[1]); out.mkdir(); "
    "write_phantom(make_phantom('brain-tumour', 1, size=(36, 42, 34), oblique=True), out)"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tumour") / "data"
    environment = {**os.environ, "PYTHONPATH": str(lung_case.BACKEND)}
    subprocess.run([sys.executable, "-c", _MAKE, str(folder)], check=True, env=environment, timeout=300)
    return folder


@pytest.fixture
def tumour(scene: Any, workers_end: None) -> Iterator[panel.Panel]:
    opened = lung_case.open_panel(MODULE)
    yield opened
    opened.close()


def load(files: Path) -> dict[str, Any]:
    nodes = {side: slicer.util.loadVolume(str(files / f"{side}.nrrd"), {"show": False}) for side in ("fixed", "moving")}
    nodes["lesion"] = slicer.util.loadLabelVolume(str(files / "lesion_mask.nrrd"), {"show": False})
    for key, name in (("fixed", "Patient"), ("moving", "Template"), ("lesion", "Lesion")):
        nodes[key].SetName(name)
    return nodes


def test_what_is_missing_is_named(tumour: panel.Panel, files: Path) -> None:
    ui = tumour.ui
    assert ui.applyButton.toolTip == "Select the patient."
    nodes = load(files)
    ui.fixedVolumeSelector.setCurrentNode(nodes["fixed"])
    assert ui.applyButton.toolTip == "Select the healthy template."
    assert not ui.geodesicSlider.enabled and not ui.residualCheckBox.enabled
    assert not ui.massEffectTable.visible


def finish(tumour: panel.Panel, files: Path) -> dict[str, Any]:
    """Choose the inputs (the lesion as a segmentation), set quick settings, press Apply, wait for the result; the nodes."""
    ui, nodes = tumour.ui, load(files)
    ui.fixedVolumeSelector.setCurrentNode(nodes["fixed"])
    ui.movingVolumeSelector.setCurrentNode(nodes["moving"])
    nodes["segmentation"] = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn lesion")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(nodes["lesion"], nodes["segmentation"])
    ui.lesionMaskSelector.setCurrentNode(nodes["segmentation"])
    for name, value in FAST.items():
        tumour.widget._controls["tumour-wm"].widgets[f"tumourWm.{name}"].value = value
    panel.click(ui.applyButton)
    panel.wait_until(lambda: tumour.widget.run is None, 300, "the job to end")
    assert tumour.widget.parameters.browser is not None, ui.statusLabel.text
    return nodes


def shown_of(browser: Any) -> np.ndarray:
    return np.array(slicer.util.arrayFromVolume(browser.GetProxyNode(browser.GetMasterSequenceNode())), dtype=float)


def check_results(tumour: panel.Panel) -> None:
    """What a finished job shows, and a scene that was loaded again: slider, pictures, overlay, table."""
    ui, parameters = tumour.ui, tumour.widget.parameters
    browser, residual = parameters.browser, parameters.residual
    sequence = browser.GetMasterSequenceNode()
    assert sequence.GetNumberOfDataNodes() == 5
    assert ui.geodesicSlider.enabled and ui.geodesicSlider.maximum == 4 and ui.playButton.enabled
    first, last = (slicer.util.arrayFromVolume(sequence.GetNthDataNode(n)).astype(float) for n in (0, 4))
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    for item, expected in ((0, first), (4, last)):
        ui.geodesicSlider.value = 2
        ui.geodesicSlider.value = item
        assert np.array_equal(shown_of(browser), expected) and ui.timeLabel.text == f"t = {item / 4:.2g}"
    assert composite.GetBackgroundVolumeID() == browser.GetProxyNode(sequence).GetID()
    assert np.abs(first - last).max() > 50
    added = slicer.util.arrayFromVolume(residual)
    assert np.abs(added).max() > 20 and (added == 0).mean() > 0.8
    ui.residualCheckBox.checked = True
    assert composite.GetForegroundVolumeID() == residual.GetID()
    assert composite.GetBackgroundVolumeID() == parameters.fixedVolume.GetID()
    ui.residualCheckBox.checked = False
    assert ui.massEffectTable.rowCount >= 4 and ui.massEffectTable.visible
    assert float(ui.massEffectTable.item(0, 2).text()) > 0.0


def check_play(tumour: panel.Panel) -> None:
    """Slicer's own timer turns the pages; here its tick is called by hand. The slider and the volume go along."""
    ui, browser = tumour.ui, tumour.widget.parameters.browser
    ui.geodesicSlider.value = 0
    panel.click(ui.playButton)
    assert browser.GetPlaybackActive()
    seen: dict[int, np.ndarray] = {}

    def turned() -> bool:
        slicer.modules.sequences.logic().UpdateAllProxyNodes()
        seen[int(ui.geodesicSlider.value)] = shown_of(browser)
        return len(seen) == 5

    panel.wait_until(turned, 20, "all pages to be shown")
    for item, values in seen.items():
        assert np.array_equal(values, slicer.util.arrayFromVolume(browser.GetMasterSequenceNode().GetNthDataNode(item)))
    ui.residualCheckBox.checked = True
    assert not browser.GetPlaybackActive()
    ui.residualCheckBox.checked = False


def test_a_job_to_its_end_played_saved_and_loaded(tumour: panel.Panel, files: Path, photo_dir: Path, tmp_path: Path) -> None:
    finish(tumour, files)
    check_results(tumour)
    check_play(tumour)
    panel.photograph(tumour, photo_dir / "tumour-panel.png")
    ui = tumour.ui
    table = [[ui.massEffectTable.item(row, column).text() for column in range(5)] for row in range(ui.massEffectTable.rowCount)]
    assert slicer.util.saveScene(str(tmp_path / "tumour.mrb"))
    app.reset_scene()
    assert not ui.geodesicSlider.enabled and not ui.residualCheckBox.enabled and not ui.massEffectTable.visible
    slicer.util.loadScene(str(tmp_path / "tumour.mrb"))
    check_results(tumour)
    check_play(tumour)
    assert table == [[ui.massEffectTable.item(row, c).text() for c in range(5)] for row in range(ui.massEffectTable.rowCount)]


def test_a_bad_mask_is_told_in_one_sentence(tumour: panel.Panel, files: Path) -> None:
    nodes = load(files)
    lesion = slicer.util.arrayFromVolume(nodes["lesion"])
    lesion[:] = 1
    logic = tumour.widget.logic
    before = lung_case.scene_state()
    with pytest.raises(Exception, match="covers 100 % of the head"):
        logic.register(nodes["fixed"], nodes["moving"], nodes["lesion"], preset="Preview", settings=FAST)
    assert lung_case.scene_state() == before
