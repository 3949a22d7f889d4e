"""The linear start of brains: a policy of `solvers.start`, then rigid or affine by `solvers.linear` at a few millimetres."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.progress import Progress
from regsuite.solvers import linear, start

KINDS = ("none", "rigid", "affine")
STARTS = ("auto", *start.POLICIES)
_SETTINGS = linear.LinearSettings(finest_mm=4.0, levels=2, samples=10_000, iterations=30, turn_degrees=0.0)
_SCALE_LIMIT = 1.6  # ours: no head is so much larger or smaller than another


def prealign(
    fixed: Image,
    moving: Image,
    kind: str,
    progress: Progress,
    *,
    metric: str = "ncc",
    fixed_mask: Image | None = None,
    policy: str = "auto",
    seed: int = 0,
) -> tuple[np.ndarray, list[str]]:
    """4x4 matrix, fixed -> moving points (RAS mm), and sentences for the user.

    kind: none (the boxes' middles where the images do not overlap, else the headers), rigid, or affine (rigid first). metric: that
    of `linear.align`: ncc for images of one contrast, mi for others. fixed_mask: non-zero where the fixed image counts, on its
    grid. policy: of `start.initialise`; auto: translation, or header for none. Good from about 25 mm and 20 degrees; csngf: from
    anywhere. Raises InputError for another kind, unusable images, and heads that differ in size
    by more than 1.6.
    """
    check.choice("align", kind, KINDS)
    check.choice("start", policy, STARTS)
    if policy == "auto":
        policy = "header" if kind == "none" else "translation"
    with progress.part(0.0, 0.1):
        matrix, warnings = start.initialise(fixed, moving, policy, fixed_mask=fixed_mask, seed=seed, progress=progress)
    if kind == "none":
        return matrix, warnings
    with progress.part(0.1, 1.0):
        found = linear.align(
            fixed, moving, kind=kind, metric=metric, start=matrix, fixed_mask=fixed_mask, settings=_SETTINGS, progress=progress
        )
    _check_scale(found.matrix)
    return found.matrix, [*warnings, *found.warnings]


def _check_scale(matrix: np.ndarray) -> None:
    sizes = linalg.svdvals(matrix[:3, :3])
    worst = float(max(sizes.max(), 1.0 / sizes.min()))
    if worst > _SCALE_LIMIT:
        raise InputError(f"The linear alignment changed the size of the image {worst:.2f} times; do both show one head?")
