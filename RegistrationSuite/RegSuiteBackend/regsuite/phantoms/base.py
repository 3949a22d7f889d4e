"""What every phantom hands back: two images and everything that is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from regsuite.geometry import Image
from regsuite.transforms import AffineTransform, Transform


@dataclass(frozen=True, eq=False)
class TimePoint:
    """One scan of a series: age in years, image, labels (int16), mask (uint8), and the exact map scan -> common anatomy."""

    age_years: float
    image: Image
    labels: Image
    mask: Image
    to_anatomy: Transform


@dataclass(frozen=True, eq=False)
class Phantom:
    """A pair of images with known truth. All positions are RAS mm.

    transform: the true T, fixed -> moving, an exact map of points (not sampled on a grid); moving(T(x)) shows the anatomy
    of fixed(x). Masks are uint8 (0, 1), labels int16 with the names in `label_names` (number -> name). Landmarks are
    float64 (N, 3) with moving_landmarks = transform.map_points(fixed_landmarks). `notes` says in words what is moving how.
    `series`: all scans of one patient over time, when there are more than the pair.
    lesion_mask: what exists in the fixed image alone, on its grid; None without a lesion.
    `images`, `maps`: whatever else is known, by name; maps go from points of the fixed image.
    """

    name: str
    seed: int
    fixed: Image
    moving: Image
    transform: Transform
    fixed_mask: Image
    moving_mask: Image
    fixed_labels: Image
    moving_labels: Image
    label_names: Mapping[int, str]
    fixed_landmarks: torch.Tensor
    moving_landmarks: torch.Tensor
    notes: str = ""
    series: tuple[TimePoint, ...] = ()
    lesion_mask: Image | None = None
    images: Mapping[str, Image] = field(default_factory=dict)
    maps: Mapping[str, Transform] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SlicePhantom:
    """A volume, 2D slices of the same anatomy with wrong headers, and where they truly lie. All positions are RAS mm.

    volume_mask, slice_masks: uint8 bone labels (0 background); volume_labels: int16 with `label_names`. transforms: for each
    slice the rigid map from its given position to its true one in the volume.
    order, reversed: slice n of the list is number order[n] of the true stack, seen from the other side where reversed[n].
    slice_values: further quantitative images on the slices' grids; maps: the true quantitative values on the volume's grid.
    """

    name: str
    seed: int
    volume: Image
    volume_mask: Image
    volume_labels: Image
    label_names: Mapping[int, str]
    slices: tuple[Image, ...]
    slice_masks: tuple[Image, ...]
    slice_values: Mapping[str, tuple[Image, ...]]
    transforms: tuple[AffineTransform, ...]
    order: tuple[int, ...]
    reversed: tuple[bool, ...]
    maps: Mapping[str, Image]
    notes: str = ""
