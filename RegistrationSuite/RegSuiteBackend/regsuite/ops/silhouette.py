"""Bones as silhouettes in 2D slices: where they are, whether they leave the picture, how far a point is from an outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

_SMALLEST_MM2, _LARGEST_SHARE, _MOST_BORDER = 400.0, 0.6, 0.12  # ours: neither a speck nor the whole picture
_RIM_MM, _RIM_DEPTH, _CLEAREST = 4.0, 0.08, 0.25
_OPENING_MM = 2.2
_CT_BONE_HU = 180.0


@dataclass(frozen=True, eq=False)
class Silhouette:
    """mask (H, W) bool; sure: whether the outline stands out clearly; why: the sentence that says so."""

    mask: np.ndarray
    sure: bool
    why: str


def automatic(values: np.ndarray, spacing_mm: tuple[float, float]) -> Silhouette:
    """The silhouette of the most central bone in one slice (H, W), spacing (i, j) mm.

    CT (air below -500): what exceeds 180 HU, filled. Else the bone is marrow inside a thin dark rim, as cortex is in every MR
    contrast and map: the picture is cut where it lies far below its closing by 4 mm, and of the pieces that touch little of the
    border the largest central one is taken with its rim. Unsure when the rim is not dark all round, or nothing is found. For
    phantoms and data of high contrast; else give a label image.
    """
    step = float(np.mean(spacing_mm))
    if values.min() < -500.0:
        dark = ~ndimage.binary_closing(values > _CT_BONE_HU, iterations=max(1, round(3.0 / step)))
        return _choose(_pieces(~dark, step, 0.0), ~dark, step)
    smooth = ndimage.gaussian_filter(values.astype(np.float32), 0.6 / step)
    low, high = np.percentile(smooth, (2.0, 95.0))
    size = 2 * max(1, round(_RIM_MM / step)) + 1
    depth = (ndimage.grey_closing(smooth, size=(size, size)) - smooth) / max(float(high - low), 1e-6)
    usual = float(np.median(depth))  # noise has dents too
    rim = depth > max(_RIM_DEPTH, usual + 4.0 * float(np.median(np.abs(depth - usual))))
    return _choose(_pieces(~rim, step, 1.5), rim, step)


def _choose(pieces: list[np.ndarray], rim: np.ndarray, step: float) -> Silhouette:
    """The largest and most central piece; how dark its rim is all round decides whether it is sure."""
    if not pieces:
        return Silhouette(np.zeros(rim.shape, bool), False, "no closed outline was found")
    middle = (np.array(rim.shape) - 1) / 2

    def worth(piece: np.ndarray) -> float:
        off = np.abs(np.argwhere(piece) - middle).max(axis=1) / middle.max()
        return float((1.0 - off).clip(min=0.0).sum())

    best = max(pieces, key=worth)
    around = ndimage.binary_dilation(best, iterations=max(1, round(1.0 / step))) & ~best
    closed = float((rim | ndimage.binary_dilation(rim))[around].mean()) if around.any() else 0.0
    if closed < 1.0 - _CLEAREST:
        return Silhouette(best, False, f"only {100 * closed:.0f} % of the outline found stands out")
    return Silhouette(best, True, f"{100 * closed:.0f} % of the outline stands out")


def _pieces(inside: np.ndarray, step: float, grow_mm: float) -> list[np.ndarray]:
    opened = ndimage.distance_transform_edt(inside) * step > _OPENING_MM
    labels, count = ndimage.label(opened)
    out = []
    for number in range(1, count + 1):
        piece = ndimage.binary_fill_holes(ndimage.distance_transform_edt(labels != number) * step <= _OPENING_MM + grow_mm)
        if piece.sum() * step * step >= _SMALLEST_MM2 and piece.mean() <= _LARGEST_SHARE and border_share(piece) <= _MOST_BORDER:
            out.append(piece)
    return out


def border_share(mask: np.ndarray) -> float:
    """Share of the picture's border pixels that the mask covers."""
    rim = np.ones(mask.shape, bool)
    rim[1:-1, 1:-1] = False
    return float(mask[rim].mean())


def signed_distance(inside: torch.Tensor, spacing: tuple[float, ...]) -> torch.Tensor:
    """(D, H, W) bool -> float32 mm to the boundary, negative inside; spacing along (i, j, k). An empty mask is far everywhere."""
    mask = inside.cpu().numpy()
    step = spacing[::-1]
    if not mask.any():
        return torch.full(tuple(mask.shape), 1e3)
    distance = ndimage.distance_transform_edt(~mask, step) - ndimage.distance_transform_edt(mask, step)
    half = 0.5 * min(step)
    return torch.from_numpy((distance - half * np.sign(distance)).astype(np.float32))
