"""Time and memory of DVHs and of a sampled dose, beside dicompyler-core on the same files; writes SPEED.md.

CPU seconds of the whole process, start and reading included; wall seconds beside them; peak memory of the process.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "RegistrationSuite" / "RegSuiteBackend"), str(ROOT / "Testing" / "unit" / "dose")]

import rt_files  # noqa: E402
from regsuite.geometry import Grid, Image  # noqa: E402
from regsuite.io import write_image, write_transform  # noqa: E402
from regsuite.ops.random_fields import SmoothNoise  # noqa: E402
from regsuite.transforms import DisplacementField  # noqa: E402

PEER = """
import json, sys, time
from dicompylercore import dicomparser, dvhcalc
began = time.process_time()
plan, out = dicomparser.DicomParser(sys.argv[1]), {}
for key, item in plan.GetStructures().items():
    dvh = dvhcalc.get_dvh(sys.argv[1], sys.argv[2], key)
    out[item["name"]] = [float(dvh.volume), float(dvh.mean)]
json.dump({"dvhs_s": time.process_time() - began, "found": out}, open(sys.argv[3], "w"))
"""

OURS = """
import json, sys, time
import torch
from regsuite.dose.dvh import structure_histogram
from regsuite.dose.structures import load_structures
from regsuite.io.rt_dose import read_dose
began = time.process_time()
dose = read_dose(sys.argv[2]).image
for item in load_structures([sys.argv[1]], float(dose.grid.spacing.min())):
    found = structure_histogram(dose, item.occupancy)
    found.total_cc, found.mean_gy, found.dose_at(2.0)
json.dump({"dvhs_s": time.process_time() - began}, open(sys.argv[3], "w"))
"""
"""What PEER does: read, and a histogram of every structure; no figures, no files."""


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    cpu_s: float
    wall_s: float
    peak_gib: float


def main() -> None:
    """Make the cases where absent, run, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="of torch's loops, in ours; the peer has none")
    parser.add_argument("--only", choices=("dvh", "samples"), help="run one part; the other's figures are those kept in the folder")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("SPEED.md"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tool, kept = [sys.executable, "-m", "regsuite.cli"], args.out / "costs.json"
    costs = {name: [Cost(*c) for c in items] for name, items in json.loads(kept.read_text()).items()} if kept.exists() else {}
    if args.only != "samples":
        costs |= dvh_costs(args, tool)
        kept.write_text(json.dumps({name: [dataclasses.astuple(c) for c in items] for name, items in costs.items()}))
    if args.only != "dvh":
        shutil.rmtree(args.out / "sampled", ignore_errors=True)
        costs["samples"] = [run([*tool, *sample_case(args.out / "samples"), "-o", str(args.out / "sampled"), "-q"], args.threads)]
        kept.write_text(json.dumps({name: [dataclasses.astuple(c) for c in items] for name, items in costs.items()}))
    peer = json.loads((args.out / "peer.json").read_text())
    peer["ours_s"] = json.loads((args.out / "ours.json").read_text())["dvhs_s"]
    args.results.write_text(page(costs, peer, args.out / "contours-0", args.threads), encoding="utf-8")


def dvh_costs(args: argparse.Namespace, tool: list[str]) -> dict[str, list[Cost]]:
    """Ours from contours and from labels, and the peer, in turn: the machine's load is shared by all."""
    dose, structures, labels = dvh_case(args.out / "dvh")
    costs: dict[str, list[Cost]] = {"contours": [], "labels": [], "dicompyler-core": []}
    for number in range(args.repeats):
        for name, source in (("contours", structures), ("labels", labels)):
            out = args.out / f"{name}-{number}"
            shutil.rmtree(out, ignore_errors=True)
            costs[name].append(run([*tool, "dvh", str(dose), "-o", str(out), "--structures", str(source), "-q"], args.threads))
        call = [args.peers_python, "-c", PEER, str(structures), str(dose), str(args.out / "peer.json")]
        costs["dicompyler-core"].append(run(call))
        run([sys.executable, "-c", OURS, str(structures), str(dose), str(args.out / "ours.json")], args.threads)
    return costs


def run(call: list[str], threads: int = 1) -> Cost:
    """Run a process to its end."""
    places = [str(ROOT / "RegistrationSuite" / "RegSuiteBackend"), str(ROOT)]
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(call[:4])} ... ended with status {status}")
    cost = Cost(used.ru_utime + used.ru_stime, time.monotonic() - began, used.ru_maxrss / 2**20)
    print(call[3], cost, file=sys.stderr, flush=True)
    return cost


def dvh_case(folder: Path) -> tuple[Path, Path, Path]:
    """RTDOSE 512x512x200 of 1 x 1 x 1.5 mm, RTSTRUCT with 20 regions of 1 to 20 000 cc, and the regions as a label image."""
    paths = folder / "dose.dcm", folder / "structures.dcm", folder / "labels.nrrd"
    if paths[2].exists():
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.5, 1.0])
    affine[:3, 3] = (255.5, 255.5, -149.25)
    grid = Grid((200, 512, 512), affine)
    points = grid.world_points(torch.float32)
    values = 60.0 * torch.exp(-points.square().sum(-1) / (2 * 60.0**2)) + 8.0 * torch.exp(-points[..., 0].square() / (2 * 40.0**2))
    rt_files.dose_file(paths[0], Image(values, grid))
    rng = np.random.default_rng(7)
    regions, labels = {}, torch.zeros(grid.shape, dtype=torch.int16)
    for number in range(20):
        half = np.array([180.0, 120.0, 135.0]) * (1.0 if number == 0 else 10 ** -rng.uniform(0.25, 1.1))
        centre = np.zeros(3) if number == 0 else rng.uniform(-0.5, 0.5, 3) * np.array([180.0, 120.0, 135.0])
        regions[f"region {number + 1:02d}"] = ellipsoid(centre, half, affine[2, 3], 1.5)
        inside = ((points - torch.tensor(centre).float()) / torch.tensor(half).float()).square().sum(-1) <= 1
        labels[inside] = number + 1
    rt_files.structure_set(paths[1], regions)
    write_image(Image(labels, grid), paths[2])
    return paths


def ellipsoid(centre: np.ndarray, half: np.ndarray, first: float, step: float) -> list[np.ndarray]:
    """Contours (n, 3) of 120 points on the planes first + n step."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    out = []
    for number in range(400):
        z = first + step * number
        rest = 1.0 - ((z - centre[2]) / half[2]) ** 2
        if rest > 1e-3:
            r = np.sqrt(rest)
            ring = [centre[0] + half[0] * r * np.cos(angle), centre[1] + half[1] * r * np.sin(angle), np.full(120, z)]
            out.append(np.stack(ring, 1))
    return out


def sample_case(folder: Path) -> list[str]:
    """Fixed grid 256x256x96, a displacement field and sigma of 3 mm on it, a 2.5 mm dose, 10 regions; the arguments of `dose`."""
    names = {n: folder / f"{n}.nrrd" for n in ("fixed", "dose", "field", "sigma", "labels")}
    call = ["dose", str(names["dose"]), str(names["field"]), "--like", str(names["fixed"]), "--sigma", str(names["sigma"])]
    call += ["--structures", str(names["labels"])]
    if names["labels"].exists():
        return call
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.4, -1.4, 3.0, 1.0])
    affine[:3, 3] = (178.5, 178.5, -142.5)
    grid = Grid((96, 256, 256), affine)
    points = grid.world_points(torch.float32)
    write_image(Image(torch.zeros(grid.shape), grid), names["fixed"])
    field = SmoothNoise(grid, 20.0).draw(0, 0) * 5.0
    write_transform(DisplacementField(field, grid), names["field"], grid)
    write_image(Image(torch.full((3, *grid.shape), 3.0), grid), names["sigma"])
    coarse = np.diag([-2.5, -2.5, 2.5, 1.0])
    coarse[:3, 3] = (175.0, 175.0, -140.0)
    small = Grid((113, 141, 141), coarse)
    at = small.world_points(torch.float32)
    values = 60.0 * torch.exp(-at.square().sum(-1) / (2 * 45.0**2)) + 8.0 * torch.exp(-at[..., 0].square() / (2 * 40.0**2))
    write_image(Image(values, small), names["dose"])
    labels = torch.zeros(grid.shape, dtype=torch.int16)
    rng = np.random.default_rng(3)
    for number in range(10):
        centre, radius = torch.tensor(rng.uniform(-70, 70, 3)).float(), float(rng.uniform(8, 45))
        labels[(points - centre).norm(dim=-1) <= radius] = number + 1
    write_image(Image(labels, grid), names["labels"])
    return call


def page(costs: dict[str, list[Cost]], peer: dict, ours: Path, threads: int) -> str:
    """SPEED.md as text."""
    best = {name: min(items, key=lambda c: c.cpu_s) for name, items in costs.items()}
    ratio = best["dicompyler-core"].cpu_s / best["contours"].cpu_s
    theirs, mine = peer["dvhs_s"], peer["ours_s"]
    rows = [(f"DVH of 20 regions in 512x512x200, {n}", best[n]) for n in ("contours", "labels")]
    rows += [("the same contours, dicompyler-core", best["dicompyler-core"])]
    rows += [("dose 256x256x96, 50 samples, 10 regions", best["samples"])] if "samples" in best else []
    lines = [
        "# Speed and memory of DVHs and sampled doses", "",
        "Made by `python Testing/bench/dose/speed.py -o FOLDER --peers-python PYTHON`; whole processes with start, reading and",
        f"writing; the best of the interleaved runs. {platform.system()}, {os.cpu_count()} cores, {threads} threads in ours.",
        "The peak of the DVHs counts the memory that this benchmark held when it started them: an upper bound.", "",
        "| job | CPU s | wall s | peak GiB |", "|---|---|---|---|",
        *(f"| {name} | {c.cpu_s:.1f} | {c.wall_s:.1f} | {c.peak_gib:.2f} |" for name, c in rows), "",
        f"Whole processes: dicompyler-core needs {ratio:.1f} times the CPU time of `regsuite dvh`, which also draws its page.",
        f"Reading and histograms alone: {theirs:.1f} s and {mine:.1f} s, {theirs / mine:.1f} times.", "",
        "Agreement (contours; ours without dicompyler-core's 0.01 Gy bins and whole voxels):", "",
        "| region | cc ours | cc dicompyler-core | mean Gy ours | mean Gy dicompyler-core |", "|---|---|---|---|---|",
    ]  # fmt: skip
    with (ours / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        values = {(row["structure"], row["metric"]): float(row["value"] or "nan") for row in csv.DictReader(stream)}
    for name, (volume, mean) in peer["found"].items():
        lines.append(f"| {name} | {values[name, 'volume']:.2f} | {volume:.2f} | {values[name, 'mean']:.2f} | {mean:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
