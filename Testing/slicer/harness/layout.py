"""slicer.app.layoutManager(): the views of harness.views behind the names of qSlicerLayoutManager."""
from __future__ import annotations

from typing import Any

import slicer

from .views import SliceView, ThreeDView


class _SliceController:
    def __init__(self, view: SliceView) -> None:
        self._view = view

    def fitSliceToBackground(self) -> None:
        self._view.fit()

    def setSliceVisible(self, visible: bool) -> None:
        self._view.node.SetSliceVisible(visible)

    def setSliceLink(self, linked: bool) -> None:
        self._view.composite.SetLinkedControl(linked)


class _RenderView:
    """What qMRMLSliceView and qMRMLThreeDView share."""

    def __init__(self, view: SliceView | ThreeDView) -> None:
        self._view = view

    def renderWindow(self) -> Any:
        return self._view.window

    def forceRender(self) -> None:
        self._view.render()

    def scheduleRender(self) -> None:
        """Nothing is on a screen: a view is drawn when its picture is asked for."""

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._view.managers.GetDisplayableManagerByClassName(name)


class _SliceWidget:
    def __init__(self, view: SliceView) -> None:
        self._view = view

    def sliceLogic(self) -> Any:
        return self._view.logic

    def mrmlSliceNode(self) -> Any:
        return self._view.node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._view.composite

    def sliceController(self) -> _SliceController:
        return _SliceController(self._view)

    def sliceView(self) -> _RenderView:
        return _RenderView(self._view)

    def fitSliceToBackground(self) -> None:
        self._view.fit()


class _ThreeDView(_RenderView):
    def resetFocalPoint(self) -> None:
        self._view.fit()

    def resetCamera(self) -> None:
        self._view.fit()


class _ThreeDWidget:
    def __init__(self, view: ThreeDView) -> None:
        self._view = view

    def mrmlViewNode(self) -> Any:
        return self._view.node

    def threeDView(self) -> _ThreeDView:
        return _ThreeDView(self._view)


class LayoutManager:
    """Three slice views and one 3D view, whatever the layout; the layout itself is kept in the real layout node."""

    threeDViewCount = 1
    tableViewCount = plotViewCount = 0
    _NAMES = ("Red", "Green", "Yellow")

    def __init__(self, layout_logic: Any, application_logic: Any) -> None:
        self._layout_logic, self._application_logic = layout_logic, application_logic
        self._views: dict[str, Any] = {}

    def layoutLogic(self) -> Any:
        return self._layout_logic

    @property
    def layout(self) -> int:
        return int(self._layout_logic.GetLayoutNode().GetViewArrangement())

    @layout.setter
    def layout(self, index: int) -> None:
        self.setLayout(index)

    def setLayout(self, index: int) -> None:
        self._layout_logic.GetLayoutNode().SetViewArrangement(index)

    def mrmlSliceLogics(self) -> Any:
        return self._application_logic.GetSliceLogics()

    def sliceViewNames(self) -> tuple[str, ...]:
        return self._NAMES

    def sliceWidget(self, name: str) -> _SliceWidget:
        if name not in self._views:
            self._views[name] = SliceView(name)
        return _SliceWidget(self._views[name])

    def threeDWidget(self, index: int) -> _ThreeDWidget:
        if index != 0:
            raise IndexError(f"there is one 3D view, not {index + 1}")
        if "3D" not in self._views:
            self._views["3D"] = ThreeDView()
        return _ThreeDWidget(self._views["3D"])

    def resetSliceViews(self) -> None:
        for index in range(self.mrmlSliceLogics().GetNumberOfItems()):
            self.mrmlSliceLogics().GetItemAsObject(index).FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        self.threeDWidget(0).threeDView().resetCamera()

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene
