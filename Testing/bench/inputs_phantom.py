"""The chest phantom as a benchmark input: its true map is evaluated, not sampled, at every fixed voxel."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from cases import Case, image_like

BACKEND = Path(__file__).resolve().parents[2] / "RegistrationSuite" / "RegSuiteBackend"
LUNGS = ("right lung", "left lung", "tumour")


def thorax_case(seed: int) -> Case:
    """`regsuite phantom thorax` of a seed: errors and folding in the lungs, landmarks at vessel branchings.

    Dice is over all labels. The default options of the phantom, nothing else.
    """
    if str(BACKEND) not in sys.path:
        sys.path.insert(0, str(BACKEND))
    from regsuite.geometry.frames import flip_points, flip_vector_field
    from regsuite.io.itk import tensor_to_itk
    from regsuite.phantoms import make_phantom

    phantom = make_phantom("thorax", seed)
    fixed, moving = (tensor_to_itk(image.data, image.grid) for image in (phantom.fixed, phantom.moving))
    truth = flip_vector_field(phantom.transform.displacement(phantom.fixed.grid)).numpy()
    lungs = [number for number, name in phantom.label_names.items() if name in LUNGS]
    if len(lungs) != len(LUNGS):
        raise RuntimeError(f"the phantom's labels changed: expected {LUNGS}, found {dict(phantom.label_names)}")
    labels, moving_labels = (im.data[0].numpy().astype(np.uint8) for im in (phantom.fixed_labels, phantom.moving_labels))
    vessels = tuple(flip_points(p).numpy() for p in (phantom.fixed_landmarks, phantom.moving_landmarks))
    return Case(
        fixed,
        moving,
        np.isin(labels, lungs),
        np.moveaxis(truth, 0, -1),
        {"body": labels > 0},
        {"vessels": (vessels[0], vessels[1])},
        (image_like(labels, fixed), image_like(moving_labels, moving)),
        {"kind": "sliding", "modality": "CT", "seed": seed},
    )
