"""One row per method: the command line, the panels and the contract test read this table; methods are imported when asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from regsuite.errors import InputError


@dataclass(frozen=True)
class MethodRow:
    """key: fixed name at the command line; module: file that defines METHOD (register function, Config, PRESETS);

    takes: extra inputs beyond fixed and moving ("fixed_mask", "moving_mask", "lesion_mask", "initial", ...). flat: pairs of single
    slices are welcome too. command: which command runs it; only "register" takes a pair of images.
    """

    key: str
    module: str
    title: str
    area: str
    summary: str
    takes: tuple[str, ...]
    reference: str
    flat: bool = False
    command: str = "register"

    def load(self) -> Any:
        """Import the method's module. It has `Config`, `PRESETS` (name -> Config) and `register`."""
        return importlib.import_module(self.module)


_ROWS = (
    MethodRow(
        key="lung-convex",
        module="regsuite.methods.lung.convex",
        title="Lung CT, training-free",
        area="lung",
        summary="Discrete search, then Gauss-Newton refinement that lets the lungs slide; also general for CT and MR.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Siebert and Heinrich, Learn to Fuse Input Features for Large-Deformation Registration "
        "with Differentiable Convex-Discrete Optimisation, WBIR 2022",
    ),
    MethodRow(
        key="lung-mlvirnet",
        module="regsuite.methods.lung.mlvirnet",
        title="Lung CT, network",
        area="lung",
        summary="Small networks foretell motion, lung-convex refines it; trained on made chests only; less exact on real ones.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Hering, van Ginneken and Heldmann, mlVIRNET: Multilevel Variational Image Registration Network, MICCAI 2019",
    ),
    MethodRow(
        key="lung-vxmpp",
        module="regsuite.methods.lung.vxmpp",
        title="Lung CT, network with heatmaps",
        area="lung",
        summary="A network foretells motion at points of the lungs, lung-convex refines it; briefly trained, on made chests only.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Heinrich and Hansen, VoxelMorph++: Going Beyond the Cranial Vault with Keypoint Supervision and Multi-channel "
        "Instance Optimisation, WBIR 2022",
    ),
    MethodRow(
        key="lung-keypoints",
        module="regsuite.methods.lung.keypoints",
        title="Lung CT, matched keypoints",
        area="lung",
        summary="Matches distinct points and lays a spline through them; training-free, coarser than lung-convex unless refined.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Heinrich, Handels and Simpson, Estimating Large Lung Motion in COPD Patients by Symmetric Regularised "
        "Correspondence Fields, MICCAI 2015",
    ),
    MethodRow(
        key="brain-svf",
        module="regsuite.methods.brain.svf",
        title="Brain MR, diffeomorphic, training-free",
        area="brain",
        summary="Symmetric stationary velocity field under local correlation: one to one, with an exact inverse.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Hernandez, Bossa and Olmos, Registration of anatomical images using paths of diffeomorphisms parameterized with "
        "stationary vector field flows, IJCV 2009; Avants et al., Symmetric diffeomorphic image registration with "
        "cross-correlation, Med. Image Anal. 2008",
    ),
    MethodRow(
        key="pediatric-unet",
        module="regsuite.methods.pediatric.unet",
        title="Children's brains, network",
        area="pediatric",
        summary="A small network guesses the growth, brain-svf refines it; briefly trained on made heads: the guess is weak.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Dimitrijevic, Noblet and De Leener, Deep Learning-Based Longitudinal Intra-subject Registration of Pediatric "
        "Brain MR Images, WBIR 2022",
    ),
    MethodRow(
        key="tumour-wm",
        module="regsuite.methods.tumour.wm",
        title="Brain tumour, weighted metamorphosis",
        area="tumour",
        summary="A healthy template (moving) onto a patient (fixed): tissue is pushed, intensity is added in the lesion only.",
        takes=("lesion_mask", "initial"),
        reference="Francois, Maillard, Oppenheim, Pallud, Bloch, Gori and Glaunes, Weighted Metamorphosis for Registration of "
        "Images with Different Topologies, WBIR 2022",
        flat=True,
    ),
    MethodRow(
        key="multimodal-csngf",
        module="regsuite.methods.multimodal.csngf",
        title="Global rigid, any modalities",
        area="multimodal",
        summary="Finds the rigid pose from anywhere and any way up, with its runners-up and a confidence.",
        takes=("fixed_mask", "moving_mask"),
        reference="Ofverstedt, Lindblad and Sladoje, Cross-Sim-NGF: FFT-Based Global Rigid Multimodal Alignment of Image Volumes "
        "using Normalized Gradient Fields, WBIR 2022",
    ),
    MethodRow(
        key="rigid",
        module="regsuite.methods.multimodal.rigid",
        title="Local rigid, any modalities",
        area="multimodal",
        summary="Turn and shift (optionally one scale) near the start, by mutual information, correlation or edges.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Viola and Wells, Alignment by maximization of mutual information, IJCV 1997; Mattes et al., PET-CT image "
        "registration in the chest using free-form deformations, IEEE TMI 2003",
    ),
    MethodRow(
        key="affine",
        module="regsuite.methods.multimodal.affine",
        title="Local affine, any modalities",
        area="multimodal",
        summary="Turn, shift, scale and shear near the start, by mutual information, correlation or edges.",
        takes=("fixed_mask", "moving_mask", "initial"),
        reference="Viola and Wells, Alignment by maximization of mutual information, IJCV 1997; Mattes et al., PET-CT image "
        "registration in the chest using free-form deformations, IEEE TMI 2003",
    ),
    MethodRow(
        key="slices-qmri",
        module="regsuite.methods.slices.qmri",
        title="2D slices in a volume, quantitative MR",
        area="slices",
        summary="Where slices of another contrast lie in a volume: order, stack and each slice's motion, by mutual information.",
        takes=("slice_masks", "volume_mask"),
        reference="Intermodal slice-to-volume registration for quantitative MR of the hip, WBIR 2022 (unfinished there, "
        "completed here); Laurentini, The visual hull concept for silhouette-based image understanding, IEEE PAMI 1994",
        command="slices",
    ),
    MethodRow(
        key="uncertainty-elbo",
        module="regsuite.methods.uncertainty.elbo",
        title="Uncertainty of a deformation",
        area="uncertainty",
        summary="Standard deviation in mm of a given transform of any origin (initial), or of a registration of its own.",
        takes=("initial",),
        reference="Smolders, Lomax, Weber and Albertini, Deformable Image Registration Uncertainty Quantification Using Deep "
        "Learning for Dose Accumulation in Adaptive Proton Therapy, WBIR 2022",
    ),
    MethodRow(
        key="uncertainty-net",
        module="regsuite.methods.uncertainty.net",
        title="Uncertainty of a deformation, foretold",
        area="uncertainty",
        summary="What uncertainty-elbo says, foretold at once by a small network of ours that was trained on phantom chests only.",
        takes=("initial",),
        reference="Smolders, Lomax, Weber and Albertini, Deformable Image Registration Uncertainty Quantification Using Deep "
        "Learning for Dose Accumulation in Adaptive Proton Therapy, WBIR 2022",
    ),
)
METHODS: dict[str, MethodRow] = {row.key: row for row in _ROWS}


def get(key: str) -> MethodRow:
    """The row of `key`; raises InputError listing the known keys."""
    if key not in METHODS:
        raise InputError(f"Unknown method '{key}'; expected one of {', '.join(METHODS)}.")
    return METHODS[key]


def config_for(key: str, preset: str | None = None, settings: dict[str, Any] | None = None) -> Any:
    """The method's config for a preset (default "Default") with `settings` changed; strings are parsed to the fields' types."""
    module = get(key).load()
    name = preset or "Default"
    lowered = {known.lower(): known for known in module.PRESETS}
    if name.lower() not in lowered:
        raise InputError(f"Method '{key}' has no preset '{name}'; expected one of {', '.join(module.PRESETS)}.")
    config = module.PRESETS[lowered[name.lower()]]
    changes = {k: config.parse(k, v) if isinstance(v, str) else v for k, v in (settings or {}).items()}
    return config.replaced(**changes)
