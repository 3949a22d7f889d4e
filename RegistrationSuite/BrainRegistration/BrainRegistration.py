"""Brain Registration: a panel and a console function around regsuite's methods for pairs of brains."""

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

METHODS = {"brain-svf": "brainSvf", "pediatric-unet": "pediatricUnet"}
METHOD = "brain-svf"


class BrainRegistration(ScriptedLoadableModule):
    """What the application shows about the module."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        describe(
            parent,
            _("Brain Registration"),
            _(
                "Finds every point of one brain in another: the same person at two times, or two persons; MR of any one contrast. "
                "Choose the volume that stays (fixed) and the one to be deformed (moving), and press Apply. You get a smooth "
                "transform that can be inverted, the moving volume shown under it, and a verdict: how well it fits, where it "
                "folds, what to look at. For a child over several years use Pediatric Longitudinal."
            ),
            _(
                "Please cite the method that you use. Velocity field: M. Hernandez, M. N. Bossa and S. Olmos, Registration of "
                "anatomical images using paths of diffeomorphisms parameterized with stationary vector field flows, IJCV 2009; "
                "local correlation: B. B. Avants et al., Symmetric diffeomorphic image registration with cross-correlation, "
                "Med. Image Anal. 2008. Network (24): Dimitrijevic, Noblet and De Leener, Deep Learning-Based Longitudinal "
                "Intra-subject Registration of Pediatric Brain MR Images, WBIR 2022."
            ),
        )
        offer_sample("TwoBrainsPhantom", "growth", makeSampleData, __file__)


def makeSampleData(source: Any = None) -> list[Any]:
    """A made child's head, younger (fixed) and older (moving), with landmark pairs; nothing is downloaded."""
    return load_pair("growth", "ChildYounger", "ChildOlder")


@parameterNodeWrapper
class BrainRegistrationParameterNode:
    """What the panel shows, saved with the scene. The settings are the method's config."""

    fixedVolume: slicer.vtkMRMLScalarVolumeNode
    movingVolume: slicer.vtkMRMLScalarVolumeNode
    fixedMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer knows no A | B
    movingMask: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    fixedLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    movingLandmarks: slicer.vtkMRMLMarkupsFiducialNode
    method: Annotated[str, Choice(list(METHODS))] = METHOD
    preset: Annotated[str, Choice(list(advanced.PRESETS))] = "Default"
    brainSvf: advanced.settings_pack("brain-svf")
    pediatricUnet: advanced.settings_pack("pediatric-unet")
    outputTransform: slicer.vtkMRMLTransformNode
    outputVolume: slicer.vtkMRMLScalarVolumeNode
    maps: bool = False
    verdictTable: slicer.vtkMRMLTableNode


class BrainRegistrationLogic(PairLogic):
    """`slicer.util.getModuleLogic("BrainRegistration")`; `register` is the console function.

    Methods: brain-svf; pediatric-unet (a network briefly trained on made heads, then the refinement of brain-svf).
    """

    PARAMETERS = BrainRegistrationParameterNode
    SPEC = pair_spec(METHODS, "brain")


class BrainRegistrationWidget(PanelWidget):
    """The panel; its inputs and outputs are in Resources/UI/BrainRegistration.ui."""

    LOGIC = BrainRegistrationLogic


class BrainRegistrationTest(ModuleTest):
    """The self test that the application runs: a small phantom, made and registered."""

    def test_missing_inputs_are_named(self) -> None:
        """Apply is not possible in an empty scene, and the reason is told."""
        logic = BrainRegistrationLogic()
        parameters = logic.getParameterNode()
        reason = logic.missing(logic.inputsOf(parameters), logic.outputsOf(parameters))
        self.assertIn("fixed volume", reason)

    def test_phantom_is_registered(self) -> None:
        """The landmarks of the phantom come much closer. Skipped where PyTorch is not installed."""
        if self.torchIsMissing():
            return
        names = {key: key for key in ("fixed", "moving", "fixed_landmarks", "moving_landmarks")}
        nodes = load_phantom("growth", names, size=(56, 64, 56))
        result = BrainRegistrationLogic().register(
            nodes["fixed"], nodes["moving"], preset="Preview",
            fixedLandmarks=nodes["fixed_landmarks"], movingLandmarks=nodes["moving_landmarks"],
        )  # fmt: skip
        metrics = result.report["metrics"]
        before, after = (metrics[side]["landmarks_tre_mm"]["mean"] for side in ("before", "after"))
        self.assertLess(after, before / 2)
        self.assertIs(result.transform.GetNodeReference(result.transform.GetFixedNodeReferenceRole()), nodes["fixed"])
        self.delayDisplay(f"Landmarks: {before:.1f} mm apart before, {after:.1f} mm after.")
