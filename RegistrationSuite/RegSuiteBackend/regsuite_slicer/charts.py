"""Tables of numbers and charts of them, as nodes that Slicer's table and plot views show and the scene saves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Colour = tuple[float, float, float]
COLOURS: tuple[Colour, ...] = (
    (0.12, 0.47, 0.71), (0.84, 0.15, 0.16), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74), (1.00, 0.50, 0.05), (0.09, 0.75, 0.81),
    (0.89, 0.47, 0.76), (0.55, 0.34, 0.29), (0.74, 0.74, 0.13), (0.50, 0.50, 0.50),
)  # fmt: skip
"""Colours that are told apart on white; the eleventh series has the first one's again."""


def fill_numbers(node: Any, columns: Mapping[str, Sequence[float] | Sequence[str]], locked: bool = True) -> Any:
    """Replace what a table node holds: columns of numbers (which plots can draw) or of text, all of one length."""
    import vtk

    node.RemoveAllColumns()
    for name, cells in columns.items():
        array = vtk.vtkStringArray() if cells and isinstance(cells[0], str) else vtk.vtkDoubleArray()
        array.SetName(name)
        for cell in cells:
            array.InsertNextValue(cell)
        node.AddColumn(array)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(locked)
    return node


def fill_series(
    node: Any, table: Any, x: str, y: str, colour: Colour, *, width: float = 2.0, markers: bool = False, dashed: bool = False
) -> Any:
    """Make a plot series node draw column `y` over column `x` of a table node as a line, with round markers when wanted."""
    node.SetAndObserveTableNodeID(table.GetID())
    node.SetXColumnName(x)
    node.SetYColumnName(y)
    node.SetPlotType(node.PlotTypeScatter)
    node.SetColor(*colour)
    node.SetLineWidth(width)
    node.SetLineStyle(node.LineStyleDash if dashed else node.LineStyleSolid)
    node.SetMarkerStyle(node.MarkerStyleCircle if markers else node.MarkerStyleNone)
    node.SetMarkerSize(7.0)
    return node


def fill_chart(node: Any, series: Iterable[Any], title: str, x_title: str, y_title: str) -> Any:
    """Make a chart node hold these series (in this order) with a title, axis titles and a legend."""
    node.RemoveAllPlotSeriesNodeIDs()
    for item in series:
        node.AddAndObservePlotSeriesNodeID(item.GetID())
    node.SetTitle(title)
    node.SetXAxisTitle(x_title)
    node.SetYAxisTitle(y_title)
    node.SetLegendVisibility(True)
    return node


def set_range(node: Any, axis: str, low: float, high: float) -> None:
    """Fix the range of the chart's axis "x" or "y"."""
    getattr(node, f"Set{axis.upper()}AxisRangeAuto")(False)
    getattr(node, f"Set{axis.upper()}AxisRange")(low, high)


def show_chart(node: Any) -> None:
    """Show a chart in the plot view; a layout without one gives way to its like with one."""
    import slicer

    slicer.modules.plots.logic().ShowChartInLayout(node)
