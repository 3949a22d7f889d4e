"""What a benchmark input is, and small helpers to cut images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk

Array = np.ndarray


@dataclass
class Case:
    """One registration problem; `mask` is where errors and folding are counted."""

    fixed: sitk.Image
    moving: sitk.Image
    mask: Array
    truth: Array | None = None
    regions: dict[str, Array] = field(default_factory=dict)
    landmarks: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    labels: tuple[sitk.Image, sitk.Image] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def image_like(array: Array, like: sitk.Image) -> sitk.Image:
    """Array (k, j, i) as an image on the grid of `like`; booleans become 0 / 1 bytes."""
    image = sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array)
    image.CopyInformation(like)
    return image


def box_of(mask: Array, margin: int) -> tuple[slice, slice, slice]:
    """Bounding box (k, j, i) of a mask with a margin in voxels."""
    where = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    k, j, i = (slice(max(int(w[0]) - margin, 0), int(w[-1]) + margin + 1) for w in where)
    return k, j, i


def crop(image: sitk.Image, box: tuple[slice, slice, slice]) -> sitk.Image:
    """Part of an image by array slices (k, j, i); keeps its place in the world."""
    return image[box[2], box[1], box[0]]


def regrid(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Empty grid over the same box at another isotropic spacing."""
    size = [int(np.floor((n - 1) * s / spacing_mm)) + 1 for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    grid = sitk.Image(size, sitk.sitkUInt8)
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    grid.SetSpacing([spacing_mm] * 3)
    return grid
