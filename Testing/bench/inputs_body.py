"""Chest CT and liver MR: smooth and sliding known motion on real images, and real breathing phases."""

from __future__ import annotations

from pathlib import Path

import fields as f
import numpy as np
import SimpleITK as sitk
from cases import Case, box_of, crop, image_like
from scipy import ndimage

Array = np.ndarray


def lung_mask(array: Array) -> Array:
    """Air below -400 HU inside the body (parts over 20 ml at 9.5 mm3 voxels), closed over its vessels."""
    labels, _ = ndimage.label(array < -400)
    border = np.unique(np.concatenate([labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]], axis=None))
    size = np.bincount(labels.ravel())
    size[border] = 0
    size[0] = 0
    lungs = np.pad(np.isin(labels, np.flatnonzero(size > 2100)), 4)
    lungs = ndimage.binary_closing(lungs, iterations=2)[4:-4, 4:-4, 4:-4]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in lungs])


def ct_body_mask(array: Array) -> Array:
    """Largest thing above -400 HU after an opening that cuts the couch off, filled slice by slice."""
    opened = ndimage.binary_opening(array > -400, iterations=3)
    labels, _ = ndimage.label(opened)
    size = np.bincount(labels.ravel())
    size[0] = 0
    return np.stack([ndimage.binary_fill_holes(plane) for plane in labels == size.argmax()])


def chest(data: Path) -> tuple[sitk.Image, Array, Array]:
    """Exhale CT cropped to the chest, its lungs and its body mask."""
    image = sitk.ReadImage(str(data / "lung-4dct" / "exhale_t50.nii.gz"), sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(image)
    lungs, body = lung_mask(array), ct_body_mask(array)
    levels = box_of(lungs, 12)[0]
    _, rows, columns = box_of(body[levels.start : (levels.start + levels.stop) // 2], 5)  # below the raised arms
    box = (levels, rows, columns)
    return crop(image, box), lungs[box], body[box]


def breathing(image: sitk.Image, lungs: Array, peak_mm: float) -> Array:
    """Inhale seen from the fixed side: tissue is found higher (+z) in the moving exhale, most at the diaphragm."""
    z = f.positions(image)[..., 2]
    levels = z[:, 0, 0][lungs.any((1, 2))]
    low, high = float(levels.min()), float(levels.max())
    ramp = np.clip((high + 5.0 - z) / (high + 5.0 - low - 15.0), 0.0, 1.0)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.asarray(np.stack([0 * ramp, 0.22 * peak_mm * ramp, peak_mm * ramp], -1))


def without_airways(lungs: Array) -> Array:
    """The lungs proper: an opening of about 8 mm takes the trachea and specks of air away."""
    labels, _ = ndimage.label(ndimage.binary_opening(lungs, iterations=4))
    kept = np.isin(labels, np.flatnonzero(np.bincount(labels.ravel())[1:] > 4000) + 1)
    return np.asarray(ndimage.binary_dilation(kept, iterations=2) & lungs)


def motion_mask(lungs: Array, image: sitk.Image) -> Array:
    """Lungs and everything straight below them: its side walls are where the lungs and the abdomen slide."""
    below = np.maximum.accumulate(lungs[::-1], axis=0)[::-1]  # k grows upwards: a lung voxel marks the column under it
    disk = ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 6)
    closed = np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, disk)) for plane in below])
    return f.gaussian_mm(closed | below, image, 4.0) > 0.5


def finish_ct(moving: sitk.Image, u: Array, det: Array, lungs: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Fixed and moving CT arrays: density times det(DT) in the lungs (mass is kept), own noise of 20 HU each."""
    array = np.clip(f.pull(moving, moving, u, sitk.sitkBSpline, -1000.0), -1000, 3000)
    fixed_lungs = f.pull_mask(lungs, moving, moving, u)
    soft = f.gaussian_mm(fixed_lungs, moving, 2.0) * fixed_lungs
    factor = 1 + soft * (np.clip(f.gaussian_mm(det, moving, 3.0), 0.6, 1.6) - 1)
    fixed = (array + 1000) * factor - 1000 + 20 * rng.standard_normal(array.shape)
    original = sitk.GetArrayFromImage(moving)
    noisy = original + 20 * rng.standard_normal(original.shape)
    return fixed, noisy


def ct_case(moving: sitk.Image, u: Array, arrays: tuple[Array, Array], mask: Array, lungs: Array, kind: str) -> Case:
    """Whole Hounsfield units as scanners write them; errors also counted in the lungs alone."""
    fixed, noisy = (image_like(np.rint(np.clip(a, -1024, 3071)).astype(np.int16), moving) for a in arrays)
    valid = f.inside_image(moving, moving, u)
    fixed_lungs = f.pull_mask(lungs, moving, moving, u) & valid
    return Case(fixed, noisy, mask & valid, u, {"lungs": fixed_lungs}, meta={"kind": kind, "modality": "CT"})


def ct_smooth(data: Path) -> Case:
    """Chest CT under a smooth inhale (up to 25 mm at the diaphragm, fading towards the skin) + a 4 mm local field."""
    moving, lungs, body = chest(data)
    rng = np.random.default_rng(3)
    weight = f.gaussian_mm(motion_mask(ndimage.binary_dilation(lungs, iterations=3), moving), moving, 18.0)
    u = breathing(moving, lungs, 24.0) * weight[..., None] + f.random_smooth(moving, rng, 14.0, 4.0)
    arrays = finish_ct(moving, u, f.jacobian_determinant(u, moving), lungs, rng)
    return ct_case(moving, u, arrays, f.pull_mask(body, moving, moving, u), lungs, "smooth")


def sliding_field(image: sitk.Image, inner: Array, u_raw: Array, u_out: Array, width_mm: float) -> tuple[Array, Array, Array]:
    """Total field, inner field and fixed-side inner region {x: x + u_in(x) in `inner`}."""
    u_in = u_out + f.damp_normal(u_raw - u_out, f.signed_distance(inner, image), image, width_mm)
    region = f.pull_mask(inner, image, image, u_in)
    return np.where(region[..., None], u_in, u_out), u_in, region


def ct_sliding(data: Path) -> Case:
    """Chest CT whose lungs and abdomen glide by up to 22 mm along a chest wall that stays nearly still."""
    moving, lungs, body = chest(data)
    lungs = without_airways(lungs)
    rng = np.random.default_rng(4)
    u_out = f.random_smooth(moving, rng, 30.0, 1.0)
    u_raw = breathing(moving, lungs, 22.0) + f.random_smooth(moving, rng, 14.0, 4.0)
    u, u_in, _ = sliding_field(moving, motion_mask(lungs, moving), u_raw, u_out, 12.0)
    arrays = finish_ct(moving, u, f.jacobian_determinant(u_in, moving), lungs, rng)
    # deep in the abdomen nothing shows where the sliding surface is: errors count up to 15 mm from the lungs
    near = f.signed_distance(f.pull_mask(lungs, moving, moving, u), moving) > -15.0
    return ct_case(moving, u, arrays, near & f.pull_mask(body, moving, moving, u), lungs, "sliding")


def lung_4dct(data: Path) -> Case:
    """Real extreme phases, fixed = exhale, moving = inhale; Dice of the lungs found by threshold."""
    fixed, moving = (
        sitk.ReadImage(str(data / "lung-4dct" / name), sitk.sitkInt16) for name in ("exhale_t50.nii.gz", "inhale_t00.nii.gz")
    )
    masks = [image_like(lung_mask(sitk.GetArrayFromImage(im)), fixed) for im in (fixed, moving)]
    mask = sitk.GetArrayFromImage(masks[0]) > 0
    return Case(fixed, moving, mask, labels=(masks[0], masks[1]), meta={"kind": "real", "modality": "CT"})


def vtk_points(path: Path) -> Array:
    """Points (N, 3) of a legacy ASCII VTK file."""
    words = path.read_text().split("POINTS", 1)[1].split()
    count = int(words[0])
    return np.asarray(words[2 : 2 + 3 * count], dtype=float).reshape(count, 3)


def mr_body_mask(array: Array, image: sitk.Image) -> Array:
    """Tissue: the smoothed image over a tenth of its bright level, closed and filled in all three planes."""
    smooth = f.gaussian_mm(array, image, 3.0)
    body = ndimage.binary_closing(np.pad(smooth > 0.1 * np.percentile(array, 95), 12, mode="edge"), iterations=10)
    return body[12:-12, 12:-12, 12:-12]


def liver(data: Path, dataset: str, phase: str) -> Case:
    """Exhale master (fixed) and one breathing phase (moving) with expert landmarks in and outside the liver."""
    folder = data / "liver-4dmri" / dataset
    fixed = sitk.ReadImage(str(folder / "exhMaster_unmasked.force_direction.mha"))
    moving = sitk.ReadImage(str(folder / f"{phase}.force_direction.mha"))
    landmarks = {
        part: (vtk_points(folder / f"exhMasterLM{part}.vtk"), vtk_points(folder / f"{phase}LM{part}.vtk"))
        for part in ("liver", "outside")
    }
    mask = mr_body_mask(sitk.GetArrayFromImage(fixed), fixed)
    return Case(fixed, moving, mask, landmarks=landmarks, meta={"kind": "real", "modality": "MR"})


def mr_sliding(data: Path) -> Case:
    """Liver MR (sagittal, 5 mm slices, +y upwards): the inside moves 15 mm up along a still body wall."""
    path = data / "liver-4dmri" / "dataset19" / "exhMaster_unmasked.force_direction.mha"
    moving = sitk.ReadImage(str(path), sitk.sitkFloat32)
    original = sitk.GetArrayFromImage(moving)
    body = mr_body_mask(original, moving)
    rng = np.random.default_rng(5)
    plane = np.pad(body, ((20, 20), (0, 0), (40, 40)), mode="edge")  # where the body leaves the image is no body wall
    sampling = f.spacing_zyx(moving)[[0, 2]]
    depth = np.stack([ndimage.distance_transform_edt(plane[:, j], sampling) for j in range(plane.shape[1])], 1)
    inner = f.gaussian_mm(depth[20:-20, :, 40:-40] > 18.0, moving, 6.0) > 0.5
    y = f.positions(moving)[..., 1]
    top = float(y.max())
    ramp = np.clip((top - y) / (top - 110.0), 0.15, 1.0)
    local = f.random_smooth(moving, rng, 14.0, 4.0) * np.array([1.0, 1.0, 0.6])
    u_raw = np.stack([0.2 * 15 * ramp, 15 * ramp, 0 * ramp], -1) + local
    u, _, region = sliding_field(moving, inner, u_raw, f.random_smooth(moving, rng, 30.0, 1.0), 12.0)
    array = np.clip(f.pull(moving, moving, u, sitk.sitkBSpline, 0.0), 0, None)
    fixed = f.change_contrast(array, moving, rng) + 3 * rng.standard_normal(array.shape)
    noisy = original + 3 * rng.standard_normal(array.shape)
    near = f.signed_distance(region, moving) > -15.0
    mask = near & f.pull_mask(body, moving, moving, u) & f.inside_image(moving, moving, u)
    images = [image_like(np.rint(np.clip(a, 0, 255)).astype(np.uint8), moving) for a in (fixed, noisy)]
    return Case(images[0], images[1], mask, u, {"inner": mask & region}, meta={"kind": "sliding", "modality": "MR"})
