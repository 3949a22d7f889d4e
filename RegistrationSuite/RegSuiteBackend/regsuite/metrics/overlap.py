"""Overlap of label images."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.ops.sampling import PointMap, resample


def dice(fixed_labels: Image, moving_labels: Image, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Dice overlap of each label on one common grid: 2 |A n B| / (|A| + |B|), 1 perfect, 0 disjoint.

    `labels` defaults to every non-zero label of either image. A label in only one image scores 0; a requested label that is
    in neither is NaN. Raises InputError on different grids, several channels, or when both images are empty.
    """
    fixed, moving = checked_labels(fixed_labels, moving_labels)
    fixed_counts, moving_counts = _counts(fixed), _counts(moving)
    common = _counts(fixed[fixed == moving])
    wanted = sorted((set(fixed_counts) | set(moving_counts)) - {0}) if labels is None else [int(v) for v in labels]
    if not wanted:
        raise InputError("Both label images are empty; expected at least one label other than 0.")
    scores = {}
    for label in wanted:
        total = fixed_counts.get(label, 0) + moving_counts.get(label, 0)
        scores[label] = 2.0 * common.get(label, 0) / total if total else math.nan
    return scores


def dice_resampled(
    fixed_labels: Image, moving_labels: Image, transform: PointMap | None = None, labels: Iterable[int] | None = None
) -> dict[int, float]:
    """`dice` on the fixed grid after moving_labels(T(x)), nearest neighbour, 0 outside; None is the identity."""
    moved = resample(moving_labels, fixed_labels.grid, transform, "nearest", fill=0.0)
    return dice(fixed_labels, moved, labels)


def checked_labels(fixed_labels: Image, moving_labels: Image) -> tuple[torch.Tensor, torch.Tensor]:
    """The two images as (D, H, W) int64 on one grid, or InputError: other grid, several channels, fractional values."""
    if fixed_labels.grid != moving_labels.grid:
        raise InputError(
            f"Label images must lie on one grid, found {fixed_labels.grid.shape} and {moving_labels.grid.shape} voxels "
            "or another position; resample one of them first."
        )
    out = []
    for image in (fixed_labels, moving_labels):
        if image.channels != 1:
            raise InputError(f"A label image has one channel, found {image.channels}.")
        whole = image.data[0].to(torch.int64)
        if torch.is_floating_point(image.data) and not bool((image.data[0] == whole).all()):
            raise InputError("A label image holds whole numbers, found fractional values.")
        out.append(whole)
    return out[0], out[1].to(out[0].device)


def _counts(labels: torch.Tensor) -> dict[int, int]:
    values, counts = torch.unique(labels, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}
