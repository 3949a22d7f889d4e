"""The papers' comparisons on our data: trains every variant of a network with the same settings, then one table.

    python -m Testing.bench.networks.ablation lung-mlvirnet -o RUNS [--set steps=20000 ...] [--real FOLDER] [--seed 0]

Stopped, it goes on where it was when called again. RUNS/VARIANT is a folder of `regsuite train`; RUNS/table.md holds what each
reaches without refinement on eight phantoms that no training has seen and, with FOLDER, on random deformations of the real scans in
it (most of them larger than those of a training without variety). lung-mlvirnet: multi-level, the same without carried weights
(Xavier), single level. lung-vxmpp: VoxelMorph (warping loss), with the heatmap (non-local loss), with the keypoints, with both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from regsuite.io.weights import fill, load_weights
from regsuite.methods import trainable
from regsuite.nets.pair import Pair
from regsuite.phantoms.synthetic import streamed_pair
from regsuite.pipeline.request import parse_settings
from regsuite.pipeline.train import CARD, CHECKPOINT, WEIGHTS, TrainRequest, run_training, training_config
from regsuite.pipeline.training_data import as_seen, open_source, read_scan, side_of
from regsuite.pipeline.training_report import validate

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    "lung-mlvirnet": {"multi-level": {}, "single level": {"single": "true"}, "multi-level, Xavier": {"carried": "false"}},
    "lung-vxmpp": {
        "VoxelMorph": {"heatmap": "false", "unsupervised": "true"},
        "VoxelMorph + heatmap": {"unsupervised": "true"},
        "VoxelMorph + keypoints": {"heatmap": "false"},
        "VoxelMorph++": {},
    },
}
_PHANTOMS, _DEFORMATIONS, _SEED = 8, 4, 2_000_001
_SHOWN = {"tre_mm": "error mm", "tre_before_mm": "before", "folding_percent": "folding %", "dice": "Dice"}


def folder_of(out: Path, variant: str) -> Path:
    """Where a variant is trained."""
    return out / variant.replace(" + ", "-").replace(", ", "-").replace(" ", "-")


def held_out(method: str, settings: dict[str, str], real: Path | None) -> dict[str, tuple[Pair, ...]]:
    """Pairs that no training has seen, by kind."""
    module = trainable.load(method)
    config = training_config(method, settings).replaced(validation_subjects=_PHANTOMS)
    found = {"phantoms": open_source("phantom", module.PHANTOM, module.MOTION, config, 0).held_out}
    if real is not None:
        paths = sorted(real.glob("*.nii.gz"))
        scans = [read_scan(path, side_of(path, module.PHANTOM, config.voxels), module.MOTION) for path in paths]
        numbers = [(scan, n) for scan in scans for n in range(_DEFORMATIONS)]
        found["deformed real scans"] = tuple(
            as_seen(streamed_pair(s.image, _SEED, n, module.MOTION, s.mask, strength=1.0 + 0.5 * n), config) for s, n in numbers
        )
    return found


def table(out: Path, method: str, settings: dict[str, str], pairs: dict[str, tuple[Pair, ...]], command: str) -> str:
    """Every finished variant on every kind of pair."""
    lines = [
        f"Made by `{command}`",
        "",
        f"| {method} | on | " + " | ".join(_SHOWN.values()) + " |",
        "|---" * (len(_SHOWN) + 2) + "|",
    ]
    for name, own in VARIANTS[method].items():
        run = folder_of(out, name)
        if not (run / CARD).is_file():
            continue
        task = trainable.load(method).task(training_config(method, {**settings, **own}))
        model = task.build()
        fill(model, load_weights(run / WEIGHTS, task.key, task.version)[0], str(run))
        for kind, held in pairs.items():
            row = validate(task, model, held, torch.device("cpu"))
            lines.append(f"| {name} | {kind} | " + " | ".join(f"{row[n]:.3g}" if n in row else "" for n in _SHOWN) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not trained yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(VARIANTS))
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", default="phantom")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = parse_settings(args.set)
    words = ["python -m Testing.bench.networks.ablation", args.method, *(f"--set {s}" for s in args.set), "-o RUNS"]
    command = " ".join([*words, *(["--real FOLDER"] if args.real else [])])
    pairs = held_out(args.method, settings, args.real)
    for name, own in VARIANTS[args.method].items():
        run = folder_of(args.out, name)
        if not (run / CARD).is_file():
            resume = (run / CHECKPOINT).is_file()
            run_training(TrainRequest(args.method, str(run), args.data, {**settings, **own}, args.seed, args.device, resume))
        text = table(args.out, args.method, settings, pairs, command)
        (args.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
