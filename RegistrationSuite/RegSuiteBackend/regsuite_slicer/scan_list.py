"""The parts of a panel about one subject over time: a list of scans with ages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import qt
import slicer

from regsuite_slicer import growth_results

SCANS_ROLE = "RegistrationSuite.Scans"
MASKS_ROLE = "RegistrationSuite.BrainMasks"
"""References beside those of SCANS_ROLE, in the same order; a scan without a mask stands for itself."""
AGE_ATTRIBUTE = "RegistrationSuite.AgeYears"
"""Attribute of a volume that knows its subject's age, as the sample data does."""

Row = tuple[Any, float, Any]


def scans_of(parameters: Any) -> list[Row]:
    """The listed scans that still are in the scene, each with its age (years; nan: none) and its brain mask (None: none)."""
    node = parameters.parameterNode
    listed = [node.GetNthNodeReference(SCANS_ROLE, n) for n in range(node.GetNumberOfNodeReferences(SCANS_ROLE))]
    masks = [node.GetNthNodeReference(MASKS_ROLE, n) for n in range(node.GetNumberOfNodeReferences(MASKS_ROLE))]
    masks += [None] * (len(listed) - len(masks))  # a scene of an earlier version
    ages = [_number(word) for word in parameters.ages.split()]
    ages += [math.nan] * (len(listed) - len(ages))
    rows = zip(listed, ages, masks, strict=False)
    return [(scan, age, None if mask is scan else mask) for scan, age, mask in rows if scan is not None]


def set_scans(parameters: Any, rows: list[Row]) -> None:
    """List these scans with their ages and masks instead, the youngest first."""
    node = parameters.parameterNode
    ordered = sorted(rows, key=lambda row: (math.isnan(row[1]), row[1]))
    with slicer.util.NodeModify(node):
        node.RemoveNodeReferenceIDs(SCANS_ROLE)
        node.RemoveNodeReferenceIDs(MASKS_ROLE)
        for scan, _age, mask in ordered:
            node.AddNodeReferenceID(SCANS_ROLE, scan.GetID())
            node.AddNodeReferenceID(MASKS_ROLE, (mask or scan).GetID())
        parameters.ages = " ".join(f"{age:g}" for _scan, age, _mask in ordered)
        node.Modified()


class ScanList:
    """scanSelector, ageSpinBox, maskSelector, addScanButton, removeScanButton and scansTable (scan, age, volume, % per year, brain
    mask) of a panel's ui."""

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
        ages = [age for _scan, age, _mask in rows]
        cells = growth_results.interval_cells(None if parameters is None else parameters.volumesTable, ages)
        self._filling = True
        table.setRowCount(len(rows))
        for row, ((scan, age, mask), measured) in enumerate(zip(rows, cells, strict=True)):
            texts = (scan.GetName(), "" if math.isnan(age) else f"{age:g}", *measured, "" if mask is None else mask.GetName())
            for column, text in enumerate(texts):
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
        """A scan that is listed already gets this age and this mask."""
        node, parameters = self._ui.scanSelector.currentNode(), self._parameters_of()
        if node is not None:
            others = [row for row in scans_of(parameters) if row[0] is not node]
            added = (node, float(self._ui.ageSpinBox.value), self._ui.maskSelector.currentNode())
            self._ui.maskSelector.setCurrentNode(None)  # the next scan has another one
            set_scans(parameters, [*others, added])

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
        changed = [(scan, typed if n == row else age, mask) for n, (scan, age, mask) in enumerate(rows)]
        set_scans(self._parameters_of(), changed)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
