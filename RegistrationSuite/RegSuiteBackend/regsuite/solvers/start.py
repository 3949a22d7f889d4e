"""Linear starts: bring two images roughly together before anything else looks at them. `initialise` is the door of all methods."""

from __future__ import annotations

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.ops.mind import mind_ssc
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers.boxes import centring, overlap_fraction
from regsuite.solvers.frame import make_level
from regsuite.solvers.global_pose import PoseSettings, global_pose
from regsuite.solvers.mass import centre_of_mass, principal_pose
from regsuite.transforms import AffineTransform, Transform

POLICIES = ("header", "translation", "centre", "mass", "moments", "csngf")
SAYS = (
    "header: as the files lie; translation: the best shift; centre: middles of the boxes; mass: centres of mass; "
    "moments: principal axes; csngf: any pose at all"
)
_TRANSLATION_GAIN = 0.05  # ours: share of the cost a translation must save to be taken


def initialise(
    fixed: Image,
    moving: Image,
    policy: str = "header",
    *,
    initial: Transform | None = None,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    translation_mm: float = 8.0,
    pose: PoseSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[np.ndarray, list[str]]:
    """A linear start T0 (4x4, fixed -> moving points, RAS mm) and sentences for the user. A given `initial` is the answer.

    header: the world of the files, or their boxes' middles where they do not overlap; translation: header, then the translation
    that makes MIND-SSC agree best at `translation_mm`, where it clearly helps; centre: the boxes' middles; mass: the centres of
    mass; moments: centres and principal axes of mass; csngf: any pose at all, by squared NGF, with a sentence where it hardly
    stands out from its rivals. Masks are those of the images.
    Raises InputError on an unknown policy, a deformable `initial`, images without contrast, and single slices for csngf.
    """
    check.choice("start", policy, POLICIES)
    progress = progress or Progress()
    if initial is not None:
        if not isinstance(initial, AffineTransform):
            raise InputError("The initial transform must be rigid or affine; found a deformable one.")
        return np.array(initial.matrix), []
    if policy == "csngf":
        if 1 in (*fixed.grid.shape, *moving.grid.shape):
            raise InputError("The start csngf looks for poses of volumes in space; found a single slice.")
        found = global_pose(
            fixed, moving, settings=pose, fixed_mask=fixed_mask, moving_mask=moving_mask, seed=seed, progress=progress
        )
        return found.matrix, list(found.warnings)
    if policy == "centre":
        return centring(fixed, moving), []
    if policy in ("mass", "moments"):
        place = centre_of_mass if policy == "mass" else principal_pose
        return place(fixed, moving, fixed_mask, moving_mask), []
    matrix, warnings = np.eye(4), []
    if overlap_fraction(fixed, moving) <= 0.0:
        matrix = centring(fixed, moving)
        warnings.append("The images do not overlap in world space; their centres were aligned first. Check the result with care.")
    if policy == "translation" and min(fixed.grid.shape) > 1:
        progress.step(0.5, "translation")
        moved, gain = best_translation(fixed, moving, matrix, translation_mm)
        matrix = moved if gain > _TRANSLATION_GAIN else matrix
    return matrix, warnings


def best_translation(
    fixed: Image, moving: Image, start: np.ndarray, spacing_mm: float, least_overlap: float = 0.5
) -> tuple[np.ndarray, float]:
    """The whole-voxel translation (at `spacing_mm`) that makes MIND-SSC features agree best, over *all* translations at once.

    Mean over the overlap of |f(x) - m(x + t)|^2 for every t by FFT, t limited to overlaps of at least `least_overlap` of the
    largest; returns (4x4 start with the translation before it, gain = (cost(0) - cost(best)) / mean cost).
    """
    level = make_level(fixed, moving, start, spacing_mm, spacing_mm)
    f_image, grid = level.fixed.data, level.fixed.grid
    # the moving image on the fixed lattice, extended so that no part of it is lost
    margin = tuple(min(n, max(2, n // 2)) for n in grid.shape)
    wide = grid.cropped((-margin[0], -margin[1], -margin[2]), tuple(n + 2 * p for n, p in zip(grid.shape, margin, strict=True)))  # type: ignore[arg-type]
    mapping = AffineTransform(start)
    m_image = resample(level.moving, wide, mapping).data
    inside = resample(level.moving.with_data(torch.ones_like(level.moving.data)), wide, mapping, fill=0.0).data[0]
    f, m = mind_ssc(f_image), mind_ssc(m_image) * inside
    size = [n + 2 * p for n, p in zip(grid.shape, margin, strict=True)]
    m2 = torch.fft.rfftn(m.square().sum(dim=0), s=size)
    w = torch.fft.rfftn(inside, s=size)
    ones = torch.fft.rfftn(torch.ones_like(f_image[0]), s=size)
    total = ones.conj() * m2 + torch.fft.rfftn(f.square().sum(dim=0), s=size).conj() * w
    for channel in range(f.shape[0]):
        total -= 2.0 * torch.fft.rfftn(f[channel], s=size).conj() * torch.fft.rfftn(m[channel], s=size)
    shifts = tuple(slice(0, 2 * p + 1) for p in margin)
    overlap = torch.fft.irfftn(ones.conj() * w, s=size)[shifts].clamp(min=0.0)
    cost = torch.fft.irfftn(total, s=size)[shifts] / overlap.clamp(min=1.0)
    cost[overlap < least_overlap * overlap.max()] = torch.inf
    here = float(cost[margin])
    best = int(cost.argmin())
    index = np.array(np.unravel_index(best, cost.shape)) - np.array(margin)
    shift = grid.affine[:3, :3] @ index[::-1]
    typical = float(cost[torch.isfinite(cost)].mean())
    gain = (here - float(cost.flatten()[best])) / max(typical, 1e-12) if np.isfinite(here) else 1.0
    return start @ AffineTransform.translation(shift).matrix, gain
