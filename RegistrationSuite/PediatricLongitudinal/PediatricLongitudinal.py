"""Pediatric Longitudinal: where a child's brain grew between scans, and by how much per year."""

from pathlib import Path
from typing import Annotated, Any, Union

import slicer
from regsuite_slicer import charts, growth_results, playback, scan_list, views
from regsuite_slicer.logic_base import Input, Listeners, PanelSpec, RegistrationLogic, Run
from regsuite_slicer.module import ModuleTest, describe, offer_sample
from regsuite_slicer.panel import PanelWidget
from regsuite_slicer.sample_data import load_growth_phantom
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

FRAMES = 16


class PediatricLongitudinal(ScriptedLoadableModule):
    """What the application shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        describe(
            parent,
            _("Pediatric Longitudinal"),
            _(
                "Where did a child's brain grow, and by how much per year? List two or more T1 scans with the ages, and press "
                "Apply. You get a map of growth on the mean brain, curves of every region over age, and pictures to play."
            ),
            _(
                "Please cite the study of longitudinal registration of children's brains that this panel follows, WBIR 2022 (24), "
                "and for the mid-space S. Joshi et al., Unbiased diffeomorphic atlas construction for computational anatomy, "
                "NeuroImage 2004."
            ),
        )
        offer_sample("GrowingBrainPhantom", "growth", makeSampleData, __file__)


def makeSampleData(source: Any = None) -> list[Any]:
    """A made head at 2, 3 and 5 years and the regions of its first scan; nothing is downloaded."""
    scans, ages, regions = load_growth_phantom("Child", "Child regions")
    for scan, age in zip(scans, ages, strict=True):
        scan.SetAttribute(scan_list.AGE_ATTRIBUTE, f"{age:g}")
    slicer.util.setSliceViewerLayers(background=scans[0], fit=True)
    return [*scans, regions]


@parameterNodeWrapper
class PediatricLongitudinalParameterNode:
    """What the panel shows, saved with the scene. The scans and `ages` are kept by scan_list."""

    ages: str = ""
    regions: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer knows no A | B
    regionsScan: slicer.vtkMRMLScalarVolumeNode
    quality: Annotated[str, Choice(["Preview", "Default", "Best"])] = "Default"
    align: Annotated[str, Choice(["affine", "rigid", "none"])] = "affine"
    bias: bool = True
    brightness: bool = True
    anyContrast: bool = False
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    template: slicer.vtkMRMLScalarVolumeNode
    outputTransform: slicer.vtkMRMLTransformNode
    volumesTable: slicer.vtkMRMLTableNode
    chart: slicer.vtkMRMLPlotChartNode
    browser: slicer.vtkMRMLSequenceBrowserNode
    verdictTable: slicer.vtkMRMLTableNode


class PediatricLongitudinalLogic(RegistrationLogic):
    """`slicer.util.getModuleLogic("PediatricLongitudinal")`."""

    PARAMETERS = PediatricLongitudinalParameterNode
    SPEC = PanelSpec(
        methods={},
        inputs=(
            Input("scans", "images", "volumes", "scans", required=True),
            Input("masks", "masks", "labels_each", "brain masks", of="scans"),
            Input("regions", "labels", "labels", "regions", of="regionsScan"),
        ),
        command="longitudinal",
    )

    def inputsOf(self, parameters: Any) -> dict[str, Any]:
        """Scans, ages and masks come from the list; regions without a choice belong to the first scan of the list."""
        rows = scan_list.scans_of(parameters)
        scans, ages = [row[0] for row in rows], [row[1] for row in rows]
        masks = [row[2] for row in rows] if any(row[2] for row in rows) else None
        drawn_on = parameters.regionsScan or (scans[0] if scans else None)
        return {"scans": scans, "ages": ages, "masks": masks, "regions": parameters.regions, "regionsScan": drawn_on}

    def outputsOf(self, parameters: Any) -> growth_results.GrowthNodes:
        """The nodes that a run reads from and writes to."""
        inputs = self.inputsOf(parameters)
        scans, ages = tuple(inputs["scans"]), tuple(inputs["ages"])
        return growth_results.GrowthNodes(scans, ages, parameters.regions, parameters.outputVolume, parameters.outputTransform)

    def furtherOf(self, parameters: Any) -> dict[str, Any]:
        """The switches of the preparation, and which scan the regions belong to."""
        contrast = "any" if parameters.anyContrast else "same"
        steps = {"align": parameters.align, "bias": parameters.bias, "brightness": parameters.brightness, "contrast": contrast}
        inputs = self.inputsOf(parameters)
        return {**steps, "ages": inputs["ages"], "preset": parameters.quality, "frames": FRAMES, **_labelled(inputs)}

    def missing(self, inputs: Any, outputs: Any) -> str:
        """As for every panel; and two scans or more with different ages, and regions that belong to one of them."""
        reason = super().missing(inputs, outputs)
        scans, ages = inputs["scans"], inputs["ages"]
        if reason:
            return str(reason)
        if len(scans) < 2:
            return _("Growth needs two scans or more; add another one.")
        for scan, age in zip(scans, ages, strict=True):
            if not -1.0 <= age <= 120.0:
                return _("Give the age of '{name}' in years (double-click it in the list).").format(name=scan.GetName())
        if len(set(ages)) < len(ages):
            twice = next(age for age in ages if ages.count(age) > 1)
            return _("Two scans have the same age ({age:g} years); growth per year needs different ages.").format(age=twice)
        without = [scan.GetName() for scan, mask in zip(scans, inputs["masks"] or scans, strict=False) if mask is None]
        if without or len(inputs["masks"] or scans) != len(scans):
            return _("Give a brain mask for every scan or for none; '{name}' has none.").format(name=(without or ["the last"])[0])
        if inputs["regions"] is not None and inputs["regionsScan"] not in scans:
            return _("The regions belong to a scan that is not on the list; choose the scan that they are drawn on.")
        if outputs.growth is not None and outputs.growth in scans:
            return _("The growth map is an input; select another node for it.")
        return ""

    def deliver(self, outputs: Any, folder: Path) -> growth_results.GrowthInScene:
        """The growth map, curves, regions, transforms and the pictures to play."""
        return growth_results.apply_growth(outputs, folder)

    def measure(
        self,
        scanNodes: list[Any],
        ages: list[float],
        preset: str = "Default",
        *,
        regions: Any = None,
        regionsScan: Any = None,
        masks: list[Any] | None = None,
        align: str = "affine",
        bias: bool = True,
        brightness: bool = True,
        contrast: str = "same",
        frames: int = FRAMES,
        blocking: bool = True,
        listeners: Listeners | None = None,
    ) -> growth_results.GrowthInScene | Run:
        """Measure growth between scans of one child; no panel is needed. The inputs are not changed.

        ages: years, one for each scan. regions: a segmentation or label map drawn on `regionsScan` (default: the first scan) and
        carried to all. masks: one brain mask for each scan (default: found). contrast: "any" where white and grey matter exchange
        their brightness (below about two years). Returns a GrowthInScene (growth, template, volumes, chart, transforms, regions,
        browser, report), or with blocking=False a Run.
        Raises JobError with one sentence when something is missing or goes wrong.
        """
        drawn_on = regionsScan or (scanNodes[0] if scanNodes else None)
        inputs = {"scans": list(scanNodes), "ages": list(ages), "masks": masks, "regions": regions, "regionsScan": drawn_on}
        outputs = growth_results.GrowthNodes(tuple(scanNodes), tuple(ages), regions)
        steps = {"align": align, "bias": bias, "brightness": brightness, "contrast": contrast}
        further = {**steps, "ages": list(ages), "preset": preset, "frames": frames, **_labelled(inputs)}
        run = self.begin(inputs, outputs, listeners=listeners, further=further)
        return run.wait() if blocking else run


def _labelled(inputs: dict[str, Any]) -> dict[str, int]:
    """Which scan the regions are drawn on, as its number from 1; nothing without regions."""
    if inputs["regions"] is None or inputs["regionsScan"] not in inputs["scans"]:
        return {}
    return {"labels_at": inputs["scans"].index(inputs["regionsScan"]) + 1}


class PediatricLongitudinalWidget(PanelWidget):
    """The panel; its inputs and outputs are in Resources/UI/PediatricLongitudinal.ui."""

    LOGIC = PediatricLongitudinalLogic

    def setup(self) -> None:
        """The common sections, then the list of scans and what shows growth."""
        titles = [_("Scan"), _("Years"), _("Volume %"), _("% per year"), _("Mask")]
        self.scans = self.player = None
        PanelWidget.setup(self)
        self.scans = scan_list.ScanList(self.ui, lambda: self.parameters, titles)
        self.player = playback.PlayControls(
            (self.ui.playButton, self.ui.ageSlider, self.ui.ageLabel),
            lambda: getattr(self.parameters, "browser", None), growth_results.show_playback, growth_results.age_text,
        )  # fmt: skip
        self.ui.showGrowthButton.connect("clicked()", self.onShowGrowth)
        self.ui.showCurvesButton.connect("clicked()", self.onShowCurves)

    def refresh(self, caller: Any = None, event: Any = None) -> None:
        """Also the table of scans and what shows growth."""
        PanelWidget.refresh(self, caller, event)
        if self.scans is not None and self.player is not None:
            self.scans.update()
            self.player.update()
        self.ui.showCurvesButton.enabled = self.parameters is not None and self.parameters.chart is not None
        self.ui.showGrowthButton.enabled = self.parameters is not None and self.parameters.template is not None

    def keepOutputs(self, result: Any) -> None:
        """The nodes of the result."""
        self.parameters.outputVolume, self.parameters.template = result.growth, result.template
        self.parameters.volumesTable, self.parameters.chart = result.volumes, result.chart
        self.parameters.outputTransform, self.parameters.browser = result.transforms[-1], result.browser
        self.parameters.verdictTable = result.table

    def present(self, run: Run) -> str:
        """The words, the curves, and the growth map on the mean brain."""
        self.results.update(self.parameters)
        self.onShowCurves()
        self.onShowGrowth()
        return ""

    def onShowGrowth(self) -> None:
        """Growth in % per year over the mean brain."""
        if self.parameters.template is not None and self.parameters.outputVolume is not None:
            self.player.stop()
            views.show_overlay(self.parameters.template, self.parameters.outputVolume, 0.65)

    def onShowCurves(self) -> None:
        """The chart, in a layout that has one."""
        if self.parameters.chart is not None:
            charts.show_chart(self.parameters.chart)


class PediatricLongitudinalTest(ModuleTest):
    """The self test that the application runs: a small phantom, made and measured."""

    def test_missing_inputs_are_named(self) -> None:
        """Apply is not possible in an empty scene, and the reason is told."""
        logic = PediatricLongitudinalLogic()
        parameters = logic.getParameterNode()
        self.assertIn("scans", logic.missing(logic.inputsOf(parameters), logic.outputsOf(parameters)))

    def test_growth_is_found(self) -> None:
        """The phantom's brain grows. Skipped where PyTorch is not installed."""
        if self.torchIsMissing():
            return
        scans, ages, regions = load_growth_phantom("Child", "Child regions", size=(44, 50, 44))
        result = PediatricLongitudinalLogic().measure(scans, ages, "Preview", regions=regions)
        brain = [row["percent_of_first"] for row in result.report["volumes"]]
        self.assertGreater(brain[-1], 102.0)
        self.assertEqual(len(result.transforms), len(scans))
        self.delayDisplay(f"The brain grew to {brain[-1]:.1f} %.")
