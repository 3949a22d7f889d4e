"""Brains: random smooth fields on real T1 images, and a real pair of subjects with labels."""

from __future__ import annotations

from pathlib import Path

import fields as f
import numpy as np
import SimpleITK as sitk
from cases import Case, box_of, crop, image_like, regrid
from scipy import ndimage

Array = np.ndarray


def brain_under_field(moving: sitk.Image, labels: sitk.Image, seed: int, sigma_mm: float) -> Case:
    """A brain under a random smooth field of at most 8 mm, with bias, gamma and noise (2 % of the range)."""
    rng = np.random.default_rng(seed)
    u = f.random_smooth(moving, rng, sigma_mm, 8.0)
    array = f.pull(moving, moving, u, sitk.sitkBSpline, 0.0)
    noise = 0.02 * float(np.percentile(array, 99.5))
    fixed = f.change_contrast(array, moving, rng) + noise * rng.standard_normal(array.shape)
    original = sitk.GetArrayFromImage(moving)
    body = f.pull_mask(original > 0.1 * np.percentile(original, 99), moving, moving, u)
    fixed_labels = np.rint(f.pull(labels, moving, u, sitk.sitkNearestNeighbor, 0.0)).astype(np.uint8)
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(body, iterations=2)) & f.inside_image(moving, moving, u)
    noisy = original + noise * rng.standard_normal(original.shape)
    return Case(
        image_like(fixed.astype(np.float32), moving),
        image_like(noisy.astype(np.float32), moving),
        mask,
        u,
        labels=(image_like(fixed_labels, moving), sitk.Cast(labels, sitk.sitkUInt8)),
        meta={"kind": "smooth", "modality": "MR", "seed": seed},
    )


def syn(data: Path, seed: int = 1) -> Case:
    """MNI152 T1 at 1.5 mm; labels: grey and white matter where their probability exceeds one half."""
    t1, grey, white = (
        sitk.ReadImage(str(data / "brain-mni" / f"mni_icbm152_{key}_tal_nlin_sym_09a_converted.nii.gz"), sitk.sitkFloat32)
        for key in ("t1", "gm", "wm")
    )
    head = crop(t1, box_of(sitk.GetArrayFromImage(t1) > 1.0, 15))
    grid = regrid(head, 1.5)
    smooth = [sitk.Resample(sitk.SmoothingRecursiveGaussian(im, 0.6), grid, sitk.Transform(), sitk.sitkLinear, 0.0)
              for im in (t1, grey, white)]  # fmt: skip
    gm, wm = (sitk.GetArrayFromImage(im) / 255.0 for im in smooth[1:])
    labels = np.where(wm > 0.5, 2, np.where(gm > 0.5, 1, 0)).astype(np.uint8)
    return brain_under_field(smooth[0], image_like(labels, grid), seed=seed, sigma_mm=14.0)


def ixi(data: Path, subject: str) -> tuple[sitk.Image, sitk.Image]:
    """One IXI brain and its 148 labels."""
    image = next((data / "brain-ixi").glob(f"{subject}-*_ds.nii.gz"), None)
    if image is None:
        raise FileNotFoundError(f"no image of {subject} in {data / 'brain-ixi'}")
    labels = sitk.ReadImage(str(image).replace("_ds.nii.gz", "_ds_DLMUSE.nii.gz"), sitk.sitkUInt8)
    t1 = sitk.ReadImage(str(image), sitk.sitkFloat32)
    labels.CopyInformation(t1)  # the label file rounds the direction differently (-0.0)
    return t1, labels


def syn_ixi(data: Path) -> Case:
    """IXI014 at 2 mm, axes P-S-R, under another field; 148 labels."""
    t1, labels = ixi(data, "IXI014")
    return brain_under_field(t1, labels, seed=2, sigma_mm=16.0)


def ixi_pair(data: Path, fixed_subject: str = "IXI012", moving_subject: str = "IXI013") -> Case:
    """Two subjects; the moving one is first aligned affinely (once, here) so that all methods start alike."""
    fixed, fixed_labels = ixi(data, fixed_subject)
    moving, moving_labels = ixi(data, moving_subject)
    affine = affine_mi(fixed, moving)
    aligned = sitk.Resample(moving, fixed, affine, sitk.sitkBSpline, 0.0)
    aligned_labels = sitk.Resample(moving_labels, fixed, affine, sitk.sitkNearestNeighbor, 0)
    mask = sitk.GetArrayFromImage(fixed_labels) > 0
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=3))
    aligned = sitk.Clamp(aligned, sitk.sitkFloat32, 0.0, 1e9)
    return Case(fixed, aligned, mask, labels=(fixed_labels, aligned_labels), meta={"kind": "real", "modality": "MR"})


def affine_mi(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Affine by mutual information from the moments, at a quarter and a half of the resolution."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.2)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 200, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2, 1])
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)
