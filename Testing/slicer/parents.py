"""Parent transforms for test objects, and a look at whether inputs were left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import scenes
import slicer
from regsuite_slicer import arrays

TURN = np.array([[0.8, -0.6, 0.0, 10.0], [0.6, 0.8, 0.0, -20.0], [0.0, 0.0, 1.0, 30.0], [0.0, 0.0, 0.0, 1.0]])
STRETCH = np.array([[1.2, 0.1, 0.0, -5.0], [0.0, 0.9, 0.2, 4.0], [0.0, 0.0, 1.1, 7.0], [0.0, 0.0, 0.0, 1.0]])


def add_matrix(matrix: np.ndarray, name: str = "P", under: Any = None) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(arrays.array_to_matrix(matrix))
    if under is not None:
        node.SetAndObserveTransformNodeID(under.GetID())
    return node


def put_under(node: Any, parent: Any) -> Any:
    node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def state_of_inputs(items: list[Any]) -> list[Any]:
    """Time stamps of nodes and their data, and the voxels' bytes, after VTK has settled: the first look updates lazy times."""
    _look_at(items)
    return _look_at(items)


def _look_at(items: list[Any]) -> list[Any]:
    state: list[Any] = [slicer.mrmlScene.GetNumberOfNodes()]
    for node in items:
        state += [node.GetMTime(), node.GetTransformNodeID()]
        if node.IsA("vtkMRMLVolumeNode"):
            state += [node.GetImageData().GetMTime(), slicer.util.arrayFromVolume(node).tobytes()]
        if node.IsA("vtkMRMLTransformNode"):
            state += [node.GetTransformToWorldMTime(), scenes.map_from_parent(node, np.eye(3) * 50).tolist()]
    return state
