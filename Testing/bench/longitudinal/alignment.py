"""The paper's table on our data: no, rigid, and rigid-affine alignment before brain-svf, images at 1.5 and 2 mm."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Image
from regsuite.io import read_image, read_labels
from regsuite.methods.brain import svf
from regsuite.metrics.jacobian import jacobian_determinant, jacobian_statistics
from regsuite.metrics.overlap import dice
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom
from regsuite.pipeline.preparation import correct_bias, find_brain
from regsuite.progress import Progress
from regsuite.solvers.intake import scaled
from regsuite.solvers.prealign import prealign
from regsuite.transforms import AffineTransform

WAYS = {"NR": "none", "RR": "rigid", "RAR": "affine"}
SPACINGS = (1.5, 2.0)
TISSUES = {"grey": (1, 2, 6), "white": (3, 4), "fluid": (5, 8)}
IXI = (("012", "013"), ("033", "014"), ("034", "015"))


@dataclass(frozen=True)
class Pair:
    """Two scans of a head with their labels, and the groups of labels that count (all of them, one by one, when empty)."""

    name: str
    fixed: Image
    moving: Image
    fixed_labels: Image
    moving_labels: Image
    groups: tuple[tuple[int, ...], ...]


def run(out: Path, seeds: list[int], data: Path) -> None:
    """Measure what is missing, then print the table."""
    torch.set_num_threads(1)
    cache = out / "table.json"
    known = json.loads(cache.read_text()) if cache.exists() else {}
    makers = {f"child {seed}": (lambda seed=seed: child(seed)) for seed in seeds}
    makers |= {f"adults {a}-{b}": (lambda a=a, b=b: adults(data, a, b)) for a, b in IXI if (data / "brain-ixi").is_dir()}
    for name, make in makers.items():
        wanted = [f"{name} {way} {mm}" for way in WAYS for mm in SPACINGS]
        if all(key in known for key in wanted):
            continue
        pair = make()
        for mm in SPACINGS:
            ready = prepared(pair, mm)
            for way in WAYS:
                known[f"{name} {way} {mm}"] = measure(pair, ready, way, mm)
                cache.write_text(json.dumps(known, indent=1))
                print(name, way, mm, known[f"{name} {way} {mm}"], flush=True)
    report(known)


def child(seed: int) -> Pair:
    """The phantom at 2 and 3.15 years (the paper's mean interval), 10 mm and 10 degrees apart, scanned at 1.2 mm."""
    made = make_phantom("growth", seed, size=(144, 168, 144), ages=(2.0, 3.15), pose_mm=10.0)
    first, last = made.series
    return Pair(f"child {seed}", first.image, last.image, first.labels, last.labels, tuple(TISSUES.values()))


def adults(data: Path, fixed: str, moving: str) -> Pair:
    """Two IXI subjects as they were scanned, with 148 labels: the 20 largest count."""
    paths = [next((data / "brain-ixi").glob(f"IXI{subject}-*_ds.nii.gz")) for subject in (fixed, moving)]
    images = [read_image(path) for path in paths]
    labels = [read_labels(str(path).replace("_ds.nii.gz", "_ds_DLMUSE.nii.gz")) for path in paths]
    labels = [Image(found.data, image.grid) for found, image in zip(labels, images, strict=True)]
    values, counts = labels[0].data.unique(return_counts=True)
    largest = [int(v) for v in values[counts.argsort(descending=True)] if v > 0][:20]
    return Pair(f"adults {fixed}-{moving}", *images, *labels, tuple((n,) for n in largest))


def prepared(pair: Pair, mm: float) -> tuple[Image, Image]:
    """Both images after N4 in the brain that was found, averaged to `mm`."""
    ready = []
    for image in (pair.fixed, pair.moving):
        small = scaled(at_spacing(image.with_data(image.data.float()), mm), pair.name)
        ready.append(scaled(correct_bias(small, find_brain(small, pair.name, [])), pair.name))
    return ready[0], ready[1]


def measure(pair: Pair, ready: tuple[Image, Image], way: str, mm: float) -> dict[str, float]:
    """Dice before (alignment only) and after, folding in the brain, CPU seconds of alignment and registration."""
    fixed, moving = ready
    began = time.process_time()
    with torch.no_grad():
        matrix = prealign(fixed, moving, WAYS[way], Progress())[0]
    aligned = time.process_time()
    config = svf.BrainSvfConfig(linear="none", finest_mm=mm, most_megavoxels=20.0)
    result = svf.register(fixed, moving, config, initial=AffineTransform(matrix))
    ended = time.process_time()
    inside = pair.fixed_labels.data[0] > 0
    numbers = jacobian_statistics(jacobian_determinant(result.transform, pair.fixed_labels.grid), inside)
    return {
        "dice_before": overlap(pair, AffineTransform(matrix)),
        "dice": overlap(pair, result.transform),
        "folding_percent": numbers["folding_percent"],
        "align_cpu_s": aligned - began,
        "cpu_s": ended - aligned,
    }


def overlap(pair: Pair, transform: object) -> float:
    """Mean Dice over the groups of labels, at the resolution of the labels."""
    moved = resample(pair.moving_labels, pair.fixed_labels.grid, transform, "nearest", 0)
    scores = []
    for group in pair.groups:
        wanted = torch.tensor(group)
        pictures = [Image(torch.isin(labels.data, wanted).to(torch.uint8), labels.grid) for labels in (pair.fixed_labels, moved)]
        scores.append(dice(pictures[0], pictures[1])[1])
    return float(np.mean(scores))


def report(known: dict[str, dict[str, float]]) -> None:
    """The table in Markdown: mean over the pairs of each kind."""
    print("| pairs | alignment | spacing (mm) | Dice aligned | Dice | folding (%) | CPU align (s) | CPU register (s) |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in ("child", "adults"):
        for way in WAYS:
            for mm in SPACINGS:
                rows = [row for key, row in known.items() if key.startswith(kind) and key.endswith(f" {way} {mm}")]
                if rows:
                    m = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
                    print(
                        f"| {kind} ({len(rows)}) | {way} | {mm:g} | {m['dice_before']:.3f} | {m['dice']:.3f} | "
                        f"{m['folding_percent']:.4f} | {m['align_cpu_s']:.1f} | {m['cpu_s']:.1f} |"
                    )
