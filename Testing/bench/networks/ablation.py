"""The papers' comparisons on our data: trains every variant of a network with the same settings, then one table.

    python -m Testing.bench.networks.ablation lung-mlvirnet -o RUNS [--set steps=20000 ...] [--real FOLDER] [--seed 0]

Stopped, it goes on where it was when called again. RUNS/VARIANT is a folder of `regsuite train`; RUNS/table.md holds what each
reaches on eight phantoms that no training has seen and, with FOLDER, on random deformations of the real scans in it (most of them
larger than those of a training without variety): the network alone, and (four of each) after the refinement of its method, on the
images that the network sees. lung-mlvirnet: multi-level, the same without carried weights (Xavier), single level. lung-vxmpp:
VoxelMorph (warping loss), with the heatmap (non-local loss), with the keypoints, with both.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from regsuite.geometry import Image
from regsuite.io.weights import fill, load_weights
from regsuite.methods import registry, trainable
from regsuite.nets.pair import Pair, world_mm
from regsuite.phantoms.synthetic import streamed_pair
from regsuite.pipeline.request import parse_settings
from regsuite.pipeline.train import CARD, CHECKPOINT, WEIGHTS, TrainRequest, run_training, training_config
from regsuite.pipeline.training_data import as_seen, open_source, read_scan, side_of
from regsuite.pipeline.training_report import validate

VARIANTS: dict[str, dict[str, dict[str, str]]] = {
    "lung-mlvirnet": {"multi-level": {}, "single level": {"single": "true"}, "multi-level, Xavier": {"carried": "false"}},
    "lung-vxmpp": {
        "VoxelMorph": {"heatmap": "false", "unsupervised": "true"},
        "VoxelMorph++": {},
        "VoxelMorph + keypoints": {"heatmap": "false"},
        "VoxelMorph + heatmap": {"unsupervised": "true"},
    },
}
_PHANTOMS, _DEFORMATIONS, _SEED = 8, 4, 2_000_001
_REFINED = 4  # pairs of each kind that are refined as well
_ASKED = {"lung-vxmpp": {"answered": "512"}}  # points that the field is made from: enough for a grid of this size
REFINED_ALONE = "refinement alone, three levels"
_SHOWN = {
    "tre_before_mm": "before mm",
    "tre_mm": "error mm",
    "refined_mm": "with refinement mm",
    "folding_percent": "folding %",
    "dice": "Dice",
}


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


def rows(out: Path, method: str, settings: dict[str, str], pairs: dict[str, tuple[Pair, ...]]) -> dict[str, dict[str, float]]:
    """Every finished variant on every kind of pair, "VARIANT on KIND"; kept in OUT/rows.json, so that each is measured once."""
    kept = out / "rows.json"
    found: dict[str, dict[str, float]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for name, own in VARIANTS[method].items():
        run = folder_of(out, name)
        if not (run / CARD).is_file():
            continue
        task = trainable.load(method).task(training_config(method, {**settings, **own, **_ASKED.get(method, {})}))
        model = task.build()
        fill(model, load_weights(run / WEIGHTS, task.key, task.version)[0], str(run))
        for kind, held in pairs.items():
            if f"{name} on {kind}" not in found:
                row = validate(task, model, held, torch.device("cpu"))
                refined = [refined_mm(method, str(run / WEIGHTS), pair) for pair in held[:_REFINED]]
                found[f"{name} on {kind}"] = {**row, "refined_mm": sum(refined) / len(refined)}
                kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    for kind, held in pairs.items():
        if f"{REFINED_ALONE} on {kind}" not in found:
            alone = [refined_mm("lung-convex", None, pair) for pair in held[:_REFINED]]
            found[f"{REFINED_ALONE} on {kind}"] = {"refined_mm": sum(alone) / len(alone)}
            kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def refined_mm(method: str, weights: str | None, pair: Pair) -> float:
    """Mean error (mm) in the mask after the whole method with these weights, on the images that the network sees; None: without
    network and search."""
    settings = {"search": False, "levels": 3} if weights is None else {"weights": weights}
    config = registry.config_for(method, "Default", {**settings, "sliding": pair.fixed_mask is not None})
    mask = None if pair.fixed_mask is None else Image(pair.fixed_mask[0], pair.grid)
    images = (Image(x[0], pair.grid) for x in (pair.fixed, pair.moving))
    result = registry.get(method).load().register(*images, config, fixed_mask=mask, device="cpu")
    assert pair.truth is not None
    error = (result.transform.displacement(pair.grid) - world_mm(pair.truth, pair.grid)).norm(dim=0)
    return float(error.mean() if mask is None else error[mask.data[0] > 0.5].mean())


def table(found: dict[str, dict[str, float]], method: str, command: str) -> str:
    """The rows as Markdown."""
    lines = [
        f"Made by `{command}`",
        "",
        f"| {method} | on | " + " | ".join(_SHOWN.values()) + " |",
        "|---" * (len(_SHOWN) + 2) + "|",
    ]
    for key, row in found.items():
        name, kind = key.split(" on ")
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
        text = table(rows(args.out, args.method, settings, pairs), args.method, command)
        (args.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
