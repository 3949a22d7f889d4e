"""The Results section of a panel: the verdict in words and numbers, and the toggles that show how well it fits."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import qt
import slicer
from regsuite.errors import RegSuiteError
from slicer.i18n import tr as _

from regsuite_slicer import views, world
from regsuite_slicer.logic_base import Run, in_scene
from regsuite_slicer.results import REPORT_ATTRIBUTE

FLICKER_MS = 500
_COLOURS = {"good": "#2e7d32", "check": "#b26a00", "poor": "#c62828"}


class ResultsSection:
    """Works on the nodes of the parameter node: verdictTable, outputTransform (with its fixed and moving references), outputVolume.

    So it shows a result again after a scene was loaded, and exports its report; only the page of pictures needs the run itself.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._table = self._transform = self._volume = None
        self._overview = b""
        self._pictured: Any = None  # the verdict table that the page of pictures belongs to
        self._quiet = False
        self._flicker = qt.QTimer()
        self._flicker.setInterval(FLICKER_MS)
        self._flicker.connect("timeout()", views.flicker)
        ui.metricsTable.setColumnCount(3)
        ui.metricsTable.setHorizontalHeaderLabels(["", _("Before"), _("After")])
        ui.metricsTable.verticalHeader().hide()
        header = ui.metricsTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        self._compare = {
            ui.overlayButton: self._show_overlay,
            ui.checkerboardButton: self._show_checkerboard,
            ui.flickerButton: self._show_flicker,
        }
        self._deformation = {ui.gridButton: self._show_grid, ui.glyphButton: self._show_glyphs}
        for group in (self._compare, self._deformation):
            for button in group:
                button.connect("toggled(bool)", self._toggler(button, group))
        ui.previewButton.connect("toggled(bool)", self._show_preview)
        ui.exportButton.connect("clicked()", self.export)
        self.update(None)

    def update(self, parameters: Any) -> None:
        """Show what the parameter node (None: no scene) holds."""
        table = getattr(parameters, "verdictTable", None)
        transform = getattr(parameters, "outputTransform", None)
        self._volume = getattr(parameters, "outputVolume", None)
        if table is not self._table or transform is not self._transform:
            self._stop()
        self._table, self._transform = table, transform
        self._write_verdict()
        ready = self.fixed is not None and self.moving is not None
        why = "" if ready else _("There is no result yet.")
        for button in (*self._compare, self._ui.previewButton):
            button.enabled = ready
        for button in self._deformation:
            button.enabled = transform is not None and table is not None
        self._ui.exportButton.enabled = bool(table is not None and table.GetAttribute(REPORT_ATTRIBUTE))
        self._ui.resultsCollapsibleButton.toolTip = why
        self._set(self._ui.previewButton, ready and world.is_previewed(self.moving, transform))

    def show(self, run: Run, parameters: Any) -> str:
        """Present a finished run: the moving volume under the transform, laid over the fixed one. Returns a warning, or ""."""
        assert run.result is not None
        self._overview, self._pictured = run.overview, run.result.table
        self._stop()
        self.update(parameters)
        if self.fixed is None or self.moving is None:
            return ""
        warning = self._preview(True)
        self._set(self._ui.previewButton, world.is_previewed(self.moving, self._transform))
        self._ui.overlayButton.checked = True
        return warning

    def close(self) -> None:
        """Leave the views as they would be without this section: no timer, no checkerboard."""
        self._stop()

    @property
    def fixed(self) -> Any:
        """The fixed volume of the result, or None."""
        return self._referenced("GetFixedNodeReferenceRole")

    @property
    def moving(self) -> Any:
        """The moving volume of the result, or None."""
        return self._referenced("GetMovingNodeReferenceRole")

    def _referenced(self, role: str) -> Any:
        if self._table is None or not in_scene(self._transform):
            return None
        return self._transform.GetNodeReference(getattr(self._transform, role)())

    @property
    def _moved(self) -> Any:
        """What is compared with the fixed volume: the moving one while it lies under the transform, else the resampled one."""
        if world.is_previewed(self.moving, self._transform) or not in_scene(self._volume):
            return self.moving
        return self._volume

    def _toggler(self, button: Any, group: dict[Any, Any]) -> Any:
        def toggled(on: bool) -> None:
            if self._quiet:
                return
            for other in group:
                if on and other is not button and other.checked:
                    self._set(other, False)
                    group[other](False)
            group[button](on)

        return toggled

    def _set(self, button: Any, on: bool) -> None:
        """Press or release a button without its effect."""
        self._quiet, before = True, self._quiet
        button.checked = bool(on)
        self._quiet = before

    def _stop(self) -> None:
        for group in (self._compare, self._deformation):
            for button, effect in group.items():
                if button.checked:
                    self._set(button, False)
                    if in_scene(self._transform):
                        effect(False)
        self._flicker.stop()
        views.hide_checkerboard()

    def _show_overlay(self, on: bool) -> None:
        if on:
            views.show_overlay(self.fixed, self._moved)
        else:
            views.set_opacity(0.0)

    def _show_checkerboard(self, on: bool) -> None:
        if on:
            views.show_overlay(self.fixed, self._moved, fit=False)
            views.show_checkerboard(self.fixed, self._moved)
        else:
            views.hide_checkerboard()

    def _show_flicker(self, on: bool) -> None:
        if on:
            views.show_overlay(self.fixed, self._moved, fit=False)
            self._flicker.start()
        else:
            self._flicker.stop()
            views.set_opacity(0.5)

    def _show_grid(self, on: bool) -> None:
        views.show_grid(self._transform, on, self.fixed)

    def _show_glyphs(self, on: bool) -> None:
        views.show_glyphs(self._transform, on, self.fixed)

    def _show_preview(self, on: bool) -> None:
        if self._quiet:
            return
        warning = self._preview(on)
        if warning:
            self._set(self._ui.previewButton, False)
            slicer.util.warningDisplay(warning)
        for button, effect in self._compare.items():  # what they show has moved
            if button.checked:
                effect(True)

    def _preview(self, on: bool) -> str:
        try:
            if on:
                world.start_preview(self.moving, self._transform, self.fixed)
            else:
                world.end_preview(self.moving, self._transform)
        except RegSuiteError as error:
            return str(error)
        return ""

    def export(self) -> None:
        """Ask for a folder and write the report there, and the page of pictures of a run of this session."""
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Folder for the report"))
        if not folder:
            return
        name = "".join(c if c.isalnum() or c in " -_." else "_" for c in _title(self._table, self._transform))
        report = json.loads(self._table.GetAttribute(REPORT_ATTRIBUTE))
        try:
            (Path(folder) / f"{name} report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            if self._overview and self._pictured is self._table:
                (Path(folder) / f"{name} overview.png").write_bytes(self._overview)
        except OSError as error:
            text = _("The report could not be written to '{folder}': {why}.")
            slicer.util.errorDisplay(text.format(folder=folder, why=error.strerror))

    def _write_verdict(self) -> None:
        rows = _rows(self._table)
        sentences = [(what, text) for what, before, after, text in rows if text]
        numbers = [(what, before, after) for what, before, after, text in rows if not text]
        level = _level(sentences[0][1]) if sentences else ""
        lines = [f'<b><font color="{_COLOURS.get(level, "")}">{html.escape(sentences[0][1])}</font></b>'] if sentences else []
        for what, text in sentences[1:]:
            colour = _COLOURS.get(what.lower(), "#777777")
            lines.append(f'<font color="{colour}">\u25cf</font> {html.escape(text)}')
        self._ui.verdictLabel.text = "<br>".join(lines) if lines else _("No result yet.")
        table = self._ui.metricsTable
        table.setRowCount(len(numbers))
        for row, cells in enumerate(numbers):
            for column, cell in enumerate(cells):
                table.setItem(row, column, qt.QTableWidgetItem(cell))
        table.visible = bool(numbers)
        table.resizeRowsToContents()
        heights = [table.rowHeight(row) for row in range(len(numbers))]
        table.setFixedHeight(sum(heights) + 3 * max(heights, default=0) // 2)  # the header and the frame are higher than a row


def _title(table: Any, transform: Any) -> str:
    """What an exported report is called after: the transform while it is there, else the table."""
    return str((transform if in_scene(transform) else table).GetName())


def _rows(node: Any) -> list[tuple[str, str, str, str]]:
    """(what, before, after, assessment) of a verdict table node; none without one, or when it holds something else."""
    table = node.GetTable() if node is not None else None
    if table is None or table.GetNumberOfColumns() != 4:
        return []
    return [
        tuple(table.GetValue(row, column).ToString() for column in range(4))  # type: ignore[misc]
        for row in range(table.GetNumberOfRows())
    ]


def _level(headline: str) -> str:
    """ "Good: no problem was found..." -> "good"."""
    return headline.partition(":")[0].strip().lower()
