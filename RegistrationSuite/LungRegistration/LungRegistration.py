"""Lung CT Registration: a panel and a console function around regsuite's lung methods."""

from typing import Annotated, Any, Union

import slicer
from regsuite_slicer import advanced
from regsuite_slicer.module import ModuleTest, describe, offer_sample
from regsuite_slicer.pair_logic import PairLogic, pair_spec
from regsuite_slicer.panel import PanelWidget
from regsuite_slicer.sample_data import load_pair, load_phantom
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

METHODS = {
    "lung-convex": "lungConvex",
    "lung-mlvirnet": "lungMlvirnet",
    "lung-vxmpp": "lungVxmpp",
    "lung-keypoints": "lungKeypoints",
}
METHOD = "lung-convex"


class LungRegistration(ScriptedLoadableModule):
    """What the application shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        describe(
            parent,
            _("Lung CT Registration"),
            _(
                "Finds every point of one chest CT in another of the same patient: breath out and in, before and after "
                "treatment. Choose the volume that stays (fixed) and the one to be deformed (moving), and press Apply. You "
                "get a transform, the moving volume shown under it, and a verdict: how well it fits, where it folds, what to "
                "look at."
            ),
            _(
                "Please cite the method that you use. Discrete search (13): H. Siebert and M. P. Heinrich, Learn to Fuse "
                "Input Features for Large-Deformation Registration with Differentiable Convex-Discrete Optimisation, WBIR "
                "2022. Network with heatmaps, instance refinement (10): M. P. Heinrich and L. Hansen, VoxelMorph++: Going "
                "Beyond the Cranial Vault with Keypoint Supervision and Multi-channel Instance Optimisation, WBIR 2022. "
                "Network (27): A. Hering, B. van Ginneken and S. Heldmann, mlVIRNET: Multilevel Variational Image "
                "Registration Network, MICCAI 2019. Keypoints: M. P. Heinrich, H. Handels and I. J. A. Simpson, Estimating "
                "Large Lung Motion in COPD Patients by Symmetric Regularised Correspondence Fields, MICCAI 2015."
            ),
        )
        offer_sample("ThoraxPhantom", "thorax", makeSampleData, __file__)


def makeSampleData(source: Any = None) -> list[Any]:
    """A made chest, breath out (fixed) and in (moving), with 200 landmark pairs; nothing is downloaded."""
    return load_pair("thorax", "ThoraxExhale", "ThoraxInhale")


@parameterNodeWrapper
class LungRegistrationParameterNode:
    """What the panel shows, saved with the scene. The settings are the method's config."""

    fixedVolume: slicer.vtkMRMLScalarVolumeNode
    movingVolume: slicer.vtkMRMLScalarVolumeNode
    fixedMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer knows no A | B
    movingMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    fixedLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    movingLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    method: Annotated[str, Choice(list(METHODS))] = METHOD
    preset: Annotated[str, Choice(list(advanced.PRESETS))] = "Default"
    lungConvex: advanced.settings_pack("lung-convex")
    lungMlvirnet: advanced.settings_pack("lung-mlvirnet")
    lungVxmpp: advanced.settings_pack("lung-vxmpp")
    lungKeypoints: advanced.settings_pack("lung-keypoints")
    outputTransform: slicer.vtkMRMLTransformNode
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    maps: bool = False
    verdictTable: slicer.vtkMRMLTableNode


class LungRegistrationLogic(PairLogic):
    """`slicer.util.getModuleLogic("LungRegistration")`; `register` is the console function.

    Methods: lung-convex; lung-mlvirnet or lung-vxmpp (networks trained on made chests, then the same refinement); lung-keypoints
    (matched points and a spline).
    """

    PARAMETERS = LungRegistrationParameterNode
    SPEC = pair_spec(METHODS, "lungs")


class LungRegistrationWidget(PanelWidget):
    """The panel; its inputs and outputs are in Resources/UI/LungRegistration.ui."""

    LOGIC = LungRegistrationLogic


class LungRegistrationTest(ModuleTest):
    """The self test that the application runs: a small phantom, made and registered."""

    def test_missing_inputs_are_named(self) -> None:
        """Apply is not possible in an empty scene, and the reason is told."""
        logic = LungRegistrationLogic()
        parameters = logic.getParameterNode()
        reason = logic.missing(logic.inputsOf(parameters), logic.outputsOf(parameters))
        self.assertIn("fixed volume", reason)

    def test_phantom_is_registered(self) -> None:
        """The landmarks of the phantom come much closer. Skipped where PyTorch is not installed."""
        if self.torchIsMissing():
            return
        names = {key: key for key in ("fixed", "moving", "fixed_landmarks", "moving_landmarks")}
        nodes = load_phantom("thorax", names, size=(64, 56, 48))
        result = LungRegistrationLogic().register(
            nodes["fixed"], nodes["moving"], preset="Preview",
            fixedLandmarks=nodes["fixed_landmarks"], movingLandmarks=nodes["moving_landmarks"],
        )  # fmt: skip
        metrics = result.report["metrics"]
        before, after = (metrics[side]["landmarks_tre_mm"]["mean"] for side in ("before", "after"))
        self.assertLess(after, before / 2)
        self.assertIs(result.transform.GetNodeReference(result.transform.GetFixedNodeReferenceRole()), nodes["fixed"])
        self.delayDisplay(f"Landmarks: {before:.1f} mm apart before, {after:.1f} mm after.")
