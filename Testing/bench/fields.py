"""Known deformations for the benchmark inputs: smooth and sliding displacement fields.

Everything here works on numpy arrays in SimpleITK order: scalars (k, j, i), displacements (k, j, i, 3) whose last
axis is (x, y, z) in LPS millimetres, on a grid with identity direction (the caller checks with `require_axis_aligned`).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

Array = np.ndarray


def require_axis_aligned(image: sitk.Image) -> None:
    """Raise ValueError unless index axes are the LPS axes, which the finite differences below rely on."""
    if not np.allclose(np.abs(image.GetDirection()), np.eye(3).ravel(), atol=1e-6):
        raise ValueError("known fields are built on axis-aligned grids only")


def spacing_zyx(image: sitk.Image) -> Array:
    """Spacing in array order (k, j, i), mm."""
    return np.asarray(image.GetSpacing())[::-1]


def signs_xyz(image: sitk.Image) -> Array:
    """+1 or -1 for each LPS axis: does the index grow along the axis or against it."""
    return np.sign(np.diag(np.asarray(image.GetDirection()).reshape(3, 3)))


def positions(image: sitk.Image) -> Array:
    """World position (k, j, i, 3) of every voxel, LPS mm, for any direction."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in image.GetSize()], indexing="ij"), -1).transpose(2, 1, 0, 3)
    matrix = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    return np.asarray(index @ matrix.T + np.asarray(image.GetOrigin()))


def gaussian_mm(array: Array, image: sitk.Image, sigma_mm: float) -> Array:
    """Gaussian smoothing of a scalar array with a width in mm."""
    return np.asarray(ndimage.gaussian_filter(array.astype(np.float32), sigma_mm / spacing_zyx(image), mode="nearest"))


def random_smooth(image: sitk.Image, rng: np.random.Generator, sigma_mm: float, peak_mm: float) -> Array:
    """Gaussian-filtered white noise, scaled so that the longest vector is `peak_mm`.

    The noise is filtered as if periodic: any other border would make the field largest at the border.
    """
    noise = rng.standard_normal((3, *image.GetSize()[::-1])).astype(np.float32)
    sigma = (0.0, *(sigma_mm / spacing_zyx(image)))
    field = np.moveaxis(ndimage.gaussian_filter(noise, sigma, mode="wrap"), 0, -1)
    return np.asarray(field * (peak_mm / np.linalg.norm(field, axis=-1).max()))


def signed_distance(mask: Array, image: sitk.Image) -> Array:
    """Distance to the surface of a mask in mm, positive inside."""
    spacing = spacing_zyx(image)
    inside = ndimage.distance_transform_edt(mask, spacing)
    return np.asarray(inside - ndimage.distance_transform_edt(~mask, spacing))


def gradient_world(array: Array, image: sitk.Image) -> Array:
    """Gradient (k, j, i, 3) along LPS x, y, z per mm by central differences, for an axis-aligned grid."""
    parts = np.gradient(array, *spacing_zyx(image))[::-1]
    return np.stack(parts, -1) * signs_xyz(image)


def damp_normal(field: Array, distance: Array, image: sitk.Image, width_mm: float) -> Array:
    """Take away the part of a motion that crosses a surface, within about `width_mm` of it.

    What is left runs along the surface, so that tissue inside can slide past tissue outside without a gap.
    """
    normal = gradient_world(gaussian_mm(distance, image, 6.0), image)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 0.3)
    weight = np.exp(-((distance / width_mm) ** 2))[..., None]
    return np.asarray(field - weight * normal * (field * normal).sum(-1, keepdims=True))


def to_field(array: Array, image: sitk.Image) -> sitk.Image:
    """Displacement array (k, j, i, 3) in LPS mm as a vector image on the grid of `image`."""
    field = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32), isVector=True)
    field.CopyInformation(image)
    return field


def pull(moving: sitk.Image, grid: sitk.Image, field: Array, interpolator: int, outside: float) -> Array:
    """moving(x + u(x)) at every voxel x of `grid`."""
    transform = sitk.DisplacementFieldTransform(sitk.Cast(to_field(field, grid), sitk.sitkVectorFloat64))
    resampled = sitk.Resample(moving, grid, transform, interpolator, outside, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(resampled))


def pull_mask(mask: Array, like: sitk.Image, grid: sitk.Image, field: Array) -> Array:
    """A mask given on `like`, seen through the field: true where x + u(x) is in the mask (linear, cut at one half)."""
    image = sitk.GetImageFromArray(mask.astype(np.float32))
    image.CopyInformation(like)
    return pull(image, grid, field, sitk.sitkLinear, 0.0) > 0.5


def inside_image(moving: sitk.Image, grid: sitk.Image, field: Array, margin_mm: float = 4.0) -> Array:
    """True where x + u(x) lies at least `margin_mm` within the moving image."""
    matrix = np.asarray(moving.GetDirection()).reshape(3, 3) * np.asarray(moving.GetSpacing())
    index = (positions(grid) + field - np.asarray(moving.GetOrigin())) @ np.linalg.inv(matrix).T
    margin = np.minimum(margin_mm / np.asarray(moving.GetSpacing()), 1.0)
    return np.asarray(((index >= margin) & (index <= np.asarray(moving.GetSize()) - 1 - margin)).all(-1))


def jacobian_determinant(field: Array, image: sitk.Image) -> Array:
    """det(I + du/dx) by central differences, any direction of the grid.

    With index matrix A (index -> world), du/dx = (du/dindex) A^-1.
    """
    matrix = np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    d_index = np.stack([np.gradient(field.astype(np.float32), axis=axis) for axis in (2, 1, 0)], -1)
    jacobian = d_index @ np.linalg.inv(matrix).astype(np.float32) + np.eye(3, dtype=np.float32)
    return np.asarray(np.linalg.det(jacobian))


def change_contrast(array: Array, image: sitk.Image, rng: np.random.Generator) -> Array:
    """Gamma 0.8 and a smooth bias of at most 25 %."""
    top = float(np.percentile(array, 99.5))
    bias = random_smooth(image, rng, 30.0, 0.25)[..., 0]
    return np.asarray(top * np.clip(array / top, 0, None) ** 0.8 * np.exp(bias))
