"""slices-qmri: where 2D slices of another contrast lie in a volume, whatever their headers, their order or their side.

1. start: a visual hull of the bone silhouettes, in the smoothest orders of the slices, is fitted to the bone mask of the volume
   from several starts (paper 23); and every place within reach of the header is tried on a coarse lattice, the order of the
   slices read off at each by an assignment (ours);
2. turn: slices are emulated from the volume and vote by mutual information in a binary search over the turn about their axis;
3. stack: six degrees of freedom of the whole stack, from coarse to fine; the order is checked once more;
4. slices: six degrees of freedom of each slice, held to the stack by what a patient may move;
5. confidence: how far each slice's information stands above that of other places.

Reference: slice-to-volume registration for quantitative MR of the hip, WBIR 2022 (paper 23; unfinished there).
Differs from it in: the order is found and not set by hand; the lattice start, which needs no segmentation; gradients instead of
more bisection; per-slice motion; slice thickness; confidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.ops.padding import has_data
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import hull, slice_confidence, slice_outlines, slice_search
from regsuite.solvers.device import choose_device
from regsuite.solvers.slice_match import Climb, SliceLevel, climb, information_of_many, make_level
from regsuite.solvers.slice_search import Candidate
from regsuite.solvers.slice_stack import Stack, about, assign, describe, shared_move
from regsuite.transforms import AffineTransform

_RANK_MM, _RANK_BINS = 8.0, 12  # ours
_CLIMB_MM, _CLIMB_BINS = 6.0, 20
_FINE_BINS = 28
_POOL, _KEPT, _ROUNDS = 28, 12, 2
_LEAST_DATA = 0.05


@dataclass(frozen=True)
class SlicesQmriConfig(Config):
    """Settings of slices-qmri. The paper fixes the first turn of 15 degrees; everything else is ours."""

    start: str = option("auto", "hull: from silhouettes of bones; search: from the images; auto: both", ("auto", "hull", "search"))
    order: str = option(
        "auto",
        "given: order and side of the slices are right; search: any order, either side; auto: search for slices about one axis",
        ("auto", "given", "search"),
        advanced=False,
    )
    range_deg: float = limited(25.0, 0.0, 60.0, "Largest turn of the stack that is looked for", "deg", advanced=False)
    range_mm: float = limited(20.0, 0.0, 80.0, "Largest shift of the stack that is looked for", "mm", advanced=False)
    skip_padding: bool = option(True, "Leave out areas of one exactly constant value that reach a slice's border")
    vote_deg: float = limited(15.0, 0.0, 45.0, "First turn of the binary search (paper: 15)", "deg")
    motion: bool = option(True, "Let each slice move against the stack", advanced=False)
    motion_mm: float = limited(2.0, 0.1, 10.0, "Typical shift of a slice against the stack; three times this is the limit", "mm")
    motion_deg: float = limited(2.0, 0.1, 10.0, "Typical turn of a slice against the stack; three times this is the limit", "deg")
    motion_weight: float = limited(0.01, 0.0001, 1.0, "Weight of the stack against a slice's own information (nats)")
    finest_mm: float = limited(1.25, 0.4, 5.0, "Finest resolution used", "mm", advanced=False)
    iterations: int = limited(30, 1, 200, "Steps on each level")
    hulls: int = limited(6, 1, 40, "Orders of the slices for which a hull is built")


PRESETS: dict[str, SlicesQmriConfig] = {
    "Default": SlicesQmriConfig(),
    "Preview": SlicesQmriConfig(finest_mm=2.0, iterations=20, hulls=2),
    "Best": SlicesQmriConfig(finest_mm=0.8, iterations=50, hulls=12),
}


@dataclass(frozen=True)
class SlicesResult(Result):
    """transform: the move that all slices share. slices: for each slice, in the order given, the rigid map from its given position
    to its true one in the volume. slots, sides: which place of the given stack it belongs to, and whether it is seen from the other
    side (1). certainty: one row per slice (see solvers/slice_confidence)."""

    slices: tuple[AffineTransform, ...] = ()
    slots: tuple[int, ...] = ()
    sides: tuple[int, ...] = ()
    certainty: tuple[dict[str, float | str], ...] = field(default=())


def register(
    slices: Sequence[Image],
    volume: Image,
    config: SlicesQmriConfig | None = None,
    *,
    slice_masks: Sequence[Image] | None = None,
    volume_mask: Image | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> SlicesResult:
    """Find for each slice the rigid T that maps its given position to its true one: volume(T(x)) shows the anatomy of slice(x).

    slices: one-channel images (1, 1, H, W) with a place and a thickness; any number, any orientation. volume: (1, D, H, W).
    slice_masks, volume_mask: bone labels (0 background) for the hull; without slice masks silhouettes are looked for when there
    is a volume mask. Deterministic. Raises InputError for unusable input, Cancelled when `progress` returns False.
    """
    config = config or SlicesQmriConfig()
    reporter = Progress(progress)
    warnings: list[str] = []
    history: list[dict[str, Any]] = []
    with torch.no_grad():
        with reporter.stage("start", 0.0, 0.4):
            job = _load(slices, volume, slice_masks, volume_mask, config, choose_device(device), warnings)
            candidates = _start(job, config, reporter, warnings)
        with reporter.stage("turn", 0.4, 0.5):
            pool = _vote(job, candidates, config, reporter)
        with reporter.stage("stack", 0.5, 0.7):
            best = _stack(job, pool, config, reporter, history)
        with reporter.stage("slices", 0.7, 0.95):
            poses, settled = _each(job, best, config, reporter, history)
        with reporter.stage("confidence", 0.95, 1.0):
            level = _level(job, 3.0, _CLIMB_BINS)
            rows = slice_confidence.measure(level, job.stack, torch.from_numpy(poses), best.slots, best.sides, reporter.step)
    _warn(rows, poses, warnings)
    move = shared_move(job.stack, job.grids, poses, best.slots, best.sides)
    weakest = min(float(row["confidence"]) for row in rows)
    return SlicesResult(
        AffineTransform(move), Status.CONVERGED if settled else Status.REACHED_LIMIT, config, tuple(history),
        dict(reporter.timings_s), str(job.volume.data.device), seed, tuple(warnings),
        slices=tuple(AffineTransform(pose) for pose in poses),
        slots=tuple(int(n) for n in best.slots), sides=tuple(int(n) for n in best.sides), confidence=weakest,
        certainty=tuple(rows),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Job:
    """Prepared inputs: values scaled to 0..1; bone and silhouettes where a hull can be built."""

    slices: list[Image]
    volume: Image
    stack: Stack
    bone: Image | None
    silhouettes: list[Image] | None
    data: list[Image | None] | None = None  # 1 where a slice holds data, None: everywhere

    @property
    def grids(self) -> list:
        return [image.grid for image in self.slices]


def _level(job: _Job, spacing_mm: float, bins: int) -> SliceLevel:
    return make_level(job.volume, job.slices, spacing_mm, bins, job.data)


def _load(
    slices: Sequence[Image],
    volume: Image,
    slice_masks: Sequence[Image] | None,
    volume_mask: Image | None,
    config: SlicesQmriConfig,
    device: torch.device,
    warnings: list[str],
) -> _Job:
    if not slices:
        raise InputError("Expected at least one slice, found none.")
    for number, image in enumerate(slices, start=1):
        if image.grid.shape[0] != 1 or min(image.grid.shape[1:]) < 8:
            raise InputError(f"Slice {number} must be one plane of at least 8 x 8 pixels, found {image.grid.size} (i, j, k).")
    if min(volume.grid.shape) < 8:
        raise InputError(f"The volume must have at least 8 voxels along each axis, found {volume.grid.size}.")
    data = [_data(image, number, config, warnings) for number, image in enumerate(slices, start=1)]
    prepared = [_prepared(image, f"Slice {n}", part) for n, (image, part) in enumerate(zip(slices, data, strict=True), start=1)]
    target = _prepared(volume, "The volume")
    _require_reach(prepared, target, config)
    stack = describe([image.grid for image in prepared], config.order)
    bone, outlines = slice_outlines.prepare(slices, volume, slice_masks, volume_mask, config.start, warnings, stack.axis)
    data = [None if part is None else part.to(device) for part in data]
    return _Job([image.to(device) for image in prepared], target.to(device), stack, bone, outlines, data)


def _data(image: Image, number: int, config: SlicesQmriConfig, warnings: list[str]) -> Image | None:
    """1 where the slice holds data, 0 where one made-up value reaches the border; None when it holds data everywhere."""
    if not config.skip_padding or image.channels != 1:
        return None
    held = has_data(image.data[0, 0])
    share = float(held.float().mean())
    if share == 1.0:
        return None
    found = f"Slice {number}: {100 - 100 * share:.0f} % of it is one constant value up to its border"
    if share < _LEAST_DATA:
        warnings.append(f"{found}; it was compared as it is.")
        return None
    warnings.append(f"{found} and was left out.")
    return image.with_data(held[None, None].float())


def _prepared(image: Image, name: str, held: Image | None = None) -> Image:
    """Scaled so that the 0.5 and 99.5 percentiles of what holds data become 0 and 1."""
    if image.channels != 1:
        raise InputError(f"{name} must have one channel, found {image.channels}.")
    check.finite_tensor(name, image.data)
    data = image.data.float()
    known = data if held is None else data[held.data > 0]
    sample = known.flatten()[:: max(1, known.numel() // 500_000)].sort().values
    low, high = float(sample[int(0.005 * len(sample))]), float(sample[int(0.995 * (len(sample) - 1))])
    if high <= low:
        low, high = float(known.min()), float(known.max())
    if high <= low:
        raise InputError(f"{name} is constant ({low:g} everywhere); expected an image with contrast.")
    return image.with_data((data.clamp(low, high) - low) / (high - low))


def _require_reach(slices: Sequence[Image], volume: Image, config: SlicesQmriConfig) -> None:
    """Raise InputError when no slice comes within the search range of the volume."""
    half = np.array(volume.grid.size) * volume.grid.spacing / 2.0
    gaps = []
    for image in slices:
        points = image.grid.resized((1, 16, 16)).world_points(torch.float64).view(-1, 3).numpy() - volume.grid.centre
        gaps.append(float(np.linalg.norm((np.abs(points @ volume.grid.direction) - half).clip(min=0.0), axis=1).min()))
    if min(gaps) > config.range_mm:
        raise InputError(
            f"The slices do not meet the volume: the nearest lies {min(gaps):.0f} mm beside it; expected at most range_mm = "
            f"{config.range_mm:g} mm. Check that the files belong together and hold their positions."
        )


def _start(job: _Job, config: SlicesQmriConfig, reporter: Progress, warnings: list[str]) -> list[Candidate]:
    """A pool of places: fits of hulls, and the best of the lattice around the header."""
    found: list[Candidate] = []
    if job.bone is not None and job.silhouettes is not None:
        with reporter.share(0.0, 0.15):
            hulls = hull.build(job.silhouettes, job.stack, config.hulls, 3.0)
            for number, body in enumerate(hulls):
                fits = hull.fit(body, job.stack, job.bone, 3.0, 40, _part(reporter, number, len(hulls)))
                found += [Candidate(move @ body.poses, body.slots, body.sides, score) for move, score in fits[:3]]
        if not found and config.start == "hull":
            raise InputError("The silhouettes have no common hull: no point projects into all of them; check masks and positions.")
    if config.start == "hull":
        return found
    with reporter.share(0.15, 0.4):
        level = _level(job, _RANK_MM, _RANK_BINS)
        moves = slice_search.lattice(job.stack, config.range_deg, config.range_mm, 12.5, _RANK_MM)
        return found + slice_search.rank(level, job.stack, moves, _POOL, reporter.step)


def _part(reporter: Progress, number: int, count: int) -> Callable[[float], None]:
    return lambda fraction: reporter.step((number + fraction) / count)


def _vote(job: _Job, candidates: list[Candidate], config: SlicesQmriConfig, reporter: Progress) -> list[Candidate]:
    """The paper's binary search: from vote_deg on, halved each time, every slice votes for a turn to either side or none."""
    if job.stack.axis is None or config.vote_deg <= 0.0:
        return candidates
    level = _level(job, _CLIMB_MM, _CLIMB_BINS)
    poses = np.stack([item.poses for item in candidates])
    back = np.stack([_stack_move(job, item) for item in candidates])
    step, turned = config.vote_deg, np.zeros(len(candidates))
    while step >= 0.5:
        options = np.stack([_turned(job, poses, back, turned + side * step) for side in (-1, 0, 1)], axis=1)
        values = information_of_many(level, torch.from_numpy(options.reshape(-1, *poses.shape[1:]))).view(len(poses), 3, -1)
        votes = torch.nn.functional.one_hot(values.argmax(dim=1), 3).double()
        gain = (values * votes.transpose(1, 2)).sum(dim=2)  # votes count by what they gain: a tie is settled, not tossed
        choice = (votes.sum(dim=1) + 1e-3 * gain).argmax(dim=1)
        turned += step * (choice.numpy() - 1)
        step /= 2.0
        reporter.step(1.0 - step / config.vote_deg)
    poses = _turned(job, poses, back, turned)
    return [Candidate(p, item.slots, item.sides, item.score) for p, item in zip(poses, candidates, strict=True)]


def _turned(job: _Job, poses: np.ndarray, moves: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    assert job.stack.axis is not None
    turns = np.stack(
        [move @ about(job.stack.axis, angle) @ np.linalg.inv(move) for move, angle in zip(moves, degrees, strict=True)]
    )
    return turns[:, None] @ poses


def _stack_move(job: _Job, item: Candidate) -> np.ndarray:
    return shared_move(job.stack, job.grids, item.poses, item.slots, item.sides)


def _stack(job: _Job, pool: list[Candidate], config: SlicesQmriConfig, reporter: Progress, history: list) -> Candidate:
    """Climb from all places at once, check the order, go on with the best ones on finer levels."""
    for number, spacing in enumerate((_CLIMB_MM, 4.0, max(2.0, config.finest_mm))):
        level = _level(job, spacing, _CLIMB_BINS if spacing > 3 else _FINE_BINS)
        with reporter.share((0.5, 0.58, 0.62)[number], (0.58, 0.62, 0.7)[number]):
            rounds = _ROUNDS if number == 0 else 1
            for round_ in range(rounds):
                first = rounds > 1 and round_ == 0  # many places, a short way; then few, all the way
                tick = _part(reporter, round_, rounds)
                iterations = max(1, config.iterations // 2) if first else config.iterations
                pool = _climbed(level, pool, Climb(iterations, spacing / 2.5, spacing / 15.0), tick)
                pool = _distinct(job, pool, _KEPT) if first else pool
                if number < 2:
                    pool = _reordered(level, job, pool)
        history.append({"stage": "stack", "level": f"{spacing:g} mm", "iteration": config.iterations, "energy": -pool[0].score})
        pool = _distinct(job, pool, (8, 1, 1)[number])
    return pool[0]


def _climbed(level: SliceLevel, pool: list[Candidate], settings: Climb, tick: Callable[[float], None]) -> list[Candidate]:
    poses, values = climb(level, torch.from_numpy(np.stack([item.poses for item in pool])), settings, tick)
    out = [Candidate(p.numpy(), item.slots, item.sides, float(v.mean())) for p, v, item in zip(poses, values, pool, strict=True)]
    return sorted(out, key=lambda item: -item.score)


def _reordered(level: SliceLevel, job: _Job, pool: list[Candidate]) -> list[Candidate]:
    """Each candidate with the best order at its place."""
    if job.stack.variants is None:
        return pool
    moves = np.stack([_stack_move(job, item) for item in pool])
    poses = moves[:, None, None, None] @ job.stack.variants[None]  # (B, S, slot, side, 4, 4)
    count = level.count
    scores = np.empty((len(pool), count, count, 2))
    for slot, side in itertools.product(range(count), range(2)):
        scores[:, :, slot, side] = information_of_many(level, torch.from_numpy(poses[:, :, slot, side])).numpy()
    out = []
    for item, move, table in zip(pool, moves, scores, strict=True):
        slots, sides, score = assign(table)
        same = np.array_equal(slots, item.slots) and np.array_equal(sides, item.sides)
        out.append(item if same else slice_search.candidate(job.stack, move, slots, sides, score))
    return out


def _distinct(job: _Job, pool: list[Candidate], keep: int) -> list[Candidate]:
    """The best `keep` that lie more than 3 mm (mean over the slices' corners) from each other."""
    corners = np.stack([np.c_[grid.corners(), np.ones(8)] for grid in job.grids])
    kept: list[Candidate] = []
    for item in pool:
        places = np.einsum("sab,scb->sca", item.poses, corners)[..., :3]
        others = [np.einsum("sab,scb->sca", other.poses, corners)[..., :3] for other in kept]
        if all(np.linalg.norm(places - other, axis=2).mean() > 3.0 for other in others):
            kept.append(item)
        if len(kept) == keep:
            break
    return kept


def _each(job: _Job, best: Candidate, config: SlicesQmriConfig, reporter: Progress, history: list) -> tuple[np.ndarray, bool]:
    """Per-slice motion from coarse to fine; returns the poses and whether the last level still gained anything to speak of."""
    poses, settled = torch.from_numpy(best.poses)[None], True
    motion = (config.motion_mm, config.motion_deg) if config.motion else None
    anchor = poses
    plan = [spacing for spacing in (4.0, 2.0) if spacing > 1.3 * config.finest_mm] + [config.finest_mm]
    for number, spacing in enumerate(plan):
        level = _level(job, spacing, _CLIMB_BINS if spacing > 3 else _FINE_BINS)
        settings = Climb(config.iterations, spacing / 4.0, spacing / 40.0, motion, config.motion_weight)
        before = poses
        with reporter.share(0.7 + 0.25 * number / len(plan), 0.7 + 0.25 * (number + 1) / len(plan)):
            poses, values = climb(level, poses, settings, reporter.step, anchor)
        change = float((poses - before)[..., :3, 3].norm(dim=-1).mean())
        settled = change < 2.0 * spacing
        history.append({
            "stage": "slices", "level": f"{spacing:g} mm", "iteration": config.iterations, "energy": -float(values.mean()),
            "change_mm": change,
        })  # fmt: skip
    return poses[0].numpy(), settled


def _warn(rows: Sequence[dict[str, Any]], poses: np.ndarray, warnings: list[str]) -> None:
    for number, row in enumerate(rows, start=1):
        if row["covered_percent"] < 50.0:
            warnings.append(f"Slice {number}: only {row['covered_percent']:.0f} % of it lies in the volume.")
        if row["level"] == "poor":
            warnings.append(f"Slice {number}: its place hardly stands out from others; do not trust it without looking.")


Config = SlicesQmriConfig  # type: ignore[misc,assignment]  # the registry reads module.Config
