"""Which silhouettes and which bone a hull is built from: given labels, or outlines found in the slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.ops import silhouette
from regsuite.ops.sampling import resample

_SMALL = 0.5  # of the usual area
_AGREE = 0.75  # overlap along the common axis
_CUT_OFF = 0.35  # share of the picture's border that a silhouette may cover


def prepare(
    slices: Sequence[Image],
    volume: Image,
    slice_masks: Sequence[Image] | None,
    volume_mask: Image | None,
    start: str,
    warnings: list[str],
    axis: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Image | None, list[Image] | None]:
    """(bone mask of the volume, one silhouette per slice), or (None, None) when there is no hull to build.

    Of several labels the one that fills most of the slices and appears in all of them and in the volume is taken. Raises InputError
    for empty masks, a wrong number of masks, and, when start is "hull", for whatever makes a hull impossible.
    """
    if slice_masks is not None and len(slice_masks) != len(slices):
        raise InputError(f"Expected one mask for each of the {len(slices)} slices, found {len(slice_masks)}.")
    masks = None if slice_masks is None else [_on(mask, image) for mask, image in zip(slice_masks, slices, strict=True)]
    for number, mask in enumerate(masks or [], start=1):
        if not bool((mask.data > 0).any()):
            raise InputError(f"The mask of slice {number} is empty; expected at least one pixel above 0.")
    if volume_mask is not None and not bool((volume_mask.data > 0).any()):
        raise InputError("The volume mask is empty; expected at least one voxel above 0.")
    problem = _obstacle(slices, masks, volume_mask, start)
    if problem is not None:
        if start == "hull":
            raise InputError(problem)
        return None, None
    assert volume_mask is not None
    if masks is None:
        masks = _found(slices, start, warnings, axis)
        if masks is None:
            return None, None
    label = _label(masks, volume_mask)
    bone = volume_mask.with_data((volume_mask.data == label) if label else (volume_mask.data > 0))
    outlines = [mask.with_data(((mask.data == label) if label else (mask.data > 0)).to(torch.uint8)) for mask in masks]
    return bone, _uncut(outlines, start, warnings)


def _obstacle(slices: Sequence[Image], masks: Sequence[Image] | None, volume_mask: Image | None, start: str) -> str | None:
    """Why no hull can be built, or None."""
    if start == "search":
        return "No hull is wanted."
    if volume_mask is None:
        return "A hull is fitted to the bone of the volume; expected a volume mask, found none. Give one, or use start=search."
    normals = np.stack([image.grid.direction[:, 2] for image in slices])
    apart = np.rad2deg(np.arccos(np.clip(np.abs(normals @ normals.T).min(), 0.0, 1.0)))
    if len(slices) < 2 or apart < 15.0:
        found = "one slice" if len(slices) < 2 else f"{len(slices)} slices within {apart:.0f} degrees of each other"
        return f"A hull needs two or more slices at different angles, found {found}. Use start=search."
    return None


def _on(mask: Image, image: Image) -> Image:
    return mask if mask.grid == image.grid else resample(mask, image.grid, None, "nearest", fill=0.0)


def _found(
    slices: Sequence[Image], start: str, warnings: list[str], axis: tuple[np.ndarray, np.ndarray] | None
) -> list[Image] | None:
    """Automatic silhouettes of all slices; None with a warning when one is unsure, or does not go with the others."""
    outlines = []
    for image in slices:
        i, j, _ = image.grid.spacing
        outlines.append(silhouette.automatic(image.data[0, 0].cpu().numpy(), (float(i), float(j))))
    usual = float(np.median([item.mask.sum() for item in outlines]))
    shared = [1.0] * len(slices) if axis is None else along_axis([item.mask for item in outlines], slices, axis)
    unsure = []
    for number, (item, agreement) in enumerate(zip(outlines, shared, strict=True), start=1):
        if not item.sure:
            unsure.append(f"{number} ({item.why})")
        elif item.mask.sum() < _SMALL * usual:
            unsure.append(f"{number} (much smaller than in the others)")
        elif agreement < _AGREE:
            unsure.append(f"{number} (another part of the common axis lies in it than in the others)")
    if unsure:
        text = f"The bone silhouettes of slices {', '.join(unsure)} are unsure"
        if start == "hull":
            raise InputError(f"{text}; give slice masks, or use start=search.")
        warnings.append(f"{text}; no hull was built, the start came from the images alone.")
        return None
    return [
        image.with_data(torch.from_numpy(item.mask)[None, None].to(torch.uint8))
        for image, item in zip(slices, outlines, strict=True)
    ]


def along_axis(masks: Sequence[np.ndarray], slices: Sequence[Image], axis: tuple[np.ndarray, np.ndarray]) -> list[float]:
    """Dice overlap of each mask (H, W) with the majority along the line (point, direction) in which radial slices meet.

    All slices hold this line, whatever their order and side: what of it is bone in one is bone in all, up to motion.
    """
    point, direction = axis
    places = np.arange(-150.0, 150.0)[:, None] * direction + point
    profiles = []
    for mask, image in zip(masks, slices, strict=True):
        index = np.c_[places, np.ones(len(places))] @ image.grid.inverse_affine().T
        i, j = (np.floor(index[:, axis_] + 0.5).astype(int) for axis_ in (0, 1))
        inside = (i >= 0) & (j >= 0) & (i < mask.shape[1]) & (j < mask.shape[0])
        profiles.append(inside & mask[j.clip(0, mask.shape[0] - 1), i.clip(0, mask.shape[1] - 1)])
    common = np.mean(profiles, axis=0) >= 0.5
    return [2.0 * float((p & common).sum()) / max(float(p.sum() + common.sum()), 1.0) for p in profiles]


def _label(masks: Sequence[Image], volume_mask: Image) -> int:
    """The label shared by all slices and the volume that covers most of the slices; 0 when there is none (any label counts)."""
    shared = {int(v) for v in volume_mask.data.unique() if v > 0}
    for mask in masks:
        shared &= {int(v) for v in mask.data.unique() if v > 0}
    return max(shared, key=lambda value: sum(int((mask.data == value).sum()) for mask in masks), default=0)


def _uncut(outlines: list[Image], start: str, warnings: list[str]) -> list[Image] | None:
    """Silhouettes that reach the border go on beyond it as prisms, with a warning; when they cover it there is no hull."""
    shares = [silhouette.border_share(mask.data[0, 0].bool().cpu().numpy()) for mask in outlines]
    touching = [str(number) for number, share in enumerate(shares, start=1) if share > 0.0]
    if max(shares) > _CUT_OFF:
        number = int(np.argmax(shares)) + 1
        text = f"The silhouette of slice {number} covers {100 * max(shares):.0f} % of the picture's border: its outline is unknown"
        if start == "hull":
            raise InputError(f"{text}; expected the bone inside the picture. Use start=search, or slices that show all of it.")
        warnings.append(f"{text}; no hull was built.")
        return None
    if touching:
        warnings.append(
            f"The silhouette of slice {', '.join(touching)} touches the border of the picture; the hull goes on straight beyond it."
        )
    return outlines
