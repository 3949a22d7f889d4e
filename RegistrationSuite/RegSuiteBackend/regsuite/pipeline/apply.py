"""Laying an image or label map on the fixed grid with a saved transform."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io import read_image, read_labels, read_transform, write_image
from regsuite.ops.sampling import INTERPOLATIONS, resample
from regsuite.progress import Progress, ProgressCallback
from regsuite.transforms import Transform


@dataclass(frozen=True)
class ApplyRequest:
    """Paths: `image` seen through `transform` on the grid of `like`, written to the file `out`."""

    transform: str
    image: str
    like: str
    out: str
    interpolation: str = "linear"


def apply(
    transform: Transform, image: Image, like: Image | None = None, interpolation: str = "linear", fill: float | None = None
) -> Image:
    """moved(x) = image(transform(x)) on the grid of `like` (default: the image's own).

    interpolation: linear, nearest (keeps the type: for label maps) or cubic. fill: value beyond the image; by default its
    minimum (air in a CT), or 0 for nearest without negative values.
    """
    if fill is None:
        low = float(image.data.min())
        fill = min(0.0, low) if interpolation == "nearest" else low
    return resample(image, (like or image).grid, transform, interpolation, fill)


def run_apply(request: ApplyRequest, progress: ProgressCallback | None = None) -> Path:
    """Read, resample, write; returns the written path. Raises InputError or OutputError."""
    stages = Progress(progress)
    check.choice("interpolation", request.interpolation, INTERPOLATIONS)
    with stages.stage("Reading", 0.0, 0.3):
        transform = read_transform(request.transform)
        image = _read(request.image, request.interpolation)
        like = read_image(request.like)
    with stages.stage("Resampling", 0.3, 0.8):
        moved = apply(transform, image, like, request.interpolation)
    with stages.stage("Writing", 0.8, 1.0):
        write_image(moved, Path(request.out))
    return Path(request.out)


def _read(path: str, interpolation: str) -> Image:
    """Whole numbers stay whole under nearest neighbour, in the smallest type that holds them; the rest is float32."""
    if interpolation != "nearest":
        return read_image(path)
    try:
        labels = read_labels(path)
    except InputError:
        return read_image(path)  # fractions: an ordinary image, or not readable at all, which is said now
    low, high = int(labels.data.min()), int(labels.data.max())
    for kind in (torch.uint8, torch.int16):
        if torch.iinfo(kind).min <= low and high <= torch.iinfo(kind).max:
            return labels.with_data(labels.data.to(kind))
    return labels
