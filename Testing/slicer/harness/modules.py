"""slicer.modules and the module manager: real C++ logics, and scripted modules once they are loaded."""
from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import slicer

# Without Terminologies: its logic wants the application's share folder, which slicer-core does not carry.
_LOGICS = {
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "Colors": "vtkSlicerColorLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}


class Module:
    """A C++ module without its GUI: a name and a logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name = self.title = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> None:
        """C++ module panels are not in the harness."""


class FactoryManager:
    def __init__(self, modules: dict[str, Any]) -> None:
        self._modules = modules

    def loadedModuleNames(self) -> list[str]:
        return list(self._modules)

    def isLoaded(self, name: str) -> bool:
        return name in self._modules

    def isRegistered(self, name: str) -> bool:
        return name in self._modules


class Signals:
    """Named signals of an object that is not a QObject here; names that were not declared are refused."""

    def __init__(self, *names: str) -> None:
        self._slots: dict[str, list[Callable[..., Any]]] = {name: [] for name in names}

    def connect(self, signal: str, slot: Callable[..., Any]) -> bool:
        if signal not in self._slots:
            raise AttributeError(f"{type(self).__name__} has no signal '{signal}'; it has {sorted(self._slots)}")
        self._slots[signal].append(slot)
        return True

    def disconnect(self, signal: str, slot: Callable[..., Any]) -> bool:
        if slot not in self._slots.get(signal, []):
            return False
        self._slots[signal].remove(slot)
        return True

    def emit(self, signal: str, *arguments: Any) -> None:
        for slot in list(self._slots[signal]):
            slot(*arguments)

    def emit_once(self, signal: str) -> None:
        """Emit to every slot connected so far and let go of them: each start-up slot runs once."""
        slots, self._slots[signal] = self._slots[signal], []
        for slot in slots:
            slot()


class ModuleManager(Signals):
    def __init__(self) -> None:
        super().__init__("moduleAboutToBeUnloaded(QString)", "moduleLoaded(QString)", "moduleUnloaded(QString)")
        self._modules: dict[str, Any] = {}

    def factoryManager(self) -> FactoryManager:
        return FactoryManager(self._modules)

    def module(self, name: str) -> Any:
        return self._modules.get(name)

    def modulesNames(self) -> list[str]:
        return list(self._modules)

    def register(self, name: str, module: Any) -> None:
        """Make a module known to slicer.util.getModule() and as slicer.modules.<name in lower case>."""
        self._modules[name] = module
        setattr(slicer.modules, name.lower(), module)

    def unregister(self, name: str) -> None:
        self._modules.pop(name)
        delattr(slicer.modules, name.lower())


def create_core_modules(manager: ModuleManager, application_logic: Any, scene: Any) -> None:
    """One instance of every module logic in slicer-core that a registration panel may ask for."""
    slicer.modules = types.SimpleNamespace()
    for name, class_name in _LOGICS.items():
        logic = getattr(slicer, class_name)()
        application_logic.SetModuleLogic(name, logic)
        if hasattr(logic, "SetMRMLApplicationLogic"):
            logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        manager.register(name, Module(name, logic))
