"""Segments of a label image or a .seg.nrrd (names, colours, several layers) as one mask each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io.dicom import split_selector
from regsuite.io.itk import grid_from_itk, quiet_itk, readable_file, unreadable
from regsuite.io.volumes import read_image, read_labels

_EXPECTED = "a segmentation (.seg.nrrd) or a label image"
MARGIN = 1


@dataclass(frozen=True, eq=False)
class Segment:
    """One mask: `occupancy` (1, D, H, W) uint8 0/1, or float 0..1, cropped to what it fills and one voxel around it. Empty:
    None.
    """

    name: str
    occupancy: Image | None
    colour: tuple[float, float, float] | None = None
    label: int | None = None


def read_segments(path: str | os.PathLike[str]) -> list[Segment]:
    """All segments of a .seg.nrrd, in its order; all labels of a label image, named label_N; or the one of a volume of shares.

    An image whose values lie in 0..1 with fractions is a share of each voxel (partial volume). Raises InputError on anything else.
    """
    name = os.fspath(path)
    if name.lower().endswith(".seg.nrrd"):
        return list(_segments(Path(name)))
    try:
        labels = read_labels(name)
    except InputError as error:
        if "fractions" not in str(error):
            raise
        shares = read_image(name)
        if float(shares.data.min()) < 0.0 or float(shares.data.max()) > 1.0:
            raise InputError(
                f"Cannot use '{name}' as structure: expected whole labels or shares from 0 to 1, found other values."
            ) from error
        return [Segment(split_selector(name)[0].name.split(".")[0], _cropped(shares.data[0].numpy(), shares.grid))]
    array = labels.data[0].numpy()
    if array.min() < 0:
        raise InputError(f"Cannot use '{name}' as structures: expected labels from 0 upwards, found {array.min()}.")
    if array.max() > 100_000:
        raise InputError(f"Cannot use '{name}' as structures: a label of {array.max()} is no structure number; is it an image?")
    boxes = ndimage.find_objects(array)
    found = [(n, box) for n, box in enumerate(boxes, 1) if box is not None]
    return [Segment(f"label_{n}", _mask(array, n, box, labels.grid), None, n) for n, box in found]


def _segments(path: Path) -> Iterator[Segment]:
    readable_file(path, _EXPECTED)
    with quiet_itk():
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError as error:
            raise unreadable(path, _EXPECTED, "a damaged file") from error
    grid = grid_from_itk(image, str(path))
    view = sitk.GetArrayViewFromImage(image)
    layers = [view] if image.GetNumberOfComponentsPerPixel() == 1 else [view[..., n] for n in range(view.shape[-1])]
    if layers[0].ndim != 3 or not np.issubdtype(view.dtype, np.integer):
        raise unreadable(path, _EXPECTED, f"{layers[0].ndim}D data of {view.dtype}")

    def text(number: int, key: str) -> str | None:
        full = f"Segment{number}_{key}"
        return image.GetMetaData(full) if image.HasMetaDataKey(full) else None

    boxes: dict[int, list] = {}
    number = 0
    while (ident := text(number, "ID")) is not None or text(number, "LabelValue") is not None:
        layer, value = int(text(number, "Layer") or 0), int(text(number, "LabelValue") or 1)
        if layer >= len(layers):
            raise unreadable(path, f"layer {layer} of segment {number}", f"{len(layers)} layers")
        array = np.asarray(layers[layer])
        if layer not in boxes:
            boxes[layer] = ndimage.find_objects(array.astype(np.int32, copy=False))
        box = boxes[layer][value - 1] if 0 < value <= len(boxes[layer]) else None
        rgb = [float(v) for v in (text(number, "Color") or "").split()]
        colour = (rgb[0], rgb[1], rgb[2]) if len(rgb) == 3 else None
        mask = None if box is None else _mask(array, value, box, grid)
        yield Segment(text(number, "Name") or ident or f"Segment_{number}", mask, colour, value)
        number += 1
    if not number:
        raise unreadable(path, "segments described in the header (Segment0_ID ...)", "none; is it a plain label image?")


def _mask(array: np.ndarray, value: int, box: tuple[slice, ...], grid: Grid) -> Image:
    start = (box[0].start, box[1].start, box[2].start)
    mask = (array[box] == value).astype(np.uint8)
    padded = np.pad(mask, MARGIN)
    return Image(torch.from_numpy(padded), grid.cropped((start[0] - 1, start[1] - 1, start[2] - 1), padded.shape))


def _cropped(shares: np.ndarray, grid: Grid) -> Image | None:
    boxes = ndimage.find_objects((shares > 0).astype(np.uint8))
    if not boxes:
        return None
    box = boxes[0]
    padded = np.pad(np.ascontiguousarray(shares[box]), MARGIN)
    start = (box[0].start - 1, box[1].start - 1, box[2].start - 1)
    return Image(torch.from_numpy(padded), grid.cropped(start, padded.shape))
