"""The parts of a panel about one subject over time: a list of scans with ages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import qt
import slicer

from regsuite_slicer import growth_results

SCANS_ROLE = "RegistrationSuite.Scans"
AGE_ATTRIBUTE = "RegistrationSuite.AgeYears"
"""Attribute of a volume that knows its subject's age, as the sample data does."""

Row = tuple[Any, float]


def scans_of(parameters: Any) -> list[Row]:
    """The listed scans that still are in the scene, each with its age (years; nan: none): references of the role SCANS_ROLE, and
    the numbers of `parameters.ages` in the same order."""
    node = parameters.parameterNode
    listed = [node.GetNthNodeReference(SCANS_ROLE, n) for n in range(node.GetNumberOfNodeReferences(SCANS_ROLE))]
    ages = [_number(word) for word in parameters.ages.split()]
    ages += [math.nan] * (len(listed) - len(ages))
    return [(scan, age) for scan, age in zip(listed, ages, strict=False) if scan is not None]


def set_scans(parameters: Any, rows: list[Row]) -> None:
    """List these scans with their ages instead, the youngest first."""
    node = parameters.parameterNode
    ordered = sorted(rows, key=lambda row: (math.isnan(row[1]), row[1]))
    with slicer.util.NodeModify(node):
        node.RemoveNodeReferenceIDs(SCANS_ROLE)
        for scan, _age in ordered:
            node.AddNodeReferenceID(SCANS_ROLE, scan.GetID())
        parameters.ages = " ".join(f"{age:g}" for _scan, age in ordered)
        node.Modified()


class ScanList:
    """scanSelector, ageSpinBox, addScanButton, removeScanButton and scansTable (scan, age, volume, % per year) of a panel's ui."""

    def __init__(self, ui: Any, parameters_of: Callable[[], Any], titles: list[str]) -> None:
        self._ui, self._parameters_of, self._filling = ui, parameters_of, False
        ui.scansTable.setHorizontalHeaderLabels(titles)
        ui.scanSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._chosen)
        ui.addScanButton.connect("clicked()", self._add)
        ui.removeScanButton.connect("clicked()", self._remove)
        ui.scansTable.connect("cellChanged(int,int)", self._edited)

    def update(self) -> None:
        """Show what the parameter node holds, with what was measured at these ages."""
        parameters, table = self._parameters_of(), self._ui.scansTable
        rows = [] if parameters is None else scans_of(parameters)
        cells = growth_results.interval_cells(None if parameters is None else parameters.volumesTable, [age for _, age in rows])
        self._filling = True
        table.setRowCount(len(rows))
        for row, ((scan, age), measured) in enumerate(zip(rows, cells, strict=True)):
            for column, text in enumerate((scan.GetName(), "" if math.isnan(age) else f"{age:g}", *measured)):
                item = qt.QTableWidgetItem(text)
                if column != 1:
                    item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                table.setItem(row, column, item)
        table.resizeColumnsToContents()
        self._filling = False

    def _chosen(self, node: Any = None) -> None:
        known = node.GetAttribute(AGE_ATTRIBUTE) if node is not None else None
        if known:
            self._ui.ageSpinBox.value = float(known)

    def _add(self) -> None:
        node, parameters = self._ui.scanSelector.currentNode(), self._parameters_of()
        rows = scans_of(parameters)
        if node is not None and node not in [scan for scan, _age in rows]:
            set_scans(parameters, [*rows, (node, float(self._ui.ageSpinBox.value))])

    def _remove(self) -> None:
        row, parameters = self._ui.scansTable.currentRow(), self._parameters_of()
        rows = scans_of(parameters)
        if 0 <= row < len(rows):
            set_scans(parameters, rows[:row] + rows[row + 1 :])

    def _edited(self, row: int, column: int) -> None:
        """An age was typed into the list."""
        if self._filling or column != 1 or self._parameters_of() is None:
            return
        typed = _number(self._ui.scansTable.item(row, 1).text().strip())
        rows = scans_of(self._parameters_of())
        set_scans(self._parameters_of(), [(scan, typed if n == row else age) for n, (scan, age) in enumerate(rows)])


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
