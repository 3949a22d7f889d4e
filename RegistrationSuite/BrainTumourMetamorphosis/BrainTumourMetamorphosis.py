"""Brain Tumour Metamorphosis: a panel and a console function around regsuite's weighted metamorphosis."""

from pathlib import Path
from typing import Annotated, Any, Union

import qt
import slicer
from regsuite_slicer import advanced, playback, tumour_results, views
from regsuite_slicer.logic_base import Input, Listeners, PanelSpec, RegistrationLogic, Run
from regsuite_slicer.module import ModuleTest, describe, offer_sample
from regsuite_slicer.panel import PanelWidget
from regsuite_slicer.results import RequestNodes
from regsuite_slicer.sample_data import load_phantom
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

METHOD = "tumour-wm"


class BrainTumourMetamorphosis(ScriptedLoadableModule):
    """What the application shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        describe(
            parent,
            _("Brain Tumour Metamorphosis"),
            _(
                "Brings a healthy template (moving) onto a patient with a brain tumour (fixed): anatomy moves by deformation, "
                "new tissue appears only inside the lesion that you give. You see where a ventricle went, how far tissue was "
                "pushed, and what was added."
            ),
            _(
                "Please cite A. Francois, M. Maillard, C. Oppenheim, J. Pallud, I. Bloch, P. Gori and J. Glaunes, Weighted "
                "Metamorphosis for Registration of Images with Different Topologies, WBIR 2022."
            ),
        )
        offer_sample("BrainTumourPhantom", "brain-tumour", makeSampleData, __file__)


def makeSampleData(source: Any = None) -> list[Any]:
    """A made patient with a tumour (fixed), a healthy template (moving) and the lesion; nothing is downloaded."""
    names = {"fixed": "TumourPatient", "moving": "HealthyTemplate", "lesion_mask": "TumourLesion"}
    loaded = list(load_phantom("brain-tumour", names).values())
    slicer.util.setSliceViewerLayers(background=loaded[0], fit=True)
    return loaded


@parameterNodeWrapper
class BrainTumourMetamorphosisParameterNode:
    """What the panel shows, saved with the scene. The settings are the method's config."""

    fixedVolume: slicer.vtkMRMLScalarVolumeNode
    movingVolume: slicer.vtkMRMLScalarVolumeNode
    lesionMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer knows no A | B
    fixedLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    movingLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    method: Annotated[str, Choice([METHOD])] = METHOD
    preset: Annotated[str, Choice(list(advanced.PRESETS))] = "Default"
    tumourWm: advanced.settings_pack(METHOD)
    outputTransform: slicer.vtkMRMLTransformNode
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    maps: bool = False
    browser: slicer.vtkMRMLSequenceBrowserNode
    residual: slicer.vtkMRMLScalarVolumeNode
    verdictTable: slicer.vtkMRMLTableNode


class BrainTumourMetamorphosisLogic(RegistrationLogic):
    """`slicer.util.getModuleLogic("BrainTumourMetamorphosis")`."""

    PARAMETERS = BrainTumourMetamorphosisParameterNode
    SPEC = PanelSpec(
        methods={METHOD: "tumourWm"},
        inputs=(
            Input("fixedVolume", "fixed", "volume", "patient", required=True),
            Input("movingVolume", "moving", "volume", "healthy template", required=True),
            Input("lesionMask", "lesion_mask", "labels", "lesion", of="fixedVolume"),
            Input("fixedLandmarks", "fixed_landmarks", "points", "patient landmarks"),
            Input("movingLandmarks", "moving_landmarks", "points", "template landmarks"),
        ),
        pairs=(("fixedLandmarks", "movingLandmarks"),),
    )

    def deliver(self, outputs: Any, folder: Path) -> tumour_results.TumourResult:
        """Transform, volumes, the geodesic as a sequence, and the tables into the scene."""
        return tumour_results.apply_tumour_result(outputs, Path(folder))

    def register(
        self,
        patientNode: Any,
        templateNode: Any,
        lesionNode: Any = None,
        preset: str = "Default",
        *,
        patientLandmarks: Any = None,
        templateLandmarks: Any = None,
        transform: Any = None,
        volume: Any = None,
        maps: bool = False,
        settings: dict[str, Any] | None = None,
        device: str = "auto",
        seed: int = 0,
        blocking: bool = True,
        listeners: Listeners | None = None,
    ) -> tumour_results.TumourResult | Run:
        """Bring the healthy `templateNode` (moving) onto `patientNode` (fixed); no panel is needed. The inputs are not changed.

        lesionNode: segmentation or label map of tumour and oedema in the patient; the variants lddmm and metamorphosis need none.
        Landmarks measure the result. transform, volume: nodes for the result (None: a new transform; no volume; volume=True: a new
        one). settings: values of the method's config that differ from the preset, such as {"variant": "lddmm"}. blocking=True waits
        and returns a TumourResult; blocking=False returns a Run at once. Raises JobError with one sentence when something is
        missing.
        """
        inputs = {
            "fixedVolume": patientNode,
            "movingVolume": templateNode,
            "lesionMask": lesionNode,
            "fixedLandmarks": patientLandmarks,
            "movingLandmarks": templateLandmarks,
        }
        new = volume is True
        outputs = RequestNodes(patientNode, templateNode, transform, None if new else volume, want_volume=new)
        run = self.begin(
            inputs, outputs, method=METHOD, preset=preset, settings=settings, device=device, seed=seed, listeners=listeners,
            further={"maps": True} if maps else None,
        )  # fmt: skip
        return run.wait() if blocking else run


class BrainTumourMetamorphosisWidget(PanelWidget):
    """The panel; its inputs and outputs are in Resources/UI/BrainTumourMetamorphosis.ui."""

    LOGIC = BrainTumourMetamorphosisLogic

    def setup(self) -> None:
        """The common panel, and below its results the way from the template to the patient."""
        self.player: Any = None
        PanelWidget.setup(self)
        section = self.ui.geodesicCollapsibleButton
        section.parent().layout().addWidget(section)
        self.player = playback.PlayControls(
            (self.ui.playButton, self.ui.geodesicSlider, self.ui.timeLabel),
            lambda: getattr(self.parameters, "browser", None), tumour_results.show_time, tumour_results.time_text,
        )  # fmt: skip
        self.ui.residualCheckBox.connect("toggled(bool)", self.onResidualToggled)
        self.refresh()

    def refresh(self, caller: Any = None, event: Any = None) -> None:
        """Also the player, the overlay and the table, from the nodes of the result: they come back with a saved scene."""
        PanelWidget.refresh(self, caller, event)
        if self.player is None:
            return
        self.player.update()
        self.ui.residualCheckBox.enabled = getattr(self.parameters, "residual", None) is not None and self.results.fixed is not None
        self._showMassEffect(tumour_results.mass_effect_rows(getattr(self.parameters, "verdictTable", None)))

    def keepOutputs(self, result: Any) -> None:
        """Also what was added, and the player."""
        PanelWidget.keepOutputs(self, result)
        self.parameters.browser, self.parameters.residual = result.browser, result.residual

    def present(self, run: Run) -> str:
        """Nothing of an earlier result is played or laid over the views."""
        self.player.stop()
        self.ui.residualCheckBox.checked = False
        return PanelWidget.present(self, run)

    def onResidualToggled(self, on: bool) -> None:
        """Lay what was added over the patient, or take it away."""
        residual = getattr(self.parameters, "residual", None)
        if residual is not None and self.results.fixed is not None:
            self.player.stop()
            views.show_overlay(self.results.fixed, residual if on else None, 0.7, fit=False)

    def onSceneStartClose(self, caller: Any = None, event: Any = None) -> None:
        """The nodes are about to go."""
        self.player.stop()
        PanelWidget.onSceneStartClose(self, caller, event)
        self.ui.residualCheckBox.checked = False

    def _showMassEffect(self, rows: list[dict[str, float]]) -> None:
        table, shown = self.ui.massEffectTable, list(tumour_results.COLUMNS)[2:]
        titles = [_("Distance"), _("Moved"), _("95 %"), _("Outward"), _("Volume")]
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(titles)
        table.verticalHeader().hide()
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            cells = [f"{row['from_mm']:g} to {row['to_mm']:g}", *(f"{row[key]:.2f}" for key in shown)]
            for column, text in enumerate(cells):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.visible = self.ui.massEffectLabel.visible = bool(rows)


class BrainTumourMetamorphosisTest(ModuleTest):
    """The self test that the application runs: a small phantom, made and registered."""

    def test_missing_inputs_are_named(self) -> None:
        """Apply is not possible in an empty scene, and the reason is told."""
        logic = BrainTumourMetamorphosisLogic()
        parameters = logic.getParameterNode()
        self.assertIn("patient", logic.missing(logic.inputsOf(parameters), logic.outputsOf(parameters)))

    def test_phantom_is_registered(self) -> None:
        """The template comes onto the patient, with a table of the mass effect. Skipped where PyTorch is not installed."""
        if self.torchIsMissing():
            return
        names = {"fixed": "patient", "moving": "template", "lesion_mask": "lesion"}
        nodes = load_phantom("brain-tumour", names, size=(40, 48, 36))
        result = BrainTumourMetamorphosisLogic().register(nodes["fixed"], nodes["moving"], nodes["lesion_mask"], preset="Preview")
        metrics = result.report["metrics"]
        self.assertGreater(metrics["after"]["similarity"]["ncc"], metrics["before"]["similarity"]["ncc"])
        self.assertGreater(result.mass_effect.GetNumberOfColumns(), 3)
        self.delayDisplay("The template was brought onto the patient.")
