"""Where training pairs come from: phantoms, a folder of scans, or a folder of pairs. Pair n depends on the seed and n alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_labels
from regsuite.methods.trainable import TrainingConfig
from regsuite.nets.pair import Pair, voxels
from regsuite.ops.lungs import lung_mask
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom, variety
from regsuite.phantoms.synthetic import changed, random_contrast, streamed_pair
from regsuite.pipeline import training_fields
from regsuite.progress import Progress
from regsuite.solvers.frame import canonical
from regsuite.solvers.intake import scaled
from regsuite.solvers.keypoint_field import FieldSettings, match_pair

_HELD_OUT = 1_000_000  # phantoms from this seed on are never trained on
_NAMES = (".nii.gz", ".nii", ".nrrd", ".mha")
_ROLES = ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels", *training_fields.ROLES)
_VIEW_MM = {"thorax": (340.0, 260.0, 300.0), "growth": (176.0, 204.0, 176.0)}  # of the phantoms, along i, j, k
_LEAST_SIDE = 8
_TRUSTED = 0.5  # confidence from which on a match is learned from
_MOTION_MM = 13.0  # mean motion in the lungs of the thorax phantom


@dataclass(frozen=True, eq=False)
class Scan:
    """One image on the working grid, values 0..1, with what slides in it and its labels."""

    image: Image
    mask: Image | None = None
    labels: Image | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """train(n): pair number n of the stream; held_out: pairs for validation; name: for the card."""

    train: Callable[[int], Pair]
    held_out: tuple[Pair, ...]
    name: str


def open_source(data: str, phantom: str, motion: str, config: TrainingConfig, seed: int) -> Source:
    """`data` is "phantom" or a folder. Raises InputError when the folder has not enough in it."""
    if data == "phantom":
        return _phantoms(phantom, motion, config, seed)
    folder = Path(data)
    if not folder.is_dir():
        raise InputError(f"Cannot read '{folder}': expected a folder of scans, or the word phantom.")
    if (folder / "pairs.csv").is_file():
        return _pairs(folder, config, seed)
    return _scans(folder, phantom, motion, config, seed)


def _phantoms(name: str, motion: str, config: TrainingConfig, seed: int) -> Source:
    def subject(number: int) -> tuple[Pair, Scan]:
        return _of_phantom(name, number, config.voxels, config.variety if number < _HELD_OUT else 0.0, config.pose_mm)

    def train(number: int) -> Pair:
        rng = np.random.default_rng([seed, number, 3])
        own, scan = subject(int(rng.integers(config.subjects)))
        if rng.uniform() < config.real_share and not config.contrast:
            images = (changed(image, rng, own.grid, 0.5 * config.variety) for image in (own.fixed, own.moving))
            return _viewed(replace(own, fixed=next(images), moving=next(images)), rng, config)
        return _deformed(scan, seed, number, motion, config)

    held_out = tuple(as_seen(subject(_HELD_OUT + n)[0], config) for n in range(config.validation_subjects))
    words = f"phantom {name}, seeds 0 to {config.subjects - 1} at {config.voxels} voxels, held out: seeds from {_HELD_OUT}"
    return Source(train, held_out, words)


@lru_cache(maxsize=32)  # shared: an ablation draws them once
def _of_phantom(name: str, seed: int, side: int, amount: float, pose_mm: float) -> tuple[Pair, Scan]:
    """The phantom's own pair, and its moving image to be deformed. amount: variety of the motion's size, and of the ages."""
    view = _VIEW_MM[name]
    options: dict[str, object] = {"size": tuple(max(24, round(side * length / max(view))) for length in view)}
    rng = np.random.default_rng([seed, 41])
    if name == "growth":
        options["pose_mm"] = pose_mm
        if amount > 0.0:
            first = 2.0 + amount * float(rng.uniform(-1.5, 4.0))
            options["ages"] = (first, first + 3.0 + amount * float(rng.uniform(-2.0, 6.0)))
    elif amount > 0.0:
        options["motion_mm"] = _MOTION_MM + amount * float(rng.uniform(-8.0, 5.0))
    made = make_phantom(name, seed, **options)
    fixed = _working(made.fixed, side)
    grid = fixed.grid

    def moved(image: Image, interpolation: str = "linear") -> Image:
        return resample(image, grid, None, interpolation, fill=None if interpolation == "linear" else 0)

    masks = [moved(m, "nearest") for m in (made.fixed_mask, made.moving_mask)]
    labels = [moved(m, "nearest") for m in (made.fixed_labels, made.moving_labels)]
    moving = moved(scaled(made.moving, "moving"))
    pair = Pair(
        fixed.data[None], moving.data[None], grid, masks[0].data[None].float(), masks[1].data[None].float(),
        truth=voxels(made.transform.displacement(grid), grid), fixed_labels=labels[0].data, moving_labels=labels[1].data,
    )  # fmt: skip
    return pair, Scan(moving, masks[1], labels[1])


def _deformed(scan: Scan, seed: int, number: int, motion: str, config: TrainingConfig) -> Pair:
    image = random_contrast(scan.labels, seed, number) if config.contrast and scan.labels is not None else scan.image
    rng, amount = np.random.default_rng([seed, number, 43]), config.variety
    if amount == 0.0:
        pair = streamed_pair(image, seed, number, motion, scan.mask, scan.labels, pose_mm=config.pose_mm)
        return _viewed(pair, rng, config)
    image, mask = variety.other_shape(image, scan.mask, rng, amount)
    if mask is not None and motion == "breathing":
        image, mask = variety.partly_filled(image, mask, rng, amount)
    size = variety.strength(rng, amount)
    return _viewed(streamed_pair(image, seed, number, motion, mask, None, size, 0.5 * amount, config.pose_mm), rng, config)


def as_seen(pair: Pair, config: TrainingConfig) -> Pair:
    """A held-out pair as the trained network will see it."""
    return _viewed(pair, np.random.default_rng(0), config.replaced(variety=0.0))


def _viewed(pair: Pair, rng: np.random.Generator, config: TrainingConfig) -> Pair:
    """What the network sees of it."""
    if config.variety == config.margin_mm == 0.0:
        return pair
    return variety.viewed(pair, rng, config.margin_mm, config.variety)


def _scans(folder: Path, phantom: str, motion: str, config: TrainingConfig, seed: int) -> Source:
    files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(_NAMES) and not _stem(p).endswith(("_mask", "_labels")))
    few = config.validation_subjects + 1
    if len(files) < few:
        raise InputError(f"Cannot train on '{folder}': expected at least {few} scans ({', '.join(_NAMES)}), found {len(files)}.")

    @lru_cache(maxsize=64)
    def scan(number: int) -> Scan:
        side = side_of(files[number], phantom, config.voxels) if config.margin_mm > 0.0 else config.voxels
        return read_scan(files[number], side, motion)

    kept = len(files) - config.validation_subjects

    def train(number: int) -> Pair:
        chosen = int(np.random.default_rng([seed, number, 3]).integers(kept))
        return _deformed(scan(chosen), seed, number, motion, config)

    still = config.replaced(contrast=False, variety=0.0)
    held_out = tuple(_deformed(scan(kept + n), _HELD_OUT, n, motion, still) for n in range(config.validation_subjects))
    return Source(train, held_out, f"{kept} scans under random {motion}, {config.validation_subjects} held out")


def _pairs(folder: Path, config: TrainingConfig, seed: int) -> Source:
    with (folder / "pairs.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if len(rows) < config.validation_subjects + 1 or not {"fixed", "moving"} <= set(rows[0]) <= set(_ROLES):
        raise InputError(
            f"Cannot train on '{folder / 'pairs.csv'}': expected columns fixed, moving (and {', '.join(_ROLES[2:])}) and at least "
            f"{config.validation_subjects + 1} rows."
        )

    if set(training_fields.ROLES) <= set(rows[0]):
        return _fields(folder, rows, config, seed)

    @lru_cache(maxsize=64)
    def pair(number: int) -> Pair:
        found = _read_pair(folder, rows[number], config.voxels)
        return _matched(found, folder, rows[number]) if config.matches else found

    kept = len(rows) - config.validation_subjects

    def train(number: int) -> Pair:
        rng = np.random.default_rng([seed, number, 3])
        own = pair(int(rng.integers(kept)))
        seen = replace(own, fixed=changed(own.fixed, rng, own.grid), moving=changed(own.moving, rng, own.grid))
        return _viewed(seen, rng, config)

    held_out = tuple(as_seen(pair(kept + n), config) for n in range(config.validation_subjects))
    words = f"{kept} pairs of a folder{', keypoints matched' if config.matches else ''}, {config.validation_subjects} held out"
    return Source(train, held_out, words)


def _fields(folder: Path, rows: list[dict[str, str]], config: TrainingConfig, seed: int) -> Source:
    @lru_cache(maxsize=128)
    def given(number: int) -> training_fields.Given:
        return training_fields.read_given(folder, rows[number])

    kept = len(rows) - config.validation_subjects

    def train(number: int) -> Pair:
        rng = np.random.default_rng([seed, number, 3])
        own = given(int(rng.integers(kept)))
        pair = own.pair() if rng.uniform() < config.real_share else training_fields.spoilt(own, rng)
        return training_fields.mirrored(pair, rng)

    held_out = tuple(given(kept + n).pair() for n in range(config.validation_subjects))
    words = f"{kept} fields between pairs of a folder, as they are and with random smooth errors added"
    return Source(train, held_out, f"{words}, {config.validation_subjects} held out")


def read_scan(path: Path, side: int, motion: str) -> Scan:
    """A scan with what lies beside it (NAME_mask, NAME_labels), `side` voxels along its longest side; lungs are looked for."""
    whole = read_image(path)
    image = _working(whole, side)
    beside = {role: _beside(path, role) for role in ("mask", "labels")}
    mask = None
    if beside["mask"] is not None:
        mask = resample(read_image(beside["mask"]), image.grid, fill=0.0)
    elif motion == "breathing":
        mask = lung_mask(at_spacing(canonical(whole), float(image.grid.spacing.max())))
        mask = None if mask is None else resample(mask, image.grid, fill=0.0)
    labels = None if beside["labels"] is None else resample(read_labels(beside["labels"]), image.grid, None, "nearest", fill=0)
    return Scan(image, mask, labels)


def side_of(path: Path, phantom: str, voxels: int) -> int:
    """Voxels along the longest side of a scan that are as large as those of a phantom with `voxels` along its longest side."""
    grid = read_image(path).grid
    return round(voxels * float((np.array(grid.size) * grid.spacing).max()) / max(_VIEW_MM[phantom]))


def _read_pair(folder: Path, row: dict[str, str], side: int) -> Pair:
    """Moving is brought onto the grid of fixed through the world."""
    fixed = _working(read_image(folder / row["fixed"]), side)
    grid: Grid = fixed.grid

    def other(role: str, labels: bool = False) -> torch.Tensor | None:
        if not row.get(role):
            return None
        read = read_labels(folder / row[role]) if labels else read_image(folder / row[role])
        return resample(read, grid, None, "nearest", fill=0).data

    masks = [None if m is None else (m[None] > 0.5).float() for m in (other("fixed_mask"), other("moving_mask"))]
    moving = resample(scaled(read_image(folder / row["moving"]), "moving"), grid)
    names = [other(role, True) for role in _ROLES[4:6]]
    return Pair(fixed.data[None], moving.data[None], grid, masks[0], masks[1], None, names[0], names[1])


def _matched(pair: Pair, folder: Path, row: dict[str, str]) -> Pair:
    """The pair with the trusted matches of keypoints of its images as they lie in the files, inside the mask or lungs if any."""
    fixed, moving = (read_image(folder / row[role]) for role in ("fixed", "moving"))
    region = None if pair.fixed_mask is None else Image((pair.fixed_mask[0] > 0.5).float(), pair.grid)
    target = canonical(scaled(fixed, "fixed"))
    region = lung_mask(canonical(fixed)) if region is None else resample(region, target.grid, None, "nearest", fill=0.0)
    with torch.no_grad():
        _, found = match_pair(target, scaled(moving, "moving"), np.eye(4), region, None, FieldSettings(apart=False), Progress())
    kept = found.confidence > _TRUSTED
    ends = [pair.grid.world_to_index(points[kept]).float() for points in (found.fixed, found.moving)]
    mask = pair.fixed_mask
    if mask is None and region is not None:
        mask = (resample(region, pair.grid, None, fill=0.0).data > 0.5).float()[None]
    return replace(pair, fixed_mask=mask, points=ends[0], moves=ends[1] - ends[0])


def _working(image: Image, side: int) -> Image:
    """0..1 on canonical axes, the longest side about `side` voxels."""
    whole = canonical(scaled(image, "training"))
    longest = float((np.array(whole.grid.size) * whole.grid.spacing).max())
    small = at_spacing(whole, longest / side)
    if min(small.grid.shape) < _LEAST_SIDE:
        raise InputError(f"Training images need at least {_LEAST_SIDE} voxels along each side, found {small.grid.size}.")
    return small


def _beside(path: Path, role: str) -> Path | None:
    found = [path.with_name(f"{_stem(path)}_{role}{extension}") for extension in _NAMES]
    return next((p for p in found if p.is_file()), None)


def _stem(path: Path) -> str:
    name = path.name
    return next((name[: -len(e)] for e in _NAMES if name.lower().endswith(e)), name)
