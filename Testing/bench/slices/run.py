"""How well slices-qmri finds slices: the phantom, real anatomy with changed contrast, times. Prints a Markdown table.

    python -m Testing.bench.slices.run [--only NAME] [--seeds 20] [--out slices.jsonl]

Finished cases are kept in --out; an interrupted run goes on where it was.

Errors are taken per slice: mm at its middle and degrees. Starts are 25 degrees and 20 mm off about a random axis, in a random
direction. Real data are read from the folder named by REGSUITE_DATA, else ../shared/data beside the repository; rows without it are
left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_labels
from regsuite.methods.slices import qmri
from regsuite.ops.regions import label_shares, mean_and_std, region_rows
from regsuite.ops.scatter import emulated_slice, scatter
from regsuite.phantoms import SlicePhantom, make_slice_phantom
from scipy.spatial.transform import Rotation

DATA = Path(os.environ.get("REGSUITE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
CT, MNI = DATA / "abdomen-ct", DATA / "brain-mni"


@dataclass(frozen=True)
class Case:
    """Slices with wrong headers, and the true maps of their given positions."""

    volume: Image
    slices: list[Image]
    truth: list[np.ndarray]
    config: qmri.SlicesQmriConfig
    slice_masks: list[Image] | None = None
    volume_mask: Image | None = None


def errors(poses: Sequence[np.ndarray], case: Case) -> np.ndarray:
    """(S, 2): mm at the slice's middle, degrees."""
    out = []
    for pose, true, image in zip(poses, case.truth, case.slices, strict=True):
        turn = pose[:3, :3] @ true[:3, :3].T
        angle = np.rad2deg(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
        out.append((np.linalg.norm(((pose - true) @ np.append(image.grid.centre, 1.0))[:3]), angle))
    return np.array(out)


def rigid(turn_deg: np.ndarray, shift: np.ndarray, about: np.ndarray | None = None) -> np.ndarray:
    """4x4 turn by a rotation vector in degrees about a point, then a shift."""
    matrix = np.eye(4)
    middle = np.zeros(3) if about is None else about
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(turn_deg)).as_matrix()
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + shift
    return matrix


def hip(seed: int, **options: object) -> Case:
    """The phantom with its bone labels."""
    masks, size = bool(options.pop("masks", True)), int(options.pop("size", 160))  # type: ignore[call-overload]
    p = make_slice_phantom("hip-radial", seed, size=(size,) * 3, **options)
    truth = [item.matrix for item in p.transforms]
    given = (list(p.slice_masks), p.volume_mask) if masks else (None, None)
    return Case(p.volume, list(p.slices), truth, qmri.PRESETS["Default"], *given)


def fan(centre: np.ndarray, axis: np.ndarray, count: int) -> list[np.ndarray]:
    """Frames of radial slices about an axis: j runs along it."""
    across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    across /= np.linalg.norm(across)
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = np.stack([across, axis, np.cross(across, axis)], axis=1), centre
    return [frame @ rigid(np.array([0.0, 180.0 * n / count, 0.0]), np.zeros(3)) for n in range(count)]


def turned(centre: np.ndarray, turn_deg: tuple[float, float, float], shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    frame = rigid(np.array(turn_deg), np.zeros(3))
    frame[:3, 3] = centre + frame[:3, :3] @ np.array(shift)
    return frame


def layout(kind: str, centre: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """True frames of radial, parallel (8 slices, 8 mm), orthogonal (3 stacks of 3, 12 mm) or single slices, obliquely placed."""
    tilt = random.normal(0, 12, 3)
    oblique = turned(centre, tuple(tilt))
    if kind == "radial":
        axis = oblique[:3, :3] @ np.array([0.75, -0.2, -0.63])
        return fan(centre, axis / np.linalg.norm(axis), 6)
    if kind == "parallel":
        return [oblique @ rigid(np.zeros(3), np.array([0, 0, 8.0 * n - 28.0])) for n in range(8)]
    if kind == "orthogonal":
        sides = [rigid(np.array(t), np.zeros(3)) for t in ((0, 0, 0), (90.0, 0, 0), (0, 90.0, 0))]
        return [oblique @ side @ rigid(np.zeros(3), np.array([0, 0, 12.0 * n])) for side in sides for n in (-1, 0, 1)]
    return [oblique @ rigid(np.array([25.0, 20.0, 0.0]), np.zeros(3))]


def grid_of(frame: np.ndarray, pixels: int, spacing: float, thickness: float) -> Grid:
    affine = frame @ np.diag([spacing, spacing, thickness, 1.0])
    affine[:3, 3] = frame[:3, 3] - affine[:3, :2] @ np.full(2, (pixels - 1) / 2)
    return Grid((1, pixels, pixels), affine)


def contrast(values: torch.Tensor, kind: str, random: np.random.Generator) -> torch.Tensor:
    """Values 0..1 through a random curve: monotone (9 random steps up) or not (9 random levels)."""
    steps = np.cumsum(random.uniform(0.02, 1.0, 9)) if kind == "monotone" else random.uniform(0.0, 1.0, 9)
    levels = (steps - steps.min()) / (steps.max() - steps.min())
    return torch.from_numpy(np.interp(values.numpy(), np.linspace(0, 1, 9), levels)).float()


def cut(volume: Image, frames: list[np.ndarray], curve: str, seed: int, pixels: int, spacing: float, thickness: float) -> Case:
    """Slices of a volume with a changed contrast, noise, 1 mm of patient motion and a wrong, shuffled header."""
    random = np.random.default_rng([seed, 99])
    data = volume.data.float()
    low, high = (float(v) for v in np.percentile(data.numpy()[..., ::2, ::2], (0.5, 99.8)))
    scaled = volume.with_data(((data - low) / (high - low)).clamp(0, 1))
    radial = len(frames) == 6
    centre = np.mean([frame[:3, 3] for frame in frames], axis=0)
    axes = random.normal(size=(2, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    wrong = rigid(25.0 * axes[0], 20.0 * axes[1], centre)
    order = random.permutation(len(frames)) if radial else np.arange(len(frames))
    slices, truth = [], []
    state = int(random.integers(2**31))
    for place, frame in enumerate(frames):
        behind = np.diag([-1.0, 1.0, -1.0, 1.0]) if radial and random.integers(2) else np.eye(4)
        moved = frames[order[place]] @ rigid(np.zeros(3), random.normal(0, 1.0 / 3**0.5, 3)) @ behind
        seen = emulated_slice(scaled, grid_of(moved, pixels, spacing, thickness), np.eye(4))
        values = contrast(seen.data, curve, np.random.default_rng(state))  # one curve for all slices: one acquisition
        within = emulated_slice(scaled.with_data(torch.ones_like(scaled.data)), seen.grid, np.eye(4)).data > 0.99
        noise = 0.02 * torch.from_numpy(random.normal(size=tuple(values.shape))).float()
        values = torch.where(within, values + noise, -0.1)  # beyond the volume nothing was measured: padded as scanners do
        slices.append(Image(values, grid_of(wrong @ frame, pixels, spacing, thickness)))
        truth.append(moved @ np.linalg.inv(wrong @ frame))
    return Case(volume, slices, truth, qmri.PRESETS["Default"])


def femur(seed: int, kind: str, curve: str) -> Case:
    """Proximal femora of abdomen-ct, cut out of the CT with a margin."""
    ct, labels = read_image(CT / "ct.nii.gz"), read_labels(CT / "labels.nii.gz")
    centre = femur_head(labels, seed) + np.array([0.0, 0.0, 14.0])  # the scan ends just below: cut slices that lie within it
    frames = layout(kind, centre, np.random.default_rng([seed, 7]))
    return cut(ct.with_data(ct.data.clamp(-200, 800)), frames, curve, seed, 64, 1.35, 4.0)


def beyond(seed: int) -> Case:
    """144 mm slices about a femoral head 35 mm above the lower end of the scan; where they leave it they hold what air would be."""
    ct, labels = read_image(CT / "ct.nii.gz"), read_labels(CT / "labels.nii.gz")
    frames = layout("radial", femur_head(labels, seed), np.random.default_rng([seed, 7]))
    return cut(ct.with_data(ct.data.clamp(-200, 800)), frames, "monotone", seed, 107, 1.35, 4.0)


def femur_head(labels: Image, seed: int) -> np.ndarray:
    """The middle of the upper 60 mm of one of the two largest bones that reach the lower end of the scan beside the middle."""
    points = labels.grid.world_points(torch.float64)
    found = []
    for label in labels.data.unique().tolist():
        where = (labels.data[0] == label).nonzero()
        if label == 0 or len(where) < 800:
            continue
        world = points[where[:, 0], where[:, 1], where[:, 2]].numpy()
        if label in FEMORA:
            top = world[world[:, 2] > world[:, 2].max() - 60.0]
            found.append(top.mean(axis=0))
    return found[seed % len(found)]


FEMORA = (75, 76)


def brain(seed: int, kind: str, curve: str) -> Case:
    """Slices of the MNI template."""
    volume = read_image(MNI / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    random = np.random.default_rng([seed, 7])
    centre = volume.grid.centre + random.normal(0, 6, 3)
    return cut(volume, layout(kind, centre, random), curve, seed, 128, 1.5, 4.0)


def part(seed: int, kind: str, curve: str) -> Case:
    """Slices of the MNI template against its upper two thirds only: the slices show anatomy that the volume does not hold."""
    case = brain(seed, kind, curve)
    depth, height, width = case.volume.grid.shape
    grid = case.volume.grid.cropped((depth // 3, 0, 0), (depth - depth // 3, height, width))
    return replace(case, volume=Image(case.volume.data[:, depth // 3 :], grid))


def measure(name: str, make: Callable[[int], Case], seed: int) -> dict[str, Any]:
    """One case: errors of its slices, CPU seconds, confidence, and whether every slice found its place in the order."""
    case = make(seed)
    began = time.process_time()
    result = qmri.register(case.slices, case.volume, case.config, slice_masks=case.slice_masks, volume_mask=case.volume_mask)
    seconds = time.process_time() - began
    error = errors([item.matrix for item in result.slices], case)
    right = bool((error[:, 1] < 12.0).all() and (error[:, 0] < 15.0).all())
    return {
        "row": name, "seed": seed, "mm": error[:, 0].tolist(), "deg": error[:, 1].tolist(), "right": right, "cpu_s": seconds,
        "confidence": [float(row["confidence"]) for row in result.certainty],
    }  # fmt: skip


def line(name: str, found: list[dict[str, Any]]) -> str:
    """One row of the table; wrong slices are counted by whether the confidence said so."""
    mm, deg, sure = (np.concatenate([item[key] for item in found]) for key in ("mm", "deg", "confidence"))
    right, seconds = sum(item["right"] for item in found), np.mean([item["cpu_s"] for item in found])
    within = 100.0 * ((mm <= 2.0) & (deg <= 2.0)).mean()
    bad = (mm > 3.0) | (deg > 3.0)
    return (
        f"| {name} | {len(found)} | {np.median(mm):.2f} / {np.median(deg):.2f} | {np.percentile(mm, 95):.2f} / "
        f"{np.percentile(deg, 95):.2f} | {within:.0f} | {right} of {len(found)} | {int(bad.sum())}, of these "
        f"{int((bad & (sure >= 0.5)).sum())} called good | {seconds:.0f} |"
    )


def values(seeds: int) -> None:
    """Quantitative values in the volume against the phantom's truth, where the slices pass; off by, in %, mean and largest of all
    seeds. Pure: see ops/regions; against the truth in the same voxels."""
    print("| values | region | median | mean | pure mean | largest of the pure means |\n|---|---|---|---|---|---|")
    cases = [(p, qmri.register(p.slices, p.volume)) for p in (make_slice_phantom("hip-radial", seed) for seed in range(seeds))]
    for name in ("t2_ms", "t1_ms"):
        voxels, regions = [], []
        for p, result in cases:
            images = p.slices if name == "t2_ms" else p.slice_values[name]
            spread, weight = scatter(images, [item.matrix for item in result.slices], p.volume.grid)
            sure, true = (weight.data > 0.5) & (p.volume_labels.data > 0), p.maps[name].data
            voxels.append(float(((spread.data - true)[sure] / true[sure]).abs().median()))
            regions += compared(p, result, spread, weight, p.maps[name])
        print(f"| {name} | all voxels, median of each one's error | {100 * np.median(voxels):.2f} | | | |", flush=True)
        for region in dict.fromkeys(item[0] for item in regions):
            table = 100.0 * np.abs(np.array([item[1:] for item in regions if item[0] == region]))
            median, mean, pure = table.mean(axis=0)
            print(f"| {name} | {region} | {median:.2f} | {mean:.2f} | {pure:.2f} | {table[:, 2].max():.2f} |", flush=True)


def compared(p: SlicePhantom, result: qmri.SlicesResult, spread: Image, weight: Image, true: Image) -> list[tuple]:
    """(region, median, mean and pure mean, each as a share of the truth less 1)."""
    shares = label_shares(p.volume_labels, weight, p.slices, [item.matrix for item in result.slices])
    ours = region_rows(spread, weight, p.volume_labels, dict(p.label_names), shares)
    theirs = region_rows(true, weight, p.volume_labels, dict(p.label_names))
    known = (weight.data[0] > 0) & (p.volume_labels.data[0] > 0)
    found, truth, weights = (image.data[0][known] for image in (p.volume_labels, true, weight))
    rows = []
    for a, b in zip(ours, theirs, strict=True):
        own = shares.shares[:, int((shares.labels == a["label"]).nonzero()[0, 0])]
        keep = (found == a["label"]) & (own.double() >= float(a["pure_share"]))
        pure = mean_and_std(truth[keep].double(), weights[keep].double())[0]
        rows.append((a["name"], a["median"] / b["median"] - 1, a["mean"] / b["mean"] - 1, a["pure_mean"] / pure - 1))
    return rows


def speed() -> None:
    """Six slices against 256^3."""
    case = hip(0, size=256)
    wall, cpu = time.perf_counter(), time.process_time()
    qmri.register(case.slices, case.volume, case.config, slice_masks=case.slice_masks, volume_mask=case.volume_mask)
    threads = torch.get_num_threads()
    print(f"| 256^3, 6 slices | {time.perf_counter() - wall:.0f} s | {time.process_time() - cpu:.0f} CPU s | threads {threads} |")


ROWS: dict[str, tuple[Callable[[int], Case], int]] = {
    "hip-radial, 1 mm": (lambda seed: hip(seed), 20),
    "hip-radial, 1 mm, no masks": (lambda seed: hip(seed, masks=False), 10),
    "hip-radial, 2 mm / 2 deg": (lambda seed: hip(seed, motion_mm=2.0, motion_deg=2.0), 10),
    "femur CT, radial, beyond the scan": (lambda seed: beyond(seed), 5),
    "brain, radial, free, a third of the volume missing": (lambda seed: part(seed, "radial", "free"), 5),
}
for _kind in ("radial", "parallel", "orthogonal", "single"):
    for _curve in ("monotone", "free"):
        ROWS[f"brain, {_kind}, {_curve}"] = (lambda seed, k=_kind, c=_curve: brain(seed, k, c), 5)
        ROWS[f"femur CT, {_kind}, {_curve}"] = (lambda seed, k=_kind, c=_curve: femur(seed, k, c), 5)
HEAD = (
    "| input | seeds | median mm / deg | 95 % mm / deg | slices within 2 mm and 2 deg, % | order and place right | slices off by "
    "more than 3 | CPU s per case |\n|---|---|---|---|---|---|---|---|"
)


def known(path: Path) -> list[dict[str, Any]]:
    """What an earlier run has written."""
    return [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []


def main() -> None:
    """Measure what was asked for and is not yet known; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a row, or part of the names of rows")
    parser.add_argument("--seeds", type=int, default=0, help="seeds of each row; default: as many as the row says")
    parser.add_argument("--out", type=Path, default=Path("slices.jsonl"), help="one line per finished case; a later run goes on")
    parser.add_argument("--table", action="store_true", help="print what is known and measure nothing")
    arguments = parser.parse_args()
    rows = {name: row for name, row in ROWS.items() if arguments.only in name and _there(name)}
    if arguments.only in rows:
        rows = {arguments.only: rows[arguments.only]}
    done = {(item["row"], item["seed"]) for item in known(arguments.out)}
    plan = [(name, seed) for name, (_, count) in rows.items() for seed in range(arguments.seeds or count)]
    for name, seed in sorted(plan, key=lambda item: item[1] / rows[item[0]][1]):  # all rows grow alike
        if (name, seed) not in done and not arguments.table:
            item = measure(name, rows[name][0], seed)
            with arguments.out.open("a") as stream:
                stream.write(json.dumps(item) + "\n")
            print(f"{name} {seed}: {np.median(item['mm']):.2f} mm {np.median(item['deg']):.2f} deg", file=sys.stderr, flush=True)
    found = known(arguments.out)
    print(HEAD)
    for name in rows:
        mine = [item for item in found if item["row"] == name]
        if mine:
            print(line(name, mine))
    if arguments.table:
        return
    if arguments.only in "values":
        values(arguments.seeds or 5)
    if arguments.only in "speed":
        speed()


def _there(name: str) -> bool:
    return (MNI if name.startswith("brain") else CT).is_dir() or name.startswith("hip")


if __name__ == "__main__":
    main()
