"""Multimodal Alignment: the pose of one volume in another of any modality, from anywhere and any way up."""

from typing import Annotated, Any, Union

import numpy as np
import qt
import slicer
from regsuite_slicer import advanced, arrays
from regsuite_slicer.logic_base import Input, Listeners, PanelSpec, RegistrationLogic, Run
from regsuite_slicer.module import ModuleTest, describe, offer_sample
from regsuite_slicer.panel import PanelWidget
from regsuite_slicer.results import REPORT_ATTRIBUTE, RequestNodes, SceneResult, report_of
from regsuite_slicer.sample_data import load_phantom
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

METHODS = {"multimodal-csngf": "csngf", "rigid": "rigid", "affine": "affine"}
METHOD = "multimodal-csngf"


class MultimodalAlignment(ScriptedLoadableModule):
    """What the application shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        describe(
            parent,
            _("Multimodal Alignment"),
            _(
                "Finds how two volumes of one patient lie to each other: CT, MR, PET, any contrast, shifted and turned as "
                "they may be. Choose the volume that stays (fixed) and the one to be aligned (moving), and press Apply. You "
                "get a linear transform, how sure it is, and the other poses that came close: click one to look at it. Where "
                "the volumes nearly agree already, the methods rigid and affine are quicker; affine also stretches and "
                "shears."
            ),
            _(
                "Please cite the method that you use. Pose search: J. Ofverstedt, J. Lindblad and N. Sladoje, Cross-Sim-NGF: "
                "FFT-Based Global Rigid Multimodal Alignment of Image Volumes using Normalized Gradient Fields, WBIR 2022."
            ),
        )
        offer_sample("MultimodalPhantom", "brain-tumour", makeSampleData, __file__)


def makeSampleData(source: Any = None, size: tuple[int, int, int] | None = None) -> list[Any]:
    """A made head, and the same with its greys turned over, lying on its side 60 mm away; nothing is downloaded."""
    fixed = load_phantom("brain-tumour", {"fixed": "HeadT1"}, size=size)["fixed"]
    moving = _turned(fixed)
    slicer.util.setSliceViewerLayers(background=fixed, fit=True)
    return [fixed, moving]


def _turned(fixed: Any) -> Any:
    values = slicer.util.arrayFromVolume(fixed).astype(np.float32)
    other = np.where(values > 0.02 * values.max(), values.max() - 0.8 * values, 0.0)
    quarter = np.array([[0.0, -1.0, 0.0, 60.0], [1.0, 0.0, 0.0, -25.0], [0.0, 0.0, 1.0, 15.0], [0.0, 0.0, 0.0, 1.0]])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", slicer.mrmlScene.GenerateUniqueName("HeadTurned"))
    slicer.util.updateVolumeFromArray(node, other)
    node.SetIJKToRASMatrix(arrays.array_to_matrix(quarter @ arrays.ijk_to_ras(fixed)))
    node.CreateDefaultDisplayNodes()
    return node


@parameterNodeWrapper
class MultimodalAlignmentParameterNode:
    """What the panel shows, saved with the scene. The settings are the methods' configs."""

    fixedVolume: slicer.vtkMRMLScalarVolumeNode
    movingVolume: slicer.vtkMRMLScalarVolumeNode
    fixedMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer knows no A | B
    movingMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    method: Annotated[str, Choice(list(METHODS))] = METHOD
    preset: Annotated[str, Choice(list(advanced.PRESETS))] = "Default"
    csngf: advanced.settings_pack("multimodal-csngf")
    rigid: advanced.settings_pack("rigid")
    affine: advanced.settings_pack("affine")
    outputTransform: slicer.vtkMRMLLinearTransformNode
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    verdictTable: slicer.vtkMRMLTableNode


class MultimodalAlignmentLogic(RegistrationLogic):
    """`slicer.util.getModuleLogic("MultimodalAlignment")`."""

    PARAMETERS = MultimodalAlignmentParameterNode
    SPEC = PanelSpec(
        methods=METHODS,
        inputs=(
            Input("fixedVolume", "fixed", "volume", "fixed volume", required=True),
            Input("movingVolume", "moving", "volume", "moving volume", required=True),
            Input("fixedMask", "fixed_mask", "labels", "fixed mask", of="fixedVolume"),
            Input("movingMask", "moving_mask", "labels", "moving mask", of="movingVolume"),
        ),
    )

    def outputsOf(self, parameters: Any) -> RequestNodes:
        """The nodes that a run from the panel reads from and writes to."""
        return RequestNodes(
            parameters.fixedVolume, parameters.movingVolume, parameters.outputTransform, parameters.outputVolume,
            parameters.verdictTable, linear=True,
        )  # fmt: skip

    def register(
        self,
        fixedNode: Any,
        movingNode: Any,
        preset: str = "Default",
        *,
        fixedMask: Any = None,
        movingMask: Any = None,
        transform: Any = None,
        settings: dict[str, Any] | None = None,
        method: str = METHOD,
        device: str = "auto",
        seed: int = 0,
        blocking: bool = True,
        listeners: Listeners | None = None,
    ) -> SceneResult | Run:
        """Align `movingNode` with `fixedNode`; no panel is needed. The inputs are not changed.

        method: multimodal-csngf (from anywhere), rigid or affine (from nearby); transform: a linear transform node for the result.
        blocking=True returns a SceneResult, whose report lists the candidates; blocking=False a Run. Raises JobError.
        """
        inputs = {"fixedVolume": fixedNode, "movingVolume": movingNode, "fixedMask": fixedMask, "movingMask": movingMask}
        run = self.begin(
            inputs, RequestNodes(fixedNode, movingNode, transform, linear=True), method=method, preset=preset, settings=settings,
            device=device, seed=seed, listeners=listeners,
        )  # fmt: skip
        return run.wait() if blocking else run

    def showCandidate(self, transform: Any, table: Any, number: int) -> None:
        """Put candidate `number` (0: the answer) of the result in `table` into the transform node."""
        matrix = np.array(report_of(table)["candidates"][number]["matrix_ras"])
        transform.SetMatrixTransformFromParent(arrays.array_to_matrix(matrix))


class MultimodalAlignmentWidget(PanelWidget):
    """The panel; its inputs and outputs are in Resources/UI/MultimodalAlignment.ui."""

    LOGIC = MultimodalAlignmentLogic

    def setup(self) -> None:
        """The common sections, and the candidates below the results."""
        PanelWidget.setup(self)
        root = self.ui.MultimodalAlignment
        root.layout().addWidget(self.ui.candidatesCollapsibleButton)
        table = self.ui.candidatesTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Pose"), _("Score"), _("Turned (\u00b0)"), _("Shifted (mm)")])
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.verticalHeader().hide()
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.connect("cellClicked(int,int)", self.onCandidate)
        self._listCandidates()

    def refresh(self, caller: Any = None, event: Any = None) -> None:
        """Also list the candidates of the result."""
        PanelWidget.refresh(self, caller, event)
        self._listCandidates()

    def onCandidate(self, row: int, column: int = 0) -> None:
        """Show the pose that was clicked."""
        if self.parameters.outputTransform is not None:
            self.logic.showCandidate(self.parameters.outputTransform, self.parameters.verdictTable, row)

    def _listCandidates(self) -> None:
        node = self.parameters.verdictTable if self.parameters is not None else None
        report = report_of(node) if node is not None and node.GetAttribute(REPORT_ATTRIBUTE) else {}
        table, rows = self.ui.candidatesTable, report.get("candidates") or []
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            matrix = np.array(row["matrix_ras"])
            turn = np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1.0) / 2.0, -1.0, 1.0)))
            name = _("Answer") if number == 0 else _("Runner-up {number}").format(number=number)
            cells = (name, f"{row['score']:.3f}", f"{turn:.1f}", f"{np.linalg.norm(matrix[:3, 3]):.1f}")
            for column, text in enumerate(cells):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        table.visible = bool(rows)
        table.resizeRowsToContents()
        table.setFixedHeight(sum(table.rowHeight(row) for row in range(len(rows))) + 40)  # 40: header and frame
        self.ui.candidatesCollapsibleButton.visible = bool(rows)
        self.ui.confidenceLabel.text = self._inWords(report.get("confidence"), report.get("confidence_level"))

    @staticmethod
    def _inWords(confidence: float | None, level: str | None) -> str:
        if confidence is None:
            return _("No result yet.")
        words = {"good": _("sure"), "check": _("fairly sure")}.get(level, _("not sure: look at every pose"))
        return _("The answer is {words} (confidence {confidence:.2f} of 1).").format(words=words, confidence=confidence)


class MultimodalAlignmentTest(ModuleTest):
    """The self test that the application runs: a small made head finds its pose."""

    def test_a_turned_head_is_found(self) -> None:
        """A quarter turn and 60 mm are undone. Skipped where PyTorch is not installed."""
        if self.torchIsMissing():
            return
        fixed, moving = makeSampleData(size=(48, 56, 44))
        result = MultimodalAlignmentLogic().register(fixed, moving, preset="Preview")
        point = np.array([10.0, -20.0, 15.0, 1.0])
        found = arrays.matrix_to_array(result.transform.GetMatrixTransformFromParent()) @ point
        self.assertLess(np.linalg.norm(found[:3] - np.array([80.0, -15.0, 30.0])), 5.0)
        self.delayDisplay("The pose was found.")
