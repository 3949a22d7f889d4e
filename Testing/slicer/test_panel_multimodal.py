"""The alignment panel, clicked from an empty scene to a pose; candidates shown by a click; its logic in a console."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import app, panel

app.start()

import lung_case  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from regsuite_slicer import arrays  # noqa: E402
from regsuite_slicer.job import JobError  # noqa: E402
from regsuite_slicer.results import report_of  # noqa: E402

pytest_plugins = ["lung_fixtures"]
MODULE = lung_case.SUITE / "MultimodalAlignment" / "MultimodalAlignment.py"
QUARTER = np.array([[0.0, -1.0, 0.0, 60.0], [1.0, 0.0, 0.0, -25.0], [0.0, 0.0, 1.0, 15.0], [0.0, 0.0, 0.0, 1.0]])
CORNERS = np.array([[x, y, z, 1.0] for x in (-50.0, 50.0) for y in (-60.0, 60.0) for z in (-40.0, 40.0)]).T


@pytest.fixture
def alignment(scene: Any, workers_end: None) -> Iterator[panel.Panel]:
    opened = lung_case.open_panel(MODULE)
    yield opened
    opened.close()


def matrix_of(node: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetMatrixTransformFromParent(matrix)
    return arrays.matrix_to_array(matrix)


def test_from_two_volumes_to_a_pose(alignment: panel.Panel, photo_dir: Path) -> None:
    import MultimodalAlignment

    ui = alignment.ui
    assert ui.applyButton.toolTip == "Select the fixed volume." and not ui.candidatesCollapsibleButton.visible
    fixed, moving = MultimodalAlignment.makeSampleData(size=(44, 52, 42))
    ui.fixedVolumeSelector.setCurrentNode(fixed)
    ui.movingVolumeSelector.setCurrentNode(moving)
    ui.presetComboBox.setCurrentText("Preview")
    lung_case.apply_and_wait(alignment)
    parameters = alignment.widget.parameters
    node = parameters.outputTransform
    assert node is not None, ui.statusLabel.text
    assert node.IsA("vtkMRMLLinearTransformNode") and moving.GetParentTransformNode() is node
    answer = matrix_of(node)
    assert np.linalg.norm((answer @ CORNERS - QUARTER @ CORNERS)[:3], axis=0).mean() < 3.0
    assert ui.candidatesCollapsibleButton.visible and ui.candidatesTable.rowCount >= 2
    assert ui.candidatesTable.item(0, 0).text() == "Answer" and "confidence" in ui.confidenceLabel.text
    words = {"good": "is sure", "check": "is fairly sure", "poor": "is not sure"}
    assert words[report_of(parameters.verdictTable)["confidence_level"]] in ui.confidenceLabel.text
    alignment.widget.onCandidate(1)
    assert not np.allclose(matrix_of(node), answer)
    alignment.widget.onCandidate(0)
    assert np.allclose(matrix_of(node), answer, atol=1e-6)
    panel.photograph(alignment, photo_dir / "multimodal-panel.png")


def test_a_deformation_node_is_no_output_and_neither_is_an_input(alignment: panel.Panel) -> None:
    fixed, moving = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("a", "b"))
    for node in (fixed, moving):
        slicer.util.updateVolumeFromArray(node, np.random.default_rng(0).normal(size=(12, 12, 12)))
    with pytest.raises(JobError, match="Fixed and moving volume are the same"):
        alignment.logic.register(fixed, fixed)
    spline = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "spline")
    with pytest.raises(JobError, match="'spline' is a"):
        alignment.logic.register(fixed, moving, transform=spline)
