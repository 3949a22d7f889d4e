"""Stand-ins for the other qMRML and qSlicer widgets that panels use."""
from __future__ import annotations

from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .ctk_widgets import WIDGETS as CTK_WIDGETS
from .ctk_widgets import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget, row, stored
from .emulation import stand_in
from .node_combo import SceneObserver, qMRMLCheckableNodeComboBox, qMRMLNodeComboBox


@stand_in
class qMRMLWidget(QtWidgets.QWidget):
    """The root of a panel: passes the scene on to the widgets connected to mrmlSceneChanged."""

    mrmlSceneChanged = Signal(object)
    CPP_SIGNALS: ClassVar = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self.__dict__.get("_scene")


@stand_in
class qSlicerWidget(qMRMLWidget):
    pass


@stand_in
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What slicer.modules.<name>.widgetRepresentation() returns; self() is the Python widget class."""

    def _adopt(self, widget: Any) -> None:
        self._widget = widget

    def self(self) -> Any:
        return self._widget


class _WithScene:
    def setMRMLScene(self, scene: Any) -> None:
        """Slicer reads units from the scene's selection node; a stand-in shows plain numbers."""


@stand_in
class qMRMLSliderWidget(_WithScene, ctkSliderWidget):
    quantity = stored(str, "quantity", "")


@stand_in
class qMRMLSpinBox(_WithScene, ctkDoubleSpinBox):
    quantity = stored(str, "quantity", "")


@stand_in
class qMRMLRangeWidget(_WithScene, ctkRangeWidget):
    quantity = stored(str, "quantity", "")


@stand_in
class qMRMLSegmentSelectorWidget(QtWidgets.QWidget):
    """Chooses a segmentation and one of its segments."""

    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    CPP_SIGNALS: ClassVar = {"currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._node_box, self._segment_box = qMRMLNodeComboBox(), QtWidgets.QComboBox()
        self._node_box.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._node_box.addEnabled = self._node_box.removeEnabled = False
        row(self, self._node_box, self._segment_box)
        self._segments: list[str] = []
        self._observed: tuple[Any, list[int]] = (None, [])
        self._node_box.currentNodeChanged.connect(self._node_changed)
        self._segment_box.currentIndexChanged.connect(
            lambda _: self.currentSegmentChanged.emit(self.currentSegmentID()))

    def _node_changed(self, node: Any) -> None:
        previous, tags = self._observed
        for tag in tags:
            previous.RemoveObserver(tag)
        events = (slicer.vtkSegmentation.SegmentAdded, slicer.vtkSegmentation.SegmentRemoved)
        tags = [node.AddObserver(e, lambda *_: self._list_segments()) for e in events] if node else []
        self._observed = (node, tags)
        self._list_segments()
        self.currentNodeChanged.emit(node)

    def _list_segments(self) -> None:
        node = self.currentNode()
        segmentation = node.GetSegmentation() if node else None
        self._segments = list(segmentation.GetSegmentIDs()) if segmentation else []
        self._segment_box.clear()
        self._segment_box.addItems([segmentation.GetSegment(i).GetName() for i in self._segments])

    def setMRMLScene(self, scene: Any) -> None:
        self._node_box.setMRMLScene(scene)

    def mrmlScene(self) -> Any:
        return self._node_box.mrmlScene()

    def setCurrentNode(self, node: Any) -> None:
        self._node_box.setCurrentNode(node)

    def currentNode(self) -> Any:
        return self._node_box.currentNode()

    def currentNodeID(self) -> str:
        return self._node_box.currentNodeID

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._segment_box.setCurrentIndex(self._segments.index(segment_id))

    def currentSegmentID(self) -> str:
        index = self._segment_box.currentIndex
        return self._segments[index] if 0 <= index < len(self._segments) else ""

    noneEnabled = Property(bool, lambda self: self._node_box.noneEnabled,
                           lambda self, on: self._node_box.setProperty("noneEnabled", on))


class _TableModel(QtCore.QAbstractTableModel):
    """The columns of a table node; without a locked header row the first row shows the column names, as in Slicer."""

    def __init__(self, node: Any, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._table = node.GetTable() if node else vtk.vtkTable()
        self._titles = [self._table.GetColumnName(i) or "" for i in range(self._table.GetNumberOfColumns())]
        self._top = 0 if node is None or node.GetUseColumnTitleAsColumnHeader() else 1
        self._left = 1 if node is not None and node.GetUseFirstColumnAsRowHeader() else 0

    def rowCount(self, parent: Any = None) -> int:
        return self._table.GetNumberOfRows() + self._top

    def columnCount(self, parent: Any = None) -> int:
        return max(len(self._titles) - self._left, 0)

    def data(self, index: QtCore.QModelIndex, role: int = 0) -> Any:
        if role != QtCore.Qt.ItemDataRole.DisplayRole:
            return None
        row_index, column = index.row() - self._top, index.column() + self._left
        return self._titles[column] if row_index < 0 else self._table.GetValue(row_index, column).ToString()

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        if role != QtCore.Qt.ItemDataRole.DisplayRole:
            return None
        if orientation == QtCore.Qt.Orientation.Horizontal:
            return chr(ord("A") + section % 26) if self._top else self._titles[section + self._left]
        if section < self._top or not self._left:
            return "" if section < self._top else str(section + 1 - self._top)
        return self._table.GetValue(section - self._top, 0).ToString()


@stand_in
class qMRMLTableView(QtWidgets.QTableView):
    """Shows a table node and follows its changes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._node: Any = None
        self._tag = 0
        self._scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLTableNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node = node
        if node is not None:
            self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._refresh())
        self._refresh()

    def mrmlTableNode(self) -> Any:
        return self._node

    def _refresh(self) -> None:
        self.setModel(_TableModel(self._node, self))
        self.horizontalHeader().setStretchLastSection(True)

    def setFirstRowLocked(self, locked: bool) -> None:
        if self._node is not None:
            self._node.SetUseColumnTitleAsColumnHeader(locked)

    def setFirstColumnLocked(self, locked: bool) -> None:
        if self._node is not None:
            self._node.SetUseFirstColumnAsRowHeader(locked)


@stand_in
class qMRMLPlotView(QtWidgets.QLabel):
    """Shows a picture of the chart that a plot view node names, drawn by VTK."""

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._view_node = node
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._draw())
        self._draw()

    def mrmlPlotViewNode(self) -> Any:
        return self.__dict__.get("_view_node")

    def _draw(self) -> None:
        from ..views import chart_image
        chart = self._view_node.GetPlotChartNode()
        if chart is None:
            self.clear()
            return
        pixels = chart_image(chart, (max(self.width, 360), max(self.height, 240)))
        height, width, _ = pixels.shape
        image = QtGui.QImage(pixels.tobytes(), width, height, 3 * width, QtGui.QImage.Format.Format_RGB888)
        self.setPixmap(QtGui.QPixmap.fromImage(image.copy()))


WIDGETS: tuple[type, ...] = (
    qMRMLWidget, qSlicerWidget, qSlicerScriptedLoadableModuleWidget, qMRMLNodeComboBox, qMRMLCheckableNodeComboBox,
    qMRMLSliderWidget, qMRMLSpinBox, qMRMLRangeWidget, qMRMLSegmentSelectorWidget, qMRMLTableView, qMRMLPlotView,
)
ALL_WIDGETS: tuple[type, ...] = (*CTK_WIDGETS, *WIDGETS)
__all__ = ["ALL_WIDGETS", "WIDGETS", "SceneObserver"]
