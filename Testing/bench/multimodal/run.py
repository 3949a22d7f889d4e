"""Global rigid alignment of many modalities beside local methods, from the same starts.

    python -m Testing.bench.multimodal.run DATA -o FOLDER [--poses 20] [--local-poses 2] [--preset Default] [--only simulated,...]

DATA holds brain-mni, brain-longitudinal, brain-tumour, prostate-mr-us, abdomen-ct (those absent are left out). Every run is one
JSON file in FOLDER, kept between calls; poses go round all pairs, so a stopped run is a smaller one. Afterwards:
`python -m Testing.bench.multimodal.report FOLDER`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from Testing.bench.multimodal import contrasts, engines, poses, real

Task = tuple[str, Callable[[], dict[str, Any]]]


def simulated(data: Path, preset: str, count: int, local: int) -> Iterator[Task]:
    """12 ordered pairs of simulated modalities, round by round."""
    pairs = [(a, b) for a in contrasts.MODALITIES for b in contrasts.MODALITIES if a != b]
    for pose in range(count):
        for number, (a, b) in enumerate(pairs):
            methods = [f"csngf-{preset}", *(("local-mi", "local-ngf") if pose < local else ())]
            for method in methods:

                def task(a: str = a, b: str = b, seed: int = 1000 * number + pose, method: str = method) -> dict[str, Any]:
                    head = contrasts.head(data / "brain-mni")
                    case = poses.displaced(head[a], head[b], (a, b), seed)
                    return engines.measured(method, case) | {"group": f"{a}/{b}"}

                yield f"simulated-{method}-{a}-{b}-{pose:02d}", task


def main() -> None:
    """Run what is not in the cache yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--poses", type=int, default=20)
    parser.add_argument("--local-poses", type=int, default=2)
    parser.add_argument("--preset", default="Default")
    parser.add_argument("--only", default="real,unrelated,simulated")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Iterator[Task]] = {
        "simulated": simulated(given.data, given.preset, given.poses, given.local_poses),
        "real": real.tasks(given.data, given.preset, given.poses),
        "unrelated": real.unrelated(given.data, given.preset),
    }
    for part in given.only.split(","):
        for name, task in parts[part]:
            run_once(given.out / f"{name}.json", task)


def run_once(path: Path, task: Callable[[], dict[str, Any]]) -> None:
    """The task's row as JSON, unless it is there already."""
    if path.exists():
        return
    torch.manual_seed(0)
    np.random.seed(0)
    began = time.process_time()
    row = task() | {"total_cpu_s": round(time.process_time() - began, 2)}
    path.with_suffix(".part").write_text(json.dumps(row), encoding="utf-8")
    path.with_suffix(".part").replace(path)
    shown = {key: row[key] for key in ("error_mm", "confidence", "cpu_s") if key in row}
    print(path.stem, shown, flush=True)


if __name__ == "__main__":
    main()
