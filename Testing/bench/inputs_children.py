"""Growing brains: the fetal atlas over six weeks, infant templates through the inversion of their contrast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from cases import Case, box_of, crop, image_like
from inputs_brain import affine_mi
from scipy import ndimage

Array = np.ndarray
TISSUES = {  # ours -> labels of the 2016 fetal atlas; white matter is split into zones in the younger weeks
    1: (112, 113),  # cortical plate
    2: (114, 115, 116, 117, 118, 119, 120, 121, 122, 123),  # white matter with its zones, internal capsule
    3: (37, 38, 41, 42, 71, 72, 73, 74, 77, 78),  # deep grey matter, hippocampus, amygdala
    4: (100, 101),  # cerebellum
    5: (94,),  # brain stem
    6: (92, 93),  # ventricles
    7: (124,),  # outer fluid
}


def fetal(data: Path, fixed_week: int = 34, moving_week: int = 28) -> Case:
    """Week 28 (moving) to week 34 (fixed) after one affine alignment that all methods share; labels: tissues."""
    fixed, fixed_labels = _fetus(data, fixed_week)
    moving, moving_labels = _fetus(data, moving_week)
    affine = affine_mi(fixed, moving)
    aligned = sitk.Clamp(sitk.Resample(moving, fixed, affine, sitk.sitkBSpline, 0.0), sitk.sitkFloat32, 0.0, 1e9)
    aligned_labels = sitk.Resample(moving_labels, fixed, affine, sitk.sitkNearestNeighbor, 0)
    mask = sitk.GetArrayFromImage(fixed_labels) > 0
    return Case(fixed, aligned, mask, labels=(fixed_labels, aligned_labels), meta={"kind": "real", "modality": "MR T2"})


def _fetus(data: Path, week: int) -> tuple[sitk.Image, sitk.Image]:
    folder = data / "brain-fetal"
    names = [folder / f"STA{week}_{kind}.nii.gz" for kind in ("parc", "WMZparc")]
    labels = sitk.ReadImage(str(next((path for path in names if path.exists()), names[0])))
    found = sitk.GetArrayFromImage(labels)
    tissues = np.zeros(found.shape, np.uint8)
    for number, members in TISSUES.items():
        tissues[np.isin(found, members)] = number
    return sitk.ReadImage(str(folder / f"STA{week}.nii.gz"), sitk.sitkFloat32), image_like(tissues, labels)


def infant(data: Path, fixed_month: int = 24, moving_month: int = 6) -> Case:
    """Month 6 (moving) to month 24 (fixed) T1 templates after one shared affine alignment; label 1: the brain mask."""
    fixed, moving = (_template(data, month) for month in (fixed_month, moving_month))
    affine = affine_mi(fixed, moving)
    masks = [_brain(image) for image in (fixed, moving)]
    aligned = sitk.Clamp(sitk.Resample(moving, fixed, affine, sitk.sitkBSpline, 0.0), sitk.sitkFloat32, 0.0, 1e9)
    aligned_mask = sitk.Resample(masks[1], fixed, affine, sitk.sitkNearestNeighbor, 0)
    inside = sitk.GetArrayFromImage(masks[0]) > 0
    return Case(fixed, aligned, inside, labels=(masks[0], aligned_mask), meta={"kind": "real", "modality": "MR T1"})


def _template(data: Path, month: int) -> sitk.Image:
    image = sitk.ReadImage(str(data / "brain-infant" / f"Template-Month{month}-T1w.nii.gz"), sitk.sitkFloat32)
    return crop(image, box_of(sitk.GetArrayFromImage(image) > 0, 12))


def _brain(image: sitk.Image) -> sitk.Image:
    """The largest piece above zero without holes: the templates come without their skulls."""
    found, count = ndimage.label(sitk.GetArrayFromImage(image) > 0)
    sizes = ndimage.sum_labels(found > 0, found, np.arange(1, count + 1))
    return image_like(ndimage.binary_fill_holes(found == 1 + int(np.argmax(sizes))), image)
