"""Lungs in a CT, found without training."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from regsuite.geometry.image import Image
from regsuite.ops.pyramid import at_spacing, level_shape

AIR_BELOW_HU = -320.0
_SPACING_MM = 3.0
_SMALLEST_ML = 100.0
_PLAIN_AIR_HU = -930.0
_LEAST_PADDING = 0.02
_MOST_BESIDE = 0.3


def looks_like_ct(image: Image) -> bool:
    """True when the values can be Hounsfield units of a body in air: a large share near -1000 or in lung, another near 0."""
    sample = image.data.flatten()[:: max(1, image.data.numel() // 200_000)]
    air = float((sample < -600).float().mean())
    tissue = float(((sample > -200) & (sample < 300)).float().mean())
    return float(sample.min()) > -3500.0 and air > 0.02 and tissue > 0.1


def lung_mask(image: Image) -> Image | None:
    """Binary float mask (1, D, H, W) of both lungs on the image's grid, or None when it does not look like a chest CT.

    Voxels below -320 HU at 3 mm, less the air that reaches the sides of the image, less small pieces, holes (vessels) closed.
    Padding (blocks of one value of air, as resampling leaves them) parts what it touches; of that only lungs stay.
    Expects canonical axes: the first and last (i) and (j) planes are the patient's sides, front and back.
    """
    if min(image.grid.shape) < 8 or not looks_like_ct(image):
        return None
    small = at_spacing(image, _SPACING_MM)
    padding = _padding(image)
    air = (small.data[0] < AIR_BELOW_HU).cpu().numpy() & ~padding
    parts, count = ndimage.label(air)
    if not count:
        return None
    outside = set(np.unique(parts[:, [0, -1], :])) | set(np.unique(parts[:, :, [0, -1]]))
    volume = ndimage.sum_labels(air, parts, np.arange(count + 1)) * small.grid.voxel_volume / 1000.0
    if padding.any():
        mean_hu = ndimage.mean(small.data[0].cpu().numpy(), parts, np.arange(count + 1))
        beside = ndimage.mean(ndimage.binary_dilation(padding), parts, np.arange(count + 1))  # share of each part
        outside |= set(np.flatnonzero((beside > 0) & ((mean_hu < _PLAIN_AIR_HU) | (beside > _MOST_BESIDE))))
    keep = [n for n in range(1, count + 1) if n not in outside and volume[n] >= _SMALLEST_ML]
    if not keep:
        return None
    lungs = np.isin(parts, keep)
    radius = [max(1, round(6.0 / h)) for h in small.grid.spacing[::-1]]
    closed = ndimage.binary_closing(np.pad(lungs, [(r, r) for r in radius]), np.ones([2 * r + 1 for r in radius]))
    lungs |= closed[tuple(slice(r, -r) for r in radius)]
    from regsuite.ops.sampling import resample

    mask = Image(torch.from_numpy(lungs.astype(np.float32)).to(image.data.device), small.grid)
    fine = resample(mask, image.grid)
    return fine.with_data((fine.data > 0.5).float())


def _padding(image: Image) -> np.ndarray:
    """(d, h, w) bool at 3 mm: blocks of one value of air, the image's commonest, widened by a voxel; none when it is rare."""
    sample = image.data.flatten()[:: max(1, image.data.numel() // 200_000)]
    values, counts = sample.unique(return_counts=True)
    common = values[counts.argmax()]
    if float(common) > _PLAIN_AIR_HU or float(counts.max()) < _LEAST_PADDING * len(sample):
        return np.zeros(level_shape(image.grid, _SPACING_MM), dtype=bool)
    blocks = at_spacing(image.with_data((image.data == common).float()), _SPACING_MM)
    return ndimage.binary_dilation(blocks.data[0].cpu().numpy() > 0.9)
