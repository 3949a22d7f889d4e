"""Hidden module: puts `regsuite` and `regsuite_slicer`, which lie beside this file, on Python's path."""

import sys
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest


def add_to_path() -> str:
    """Make both packages importable, from source and installed alike; returns the folder."""
    folder = str(Path(__file__).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return folder


class RegSuiteBackend(ScriptedLoadableModule):
    """Other modules name it in `parent.dependencies` and import regsuite_slicer when their panel is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = _("RegistrationSuite Backend")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.contributors = ["The RegistrationSuite contributors"]
        parent.hidden = True
        parent.widgetRepresentationCreationEnabled = False
        parent.helpText = _("Registration methods on PyTorch, used by the RegistrationSuite panels. For research only.")
        parent.acknowledgementText = _("Each method's panel names the paper to cite.")
        add_to_path()
        slicer.app.connect("startupCompleted()", self._watch_scene)

    def _watch_scene(self) -> None:
        """Slicer reads displacement grids as cubic; ours are linear, so that they match what regsuite measured."""
        slicer.mrmlScene.AddObserver(slicer.mrmlScene.EndImportEvent, self._scene_imported)

    def _scene_imported(self, scene: Any, event: str) -> None:
        from regsuite_slicer.nodes import restore_interpolation

        restore_interpolation(scene)


class RegSuiteBackendTest(ScriptedLoadableModuleTest):
    """The self test that the application runs."""

    def runTest(self) -> None:
        """Both packages are found beside this file."""
        import regsuite
        import regsuite_slicer

        self.assertEqual({str(Path(p.__file__).parents[1]) for p in (regsuite, regsuite_slicer)}, {add_to_path()})
