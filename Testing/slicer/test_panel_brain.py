"""The brain panel: both methods, clicked from the sample data to a transform."""
from __future__ import annotations

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
from regsuite_slicer import advanced, results  # noqa: E402
from regsuite_slicer.sample_data import load_phantom  # noqa: E402

pytest_plugins = ["lung_fixtures"]
MODULE = lung_case.SUITE / "BrainRegistration" / "BrainRegistration.py"
NAMES = {key: key for key in ("fixed", "moving", "fixed_landmarks", "moving_landmarks")}


@pytest.fixture
def brain(scene: Any, workers_end: None) -> Iterator[panel.Panel]:
    opened = lung_case.open_panel(MODULE)
    yield opened
    opened.close()


def test_both_methods_bring_the_landmarks_closer(brain: panel.Panel, photo_dir: Path) -> None:
    ui, parameters = brain.ui, brain.widget.parameters
    assert ui.applyButton.toolTip == "Select the fixed volume."
    assert {ui.methodComboBox.itemText(n) for n in range(ui.methodComboBox.count)} == {"brain-svf", "pediatric-unet"}
    nodes = load_phantom("growth", NAMES, size=(56, 64, 56))
    lung_case.choose(brain, nodes, settings={})
    ui.presetComboBox.setCurrentText("Preview")
    found = {}
    for method in ("brain-svf", "pediatric-unet"):
        ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findText(method))
        assert ui.methodSaysLabel.text == advanced.method(method)["summary"]
        lung_case.apply_and_wait(brain)
        assert parameters.outputTransform is not None, ui.statusLabel.text
        metrics = results.report_of(parameters.verdictTable)["metrics"]
        before, found[method] = (metrics[side]["landmarks_tre_mm"]["mean"] for side in ("before", "after"))
        assert found[method] < before / 2, (method, before, found[method])
    moved = np.array(parameters.outputTransform.GetTransformFromParent().TransformPoint(0.0, 0.0, 0.0))
    assert np.isfinite(moved).all()
    panel.photograph(brain, photo_dir / "brain-panel.png")


def test_one_volume_twice_is_refused(brain: panel.Panel) -> None:
    head = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Head")
    slicer.util.updateVolumeFromArray(head, np.ones((4, 4, 4), dtype=np.float32))
    brain.ui.fixedVolumeSelector.setCurrentNode(head)
    brain.ui.movingVolumeSelector.setCurrentNode(head)
    assert not brain.ui.applyButton.enabled and "same" in brain.ui.applyButton.toolTip


def test_the_self_test_of_the_module_leaves_a_transform(brain: panel.Panel) -> None:
    sys.modules["BrainRegistration"].BrainRegistrationTest().runTest()
    assert slicer.mrmlScene.GetFirstNodeByName("moving to fixed").IsA("vtkMRMLTransformNode")


@pytest.mark.parametrize(("name", "fixed"), [("BrainRegistration", "ChildYounger"), ("LungRegistration", "ThoraxExhale")])
def test_the_sample_data_are_a_pair_with_landmarks(scene: Any, workers_end: None, name: str, fixed: str) -> None:
    opened = lung_case.open_panel(lung_case.SUITE / name / f"{name}.py")
    nodes = sys.modules[name].makeSampleData()
    opened.close()
    assert [node.GetName() for node in nodes][::2] == [fixed, f"{fixed}Landmarks"]
    assert nodes[2].GetNumberOfControlPoints() == nodes[3].GetNumberOfControlPoints() > 50
