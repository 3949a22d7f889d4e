"""What every module of the extension says of itself, offers as sample data and tests in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from regsuite_slicer import install

DOCUMENTATION = "https://github.com/RegistrationSuite/RegistrationSuite#readme"


def describe(parent: Any, title: str, text: str, citation: str) -> None:
    """Fill in what the application shows about a module: title, help with the limits of use, whom to cite."""
    parent.title = title
    parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
    parent.dependencies = ["RegSuiteBackend"]
    parent.contributors = ["The RegistrationSuite contributors"]
    limits = _("Research use only; not a medical device, not for clinical decisions.")
    parent.helpText = f'{text} {limits} <a href="{DOCUMENTATION}">{_("Documentation")}</a>.'
    parent.acknowledgementText = f"{citation} {_('The code is written anew from the papers.')}"


def offer_sample(name: str, phantom: str, make: Callable[..., list[Any]], module_file: str) -> None:
    """Add a phantom to the module Sample Data once the application has started.

    make(source) puts it into the scene and returns the nodes; module_file: the module's __file__, whose icon is the thumbnail.
    """

    def register() -> None:
        import SampleData

        module = Path(module_file)
        icon = module.parent / "Resources" / "Icons" / f"{module.stem}.png"
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=_("Registration Suite"),
            sampleName=name,
            uris=f"generated:{phantom}",
            fileNames=f"{name}.nrrd",
            nodeNames=name,
            thumbnailFileName=str(icon) if icon.is_file() else None,
            customDownloader=make,
        )

    slicer.app.connect("startupCompleted()", register)


class ModuleTest(ScriptedLoadableModuleTest):
    """Base of the self tests that the application runs: every method test_*, each in an empty scene."""

    def setUp(self) -> None:
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        """Run every test."""
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            self.setUp()
            getattr(self, name)()

    def torchIsMissing(self) -> bool:
        """Whether a test that registers has to be left out, which is shown."""
        missing = not install.ensure_torch().ready
        if missing:
            self.delayDisplay("PyTorch is not installed: the method itself is not tested.")
        return missing
