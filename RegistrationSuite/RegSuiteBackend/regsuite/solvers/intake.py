"""What every solver does to its inputs first: checks, intensity scaling, masks, the part of the box that holds anything."""

from __future__ import annotations

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.brain import brain_mask
from regsuite.ops.filters import gaussian_smooth
from regsuite.solvers.frame import crop

_SAMPLE_VOXELS = 500_000
_BRAIN_MM = 3.0  # resolution at which a box around the brain is looked for


def scaled(image: Image, name: str) -> Image:
    """float32, scaled so that the 0.5 and 99.5 percentiles become 0 and 1, clamped there.

    Raises InputError (naming `name`) unless the image has one finite channel with contrast.
    """
    if image.channels != 1:
        raise InputError(f"The {name} image must have one channel, found {image.channels}.")
    check.finite_tensor(f"The {name} image", image.data)
    data = image.data.float()
    sample = data.flatten()[:: max(1, data.numel() // _SAMPLE_VOXELS)].sort().values
    low, high = float(sample[int(0.005 * len(sample))]), float(sample[int(0.995 * (len(sample) - 1))])
    if high <= low:
        low, high = float(data.min()), float(data.max())
    if high <= low:
        raise InputError(f"The {name} image is constant ({low:g} everywhere); expected an image with contrast.")
    return image.with_data((data.clamp(low, high) - low) / (high - low))


def within(image: Image, mask: Image | None, name: str) -> Image:
    """`scaled` by the values inside a binary mask on the same grid; outside, each value gives way to those of the mask near it.

    What a mask hides can then leak neither into the grey range nor, by smoothing or interpolation, over its border.
    """
    whole = scaled(image, name)
    if mask is None:
        return whole
    inside = mask.data[0] > 0.5
    values = image.data[0][inside]
    values = scaled(Image(values.view(1, 1, 1, -1), Grid((1, 1, len(values)), np.eye(4))), f"masked {name}").data.flatten()
    data = torch.zeros_like(whole.data)
    data[0][inside] = values
    near = gaussian_smooth(mask.data, (1.0, 1.0, 1.0))
    fill = gaussian_smooth(data, (1.0, 1.0, 1.0)) / near.clamp(min=1e-6)
    return image.with_data(torch.where(inside, data, torch.where(near > 1e-3, fill, values.mean())))


def binary(mask: Image, name: str) -> Image:
    """The mask as float 0 or 1 (above one half); an empty one raises InputError."""
    data = (mask.data[:1] > 0.5).float()
    if not bool(data.any()):
        raise InputError(f"The {name} is empty; expected at least one voxel above 0.5.")
    return mask.with_data(data)


def foreground_box(image: Image, margin_mm: float, level: float = 0.05) -> Image:
    """The part of a scaled image around its voxels above `level`, when that saves at least a tenth of the voxels."""
    mask = image.with_data((image.data > level).float())
    if not bool(mask.data.any()) or min(image.grid.shape) < 2:
        return image
    part = crop(image, mask, margin_mm)
    return part if part.grid.voxels < 0.9 * image.grid.voxels else image


def on_grid_of(mask: Image, image: Image) -> Image:
    """`mask` cut to the box of `image`, a crop of the mask's own grid."""
    first = torch.round(mask.grid.world_to_index(image.grid.index_to_world(torch.zeros(1, 3, dtype=torch.float64))))[0].long()
    i, j, k = (int(n) for n in first)
    d, h, w = image.grid.shape
    return Image(mask.data[:, k : k + d, j : j + h, i : i + w].contiguous(), image.grid)


def brain_box(image: Image, margin_mm: float) -> Image:
    """The part of a scaled head scan around its brain; the whole image where the brain is not found for sure."""
    found = brain_mask(image, _BRAIN_MM)
    return crop(image, found.mask, margin_mm) if found.sure else image
