"""Stand-ins for the pure Python parts of `slicer` that slicer-core lacks: scripted modules, i18n, parameter nodes."""
from __future__ import annotations

import importlib
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer


class ScriptedLoadableModule:
    """Base class of <Name>: fills the module's description, finds its icon, registers its self test."""

    def __init__(self, parent: Any) -> None:
        self.parent, self.moduleName = parent, type(self).__name__
        parent.title = parent.helpText = parent.acknowledgementText = ""
        parent.categories, parent.dependencies, parent.contributors = [], [], []
        for suffix in (".svg", ".png"):
            icon = Path(self.resourcePath(f"Icons/{self.moduleName}{suffix}"))
            if icon.is_file():
                parent.icon = sys.modules["qt"].QIcon(str(icon))
                break
        slicer.selfTests = getattr(slicer, "selfTests", {})
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        """Absolute path of a file in the module's Resources folder."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        page = docPage and slicer.app.documentationBaseUrl + docPage
        url = page or slicer.app.moduleDocumentationUrl(self.moduleName)
        return f'<p>For more information see the <a href="{url}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **options: Any) -> None:
        """Run <Name>Test; a missing test class is an error, as in Slicer."""
        test_class = getattr(sys.modules[type(self).__module__], f"{self.moduleName}Test", None)
        if test_class is None:
            raise AssertionError(f"Test case class not found: {self.moduleName}Test")
        test = test_class()
        test.messageDelay = msec
        test.runTest(**options)


class ScriptedLoadableModuleWidget:
    """Base class of <Name>Widget."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            parent = slicer.qSlicerScriptedLoadableModuleWidget()
            parent.setLayout(sys.modules["qt"].QVBoxLayout())
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent, self.layout = parent, parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        """Absolute path of a file in the module's Resources folder."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """Slicer adds its Reload & Test section here, in developer mode only."""

    def cleanup(self) -> None:
        """For derived classes: called before the module is unloaded."""

    def _onModuleAboutToBeUnloaded(self, name: str) -> None:
        if name == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Base class of <Name>Logic: keeps the module's parameter node."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        """The module's parameter node in the scene; made when there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None:
                node.SetAttribute("ModuleName", self.moduleName)    # closing the scene takes the attribute away
                return node
        elif self.getAllParameterNodes():
            return self.getAllParameterNodes()[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        return [node for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
                if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        """A new parameter node, not yet in the scene."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base class of <Name>Test, the self test that the application runs."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.enableScreenshots, self.screenshotScaleFactor = False, 1.0

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        """Log the message; there is nobody to wait for."""
        slicer.util.delayDisplay(message, 0)

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        self.delayDisplay(description)

    def runTest(self) -> None:
        """For derived classes."""


class qSlicerScriptedLoadableModule:
    """The module object: slicer.modules.<name in lower case>."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = str(path), path.stem
        self.title = self.helpText = self.acknowledgementText = ""
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.hidden, self.icon, self.index = False, None, -1
        self.widgetRepresentationCreationEnabled = True
        self._python = importlib.import_module(path.stem)
        self._representation: Any = None
        self.instance = getattr(self._python, self.name)(self)

    def self(self) -> Any:
        return self.instance

    def widgetRepresentation(self) -> Any:
        """The panel: built on first use, `setup()` called."""
        if self._representation is None and hasattr(self._python, f"{self.name}Widget"):
            self.createNewWidgetRepresentation()
        return self._representation

    def createNewWidgetRepresentation(self) -> Any:
        qt = sys.modules["qt"]
        parent = slicer.qSlicerScriptedLoadableModuleWidget()
        parent.setLayout(qt.QVBoxLayout())
        parent.setMRMLScene(slicer.mrmlScene)
        widget = getattr(self._python, f"{self.name}Widget")(parent)
        parent._adopt(widget)
        setattr(slicer.modules, f"{self.name}Widget", widget)
        widget.setup()
        widget.layout.addStretch(1)
        self._representation = parent
        return parent

    def close(self) -> None:
        """Forget the panel; the module itself stays known."""
        self._representation = None
        vars(slicer.modules).pop(f"{self.name}Widget", None)


def _tr(text: str) -> str:
    """slicer.i18n.tr: the text itself, there are no translations."""
    return text


def _translate(context: str, text: str) -> str:
    return text


def _publish(name: str, **content: Any) -> None:
    """Make `slicer.<name>` importable with this content."""
    module = types.ModuleType(f"slicer.{name}")
    vars(module).update(content)
    sys.modules[module.__name__] = module
    setattr(slicer, name, module)


def install() -> None:
    """Add the missing submodules to `slicer`, and the module SampleData."""
    from . import parameter_node, sample_data
    bases = (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic,
             ScriptedLoadableModuleTest)
    _publish("ScriptedLoadableModule", **{cls.__name__: cls for cls in bases}, __all__=[cls.__name__ for cls in bases])
    _publish("i18n", tr=_tr, translate=_translate)
    slicer.parameterNodeWrapper = sys.modules["slicer.parameterNodeWrapper"] = parameter_node
    slicer.qSlicerScriptedLoadableModule = qSlicerScriptedLoadableModule
    slicer.selfTests = {}
    sys.modules["SampleData"] = sample_data
    slicer.modules.sampleDataSources = {}
