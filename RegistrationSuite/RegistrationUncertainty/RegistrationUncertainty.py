"""Registration Uncertainty: how far a deformation, of whatever program, may be off, voxel by voxel."""

from pathlib import Path
from typing import Annotated, Any

import slicer
from regsuite_slicer import advanced, uncertainty_results, views
from regsuite_slicer.dose_section import DoseSection
from regsuite_slicer.logic_base import Input, Listeners, PanelSpec, RegistrationLogic, Run
from regsuite_slicer.module import ModuleTest, describe
from regsuite_slicer.panel import PanelWidget
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

METHODS = {"uncertainty-elbo": "elbo", "uncertainty-net": "net"}
METHOD = "uncertainty-elbo"


class RegistrationUncertainty(ScriptedLoadableModule):
    """What the application shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        describe(
            parent,
            _("Registration Uncertainty"),
            _(
                "Shows where a deformation can be trusted. Choose the fixed and the moving volume and the transform between "
                "them, made by this extension or any other program, and press Apply. You get a map of its standard deviation "
                "in mm: small at vessels and edges, large where the images tell nothing. With a dose and structures you also get "
                "the dose carried to the fixed volume, its spread in Gy, and dose-volume histograms with bands."
            ),
            _(
                "Please cite: A. Smolders et al., Deformable Image Registration Uncertainty Quantification Using Deep "
                "Learning for Dose Accumulation in Adaptive Proton Therapy, WBIR 2022."
            ),
        )


@parameterNodeWrapper
class RegistrationUncertaintyParameterNode:
    """What the panel shows, saved with the scene. The settings are the method's config."""

    fixedVolume: slicer.vtkMRMLScalarVolumeNode
    movingVolume: slicer.vtkMRMLScalarVolumeNode
    transform: slicer.vtkMRMLTransformNode
    fixedLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    movingLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    doseVolume: slicer.vtkMRMLScalarVolumeNode
    structures: slicer.vtkMRMLSegmentationNode
    movingStructures: slicer.vtkMRMLSegmentationNode
    samples: Annotated[int, WithinRange(2, 1000)] = 50
    method: Annotated[str, Choice(list(METHODS))] = METHOD
    preset: Annotated[str, Choice(list(advanced.PRESETS))] = "Default"
    elbo: advanced.settings_pack("uncertainty-elbo")
    net: advanced.settings_pack("uncertainty-net")
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    verdictTable: slicer.vtkMRMLTableNode
    carriedDose: slicer.vtkMRMLScalarVolumeNode
    doseSpread: slicer.vtkMRMLScalarVolumeNode
    doseTable: slicer.vtkMRMLTableNode
    doseChart: slicer.vtkMRMLPlotChartNode


class RegistrationUncertaintyLogic(RegistrationLogic):
    """`slicer.util.getModuleLogic("RegistrationUncertainty")`."""

    PARAMETERS = RegistrationUncertaintyParameterNode
    SPEC = PanelSpec(
        methods=METHODS,
        inputs=(
            Input("fixedVolume", "fixed", "volume", "fixed volume", required=True),
            Input("movingVolume", "moving", "volume", "moving volume", required=True),
            Input("transform", "transform", "transform", "transform", required=True, of="fixedVolume"),
            Input("fixedLandmarks", "fixed_landmarks", "points", "fixed landmarks"),
            Input("movingLandmarks", "moving_landmarks", "points", "moving landmarks"),
            Input("doseVolume", "dose", "volume", "dose"),
            Input("structures", "structures", "structures", "structures"),
            Input("movingStructures", "contours", "structures", "structures of the moving volume"),
        ),
        pairs=(("fixedLandmarks", "movingLandmarks"),),
        command="uncertain_dose",
    )

    def outputsOf(self, parameters: Any) -> uncertainty_results.UncertaintyNodes:
        """The nodes that a run reads from and writes to."""
        return uncertainty_results.UncertaintyNodes(
            parameters.fixedVolume, parameters.movingVolume, parameters.transform, parameters.outputVolume, parameters.verdictTable,
            parameters.doseVolume, parameters.structures,
        )  # fmt: skip

    def furtherOf(self, parameters: Any) -> dict[str, Any]:
        """The number of samples."""
        return {"samples": parameters.samples}

    def missing(self, inputs: Any, outputs: Any) -> str:
        """As for every panel; and the two volumes differ, the map is none of them, and structures come with a dose."""
        reason = super().missing(inputs, outputs)
        if not reason and outputs.fixed is outputs.moving:
            return _("Fixed and moving volume are the same; select two different ones.")
        if not reason and outputs.sigma is not None and outputs.sigma in (outputs.fixed, outputs.moving, outputs.dose):
            return _("The map is an input; select another node for it.")
        drawn = outputs.structures is not None or inputs.get("movingStructures") is not None
        if not reason and drawn and outputs.dose is None:
            return _("Select the dose as well, or no structures.")
        return str(reason)

    def deliver(self, outputs: Any, folder: Path) -> uncertainty_results.UncertaintyInScene:
        """The map and its table; the doses, their table and their charts."""
        return uncertainty_results.apply_job(outputs, folder)

    def estimate(
        self,
        fixedNode: Any,
        movingNode: Any,
        transformNode: Any,
        preset: str = "Default",
        *,
        dose: Any = None,
        structures: Any = None,
        movingStructures: Any = None,
        fixedLandmarks: Any = None,
        movingLandmarks: Any = None,
        samples: int = 50,
        settings: dict[str, Any] | None = None,
        method: str = METHOD,
        device: str = "auto",
        seed: int = 0,
        blocking: bool = True,
        listeners: Listeners | None = None,
    ) -> uncertainty_results.UncertaintyInScene | Run:
        """The standard deviation of a transform (fixed -> moving, from parent); no panel is needed. The inputs are not changed.

        dose: a volume in Gy in the space of the moving one; structures: a segmentation in the space of the fixed one,
        movingStructures: one of the moving volume, carried over as probabilities; samples: fields drawn to count folds and to
        carry the dose; method: uncertainty-elbo (fitted to the pair), or uncertainty-net (foretold by a network trained on made
        chests, in a small part of the time). Returns an UncertaintyInScene (sigma, table, report, dose), or
        with blocking=False a Run.
        Raises JobError with one sentence when something is missing or goes wrong.
        """
        inputs = {"fixedVolume": fixedNode, "movingVolume": movingNode, "transform": transformNode}
        inputs |= {"fixedLandmarks": fixedLandmarks, "movingLandmarks": movingLandmarks}
        inputs |= {"doseVolume": dose, "structures": structures, "movingStructures": movingStructures}
        outputs = uncertainty_results.UncertaintyNodes(fixedNode, movingNode, transformNode, dose=dose, structures=structures)
        run = self.begin(
            inputs, outputs, method=method, preset=preset, settings=settings, device=device, seed=seed, listeners=listeners,
            further={"samples": samples},
        )  # fmt: skip
        return run.wait() if blocking else run


class RegistrationUncertaintyWidget(PanelWidget):
    """The panel; its inputs and outputs are in Resources/UI/RegistrationUncertainty.ui."""

    LOGIC = RegistrationUncertaintyLogic

    def setup(self) -> None:
        """The common sections; nothing here compares two volumes."""
        PanelWidget.setup(self)
        for name in ("overlayButton", "checkerboardButton", "flickerButton", "gridButton", "glyphButton", "previewButton"):
            getattr(self.ui, name).visible = False
        self.ui.showMapButton.connect("clicked()", self.onShowMap)
        self.doses = DoseSection(self.ui)
        self.ui.inputsCollapsibleButton.parent().layout().addWidget(self.ui.doseCollapsibleButton)  # below Results

    def refresh(self, caller: Any = None, event: Any = None) -> None:
        """Also the map's button and the section of the dose."""
        PanelWidget.refresh(self, caller, event)
        self.ui.showMapButton.enabled = self.parameters is not None and self.parameters.outputVolume is not None
        self.doses.update(self.parameters)

    def keepOutputs(self, result: Any) -> None:
        """The nodes of the result."""
        self.parameters.outputVolume, self.parameters.verdictTable = result.sigma, result.table
        if result.dose is not None:
            self.parameters.carriedDose = result.dose.volumes["nominal"]
            self.parameters.doseSpread = result.dose.volumes.get("sigma")
            self.parameters.doseTable, self.parameters.doseChart = result.dose.table, result.dose.chart

    def present(self, run: Run) -> str:
        """The words; the spread of the dose with its table and chart, or the map of sigma over the fixed volume."""
        self.results.update(self.parameters)
        if run.result is not None and run.result.dose is not None:
            self.doses.showSpread()
        else:
            self.onShowMap()
        return ""

    def onShowMap(self) -> None:
        """The map of sigma over the fixed volume."""
        if self.parameters.fixedVolume is not None and self.parameters.outputVolume is not None:
            views.show_overlay(self.parameters.fixedVolume, self.parameters.outputVolume, 0.6)


class RegistrationUncertaintyTest(ModuleTest):
    """The self test that the application runs."""

    def test_missing_inputs_are_named(self) -> None:
        """Apply is not possible in an empty scene, and the reason is told."""
        logic = RegistrationUncertaintyLogic()
        parameters = logic.getParameterNode()
        self.assertIn("fixed volume", logic.missing(logic.inputsOf(parameters), logic.outputsOf(parameters)))
