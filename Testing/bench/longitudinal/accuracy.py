"""`regsuite longitudinal` on the phantom `growth` at full size against its truth: three ages, no masks given, every default."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Grid
from regsuite.io import read_transform
from regsuite.metrics.jacobian import jacobian_determinant
from regsuite.phantoms import Phantom, make_phantom
from regsuite.pipeline.phantom import write_phantom
from regsuite.transforms import Transform, compose

AGES = (2.0, 3.0, 5.0)
SIZE = (112, 128, 112)


def run(out: Path, seeds: list[int], size: tuple[int, ...] | None) -> None:
    """Measure what is missing, then print the table."""
    cache = out / "accuracy.json"
    known = json.loads(cache.read_text()) if cache.exists() else {}
    for seed in seeds:
        if str(seed) not in known:
            known[str(seed)] = measure(out / f"seed_{seed}", seed, size or SIZE)
            cache.write_text(json.dumps(known, indent=1))
    titles = ["seed", "worst region (points)", "brain (points)", "log-J RMSE", "folding (%)", "transitivity (mm)"]
    print("| " + " | ".join([*titles, "mean error (mm)", "CPU (s)", "GiB"]) + " |")
    print("|---" * 9 + "|")
    for seed, row in known.items():
        print(
            f"| {seed} | {row['worst_region']:.2f} ({row['worst_name']}) | {row['brain']:.2f} | {row['log_jacobian_rmse']:.3f} | "
            f"{row['folding_percent']:.4f} | {row['transitivity_mm']:.3f} | {row['error_mm']:.2f} | {row['cpu_s']:.0f} | "
            f"{row['peak_gib']:.2f} |"
        )


def measure(folder: Path, seed: int, size: tuple[int, ...]) -> dict[str, float | str]:
    """Run the command as a user does and compare what it wrote."""
    made = make_phantom("growth", seed, size=size, ages=AGES)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    write_phantom(made, folder / "data")
    scans = [str(folder / "data" / f"time_{n:02d}.nrrd") for n in (1, 2, 3)]
    command = [sys.executable, "-m", "regsuite.cli", "longitudinal", *scans, "--ages", *(f"{a:g}" for a in AGES)]
    command += ["--labels", str(folder / "data" / "time_01_labels.nrrd"), "-o", str(folder / "out"), "--quiet"]
    began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    row = compare(made, folder / "out")
    row |= {"wall_s": time.time() - began, "peak_gib": used.ru_maxrss / 2**20}
    row["cpu_s"] = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    shutil.rmtree(folder)
    return row


def compare(made: Phantom, out: Path) -> dict[str, float | str]:
    """From the first to the last scan, at every second voxel of the first scan's brain."""
    first, last = made.series[0], made.series[-1]
    true = compose(last.to_anatomy.inverse(), first.to_anatomy)
    to = [read_transform(out / f"time_{n:02d}" / "transform.h5") for n in (1, 2, 3)]
    found = read_transform(out / "from_01_to_03.h5")
    grid = first.image.grid
    coarse = Grid(tuple(n // 2 for n in grid.shape), grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    d, h, w = (slice(0, 2 * n, 2) for n in coarse.shape)
    labels = first.labels.data[0, d, h, w]
    inside = labels > 0
    jacobians = [determinants(t, grid)[d, h, w] for t in (found, true)]
    logs = [j[inside].clamp(min=1e-3).log() for j in jacobians]
    points = coarse.index_to_world(inside.nonzero().flip(1).double())
    by_way = compose(compose(to[2], to[1].inverse()), compose(to[1], to[0].inverse()))
    mapped = found.map_points(points)
    grown = growth_of_regions(out / "volumes.tsv")
    errors = {}
    for number, name in made.label_names.items():
        expected = 100.0 * float(jacobians[1][labels == number].double().mean())
        errors[name] = abs(grown[f"label {number}"] - expected)
    worst = max(errors, key=lambda name: errors[name])
    return {
        "worst_region": errors[worst],
        "worst_name": worst,
        "regions": json.dumps({name: round(error, 2) for name, error in errors.items()}),
        "brain": abs(100.0 * float(np.exp(logs[0]).mean() - np.exp(logs[1]).mean())),
        "log_jacobian_rmse": float((logs[0] - logs[1]).square().mean().sqrt()),
        "folding_percent": 100.0 * float((jacobians[0][inside] <= 0).double().mean()),
        "transitivity_mm": float((by_way.map_points(points) - mapped).norm(dim=1).max()),
        "error_mm": float((true.map_points(points) - mapped).norm(dim=1).mean()),
    }


def determinants(transform: Transform, grid: Grid) -> torch.Tensor:
    """det of the map at every voxel."""
    with torch.no_grad():
        return jacobian_determinant(transform, grid)


def growth_of_regions(table: Path) -> dict[str, float]:
    """Region -> volume at the last scan in percent of the first."""
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    return {cells[0]: float(cells[4]) for cells in lines[1:]}
