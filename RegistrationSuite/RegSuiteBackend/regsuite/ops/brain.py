"""The brain in a T1 head scan, found without training, with a word on how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from regsuite.geometry.image import Image
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import resample

_SPACING_MM = 2.0
_PLAUSIBLE_ML = (250.0, 2100.0)  # newborn to large adult
_SHELL_MM = 6.0  # scalp and skull: a brain mask has no business there
_LEAK = 0.04
_OPENINGS_MM = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
_STRIPPED = 0.8  # a brain that fills this share of all there is to see: the skull was taken away before


@dataclass(frozen=True)
class BrainMask:
    """mask: uint8 (1, D, H, W) on the image's grid; doubts: sentences, empty when nothing speaks against the mask."""

    mask: Image
    doubts: tuple[str, ...] = ()

    @property
    def sure(self) -> bool:
        """True when nothing speaks against it."""
        return not self.doubts


def brain_mask(image: Image, spacing_mm: float = _SPACING_MM) -> BrainMask:
    """Grey and white matter with the fluid between them.

    Values between half and 1.4 times white matter's, cut loose from scalp, eyes and neck by an opening that grows (2 to 7 mm) until
    nothing speaks against the middle piece (volume, compactness, distance from the head's surface); then grown back, closed and
    filled. An image without a skull is taken as it is. Worked out at `spacing_mm`. Expects one finite channel with T1 contrast
    (white matter bright), any grid, head roughly in the middle.
    """
    small = at_spacing(image.with_data(image.data.float()), spacing_mm)
    data = small.data[0].cpu().numpy()
    step = small.grid.spacing[::-1]
    if min(data.shape) < 8:
        return BrainMask(image.with_data(torch.ones_like(image.data, dtype=torch.uint8)), ("the image is too flat to tell",))
    head = _head(data)
    depth = ndimage.distance_transform_edt(np.pad(head, 1), step)[1:-1, 1:-1, 1:-1]
    white = _white_level(data, head, depth)
    tissue = head & (data > 0.5 * white) & (data < 1.4 * white)
    found, doubts = head, ["no piece of tissue in the middle of the head could be told from the rest"]
    openings = [radius for radius in _OPENINGS_MM if radius >= min(step)]  # a smaller one takes no voxel away
    for radius in openings:
        piece = _middle_piece(tissue, step, radius)
        if piece is None:
            break
        grown = _grown_back(piece, tissue, step, radius)
        if grown.sum() > _STRIPPED * head.sum() or _is_stripped(data, head, grown):
            found, doubts = head, _doubts(head, None, step)
            break
        again = _doubts(grown, depth, step)
        if radius == openings[0] or len(again) < len(doubts):
            found, doubts = grown, again
        if not again:
            break
    mask = Image(torch.from_numpy(found.astype(np.float32))[None], small.grid)
    fine = resample(mask, image.grid).data > 0.5
    return BrainMask(Image(fine.to(torch.uint8), image.grid), tuple(doubts))


def _head(data: np.ndarray) -> np.ndarray:
    """The largest piece brighter than background, without holes."""
    low, high = np.percentile(data, [1.0, 99.5])
    bright = ndimage.binary_opening(data > low + 0.08 * (high - low), iterations=1)
    largest = _largest(bright)
    head = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(largest, 4), iterations=3))[4:-4, 4:-4, 4:-4]
    return np.asarray(head if head.any() else data > low)


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = ndimage.sum_labels(mask, parts, np.arange(1, count + 1))
    return np.asarray(parts == 1 + int(np.argmax(sizes)))


def _white_level(data: np.ndarray, head: np.ndarray, depth: np.ndarray) -> float:
    """White matter's value: the 80th percentile of the deep half of the head's upper part, fluid left out."""
    deep = data[head & (depth > 0.5 * depth.max())]
    tissue = deep[deep > 0.5 * np.median(deep)]
    return float(np.percentile(tissue if tissue.size else data[head], 80.0))


def _ball(mask: np.ndarray, step: np.ndarray, radius: float, grow: bool) -> np.ndarray:
    """Erosion or dilation by `radius` mm, worked out on the box around the mask."""
    where = ndimage.find_objects(mask.astype(np.uint8))
    if not where:
        return mask
    margin = [1 + int(radius / h) if grow else 0 for h in step]
    box = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(where[0], margin, strict=True))
    padded = np.pad(mask[box], 1)
    if grow:
        part = ndimage.distance_transform_edt(~padded, step) <= radius
    else:
        part = ndimage.distance_transform_edt(padded, step) > radius
    out = np.zeros_like(mask)
    out[box] = part[1:-1, 1:-1, 1:-1]
    return out


def _middle_piece(tissue: np.ndarray, step: np.ndarray, radius: float) -> np.ndarray | None:
    """The largest piece of tissue after an erosion of `radius` mm, dilated again by as much."""
    core = _ball(tissue, step, radius, grow=False)
    if not core.any():
        return None
    return _ball(_largest(core), step, radius, grow=True) & tissue


def _grown_back(piece: np.ndarray, tissue: np.ndarray, step: np.ndarray, radius: float) -> np.ndarray:
    near = _ball(piece, step, 0.5 * radius, grow=True) & tissue
    margin = int(np.ceil(12.0 / step.min()))
    wide = np.pad(_largest(near), margin)
    closed = _ball(_ball(wide, step, 8.0, grow=True), step, 8.0, grow=False)
    return np.asarray(ndimage.binary_fill_holes(closed)[margin:-margin, margin:-margin, margin:-margin])


def _is_stripped(data: np.ndarray, head: np.ndarray, found: np.ndarray) -> bool:
    """Background of one single value reaches up to the brain."""
    background = data[~head]
    return bool(background.size) and float((background == background.min()).mean()) > 0.9 and found.sum() > 0.6 * head.sum()


def _doubts(found: np.ndarray, depth: np.ndarray | None, step: np.ndarray) -> list[str]:
    """What speaks against a mask; depth: mm below the head's surface, None for an image without a skull."""
    volume = float(found.sum() * np.prod(step) / 1000.0)
    doubts = []
    leak = 0.0 if depth is None else float((found & (depth < _SHELL_MM)).sum() / max(1, found.sum()))
    if leak > _LEAK:
        doubts.append(f"{100 * leak:.0f} % of it lies within {_SHELL_MM:g} mm of the head's surface")
    if not _PLAUSIBLE_ML[0] <= volume <= _PLAUSIBLE_ML[1]:
        doubts.append(f"it holds {volume:.0f} ml, a brain {_PLAUSIBLE_ML[0]:.0f} to {_PLAUSIBLE_ML[1]:.0f}")
    faces = [found.take(end, axis).mean() for axis in range(3) for end in (0, -1)]
    if max(faces) > 0.15:
        doubts.append("it is cut off by the border of the image")
    widths = [np.ptp(np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))) * step[axis] for axis in range(3)]
    fill = found.sum() * np.prod(step) / max(1.0, float(np.prod(widths)))
    if not 0.3 < fill < 0.8:
        doubts.append(f"it fills {100 * fill:.0f} % of its box, a brain about half")
    return doubts
