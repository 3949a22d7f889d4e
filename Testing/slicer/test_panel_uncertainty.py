"""The uncertainty panel, clicked from volumes and a transform to a map of sigma and its words."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import app, panel

app.start()

import lung_case  # noqa: E402
import numpy as np  # noqa: E402
import slicer  # noqa: E402
from regsuite_slicer import uncertainty_results  # noqa: E402
from regsuite_slicer.job import JobError  # noqa: E402

pytest_plugins = ["lung_fixtures"]
MODULE = lung_case.SUITE / "RegistrationUncertainty" / "RegistrationUncertainty.py"


@pytest.fixture
def uncertainty(scene: Any, workers_end: None) -> Iterator[panel.Panel]:
    opened = lung_case.open_panel(MODULE)
    yield opened
    opened.close()


def a_transform(shift_mm: tuple[float, float, float]) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    matrix = np.eye(4)
    matrix[:3, 3] = shift_mm
    node.SetMatrixTransformFromParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def test_from_a_transform_to_a_map(uncertainty: panel.Panel, case: dict[str, Any], photo_dir: Path) -> None:
    ui = uncertainty.ui
    assert ui.applyButton.toolTip == "Select the fixed volume." and not ui.showMapButton.enabled
    ui.fixedVolumeSelector.setCurrentNode(case["fixed"])
    ui.movingVolumeSelector.setCurrentNode(case["moving"])
    assert ui.applyButton.toolTip == "Select the transform."
    shift = a_transform((0.0, -3.0, -12.0))
    case["moving"].SetAndObserveTransformNodeID(shift.GetID())  # shown on the fixed one, as after a registration
    ui.transformSelector.setCurrentNode(shift)
    ui.presetComboBox.setCurrentText("Preview")
    lung_case.apply_and_wait(uncertainty)
    parameters = uncertainty.widget.parameters
    sigma = parameters.outputVolume
    assert sigma is not None, ui.statusLabel.text
    assert sigma.GetImageData().GetDimensions() == case["fixed"].GetImageData().GetDimensions()
    values = slicer.util.arrayFromVolume(sigma)
    assert np.isfinite(values).all() and float(values.max()) > float(np.median(values[values > 0])) > 0.0
    assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(sigma) is not None
    assert "of the body is known to" in ui.verdictLabel.text and ui.showMapButton.enabled and ui.exportButton.enabled
    assert case["moving"].GetParentTransformNode() is shift, "the scene is as it was, but for the result"
    panel.photograph(uncertainty, photo_dir / "uncertainty-panel.png")


def test_the_network_foretells_a_map(uncertainty: panel.Panel, case: dict[str, Any], photo_dir: Path) -> None:
    ui, parameters = uncertainty.ui, uncertainty.widget.parameters
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findText("uncertainty-net"))
    assert parameters.method == "uncertainty-net" and "trained on phantom chests only" in ui.methodSaysLabel.text
    ui.fixedVolumeSelector.setCurrentNode(case["fixed"])
    ui.movingVolumeSelector.setCurrentNode(case["moving"])
    ui.transformSelector.setCurrentNode(a_transform((0.0, -3.0, -12.0)))
    lung_case.apply_and_wait(uncertainty)
    assert parameters.outputVolume is not None, ui.statusLabel.text
    assert float(slicer.util.arrayFromVolume(parameters.outputVolume).min()) > 0.0
    panel.photograph(uncertainty, photo_dir / "uncertainty-panel-network.png")


def test_a_damaged_folder_leaves_the_scene_as_it_was(uncertainty: panel.Panel, tmp_path: Path) -> None:
    before = slicer.mrmlScene.GetNumberOfNodes()
    (tmp_path / "report.json").write_text('{"sigma_mm": {}}')
    with pytest.raises(Exception, match="expected the result of 'uncertainty'"):
        uncertainty_results.apply_uncertainty(uncertainty_results.UncertaintyNodes(None, None, None), tmp_path)
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_nonsense_is_refused(uncertainty: panel.Panel, case: dict[str, Any]) -> None:
    shift = a_transform((1.0, 0.0, 0.0))
    with pytest.raises(JobError, match="Fixed and moving volume are the same"):
        uncertainty.logic.estimate(case["fixed"], case["fixed"], shift)
    with pytest.raises(JobError, match="Select the transform"):
        uncertainty.logic.estimate(case["fixed"], case["moving"], None)
