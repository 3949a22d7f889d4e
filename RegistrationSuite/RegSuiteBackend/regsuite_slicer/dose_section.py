"""The section of a panel that shows a carried dose: buttons for its maps, a row per structure, a click shows its band."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from regsuite_slicer import dose_results, dvh_nodes

_SHOWN = ("Mean (Gy)", "D95 (Gy)", "D2cc (Gy)")


class DoseSection:
    """Fills doseCollapsibleButton with showDoseButton, showSpreadButton, allStructuresButton and doseTableWidget of a panel's .ui.

    The parameter node has fixedVolume, carriedDose, doseSpread, doseTable and doseChart.
    """

    def __init__(self, ui: Any) -> None:
        self._ui, self._parameters = ui, None
        ui.showDoseButton.connect("clicked()", self.showDose)
        ui.showSpreadButton.connect("clicked()", self.showSpread)
        ui.allStructuresButton.connect("clicked()", self.showAll)
        table = ui.doseTableWidget
        table.setColumnCount(1 + len(_SHOWN))
        table.setHorizontalHeaderLabels([_("Structure"), *_SHOWN])
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.connect("cellClicked(int,int)", self.onRow)
        self._written: tuple[Any, ...] = ()

    def update(self, parameters: Any) -> None:
        """Follow the parameter node (None: there is none)."""
        self._parameters = parameters
        there = parameters is not None
        self._ui.doseCollapsibleButton.visible = there and parameters.carriedDose is not None
        if not there:
            return
        self._ui.showSpreadButton.enabled = parameters.doseSpread is not None
        self._ui.allStructuresButton.enabled = parameters.doseTable is not None and parameters.doseChart is not None
        rows = tuple(_rows(parameters.doseTable))
        self._ui.doseTableWidget.visible = bool(rows)
        if rows != self._written:
            self._write(rows)

    def showDose(self) -> None:
        """The carried dose over the fixed volume."""
        self._show(self._parameters.carriedDose)

    def showSpread(self) -> None:
        """Its standard deviation in Gy; the dose itself where nothing was sampled."""
        self._show(self._parameters.doseSpread or self._parameters.carriedDose)

    def showAll(self) -> None:
        """The nominal curves of all structures in the chart."""
        self._ui.doseTableWidget.clearSelection()
        dvh_nodes.show_band(self._parameters.doseTable, self._parameters.doseChart, None)

    def onRow(self, row: int, column: int = 0) -> None:
        """The band of one structure in the chart."""
        if self._parameters.doseChart is not None and row < len(self._written):
            dvh_nodes.show_band(self._parameters.doseTable, self._parameters.doseChart, self._written[row][0])

    def _show(self, volume: Any) -> None:
        dose_results.show_dose(self._parameters.fixedVolume, volume, self._parameters.doseTable, self._parameters.doseChart)

    def _write(self, rows: tuple[tuple[str, ...], ...]) -> None:
        table = self._ui.doseTableWidget
        table.setRowCount(len(rows))
        for row, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                table.setItem(row, column, qt.QTableWidgetItem(cell))
        table.resizeRowsToContents()
        heights = [table.rowHeight(row) for row in range(len(rows))]
        table.setFixedHeight(min(320, sum(heights) + 2 * max(heights, default=0)))
        self._written = rows


def _rows(node: Any) -> list[tuple[str, ...]]:
    """(structure, mean, D95, D2cc) of the table of metrics; the interval goes to a line of its own."""
    table = node.GetTable() if node is not None else None
    if table is None or table.GetColumnByName("Structure") is None:
        return []
    columns = [table.GetColumnByName(name) for name in ("Structure", *_SHOWN)]
    return [(columns[0].GetValue(n), *(_narrow(c.GetValue(n)) for c in columns[1:])) for n in range(table.GetNumberOfRows())]


def _narrow(cell: str) -> str:
    """ "59.67 (59.52 - 59.74)" on two lines."""
    return cell.replace(" (", "\n").replace(" \u2013 ", "\u2013").rstrip(")")
