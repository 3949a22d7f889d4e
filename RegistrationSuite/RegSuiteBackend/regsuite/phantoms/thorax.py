"""Phantom `thorax`: a chest CT at exhale (fixed) and inhale (moving) with sliding lungs, and the exact map between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from regsuite.phantoms.base import Phantom
from regsuite.phantoms.person import (
    LABELS,
    LANDMARKS,
    checked_options,
    draw,
    lung_mask,
    noisy,
    one_thread,
    random_breath,
    random_person,
    scan_grids,
    spread_out,
)

OPTIONS = ("size", "oblique", "noise_hu", "motion_mm")


def make(
    seed: int,
    size: Sequence[int] = (176, 136, 120),
    oblique: bool = False,
    noise_hu: float = 20.0,
    motion_mm: float = 13.0,
) -> Phantom:
    """Make the phantom.

    size: voxels (i, j, k) of the fixed image, each 24 to 512; the field of view is 340 x 260 x 300 mm, spacing follows.
    oblique: fixed and moving on different oblique grids (else both on the same axis-aligned one).
    noise_hu: standard deviation of the noise (0 to 200). motion_mm: mean displacement in the lungs of the fixed image
    (2 to 18; the base moves about twice as far). Labels: see LABELS; the masks are both lungs with the tumour.
    Raises InputError on anything else.
    """
    size, noise_hu, motion_mm = checked_options(size, oblique, noise_hu, motion_mm)
    with one_thread():
        return _make(seed, size, oblique, noise_hu, motion_mm)


def _make(seed: int, size: tuple[int, int, int], oblique: bool, noise_hu: float, motion_mm: float) -> Phantom:
    streams = [np.random.default_rng([seed, stream]) for stream in range(5)]
    person = random_person(streams[0], streams[1])
    breath = random_breath(person.chest, streams[2], motion_mm)
    fixed_grid, moving_grid = scan_grids(size, oblique, streams[2])
    fixed_hu, fixed_labels = draw(person, fixed_grid, breath)
    moving_hu, moving_labels = draw(person, moving_grid, None)
    at_inhale = spread_out(person.plumbing.branchings, LANDMARKS)
    fixed_points = breath.inverse_region(torch.from_numpy(at_inhale), True)
    return Phantom(
        name="thorax",
        seed=seed,
        fixed=noisy(fixed_hu, fixed_grid, noise_hu, streams[3]),
        moving=noisy(moving_hu, moving_grid, noise_hu, streams[4]),
        transform=breath,
        fixed_mask=lung_mask(fixed_labels),
        moving_mask=lung_mask(moving_labels),
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        label_names=dict(LABELS),
        fixed_landmarks=fixed_points,
        moving_landmarks=breath.map_points(fixed_points),
        notes="Fixed: exhale. Moving: inhale. Everything inside the pleura slides along the chest wall.",
    )
