"""Where a node lies in the world: its parent transforms as one map. And the preview of a result.

A registration happens in the world (RAS mm), where the user sees the images: whatever parent transforms the fixed and the moving
node have are part of the images that are registered. The output transform node holds T *from parent*, T maps fixed world points
to moving world points, and it lies at the top of the transform tree, so its parent is the world.

Preview: the moving node is put under the output transform. If it has parent transforms, the topmost of them is (P_m stays between
node and result, and what else lies under P_m moves along). Nothing but that one link changes, and ending the preview cuts it.
A moving node that is previewed under the output transform is exported as if it was not: registering again starts afresh.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from regsuite.errors import InputError


def parents(node: Any) -> list[Any]:
    """The transform nodes above `node`, nearest first."""
    above = []
    current = node.GetParentTransformNode()
    while current is not None:
        above.append(current)
        current = current.GetParentTransformNode()
    return above


def to_world(node: Any, ignore: Any = None) -> Any:
    """vtkGeneralTransform: local RAS mm of `node` -> world RAS mm, without the parent `ignore` if that is among its parents."""
    import vtk

    general = vtk.vtkGeneralTransform()
    general.PostMultiply()
    for parent in parents(node):
        if parent is not ignore and parent.GetTransformToParent() is not None:
            general.Concatenate(parent.GetTransformToParent())
    return general


def matrix_of(transform: Any) -> np.ndarray | None:
    """The 4x4 float64 matrix of a vtkAbstractTransform, RAS mm -> RAS mm; None when it is not linear."""
    import slicer
    import vtk

    linear = vtk.vtkTransform()
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(transform, linear):
        return None
    return np.array(slicer.util.arrayFromVTKMatrix(linear.GetMatrix()))


def map_points(transform: Any, points: np.ndarray) -> np.ndarray:
    """(N, 3) RAS mm -> (N, 3) RAS mm, float64, through a vtkAbstractTransform."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    given, mapped = vtk.vtkPoints(), vtk.vtkPoints()
    for item in (given, mapped):
        item.SetDataTypeToDouble()
    rows = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
    given.SetData(numpy_to_vtk(rows, deep=True))
    transform.TransformPoints(given, mapped)
    return vtk_to_numpy(mapped.GetData()).copy().reshape(-1, 3)


def check_outputs(fixed: Any, moving: Any, transform: Any = None, volume: Any = None, linear: bool = False) -> None:
    """Raise InputError unless results can go into these nodes: call it before the job.

    The output transform must be a general transform node (or a linear one, for a `linear` result) at the top of the tree, above
    neither the fixed node nor, other than as a preview, the moving one; the output volume must be neither input.
    """
    if volume is not None and (volume is fixed or volume is moving):
        raise InputError(f"The output volume '{volume.GetName()}' is an input; expected another volume, or a new one.")
    if transform is None:
        return
    name = transform.GetName()
    if (transform.IsA("vtkMRMLLinearTransformNode") and not linear) or transform.IsA("vtkMRMLBSplineTransformNode"):
        kind = transform.GetNodeTagName()
        raise InputError(
            f"The output '{name}' is a {kind} node, which cannot hold a deformation; expected a general Transform node."
        )
    if transform.GetParentTransformNode() is not None:
        above = transform.GetParentTransformNode().GetName()
        raise InputError(
            f"The output transform '{name}' lies under '{above}'; expected one without a parent, or a new one."
        )
    if transform in parents(fixed):
        raise InputError(
            f"The fixed '{fixed.GetName()}' lies under the output transform '{name}'; expected another output."
        )


def is_previewed(moving: Any, transform: Any) -> bool:
    """Does `moving` lie under `transform`, directly or through its own parents?"""
    return moving is not None and transform is not None and transform in parents(moving)


def start_preview(moving: Any, transform: Any, fixed: Any = None) -> None:
    """Put `moving`, or its topmost parent, under `transform` (which maps fixed to moving points, from parent).

    Raises InputError, and changes nothing, when that would move `fixed` as well.
    """
    if is_previewed(moving, transform):
        return
    top = ([moving, *parents(moving)])[-1]
    if fixed is not None and (fixed is top or top in parents(fixed)):
        raise InputError(
            f"Cannot preview: '{top.GetName()}' also holds the fixed '{fixed.GetName()}'; harden it on one of them, "
            "or ask for the resampled volume."
        )
    top.SetAndObserveTransformNodeID(transform.GetID())


def end_preview(moving: Any, transform: Any) -> None:
    """Undo start_preview; nothing happens when `moving` is not previewed."""
    for node in [moving, *parents(moving)]:
        if node.GetParentTransformNode() is transform:
            node.SetAndObserveTransformNodeID(None)
            return
