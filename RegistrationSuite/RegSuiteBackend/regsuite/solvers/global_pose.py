"""The rigid pose of one image in another from anywhere: no starting guess, any contrast, any grids.

1. coarse: all rotations of a uniform set, all translations, squared NGF similarity (solvers/rotation_search);
2. the best distinct poses climb to their maxima, at ever finer resolutions, ever fewer of them (solvers/pose_ascent);
3. the margin of the winner over the runner-up becomes a confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from regsuite.geometry.image import Image
from regsuite.ops.orientation import GradientField, gradient_field
from regsuite.progress import Progress
from regsuite.solvers.boxes import overlap_fraction
from regsuite.solvers.intake import binary, scaled
from regsuite.solvers.pose_ascent import AscentSettings, ascend
from regsuite.solvers.rotation_search import Pose, SearchSettings, search
from regsuite.solvers.rotations import angle_degrees

_SAME_DEGREES = 7.0  # ours: about the distance of a pose from the nearest member of a set of 4608 rotations
LOW_CONFIDENCE = 0.25  # ours: between unrelated images and images of one head, see Testing/bench/multimodal
CLEAR_CONFIDENCE = 0.35  # ours: above this no wrong pose was seen there
_HEADER_STEP = 0.2  # ours: first step of a climb from the header's pose, in steps of the level's lattice
_RIVAL_DEGREES = 30.0  # ours: further apart two poses are rivals, not one pose found twice
_RIVAL_SHARE = 0.25  # ours: of the poses kept at each level
_NEAR_STEPS = 3.0  # ours: the same for places, in steps of the search lattice
_LARGEST_SUM = 2.8  # ours: points of both lattices along an axis, in multiples of `across`


@dataclass(frozen=True)
class PoseSettings:
    """Resolutions are shares of the image: points across the longer axis of the smaller image.

    across: lattice points of the coarse search; rotations: size of the uniform set; keep: poses kept after the search and after
    each level; least_overlap: share of the smaller image (or mask) that must overlap; noise: gradient, in shares of the grey range
    per voxel of the level, below which an edge counts as noise; power: the similarity is sum / overlap^power (1: the paper's mean).
    smoothing: standard deviation in lattice steps; iterations: of each climb; points: looked at on the first level, twice as
    many on each next one. header: the pose that the headers give is tried too, and kept when no pose stands out.
    """

    across: int = 20
    rotations: int = 2304
    keep: tuple[int, ...] = (32, 8, 5)
    least_overlap: float = 0.3
    noise: float = 1e-3
    power: float = 0.75
    smoothing: float = 1.0
    iterations: int = 16
    points: int = 4_000
    header: bool = True


@dataclass(frozen=True)
class GlobalPose:
    """matrix: 4x4 T, fixed -> moving points, RAS mm; candidates: (matrix, score), the answer first, then by score.

    confidence: 0..1, the share of the best score by which the runner-up, another pose, falls short of it.
    """

    matrix: np.ndarray
    candidates: tuple[tuple[np.ndarray, float], ...]
    confidence: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must know when no pose stands out."""
        if self.confidence >= LOW_CONFIDENCE:
            return ()
        text = "The best pose is hardly better than its rivals: these images may not show the same thing."
        return (f"{text} The pose that the headers give is kept where it lets them overlap.",)


def global_pose(
    fixed: Image,
    moving: Image,
    *,
    settings: PoseSettings | None = None,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> GlobalPose:
    """Find the rigid T with moving(T(x)) like fixed(x), whatever the headers say. Deterministic for a seed.

    fixed, moving: one-channel images on any grids; masks: non-zero where the image counts, on their images' grids.
    Raises InputError for images without contrast and for masks too small to compare.
    """
    settings, progress = settings or PoseSettings(), progress or Progress()
    images = [scaled(image, name) for image, name in ((fixed, "fixed"), (moving, "moving"))]
    given = ((fixed_mask, "fixed mask"), (moving_mask, "moving mask"))
    masks = [None if mask is None else binary(mask, name).data for mask, name in given]
    coarse = coarse_spacing(fixed, moving, settings.across)

    fields = partial(_fields, images, masks, settings)
    centre, near = fixed.grid.centre, _NEAR_STEPS * coarse
    here = [Pose(np.eye(4), -np.inf)] if settings.header and _boxes_overlap(fixed, moving, settings.least_overlap) else []
    last = len(settings.keep) - 1
    with torch.no_grad():
        pair = fields(coarse)
        with progress.part(0.0, 0.6):
            plan = SearchSettings(coarse, settings.rotations, settings.least_overlap, settings.power)
            poses = shortlist(search(*pair, plan, progress), settings.keep[0], centre, near)
        for level in range(last + 1):
            spacing = coarse / 2**level
            pair = fields(spacing) if level else pair
            ascent = AscentSettings(settings.points * 2**level, settings.iterations, 0.5 * spacing, settings.power)
            low, step = 0.6 + 0.4 * level / (last + 1), 0.4 / (last + 1)
            with progress.part(low, low + 0.9 * step):
                poses = ascend(*pair, poses, ascent, seed, progress)
            if here and (level or not last):  # the header is wrong or nearly right: short steps, and not at the coarsest level
                with progress.part(low + 0.9 * step, low + step):
                    here = ascend(*pair, here, replace(ascent, step_mm=_HEADER_STEP * spacing), seed, progress)
                poses = sorted(poses + here, key=lambda pose: -pose.score)
            following = settings.keep[min(level + 1, last)]
            poses = shortlist(poses, max(2, following), centre, near)
    sure = confidence(poses, centre, near)
    if sure < LOW_CONFIDENCE and here:  # nothing stands out: the header's word is worth more than the best of chance
        poses = distinct(here + poses, len(poses), centre, near)
    return GlobalPose(poses[0].matrix, tuple((pose.matrix, pose.score) for pose in poses), sure)


def _fields(
    images: list[Image], masks: list[torch.Tensor | None], settings: PoseSettings, spacing: float
) -> tuple[GradientField, GradientField]:
    sigma, noise = settings.smoothing * spacing, settings.noise / spacing
    a, b = (gradient_field(image, mask, sigma, spacing, noise) for image, mask in zip(images, masks, strict=True))
    return a, b


def _boxes_overlap(fixed: Image, moving: Image, least: float) -> bool:
    """Do the headers alone let the share `least` of the smaller image's box overlap?"""
    volumes = [image.grid.voxels * image.grid.voxel_volume for image in (fixed, moving)]
    return overlap_fraction(fixed, moving) * volumes[0] >= least * min(volumes)


def confidence(poses: list[Pose], centre: np.ndarray, far_mm: float) -> float:
    """0..1: by what share of its own score the best pose beats its best rival, a pose that turns elsewhere or goes elsewhere.

    A rival turns by more than 30 degrees against the best or puts `centre` further than `far_mm` away. Without one: 1.
    """
    away = _away(poses, centre, far_mm)
    if not away.any():
        return 1.0
    rival = poses[int(np.flatnonzero(away)[0])]
    return float(np.clip(1.0 - rival.score / max(poses[0].score, 1e-12), 0.0, 1.0))


def _away(poses: list[Pose], centre: np.ndarray, far_mm: float) -> np.ndarray:
    """(N,) bool: which poses are rivals of the first, not its neighbours."""
    every = np.stack([pose.matrix for pose in poses])
    places = every[:, :3, :3] @ centre + every[:, :3, 3]
    turned = angle_degrees(every[:, :3, :3], every[0, :3, :3]) > _RIVAL_DEGREES
    return turned | (np.linalg.norm(places - places[0], axis=1) > far_mm)


def coarse_spacing(fixed: Image, moving: Image, across: int) -> float:
    """mm: the longer axis of the smaller image cut into `across`; coarser where a much larger partner would cost too much."""
    extents = [float((np.array(image.grid.size) * image.grid.spacing).max()) for image in (fixed, moving)]
    return max(min(extents) / across, sum(extents) / (_LARGEST_SUM * across))


def shortlist(poses: list[Pose], count: int, centre: np.ndarray, near_mm: float) -> list[Pose]:
    """`distinct`, and up to a quarter as many more: rivals of the best (see `confidence`) and of one another, twice as far away as
    they need be. What the winner is compared with must not be crowded out by its neighbours, nor climb to where it is."""
    kept = distinct(poses, count, centre, near_mm)
    rivals = distinct(poses, max(1, int(_RIVAL_SHARE * count)) + 1, centre, 2.0 * near_mm, 2.0 * _RIVAL_DEGREES)[1:]
    missing = [pose for pose in rivals if not any(pose is other for other in kept)]
    return sorted([*kept, *missing], key=lambda pose: -pose.score)


def distinct(poses: list[Pose], count: int, centre: np.ndarray, near_mm: float, degrees: float = _SAME_DEGREES) -> list[Pose]:
    """The best `count` of sorted poses, without those that turn within `degrees` (7) of a better one and put `centre` within
    `near_mm` of where it puts it."""
    kept: list[Pose] = []
    rotations, places = np.zeros((0, 3, 3)), np.zeros((0, 3))
    for pose in poses:
        if len(kept) == count:
            break
        rotation, place = pose.matrix[:3, :3], pose.matrix[:3, :3] @ centre + pose.matrix[:3, 3]
        close = angle_degrees(rotations, rotation) < degrees
        if not (close & (np.linalg.norm(places - place, axis=1) < near_mm)).any():
            kept.append(pose)
            rotations, places = np.concatenate([rotations, rotation[None]]), np.concatenate([places, place[None]])
    return kept
