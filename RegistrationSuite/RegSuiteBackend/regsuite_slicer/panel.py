"""The panel that all modules share: common sections, typed parameters, a job that never freezes the window.

A module derives from PanelWidget, names its logic class, and brings a .ui file with the sections Inputs and Outputs
(inputsCollapsibleButton, outputsCollapsibleButton). Settings come in between, Apply and Results below.
"""

from __future__ import annotations

import time
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from regsuite_slicer import advanced, install
from regsuite_slicer.job import JobError, Progress
from regsuite_slicer.logic_base import Listeners, RegistrationLogic, Run
from regsuite_slicer.results import SceneResult
from regsuite_slicer.results_section import ResultsSection


class PanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Base of the panels' widgets. `parameters` is the typed parameter node while the panel is shown, `run` the job that runs."""

    LOGIC: type[RegistrationLogic]

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.parameters: Any = None
        self.run: Run | None = None
        self._guiTag: Any = None
        self._began, self._lastLog, self._entered = 0.0, "", False

    def setup(self) -> None:
        """Build the panel. Nothing is computed, installed or started here."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = self.LOGIC()
        root = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(root)
        root.layout().insertWidget(1, slicer.util.loadUI(str(advanced.RESOURCES / "UI" / "RegSuiteSettings.ui")))
        root.layout().addWidget(slicer.util.loadUI(str(advanced.RESOURCES / "UI" / "RegSuiteRun.ui")))
        self.ui = slicer.util.childWidgetVariables(root)
        self._controls = self._addSettings()
        self.ui.settingsCollapsibleButton.visible = bool(self._controls)
        several = len(self._controls) > 1
        for widget in (self.ui.methodComboBox, self.ui.methodComboBoxLabel, self.ui.methodSaysLabel):
            widget.visible = several
        self.ui.logText.visible = False
        self.ui.progressBar.visible = False
        root.setMRMLScene(slicer.mrmlScene)
        self.results = ResultsSection(self.ui)
        self.ui.applyButton.connect("clicked()", self.onApply)
        self.ui.cancelButton.connect("clicked()", self.onCancel)
        self.ui.logButton.connect("toggled(bool)", self.onLogToggled)
        self.ui.resetButton.connect("clicked()", self.onReset)
        self.ui.presetComboBox.connect("currentIndexChanged(int)", self.onPresetChosen)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        # A parameter node may be imported before the nodes that it names: connect again at the end.
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self.onSceneReplaced)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)

    def enter(self) -> None:
        """The user has come to the panel."""
        self._entered = True
        self.setParameters(self.logic.getParameterNode())

    def exit(self) -> None:
        """The user has gone to another module; a job goes on, and its result arrives all the same."""
        self._entered = False
        if self.run is None:
            self.results.close()
            self.setParameters(None)

    def cleanup(self) -> None:
        """The module is unloaded."""
        if self.run is not None:
            self.run.listeners = Listeners()  # the widgets will be gone when it has ended
            self.run.cancel()
            self.run = None
        self.results.close()
        self.setParameters(None)
        self.removeObservers()

    def onSceneStartClose(self, caller: Any = None, event: Any = None) -> None:
        """The nodes are about to go; a run notices by itself."""
        self.results.close()
        self.setParameters(None)

    def onSceneReplaced(self, caller: Any = None, event: Any = None) -> None:
        """Another scene is there."""
        if self._entered:
            self.setParameters(self.logic.getParameterNode())

    def onNodeRemoved(self, caller: Any, event: Any) -> None:
        """A chosen node may be gone."""
        if self.parameters is not None and not caller.IsClosing():
            self.refresh()

    def setParameters(self, parameters: Any) -> None:
        """Connect the widgets to a parameter node, or to none."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.refresh)
        self.parameters = None  # filling the widgets is no choice of the user's
        if parameters is not None:
            widgets = {w.property("SlicerParameterName"): w for w in vars(self.ui).values() if w.property("SlicerParameterName")}
            if not self._controls:  # a panel without methods has neither of them
                widgets.pop("method"), widgets.pop("preset")
            for controls in self._controls.values():
                widgets.update(controls.widgets)
            # connectGui() loses the tag in some versions of Slicer; this is what it calls.
            self._guiTag = parameters.connectParametersToGui(widgets)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.refresh)
            self.parameters = parameters
        self.refresh()

    def refresh(self, caller: Any = None, event: Any = None) -> None:
        """Bring everything that depends on the parameters up to date."""
        self.results.update(self.parameters)
        reason = self._whyNot()
        self.ui.applyButton.enabled = not reason
        self.ui.applyButton.toolTip = reason or _("Start the registration; Slicer can be used meanwhile.")
        self.ui.cancelButton.enabled = self.run is not None
        if self.parameters is None:
            return
        if not self._controls:
            return
        for key, controls in self._controls.items():
            controls.page.visible = key == self.parameters.method
        self.ui.methodSaysLabel.text = advanced.method(self.parameters.method)["summary"]
        count = len(self._changed())
        self.ui.changedLabel.text = (
            _("As in the preset.") if not count else _("{count} changed from the preset.").format(count=count)
        )
        self.ui.resetButton.enabled = count > 0

    def _whyNot(self) -> str:
        if self.run is not None:
            return _("Running; press Cancel to stop.")
        if self.parameters is None:
            return _("There is no scene.")
        return str(self.logic.missing(self.logic.inputsOf(self.parameters), self.logic.outputsOf(self.parameters)))

    def _addSettings(self) -> dict[str, advanced.AdvancedControls]:
        """A page of controls for each method. They lie in a box of their own: a collapsible button hides its direct children."""
        box = qt.QWidget(self.ui.advancedCollapsibleButton)
        layout = qt.QVBoxLayout(box)
        layout.setContentsMargins(0, 0, 0, 0)
        made = {key: advanced.AdvancedControls(key, member, box) for key, member in self.logic.SPEC.methods.items()}
        for controls in made.values():
            layout.addWidget(controls.page)
        self.ui.advancedCollapsibleButton.layout().addWidget(box)
        return made

    def _pack(self) -> Any:
        return getattr(self.parameters, self.logic.SPEC.methods[self.parameters.method])

    def _changed(self) -> dict[str, Any]:
        return advanced.changed_settings(self.parameters.method, self.parameters.preset, self._pack())

    def onPresetChosen(self, index: int = -1) -> None:
        """The user chose a preset: all settings follow. When the parameter node itself has changed there is nothing to do."""
        if self.parameters is None or self.ui.presetComboBox.currentText == self.parameters.preset:
            return
        with slicer.util.NodeModify(self.parameters.parameterNode):
            self.parameters.preset = self.ui.presetComboBox.currentText
            self.onReset()

    def onReset(self) -> None:
        """Set every setting back to the preset."""
        with slicer.util.NodeModify(self.parameters.parameterNode):
            advanced.apply_preset(self.parameters.method, self.parameters.preset, self._pack())

    def onApply(self) -> None:
        """Start the job."""
        listeners = Listeners(self.onProgress, self.onFinished, self.onFailed, self.onCancelled)
        self._began = time.monotonic()
        try:
            self.run = self.logic.beginFromParameters(self.parameters, listeners)
        except JobError as error:
            self._tellFailure(error)
            return
        self.ui.progressBar.value = 0
        self.ui.progressBar.visible = True
        self.ui.resultsCollapsibleButton.enabled = False
        self.refresh()

    def onCancel(self) -> None:
        """Stop the job."""
        if self.run is not None:
            self.ui.statusLabel.text = _("Cancelling...")
            self.run.cancel()

    def onProgress(self, progress: Progress) -> None:
        """Show how far the job is."""
        self.ui.progressBar.value = round(1000 * progress.fraction)
        parts = [progress.stage.capitalize(), progress.detail, progress.time_left]
        self.ui.statusLabel.text = ", ".join(part for part in parts if part)
        self._showLog()

    def onFinished(self, result: SceneResult) -> None:
        """Show the result."""
        run = self._ended()
        if self.parameters is None:  # the scene was replaced meanwhile
            return
        with slicer.util.NodeModify(self.parameters.parameterNode):
            self.keepOutputs(result)
        self.refresh()
        warning = self.present(run)
        text = _("Finished in {seconds:.0f} s.").format(seconds=time.monotonic() - self._began)
        self.ui.statusLabel.text = " ".join([text, *result.warnings, warning]).strip()
        self.ui.resultsCollapsibleButton.collapsed = False

    def keepOutputs(self, result: Any) -> None:
        """Write the nodes of a result into the parameter node; a panel with other outputs overrides this."""
        self.parameters.outputTransform, self.parameters.verdictTable = result.transform, result.table
        if result.volume is not None:
            self.parameters.outputVolume = result.volume

    def present(self, run: Run) -> str:
        """Show a finished run in views and Results; returns a warning, or "". A panel with other results overrides or extends."""
        return self.results.show(run, self.parameters)

    def onFailed(self, error: JobError) -> None:
        """Say why there is no result; the scene is as it was."""
        self._ended()
        self._tellFailure(error)

    def onCancelled(self, error: JobError) -> None:
        """The job was stopped; the scene is as it was."""
        self._ended()
        self.ui.statusLabel.text = _("Cancelled; nothing was changed.")

    def _ended(self) -> Run:
        assert self.run is not None
        self._showLog()
        self._lastLog, run, self.run = self.run.log, self.run, None
        self.ui.progressBar.visible = False
        self.ui.resultsCollapsibleButton.enabled = True
        self.refresh()
        return run

    def _tellFailure(self, error: JobError) -> None:
        self.ui.statusLabel.text = str(error)
        # From the event loop: a dialog that waits must not hold up whoever reports the failure.
        qt.QTimer.singleShot(0, lambda: self._showFailure(error))

    def _showFailure(self, error: JobError) -> None:
        if error.kind != "torch":
            slicer.util.errorDisplay(str(error), windowTitle="RegistrationSuite")
        elif install.ensure_torch().ready:  # it is there and does not start; the user is asked before anything is done
            self.ui.statusLabel.text = install.ensure_torch(repair=True).message

    def onLogToggled(self, shown: bool) -> None:
        """Show or hide what the worker said."""
        self.ui.logText.visible = shown
        self._showLog()

    def _showLog(self) -> None:
        if not self.ui.logButton.checked:
            return
        text = self.run.log if self.run is not None else self._lastLog
        self.ui.logText.setPlainText(text or _("The registration process has said nothing."))
