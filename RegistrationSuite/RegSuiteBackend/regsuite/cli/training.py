"""`regsuite train`: a network from a config."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Network to train, for example lung-mlvirnet.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run.")],
    data: Annotated[str, typer.Option("--data", metavar="DIR|phantom", help="Scans, pairs, or phantom.")] = "phantom",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, repeatable.")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in this folder, which was stopped.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary; errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of unexpected errors.")] = False,
) -> None:
    """Train a network; RUN gets log.csv, validation.csv, preview/, checkpoint.pt, weights.safetensors and card.json."""
    from regsuite.cli.display import progress_display

    with progress_display(quiet) as progress:
        from regsuite.pipeline.request import parse_settings
        from regsuite.pipeline.train import CARD, TrainRequest, run_training

        request = TrainRequest(method, out, data, parse_settings(settings or []), seed, device, resume)
        folder = run_training(request, progress)
    if not quiet and (folder / CARD).is_file():
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        for name, value in card["figures"].items():
            print(f"{name:18} {value:.4g}")
        print(f"Written to {folder}; look at preview/ first.")
