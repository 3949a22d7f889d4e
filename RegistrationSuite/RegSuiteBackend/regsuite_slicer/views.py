"""What the Results toggles of a panel do in the views. Nothing here changes a data node; every function can be undone."""

from __future__ import annotations

from typing import Any

import numpy as np

from regsuite_slicer.arrays import array_to_matrix, ijk_to_ras, image_array, require_image, values_on_grid_of

_CHECKERBOARD = "RegistrationSuite.Checkerboard"
_GRID_LINES = 24  # about so many across the widest side of the fixed volume


def _composites() -> list[Any]:
    import slicer

    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def show_overlay(fixed: Any, moving: Any, opacity: float = 0.5, fit: bool = True) -> None:
    """Fixed as background, moving (the moved volume, or the moving one under its preview) as foreground, in all slice views."""
    import slicer

    hide_checkerboard()
    slicer.util.setSliceViewerLayers(background=fixed, foreground=moving, foregroundOpacity=opacity, fit=fit)


def flicker() -> bool:
    """Show the other of the two layers, fixed or moving, in full; True when the moving one is shown now. Call it from a timer."""
    composites = _composites()
    show_moving = not any(node.GetForegroundOpacity() > 0.5 for node in composites)
    for node in composites:
        node.SetForegroundOpacity(1.0 if show_moving else 0.0)
    return show_moving


def set_opacity(opacity: float) -> None:
    """The foreground's opacity, 0 to 1, in all slice views: where the overlay stood before a flicker."""
    for node in _composites():
        node.SetForegroundOpacity(opacity)


def show_checkerboard(fixed: Any, moving: Any, squares: int = 10) -> Any:
    """Alternate squares of both volumes in the slice views; returns the helper volume node that holds them.

    The moving volume is sampled where it appears (under its transforms) on the fixed one's grid, its window mapped to the fixed
    one's, and cut into cubes, `squares` along the longest side. The helper is hidden from lists, not saved with the scene, and
    removed by hide_checkerboard. Call it again after the transform has changed.
    """
    import slicer

    hide_checkerboard()
    require_image(fixed)
    values = image_array(fixed.GetImageData()).astype(np.float32)
    other = values_on_grid_of(moving, fixed).astype(np.float32)
    (low, high), (other_low, other_high) = _window(fixed, values), _window(moving, other)
    other = (other - other_low) * ((high - low) / max(other_high - other_low, 1e-6)) + low
    spacing = np.linalg.norm(ijk_to_ras(fixed)[:3, :3], axis=0)[::-1]  # k, j, i
    side = max(spacing * values.shape) / squares
    cubes = sum(
        np.ix_(
            *(np.floor(np.arange(n) * step / side).astype(int) for n, step in zip(values.shape, spacing, strict=True))
        )
    )
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName("Checkerboard")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(_CHECKERBOARD, "1")
    node = slicer.mrmlScene.AddNode(node)
    slicer.util.updateVolumeFromArray(node, np.where(cubes % 2 == 0, values, other))
    node.SetIJKToRASMatrix(array_to_matrix(ijk_to_ras(fixed)))
    node.SetAndObserveTransformNodeID(fixed.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low, high)
    for composite in _composites():
        composite.SetAttribute(
            _CHECKERBOARD, f"{composite.GetBackgroundVolumeID() or ''} {composite.GetForegroundOpacity()}"
        )
        composite.SetBackgroundVolumeID(node.GetID())
        composite.SetForegroundOpacity(0.0)
    return node


def hide_checkerboard() -> None:
    """Remove the helper volume and show what was shown before it; nothing happens when there is none."""
    import slicer

    for composite in _composites():
        kept = composite.GetAttribute(_CHECKERBOARD)
        if kept:
            background, _, opacity = kept.partition(" ")
            composite.SetBackgroundVolumeID(background or None)
            composite.SetForegroundOpacity(float(opacity))
            composite.RemoveAttribute(_CHECKERBOARD)
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(_CHECKERBOARD):
            remove_node(node)


def remove_node(node: Any) -> None:
    """Remove a node with its display nodes, which the scene would keep."""
    displays = (
        [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
        if hasattr(node, "GetNthDisplayNode")
        else []
    )
    for item in (node, *displays):
        scene = item.GetScene() if item is not None else None
        if scene is not None:
            scene.RemoveNode(item)


def _window(node: Any, values: np.ndarray) -> tuple[float, float]:
    """The grey values that appear black and white."""
    display = node.GetDisplayNode()
    if display is None:
        return float(values.min()), float(values.max())
    return display.GetWindowLevelMin(), display.GetWindowLevelMax()


def prepare_transform_display(transform: Any, fixed: Any) -> Any:
    """A display node with grid and glyph settings that fit the fixed volume (or None), shown nowhere; returns it."""
    transform.CreateDefaultDisplayNodes()
    display = transform.GetDisplayNode()
    for hide in (display.SetVisibility, display.SetVisibility2D, display.SetVisibility3D):
        hide(False)
    if fixed is None:
        return display
    display.SetAndObserveRegionNode(fixed)
    bounds = np.zeros(6)
    fixed.GetRASBounds(bounds)
    spacing = max(float(np.max(bounds[1::2] - bounds[::2])) / _GRID_LINES, 1.0)
    display.SetGridSpacingMm(spacing)
    display.SetGridResolutionMm(max(spacing / 4, 1.0))
    display.SetGridLineDiameterMm(spacing / 20)
    display.SetGlyphSpacingMm(spacing)
    display.SetGlyphDisplayRangeMinMm(0.0)
    return display


def show_grid(transform: Any, shown: bool = True, fixed: Any = None) -> None:
    """A grid bent by the transform, in the slice views. The grid and the glyphs take turns: one display node holds both."""
    display = _transform_display(transform, fixed)
    _show(display, display.VIS_MODE_GRID, shown)


def show_glyphs(transform: Any, shown: bool = True, fixed: Any = None) -> None:
    """Arrows along the displacements, in the slice views."""
    display = _transform_display(transform, fixed)
    _show(display, display.VIS_MODE_GLYPH, shown)


def _transform_display(transform: Any, fixed: Any) -> Any:
    return transform.GetDisplayNode() or prepare_transform_display(transform, fixed)


def _show(display: Any, mode: int, shown: bool) -> None:
    if not shown and display.GetVisualizationMode() != mode:
        return  # the other one is on display: leave it
    if shown:
        display.SetVisualizationMode(mode)
    display.SetVisibility(shown)
    display.SetVisibility2D(shown)
