"""Slices to Volume: a panel and a console function around regsuite's slices-qmri."""

from pathlib import Path
from typing import Annotated, Any, Union

import qt
import slicer
from regsuite_slicer import advanced, slice_results, views
from regsuite_slicer.logic_base import Input, Listeners, PanelSpec, RegistrationLogic, Run
from regsuite_slicer.module import ModuleTest, describe, offer_sample
from regsuite_slicer.panel import PanelWidget
from regsuite_slicer.sample_data import load_slice_phantom
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

METHOD = "slices-qmri"
SLICES_ROLE = "RegistrationSuite.Slices"


class SliceToVolume(ScriptedLoadableModule):
    """What the application shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        describe(
            parent,
            _("Slices to Volume"),
            _(
                "Finds where 2D slices lie in a 3D scan of the same patient and brings their values into it: six quantitative "
                "MR slices of a hip, for example, whose order and position cannot be relied on. Choose the volume, list the "
                "slices and press Apply."
            ),
            _(
                "Please cite the method: slice-to-volume registration for quantitative MR of the hip, WBIR 2022 (23), "
                "completed here; and A. Laurentini, The visual hull concept for silhouette-based image understanding, IEEE "
                "PAMI 1994."
            ),
        )
        offer_sample("HipRadialPhantom", "hip-radial", makeSampleData, __file__)


def makeSampleData(source: Any = None) -> list[Any]:
    """A made hip and six T2 slices of it with wrong headers, their bones and regions; nothing is downloaded."""
    nodes = load_slice_phantom("hip-radial", "Hip", "HipT2", bones=True)
    slicer.util.setSliceViewerLayers(background=nodes[0], fit=True)
    return nodes


@parameterNodeWrapper
class SliceToVolumeParameterNode:
    """What the panel shows, saved with the scene. The slices are node references of the role SLICES_ROLE, in their order."""

    volume: slicer.vtkMRMLScalarVolumeNode
    volumeMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer knows no A | B
    labels: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    localiser: slicer.vtkMRMLScalarVolumeNode
    upright: Annotated[str, Choice(["j", "-j", "i", "-i"])] = "j"
    method: Annotated[str, Choice([METHOD])] = METHOD
    preset: Annotated[str, Choice(list(advanced.PRESETS))] = "Default"
    slicesQmri: advanced.settings_pack(METHOD)
    outputTransform: slicer.vtkMRMLTransformNode
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    slicesTable: slicer.vtkMRMLTableNode
    verdictTable: slicer.vtkMRMLTableNode


class SliceToVolumeLogic(RegistrationLogic):
    """`slicer.util.getModuleLogic("SliceToVolume")`."""

    PARAMETERS = SliceToVolumeParameterNode
    SPEC = PanelSpec(
        methods={METHOD: "slicesQmri"},
        inputs=(
            Input("volume", "volume", "volume", "volume", required=True),
            Input("slices", "slices", "volumes", "slices", required=True),
            Input("volumeMask", "volume_mask", "labels", "bone in the volume", of="volume"),
            Input("sliceMasks", "slice_masks", "labels_each", "bone in the slices", of="slices", like="volumeMask"),
            Input("localiser", "localiser", "volume", "localiser"),
            Input("labels", "labels", "labels", "regions", of="volume"),
        ),
        command="slices",
    )

    @staticmethod
    def slicesOf(parameters: Any) -> list[Any]:
        """The listed slices that still are in the scene."""
        node = parameters.parameterNode
        found = [node.GetNthNodeReference(SLICES_ROLE, n) for n in range(node.GetNumberOfNodeReferences(SLICES_ROLE))]
        return [item for item in found if item is not None]

    @staticmethod
    def setSlices(parameters: Any, slices: list[Any]) -> None:
        """List these slices instead."""
        node = parameters.parameterNode
        node.RemoveNodeReferenceIDs(SLICES_ROLE)
        for item in slices:
            node.AddNodeReferenceID(SLICES_ROLE, item.GetID())
        node.Modified()

    def inputsOf(self, parameters: Any) -> dict[str, Any]:
        """The list of slices and their bones come from the references."""
        slices = self.slicesOf(parameters)
        bones = slice_results.bones_of(slices)
        lists = {"slices": slices, "sliceMasks": bones if any(bones) else None}
        others = [item.parameter for item in self.SPEC.inputs if item.parameter not in lists]
        return {name: getattr(parameters, name) for name in others} | lists

    def furtherOf(self, parameters: Any) -> dict[str, Any]:
        """How the pictures stand on the localiser."""
        return {"upright": parameters.upright} if parameters.localiser is not None else {}

    def outputsOf(self, parameters: Any) -> slice_results.SliceNodes:
        """The nodes that a run reads from and writes to."""
        slices = tuple(self.slicesOf(parameters))
        return slice_results.SliceNodes(parameters.volume, slices, parameters.outputVolume, parameters.labels)

    def missing(self, inputs: Any, outputs: Any) -> str:
        """As for every panel; and the volume is none of the slices."""
        reason = super().missing(inputs, outputs)
        if not reason and inputs["volume"] in inputs["slices"]:
            return _("The volume is on the list of slices; take it off.")
        reason = reason or self._missingBones(inputs)
        if not reason and outputs.quantitative in (inputs["volume"], *inputs["slices"]):
            return _("The quantitative map is an input; select another node for it.")
        return reason

    @staticmethod
    def _missingBones(inputs: Any) -> str:
        """Bones are given for every slice and the volume, or the slices' are looked for."""
        slices, bones = inputs["slices"], inputs.get("sliceMasks")
        if not bones:
            return ""
        if len(bones) != len(slices):
            return _("Expected one bone for each of the {count} slices, found {found}.").format(count=len(slices), found=len(bones))
        without = [node.GetName() for node, bone in zip(slices, bones, strict=True) if bone is None]
        if without:
            return _("'{name}' has no bone yet; set it for every slice, or for none.").format(name=without[0])
        return "" if inputs.get("volumeMask") else _("The slices have bones; select the bone in the volume as well.")

    def deliver(self, outputs: Any, folder: Path) -> Any:
        """Transforms, slices at their places, emulated slices, the map and the tables."""
        return slice_results.apply_slices(outputs, folder)

    def place(
        self,
        volumeNode: Any,
        sliceNodes: list[Any],
        preset: str = "Default",
        *,
        volumeMask: Any = None,
        sliceMasks: list[Any] | None = None,
        labels: Any = None,
        localiser: Any = None,
        upright: str = "j",
        settings: dict[str, Any] | None = None,
        device: str = "auto",
        seed: int = 0,
        blocking: bool = True,
        listeners: Listeners | None = None,
    ) -> slice_results.SlicesInScene | Run:
        """Find where the slices lie in the volume; no panel is needed. The inputs are not changed.

        volumeMask, sliceMasks (one for each slice): bones, for a start from their outlines; labels: regions of the volume for the
        table; localiser: a volume whose centre and normal are the axis of radial slices that do not know their places, upright
        the axis of their pictures along it (j: down the picture, -j, i, -i).
        Returns a SlicesInScene (transforms, placed and emulated slices, differences, the quantitative map, tables, report), or with
        blocking=False a Run at once. Raises JobError with one sentence when something is missing or goes wrong.
        """
        inputs = {"volume": volumeNode, "slices": list(sliceNodes), "volumeMask": volumeMask, "sliceMasks": sliceMasks}
        inputs |= {"labels": labels, "localiser": localiser}
        outputs = slice_results.SliceNodes(volumeNode, tuple(sliceNodes), regions=labels)
        further = {"upright": upright} if localiser is not None else {}
        run = self.begin(
            inputs, outputs, method=METHOD, preset=preset, settings=settings, device=device, seed=seed, listeners=listeners,
            further=further,
        )  # fmt: skip
        return run.wait() if blocking else run


class SliceToVolumeWidget(PanelWidget):
    """The panel; its inputs and outputs are in Resources/UI/SliceToVolume.ui."""

    LOGIC = SliceToVolumeLogic

    def setup(self) -> None:
        """The common sections, then the list of slices."""
        PanelWidget.setup(self)
        self.ui.slicesTable.setHorizontalHeaderLabels([_("Slice"), _("Bone"), _("Place"), _("Moved"), _("Confidence")])
        self.ui.slicesTable.verticalHeader().setDefaultSectionSize(24)
        self.ui.addSliceButton.connect("clicked()", self.onAdd)
        self.ui.addAllButton.connect("clicked()", self.onAddAll)
        self.ui.removeSliceButton.connect("clicked()", self.onRemove)
        self.ui.setBoneButton.connect("clicked()", lambda: self.onSetBone(everywhere=False))
        self.ui.setAllBonesButton.connect("clicked()", lambda: self.onSetBone(everywhere=True))
        self.ui.showRealButton.connect("clicked()", lambda: self.onShow("placed"))
        self.ui.showEmulatedButton.connect("clicked()", lambda: self.onShow("emulated"))
        self.ui.showDifferenceButton.connect("clicked()", lambda: self.onShow("difference"))
        self.ui.showMapButton.connect("clicked()", self.onShowMap)
        for name in ("overlayButton", "checkerboardButton", "flickerButton", "gridButton", "glyphButton", "previewButton"):
            getattr(self.ui, name).visible = False  # they compare two volumes

    def refresh(self, caller: Any = None, event: Any = None) -> None:
        """Also the table of slices."""
        PanelWidget.refresh(self, caller, event)
        slices = [] if self.parameters is None else self.logic.slicesOf(self.parameters)
        rows = slice_results.table_rows(None if self.parameters is None else self.parameters.slicesTable, slices)
        table = self.ui.slicesTable
        table.setRowCount(len(rows))
        for row, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                item = qt.QTableWidgetItem(cell)
                item.setToolTip(slice_results.place_in_words(slices[row]))
                table.setItem(row, column, item)
        table.resizeColumnsToContents()
        self.ui.uprightComboBox.enabled = self.parameters is not None and self.parameters.localiser is not None
        done = self.parameters is not None and self.parameters.slicesTable is not None
        for name in ("showRealButton", "showEmulatedButton", "showDifferenceButton", "showMapButton"):
            getattr(self.ui, name).enabled = done

    def onAdd(self) -> None:
        """The chosen volume goes to the end of the list."""
        node = self.ui.sliceSelector.currentNode()
        if node is not None and node not in self.logic.slicesOf(self.parameters):
            self.logic.setSlices(self.parameters, [*self.logic.slicesOf(self.parameters), node])

    def onAddAll(self) -> None:
        """Every volume of one slice that is not on the list."""
        listed = self.logic.slicesOf(self.parameters)
        found = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if slice_results.is_flat(node)]
        new = sorted((node for node in found if node not in listed), key=lambda node: node.GetName())
        self.logic.setSlices(self.parameters, [*listed, *new])

    def onRemove(self) -> None:
        """The selected slice leaves the list."""
        row, listed = self.ui.slicesTable.currentRow(), self.logic.slicesOf(self.parameters)
        if 0 <= row < len(listed):
            self.logic.setSlices(self.parameters, listed[:row] + listed[row + 1 :])

    def onSetBone(self, everywhere: bool) -> None:
        """The chosen labels (or none) are the bone of the selected slice, or of every slice."""
        bone, row = self.ui.boneSelector.currentNode(), self.ui.slicesTable.currentRow()
        listed = self.logic.slicesOf(self.parameters)
        for node in listed if everywhere else listed[max(row, 0) : row + 1]:
            node.SetNodeReferenceID(slice_results.BONE_ROLE, bone.GetID() if bone is not None else None)
        self.parameters.parameterNode.Modified()

    def keepOutputs(self, result: Any) -> None:
        """The nodes of the result."""
        self.parameters.verdictTable, self.parameters.slicesTable = result.table, result.slices_table
        self.parameters.outputVolume = result.quantitative

    def present(self, run: Run) -> str:
        """The verdict, and the values laid over the volume."""
        warning = PanelWidget.present(self, run)
        self.onShowMap()
        return warning

    def onShow(self, what: str) -> None:
        """The red view on the selected slice (the first without a selection): placed, emulated or difference."""
        slice_results.show_slice(self.parameters.slicesTable, max(0, self.ui.slicesTable.currentRow()), what)

    def onShowMap(self) -> None:
        """The quantitative map over the volume."""
        if self.parameters.volume is not None and self.parameters.outputVolume is not None:
            views.show_overlay(self.parameters.volume, self.parameters.outputVolume, 0.7)


class SliceToVolumeTest(ModuleTest):
    """The self test that the application runs: a small phantom, made and placed."""

    def test_phantom_is_placed(self) -> None:
        """The slices of the phantom are found with confidence. Skipped where PyTorch is not installed."""
        if self.torchIsMissing():
            return
        volume, *slices = load_slice_phantom("hip-radial", "Hip", "HipT2", size=(64, 64, 64))
        result = SliceToVolumeLogic().place(volume, slices, preset="Preview")
        self.assertEqual(len(result.transforms), 6)
        self.assertNotEqual(result.report["verdict"]["level"], "poor")
        self.delayDisplay(result.report["verdict"]["headline"])
