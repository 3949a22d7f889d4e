"""Where numbers and pictures are taken: the mask that was given, else the patient without the air around."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from regsuite.geometry import Image

FOREGROUND = "foreground"  # its name in reports
_COARSE_VOXELS = 200_000


def foreground(image: Image) -> torch.Tensor:
    """(D, H, W) bool: the body, holes (lungs, bowel gas) and dark organs included, found on a coarse copy.

    The largest piece above Otsu's threshold (CT), or above half of it with gaps of up to about 16 mm closed (the rest), holes
    filled plane by plane in all three directions. Everything is foreground when that leaves next to nothing.
    """
    data = image.data[0]
    step = max(1, int(np.ceil((image.grid.voxels / _COARSE_VOXELS) ** (1 / 3))))
    steps = [min(step, max(1, n // 4)) for n in image.grid.shape]
    coarse = data[:: steps[0], :: steps[1], :: steps[2]].cpu().float().numpy()
    air = float(np.percentile(coarse, 0.5))
    ct = is_ct(image)
    body = coarse > air + (1.0 if ct else 0.5) * (otsu(coarse) - air)
    labels, count = ndimage.label(body)
    if count > 1:
        body = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    body = _filled(body if ct else _closed(body, image.grid.spacing[::-1] * np.array(steps)))
    if body.mean() < 0.005:
        body = np.ones_like(body)
    index = [np.minimum(np.arange(n) // s, m - 1) for n, s, m in zip(image.grid.shape, steps, body.shape, strict=True)]
    return torch.from_numpy(body[np.ix_(*index)]).to(data.device)


def is_ct(image: Image) -> bool:
    """Hounsfield units are told by air far below zero."""
    flat = image.data[0].flatten()
    values = flat[:: max(1, flat.numel() // 500_000)].float().cpu().numpy()
    low, middle = np.percentile(values, (1, 50))
    return bool(low < -500 and values.min() >= -4100 and middle < 400)


def _closed(body: np.ndarray, spacing_mm: np.ndarray, radius_mm: float = 8.0) -> np.ndarray:
    """Closing by a ball of world millimetres, by way of two distance transforms; the border does not erode."""
    pad = [(int(np.ceil(radius_mm / s)) + 1,) * 2 for s in spacing_mm]
    grown = ndimage.distance_transform_edt(~np.pad(body, pad), spacing_mm) <= radius_mm
    shrunk = ndimage.distance_transform_edt(grown, spacing_mm) > radius_mm
    return np.asarray(shrunk[tuple(slice(a, -a) for a, _ in pad)] | body)


def _filled(body: np.ndarray) -> np.ndarray:
    for axis in range(3):
        turned = np.moveaxis(body, axis, 0)
        body = np.moveaxis(np.stack([ndimage.binary_fill_holes(plane) for plane in turned]), 0, axis)
    return body


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that best splits the histogram in two (largest variance between the classes; Otsu 1979)."""
    low, high = np.percentile(values, (0.1, 99.9))
    if high <= low:
        return float(values.min())
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts)[:-1].astype(np.float64)
    total = float(counts.sum())
    sums = np.cumsum(counts * centres)
    spread = (sums[-1] * weight / total - sums[:-1]) ** 2 / np.maximum(weight * (total - weight), 1.0)
    return float(edges[1:-1][int(np.argmax(spread))])
