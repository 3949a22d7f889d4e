"""Slice views, 3D views and charts drawn off screen through Slicer's displayable managers, as arrays and PNG files."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

# "Name" or "Name:suffix" -> vtkMRML<Name>DisplayableManager<suffix>
_SLICE_MANAGERS = ("VolumeGlyphSlice", "ModelSlice", "Crosshair", "OrientationMarker", "Ruler", "ScalarBar",
                   "Segmentations:2D", "Markups", "Transforms:2D", "ColorLegend")
_THREED_MANAGERS = ("VolumeRendering", "Camera", "View", "Model", "ThreeDReformat", "Crosshair:3D", "OrientationMarker",
                    "Ruler", "Segmentations:3D", "Markups", "Transforms:3D", "ColorLegend")


def _pixels(window: Any) -> np.ndarray:
    """RGB pixels of a render window, (height, width, 3) uint8, first row at the top."""
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    image = grab.GetOutput()
    width, height, _ = image.GetDimensions()
    return np.ascontiguousarray(vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3])


def save_png(pixels: np.ndarray, path: Path | str) -> Path:
    """Write (height, width, 3) uint8 pixels, first row at the top, to a PNG file."""
    height, width, _ = pixels.shape
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    flat = np.ascontiguousarray(pixels[::-1]).reshape(-1, 3)
    image.GetPointData().SetScalars(vtk.util.numpy_support.numpy_to_vtk(flat, deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    writer.Write()
    return Path(path)


class _View:
    """A render window with the displayable managers of one kind of view."""

    def __init__(self, factory: Any, managers: tuple[str, ...], size: tuple[int, int]) -> None:
        self.renderer, self.window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetMultiSamples(0)
        self.window.SetSize(*size)
        self.window.AddRenderer(self.renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        self.size = size
        instance = factory.GetInstance()
        instance.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name, _, suffix in (manager.partition(":") for manager in managers):
            class_name = f"vtkMRML{name}DisplayableManager{suffix}"
            if not instance.IsDisplayableManagerRegistered(class_name):
                instance.RegisterDisplayableManager(class_name)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        self.managers.Initialize(instance, self.renderer)

    def render(self) -> np.ndarray:
        """Pixels (height, width, 3) uint8, first row at the top."""
        return _pixels(self.window)

    def png(self, path: Path | str) -> Path:
        """Draw into a PNG file."""
        return save_png(self.render(), path)


class SliceView(_View):
    """One of the slice views of the scene ("Red", "Green", "Yellow").

    Make it before what it shall show, as in the application: the manager of colour legends draws those that are added later, and
    here it does not notice by itself that the layers changed, so `render` tells the legends.
    """

    def __init__(self, name: str = "Red", size: tuple[int, int] = (600, 600)) -> None:
        super().__init__(slicer.vtkMRMLSliceViewDisplayableManagerFactory, _SLICE_MANAGERS, size)
        self.logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName(name)
        if self.logic is None:
            raise ValueError(f"there is no slice view '{name}'")
        self.node, self.composite = self.logic.GetSliceNode(), self.logic.GetSliceCompositeNode()
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image = vtk.vtkActor2D()
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self._image)
        self.managers.SetMRMLDisplayableNode(self.node)
        self.logic.ResizeSliceNode(*size)

    def show(self, background: Any = None, foreground: Any = None, foreground_opacity: float = 0.5, label: Any = None,
             orientation: str | None = None, offset_mm: float | None = None) -> SliceView:
        """Choose the layers, fit the view to them and set the slice's offset along its normal."""
        for put, node in ((self.composite.SetBackgroundVolumeID, background),
                          (self.composite.SetForegroundVolumeID, foreground), (self.composite.SetLabelVolumeID, label)):
            put(node.GetID() if node is not None else None)
        self.composite.SetForegroundOpacity(foreground_opacity if foreground is not None else 0.0)
        if orientation:
            self.node.SetOrientation(orientation)
        self.fit()
        if offset_mm is not None:
            self.logic.SetSliceOffset(offset_mm)
        return self

    def fit(self) -> None:
        self.logic.ResizeSliceNode(*self.size)
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def render(self) -> np.ndarray:
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._image.SetVisibility(connection is not None)
        for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
            legend.Modified()
        return super().render()


class ThreeDView(_View):
    """The 3D view of the scene."""

    def __init__(self, name: str = "1", size: tuple[int, int] = (600, 600)) -> None:
        super().__init__(slicer.vtkMRMLThreeDViewDisplayableManagerFactory, _THREED_MANAGERS, size)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyle3D())
        self.node = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLViewNode")
        if self.node is None:
            raise ValueError(f"there is no 3D view '{name}'")
        self.managers.SetMRMLDisplayableNode(self.node)
        self.renderer.GradientBackgroundOn()

    def fit(self) -> None:
        """Hide the box around the origin and turn the camera to what the scene shows."""
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self.renderer.ResetCamera()
        self.renderer.ResetCameraClippingRange()


def _add_series(chart: Any, series: Any) -> None:
    table_node = series.GetTableNode()
    if table_node is None:
        return
    table, kind = table_node.GetTable(), series.GetPlotType()
    bar = kind in (series.PlotTypeBar, series.PlotTypeScatterBar)
    plot = chart.AddPlot(vtk.vtkChart.BAR if bar else vtk.vtkChart.LINE)
    names = [table.GetColumnName(i) for i in range(table.GetNumberOfColumns())]
    x, y = series.GetXColumnName(), series.GetYColumnName()
    by_index = kind in (series.PlotTypeLine, series.PlotTypeBar) or x not in names
    plot.SetUseIndexForXSeries(by_index)
    plot.SetInputData(table, 0 if by_index else names.index(x), names.index(y))
    plot.SetLabel(series.GetName())
    plot.SetColorF(*series.GetColor())
    plot.SetOpacity(series.GetOpacity())
    if not bar:
        plot.SetMarkerStyle(series.GetMarkerStyle())
        plot.SetMarkerSize(series.GetMarkerSize())
        plot.SetWidth(series.GetLineWidth() if series.GetLineStyle() else 0)
        plot.GetPen().SetLineType(series.GetLineStyle())


def _set_axis(axis: Any, title: str | None, log: bool, limits: tuple[float, float] | None) -> None:
    axis.SetTitle(title or "")
    axis.SetLogScale(bool(log))
    if limits is not None:
        axis.SetBehavior(vtk.vtkAxis.FIXED)
        axis.SetRange(*limits)


def chart_image(chart_node: Any, size: tuple[int, int] = (700, 450)) -> np.ndarray:
    """Pixels (height, width, 3) uint8 of a vtkMRMLPlotChartNode with its series, axes and legend."""
    view = vtk.vtkContextView()
    window = view.GetRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(*size)
    view.GetRenderer().SetBackground(1, 1, 1)
    chart = vtk.vtkChartXY()
    view.GetScene().AddItem(chart)
    for index in range(chart_node.GetNumberOfPlotSeriesNodes()):
        _add_series(chart, chart_node.GetNthPlotSeriesNode(index))
    chart.SetShowLegend(chart_node.GetLegendVisibility())
    if chart_node.GetTitleVisibility():
        chart.SetTitle(chart_node.GetTitle() or "")
    x_limits = None if chart_node.GetXAxisRangeAuto() else chart_node.GetXAxisRange()
    y_limits = None if chart_node.GetYAxisRangeAuto() else chart_node.GetYAxisRange()
    _set_axis(chart.GetAxis(vtk.vtkAxis.BOTTOM), chart_node.GetXAxisTitle(), chart_node.GetXAxisLogScale(), x_limits)
    _set_axis(chart.GetAxis(vtk.vtkAxis.LEFT), chart_node.GetYAxisTitle(), chart_node.GetYAxisLogScale(), y_limits)
    return _pixels(window)


def table_image(table_node: Any, size: tuple[int, int] = (700, 300)) -> np.ndarray:
    """Pixels (height, width, 3) uint8 of a vtkMRMLTableNode as a table view shows it: its columns' names, then its rows."""
    from PySide6 import QtGui, QtWidgets
    table = table_node.GetTable()
    columns = [table.GetColumn(i) for i in range(table.GetNumberOfColumns())]
    widget = QtWidgets.QTableWidget(table.GetNumberOfRows(), len(columns))
    widget.setHorizontalHeaderLabels([column.GetName() or "" for column in columns])
    for i, column in enumerate(columns):
        for row in range(table.GetNumberOfRows()):
            widget.setItem(row, i, QtWidgets.QTableWidgetItem(column.GetVariantValue(row).ToString()))
    widget.resizeColumnsToContents()
    widget.resize(*size)
    photo = widget.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
    flat = np.frombuffer(photo.constBits(), np.uint8).reshape(photo.height(), photo.bytesPerLine())
    return flat[:, :3 * photo.width()].reshape(photo.height(), photo.width(), 3).copy()


def chart_png(chart_node: Any, path: Path | str, size: tuple[int, int] = (700, 450)) -> Path:
    """Draw a plot chart node into a PNG file."""
    return save_png(chart_image(chart_node, size), path)
