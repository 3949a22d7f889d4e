"""Distances between the surfaces of two structures, in millimetres on any grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy import ndimage, spatial

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.metrics.overlap import checked_labels


def surface_distances(fixed_labels: Image, moving_labels: Image, label: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N,) mm from each surface voxel of `label` in fixed to the nearest one in moving, and (M,) the other way.

    A surface voxel is one of the label with a face neighbour that is not, or at the image border. Distances are between
    voxel centres in the world, so spacing, oblique and sheared axes count. Raises InputError on different grids or when
    either image lacks the label.
    """
    fixed, moving = checked_labels(fixed_labels, moving_labels)
    points = []
    for name, labels in (("fixed", fixed), ("moving", moving)):
        mask = (labels == int(label)).cpu().numpy()
        if not mask.any():
            raise InputError(f"The {name} label image has no voxel of label {label}; its surface is empty.")
        points.append(surface_points(mask, fixed_labels.grid))
    a, b = points
    return spatial.cKDTree(b).query(a)[0], spatial.cKDTree(a).query(b)[0]


def hd95(fixed_labels: Image, moving_labels: Image, labels: Iterable[int] | None = None) -> dict[int, float]:
    """95 % Hausdorff distance of each label in mm: the larger of the two directed 95th percentiles of `surface_distances`.

    `labels` defaults to every non-zero label of either image; a label that one of them lacks has no distance: NaN.
    Raises InputError on different grids, or when both images are empty.
    """

    def larger(there: np.ndarray, back: np.ndarray) -> float:
        return float(max(np.percentile(there, 95), np.percentile(back, 95)))

    return _per_label(fixed_labels, moving_labels, labels, larger)


def mean_surface_distance(fixed_labels: Image, moving_labels: Image, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Average symmetric surface distance of each label in mm: the mean over the surface voxels of both images together.

    Labels and errors as in `hd95`.
    """
    return _per_label(fixed_labels, moving_labels, labels, lambda there, back: float(np.concatenate([there, back]).mean()))


def _per_label(
    fixed_labels: Image,
    moving_labels: Image,
    labels: Iterable[int] | None,
    measure: Callable[[np.ndarray, np.ndarray], float],
) -> dict[int, float]:
    fixed, moving = (set(torch.unique(v).tolist()) - {0} for v in checked_labels(fixed_labels, moving_labels))
    wanted = sorted(fixed | moving) if labels is None else [int(v) for v in labels]
    if not wanted:
        raise InputError("Both label images are empty; expected at least one label other than 0.")
    return {
        label: measure(*surface_distances(fixed_labels, moving_labels, label)) if label in fixed & moving else math.nan
        for label in wanted
    }


def surface_points(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(N, 3) RAS mm centres of the surface voxels of a boolean mask (D, H, W). Axes of one voxel have no faces."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    part = mask[box]
    structure = np.zeros((3, 3, 3), dtype=bool)
    structure[1, 1, 1] = True
    for axis, n in enumerate(mask.shape):
        if n > 1:
            line = [1, 1, 1]
            line[axis] = slice(None)  # type: ignore[call-overload]
            structure[tuple(line)] = True
    # outside the bounding box nothing belongs to the mask, so eroding the crop with a background border is exact
    border = part & ~ndimage.binary_erosion(part, structure, border_value=0)
    start = np.array([s.start for s in box])
    index = torch.as_tensor((np.argwhere(border) + start)[:, ::-1].astype(np.float64))
    return grid.index_to_world(index).numpy()
