"""A throw-away module that the harness's own tests load: scales a volume in a worker process."""
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper, parameterPack
from slicer.ScriptedLoadableModule import *  # noqa: F403
from slicer.util import VTKObservationMixin


class HarnessExample(ScriptedLoadableModule):  # noqa: F405
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Harness example")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Testing")]


class Mode(Enum):
    FAST = "fast"
    ACCURATE = "accurate"


@parameterPack
class Settings:
    gain: Annotated[float, WithinRange(0.5, 8.0)] = 2.0
    passes: Annotated[int, WithinRange(1, 5)] = 1


@parameterNodeWrapper
class HarnessExampleParameterNode:
    inputVolume: slicer.vtkMRMLScalarVolumeNode
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    settings: Settings
    mode: Mode = Mode.ACCURATE
    invert: bool = False
    report: Path = Path("report.json")


class HarnessExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):  # noqa: F405
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)  # noqa: F405
        VTKObservationMixin.__init__(self)
        self.parameters = self.guiTag = self.process = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)  # noqa: F405
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HarnessExample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HarnessExampleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneChanged)
        # A parameter node may be imported before the nodes that it refers to: connect again at the end.
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneChanged)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.checkCanApply)

    def enter(self):
        self.setParameters(self.logic.getParameterNode())

    def exit(self):
        self.setParameters(None)

    def cleanup(self):
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        self.setParameters(None)

    def onSceneChanged(self, caller, event):
        self.setParameters(self.logic.getParameterNode())

    def setParameters(self, parameters):
        if self.parameters is not None:
            self.parameters.disconnectGui(self.guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
        self.parameters = parameters
        if parameters is not None:
            self.guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.checkCanApply)
            self.checkCanApply()

    def checkCanApply(self, caller=None, event=None):
        ready = self.parameters is not None and self.parameters.inputVolume is not None
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Scale the input volume") if ready else _("Select an input volume")

    def onApply(self, checked=False):
        self.ui.progressBar.value = 0
        self.process = qt.QProcess()
        self.process.connect("readyReadStandardOutput()", self.onOutput)
        self.process.connect("finished(int,QProcess::ExitStatus)", self.onFinished)
        code = "import time\nfor i in range(5): print(20 * (i + 1), flush=True); time.sleep(0.02)"
        self.process.start("PythonSlicer", ["-c", code])

    def onOutput(self):
        for line in self.process.readAllStandardOutput().data().decode().split():
            self.ui.progressBar.value = int(line)

    def onFinished(self, exitCode, exitStatus):
        self.logic.scale(self.parameters)
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Verdict")
        values = slicer.util.arrayFromVolume(self.parameters.outputVolume)
        row = np.array([[values.min(), values.max()]], float)
        slicer.util.updateTableFromArray(table, row, ["Minimum", "Maximum"])
        table.SetUseColumnTitleAsColumnHeader(True)
        self.ui.tableView.setMRMLTableNode(table)


class HarnessExampleLogic(ScriptedLoadableModuleLogic):  # noqa: F405
    def getParameterNode(self):
        return HarnessExampleParameterNode(super().getParameterNode())

    def scale(self, parameters):
        if parameters.outputVolume is None:
            parameters.outputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Scaled")
        source = slicer.util.arrayFromVolume(parameters.inputVolume)
        factor = -parameters.settings.gain if parameters.invert else parameters.settings.gain
        slicer.util.updateVolumeFromArray(parameters.outputVolume, source * factor)
        matrix = vtk.vtkMatrix4x4()
        parameters.inputVolume.GetIJKToRASMatrix(matrix)
        parameters.outputVolume.SetIJKToRASMatrix(matrix)
        return parameters.outputVolume


class HarnessExampleTest(ScriptedLoadableModuleTest):  # noqa: F405
    def runTest(self):
        slicer.mrmlScene.Clear()
        logic = HarnessExampleLogic()
        self.assertEqual(logic.getParameterNode().settings.gain, 2.0)
