"""Starts a headless Slicer, once per process: `slicer.mrmlScene`, `slicer.modules`, `slicer.app`, `qt`, `ctk`."""
from __future__ import annotations

import atexit
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

import slicer
import vtk

from . import errors
from . import qt as qt_stand_ins
from .errors import SlotError, raise_slot_errors
from .modules import ModuleManager, Signals, create_core_modules
from .scene_io import IOManager

__all__ = ["App", "SlotError", "raise_slot_errors", "reset_scene", "start"]

# Nodes that Slicer's subject hierarchy plugins own; without Qt there are no plugins, so the harness adds the items.
_IN_SUBJECT_HIERARCHY = (
    "vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsNode", "vtkMRMLTransformNode", "vtkMRMLModelNode",
    "vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode", "vtkMRMLTextNode", "vtkMRMLSequenceNode",
    "vtkMRMLSequenceBrowserNode",
)
_SLICE_VIEWS = (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal"))


class App(Signals):
    """slicer.app: what of qSlicerApplication scripted modules use."""

    applicationName = "Slicer"
    majorVersion, minorVersion, patchVersion = 5, 10, 0
    applicationVersion = "5.10.0-harness"
    revision = "0"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"

    def __init__(self, temporary: Path) -> None:
        super().__init__("startupCompleted()", "aboutToQuit()", "lastWindowClosed()")
        self.temporaryPath = str(temporary)
        self.slicerHome = str(temporary / "home")
        self.extensionsInstallPath = str(temporary / "extensions")
        self.testing = True
        self._qt = qt_stand_ins.install(temporary / "settings")
        self._scene = slicer.vtkMRMLScene()
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._modules, self._io, self._layout = ModuleManager(), IOManager(), None
        self.layout_logic: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logic

    def coreIOManager(self) -> IOManager:
        return self._io

    ioManager = coreIOManager

    def moduleManager(self) -> ModuleManager:
        return self._modules

    def layoutManager(self) -> Any:
        if self._layout is None:
            from .layout import LayoutManager
            self._layout = LayoutManager(self.layout_logic, self._logic)
        return self._layout

    def processEvents(self, *arguments: Any) -> None:
        self._qt.processEvents()

    def testingEnabled(self) -> bool:
        """True: slicer.util's message boxes only log. Set `app.testing = False` to have them recorded as dialogs."""
        return self.testing

    def topLevelWidgets(self) -> list[Any]:
        return self._qt.topLevelWidgets()

    def settings(self) -> Any:
        return sys.modules["qt"].QSettings()

    userSettings = revisionUserSettings = settings

    def setOverrideCursor(self, cursor: Any) -> None:
        self._qt.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        self._qt.restoreOverrideCursor()

    def translate(self, context: str, text: str) -> str:
        return text

    def pauseRender(self) -> None:
        """Views render only when asked to."""

    def resumeRender(self) -> None:
        """Views render only when asked to."""

    def startupEnvironment(self) -> Any:
        return sys.modules["qt"].QProcessEnvironment.systemEnvironment()

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def palette(self) -> Any:
        return self._qt.palette()

    def style(self) -> Any:
        return self._qt.style()


def _add_python_slicer(folder: Path) -> None:
    """PythonSlicer is on the PATH of the application; here it starts this interpreter."""
    folder.mkdir()
    script = folder / "PythonSlicer"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"


def _log_vtk_to_stderr() -> None:
    window = vtk.vtkOutputWindow()
    window.SetDisplayModeToAlwaysStdErr()
    vtk.vtkOutputWindow.SetInstance(window)


def _add_view_logics(app: App) -> None:
    """View nodes and slice logics exist from the start, as in the application; windows open when they are drawn."""
    scene, logic = app.mrmlScene(), app.applicationLogic()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    layout = slicer.vtkMRMLLayoutLogic()
    layout.SetMRMLApplicationLogic(logic)
    layout.SetMRMLScene(scene)
    layout.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    app.layout_logic = layout
    for name, orientation in _SLICE_VIEWS:
        slice_logic = slicer.vtkMRMLSliceLogic()
        slice_logic.SetMRMLApplicationLogic(logic)
        logic.GetSliceLogics().AddItem(slice_logic)
        slice_logic.SetMRMLScene(scene)
        node = scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        slice_logic.SetSliceNode(node)
        node.SetOrientation(orientation)


def _set_cache(scene: Any, folder: Path) -> None:
    """Scene bundles are unpacked in the cache folder."""
    folder.mkdir()
    cache, data_io = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(str(folder))
    cache.SetMRMLScene(scene)
    data_io.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(data_io)


def _fill_scene(app: App) -> None:
    scene, logic = app.mrmlScene(), app.applicationLogic()
    _set_cache(scene, Path(app.temporaryPath) / "cache")
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logic.SetMRMLScene(scene)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    create_core_modules(app.moduleManager(), logic, scene)
    _add_view_logics(app)


def _follow_subject_hierarchy(scene: Any) -> None:
    """Give each new data node an item in the subject hierarchy."""
    @vtk.calldata_type(vtk.VTK_OBJECT)
    def added(caller: Any, event: str, node: Any) -> None:
        if not caller.IsBatchProcessing() and not caller.IsImporting():
            _add_item(caller, node)

    def batch_ended(caller: Any, event: str) -> None:
        if caller.IsImporting() or caller.IsClosing():
            return
        for class_name in _IN_SUBJECT_HIERARCHY:
            for node in slicer.util.getNodesByClass(class_name, caller):
                _add_item(caller, node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def removed(caller: Any, event: str, node: Any) -> None:
        if caller.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(caller)
        item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
        if item:
            hierarchy.RemoveItem(item, False, False)

    scene.AddObserver(scene.NodeAddedEvent, added)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, removed)
    for event in (scene.EndBatchProcessEvent, scene.EndImportEvent):
        scene.AddObserver(event, batch_ended)


def _add_item(scene: Any, node: Any) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None or node.GetHideFromEditors() or not any(node.IsA(c) for c in _IN_SUBJECT_HIERARCHY):
        return
    if not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def start() -> App:
    """The one application of this process; created by the first call."""
    existing = getattr(slicer, "app", None)
    if isinstance(existing, App):
        return existing
    errors.install()
    _log_vtk_to_stderr()
    temporary = Path(tempfile.mkdtemp(prefix="slicer-harness-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    _add_python_slicer(temporary / "bin")
    slicer.app = app = App(temporary)
    slicer.mrmlScene = app.mrmlScene()
    _fill_scene(app)
    _follow_subject_hierarchy(app.mrmlScene())
    from . import scripted
    scripted.install()
    return app


def reset_scene() -> Any:
    """Close the scene, as File > Close Scene does, and return the (same, emptied) scene.

    Nodes that live as long as the application stay: colours, views, selection.
    """
    scene = slicer.mrmlScene
    scene.Clear(False)
    scene.SetURL("")
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        for clear in (composite.SetBackgroundVolumeID, composite.SetForegroundVolumeID, composite.SetLabelVolumeID):
            clear(None)
        composite.SetForegroundOpacity(0.0)
        composite.SetLabelOpacity(1.0)
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    return scene
