"""The papers' comparisons on our data: trains every variant of a network with the same settings, then one table.

    python -m Testing.bench.networks.ablation lung-mlvirnet -o RUNS [--set voxels=160 --set steps=20000 ...] [--data DIR] [--seed 0]

Stopped, it goes on where it was when called again. RUNS/VARIANT is a folder of `regsuite train`; RUNS/table.md holds the last
validation of each. lung-mlvirnet: multi-level, the same without carried weights (Xavier), single level. lung-vxmpp, before
refinement: without the heatmap, without the keypoints, with both. Plain VoxelMorph (warping loss) is not among them yet.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from regsuite.pipeline.request import parse_settings
from regsuite.pipeline.train import CARD, CHECKPOINT, TrainRequest, run_training

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    "lung-mlvirnet": {"multi-level": {}, "multi-level, Xavier": {"carried": "false"}, "single level": {"single": "true"}},
    "lung-vxmpp": {
        "VoxelMorph + keypoints": {"heatmap": "false"},
        "VoxelMorph + heatmap": {"unsupervised": "true"},
        "VoxelMorph++": {},
    },
}


def table(out: Path, method: str, command: str) -> str:
    """The last validation of every finished variant."""
    rows: list[tuple[str, dict[str, str]]] = []
    for name in VARIANTS[method]:
        path = out / name.replace(" + ", "-").replace(", ", "-").replace(" ", "-") / "validation.csv"
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as stream:
                rows.append((name, list(csv.DictReader(stream))[-1]))
    names = list(rows[0][1])
    lines = [f"Made by `{command}`", "", f"| {method} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{float(row[n]):.4g}" if row[n] else "" for n in names) + " |" for name, row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(VARIANTS))
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", default="phantom")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name, own in VARIANTS[args.method].items():
        run = args.out / name.replace(" + ", "-").replace(", ", "-").replace(" ", "-")
        if (run / CARD).is_file():
            continue
        settings = {**parse_settings(args.set), **own}
        resume = (run / CHECKPOINT).is_file()
        run_training(TrainRequest(args.method, str(run), args.data, settings, args.seed, args.device, resume))
        words = " ".join(["python -m Testing.bench.networks.ablation", args.method, *(f"--set {s}" for s in args.set), "-o RUNS"])
        (args.out / "table.md").write_text(table(args.out, args.method, words), encoding="utf-8")


if __name__ == "__main__":
    main()
