"""Time of one full map of translations at several sizes, or of whole searches (process CPU seconds, one thread).

    python -m Testing.bench.multimodal.speed [--sizes 32,64,128] [-o FOLDER]
    python -m Testing.bench.multimodal.speed --whole [--sizes 64,96,128,151]

The published arithmetic is 14 forward and 2 inverse real FFTs (7 per image: 6 products and the mask) at the padded size of the
published program: twice the image where half an image must overlap. Both are timed in turns in the same run; the best turn counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Grid, Image
from regsuite.phantoms import make_phantom
from regsuite.solvers.cross_similarity import CrossSimilarity
from regsuite.solvers.global_pose import PoseSettings, global_pose
from regsuite.solvers.rotations import near_identity

OVERLAP = 0.5


def published(fixed: torch.Tensor, moving: torch.Tensor, size: int) -> torch.Tensor:
    """(7, n, n, n) twice -> mean similarity for all shifts, transforms of `size`; products summed in the Fourier domain."""
    a, b = (torch.fft.rfftn(x, s=(size,) * 3, dim=(1, 2, 3)) for x in (fixed, moving))
    product = a.conj() * b
    total = torch.fft.irfftn(product[:6].sum(dim=0), s=(size,) * 3)
    count = torch.fft.irfftn(product[6], s=(size,) * 3)
    return total / count.round().clamp(min=1.0)


def bare(fixed: torch.Tensor, moving: torch.Tensor, size: int) -> None:
    """The 14 forward and 2 inverse transforms alone."""
    a, b = (torch.fft.rfftn(x, s=(size,) * 3, dim=(1, 2, 3)) for x in (fixed, moving))
    for spectrum in (a[0], b[0]):
        torch.fft.irfftn(spectrum, s=(size,) * 3)


def ours(fixed: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
    """The same map from nothing: both images transformed here (five traceless products and the mask each)."""
    total, count = CrossSimilarity(fixed[None], moving.shape[1:], OVERLAP).maps(moving)
    return total / count.clamp(min=1.0)


def seconds(tasks: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Best process CPU seconds of each task, in turns."""
    best = dict.fromkeys(tasks, float("inf"))
    for _ in range(turns):
        for name, task in tasks.items():
            began = time.process_time()
            task()
            best[name] = min(best[name], time.process_time() - began)
    return best


def whole(sizes: list[int]) -> None:
    """Whole searches of a made head of n^3 voxels turned by 90 degrees: by size, then by points across and by rotations."""
    print("| voxels | rotations | points across | CPU s |\n|---|---|---|---|")
    for n, changes in [*((n, {}) for n in sizes), *((64, c) for c in ({"rotations": 1152}, {"rotations": 4608}, {"across": 30}))]:
        head = make_phantom("brain-tumour", seed=2, size=(n, n, n), noise=0.0, pose=False).moving
        turn = np.array([[0.0, -1.0, 0.0, 40.0], [1.0, 0.0, 0.0, -25.0], [0.0, 0.0, 1.0, 15.0], [0.0, 0.0, 0.0, 1.0]])
        moving = Image(head.data.max() - head.data, Grid(head.grid.shape, turn @ head.grid.affine))
        settings = replace(PoseSettings(), **changes)
        tried = 24 * len(near_identity(settings.rotations))
        began = time.process_time()
        global_pose(head, moving, settings=settings)
        print(f"| {n}^3 | {tried} | {settings.across} | {time.process_time() - began:.1f} |", flush=True)


def main() -> None:
    """Print and keep one row per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="32,64,128")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--whole", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.whole:
        whole([int(size) for size in given.sizes.split(",")])
        return
    rows = []
    for n in (int(size) for size in given.sizes.split(",")):
        a, b = torch.rand(7, n, n, n), torch.rand(7, n, n, n)
        cached = CrossSimilarity(a[None, 1:], (n, n, n), OVERLAP)
        found = seconds(
            {
                "published_fft": lambda a=a, b=b, n=n: bare(a, b, 2 * n),
                "published_map": lambda a=a, b=b, n=n: published(a, b, 2 * n),
                "published_fft_short": lambda a=a, b=b, cached=cached: bare(a, b, cached.range.transform[0]),
                "ours": lambda a=a, b=b: ours(a[1:], b[1:]),
                "ours_fixed_kept": lambda b=b, cached=cached: cached.maps(b[1:]),
            },
            given.turns,
        )
        rows.append({"size": n, "transform": cached.range.transform[0], **found})
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "speed.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
