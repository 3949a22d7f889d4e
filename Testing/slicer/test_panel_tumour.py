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
from regsuite_slicer import tumour_results  # noqa: E402

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


def test_a_job_to_its_end(tumour: panel.Panel, files: Path, photo_dir: Path) -> None:
    ui, nodes = tumour.ui, load(files)
    ui.fixedVolumeSelector.setCurrentNode(nodes["fixed"])
    ui.movingVolumeSelector.setCurrentNode(nodes["moving"])
    ui.lesionMaskSelector.setCurrentNode(nodes["lesion"])
    for name, value in FAST.items():
        tumour.widget._controls["tumour-wm"].widgets[f"tumourWm.{name}"].value = value
    panel.click(ui.applyButton)
    panel.wait_until(lambda: tumour.widget.run is None, 300, "the job to end")
    result = tumour.widget._shown
    assert isinstance(result, tumour_results.TumourResult), ui.statusLabel.text
    assert result.sequence.GetNumberOfDataNodes() == 5
    assert ui.geodesicSlider.enabled and ui.geodesicSlider.maximum == 4
    first, last = (slicer.util.arrayFromVolume(result.sequence.GetNthDataNode(n)).astype(float) for n in (0, 4))
    ui.geodesicSlider.value = 0
    assert np.array_equal(slicer.util.arrayFromVolume(result.geodesic), first)
    ui.geodesicSlider.value = 4
    assert np.array_equal(slicer.util.arrayFromVolume(result.geodesic), last)
    assert np.abs(first - last).max() > 50
    added = slicer.util.arrayFromVolume(result.residual)
    assert np.abs(added).max() > 20 and (added == 0).mean() > 0.8
    ui.residualCheckBox.checked = True
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetForegroundVolumeID() == result.residual.GetID()
    assert ui.massEffectTable.rowCount >= 4 and ui.massEffectTable.visible
    assert ui.massEffectTable.item(0, 2).text() != ""
    panel.photograph(tumour, photo_dir / "tumour-panel.png")


def test_a_bad_mask_is_told_in_one_sentence(tumour: panel.Panel, files: Path) -> None:
    nodes = load(files)
    lesion = slicer.util.arrayFromVolume(nodes["lesion"])
    lesion[:] = 1
    logic = tumour.widget.logic
    before = lung_case.scene_state()
    with pytest.raises(Exception, match="covers 100 % of the head"):
        logic.register(nodes["fixed"], nodes["moving"], nodes["lesion"], preset="Preview", settings=FAST)
    assert lung_case.scene_state() == before
