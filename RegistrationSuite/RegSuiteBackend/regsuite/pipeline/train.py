"""`regsuite train`: a network from a config, in a folder that can be left and taken up again.

RUN/config.json      what is trained, on what, with which settings
RUN/log.csv          one row per step; RUN/validation.csv: one per validation; RUN/board: TensorBoard, where it is installed
RUN/checkpoint.pt    the last state (tensors and numbers only)
RUN/preview/         a picture of the first held-out pair, from step 0 on
RUN/weights.safetensors, RUN/card.json     at the end
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regsuite.errors import InputError, OutputError
from regsuite.io.atomic import staged_file
from regsuite.io.weights import Card, save_weights
from regsuite.methods import trainable
from regsuite.methods.trainable import TrainingConfig
from regsuite.pipeline.training_data import Source, open_source
from regsuite.pipeline.training_report import Board, Rows, preview, validate
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers.device import choose_device
from regsuite.solvers.training import LoopSettings, Task, Trainer

CONFIG, CHECKPOINT, WEIGHTS, CARD = "config.json", "checkpoint.pt", "weights.safetensors", "card.json"


@dataclass(frozen=True)
class TrainRequest:
    """data: "phantom" or a folder; settings: texts or values; resume: go on with what lies in `out`."""

    method: str
    out: str
    data: str = "phantom"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    resume: bool = False


def training_config(method: str, settings: dict[str, Any]) -> TrainingConfig:
    """The method's training settings with some changed. Raises InputError on unknown names and values out of range."""
    config: TrainingConfig = trainable.load(method).Training()
    return config.replaced(**{k: config.parse(k, v) if isinstance(v, str) else v for k, v in settings.items()})


def run_training(request: TrainRequest, progress: ProgressCallback | None = None) -> Path:
    """Train (or go on), write weights and card; returns the run's folder. Under torchrun every process calls this."""
    module = trainable.load(request.method)
    config = training_config(request.method, request.settings)
    group = _group(request.device)
    device = choose_device(request.device if group[1] == 1 or not torch.cuda.is_available() else f"cuda:{_local_rank()}")
    out = Path(request.out)
    stated = {"method": request.method, "data": request.data, "seed": request.seed, "settings": dataclasses.asdict(config)}
    if group[0] == 0:
        _check_run(out, stated, request.resume)
    stages = Progress(progress)
    with stages.stage("data", 0.0, 0.02):
        source = open_source(request.data, module.PHANTOM, module.MOTION, config, request.seed)
    if group[0] == 0 and not request.resume:
        _begin_run(out, stated)
    task: Task = module.task(config)
    trainer = Trainer(task, _loop(config, request.seed), source.train, device, group)
    if request.resume:
        trainer.load(_read_checkpoint(out / CHECKPOINT, device))
    with stages.stage("train", 0.02, 1.0):
        figures = _Run(out, task, trainer, source, config, lead=group[0] == 0).go(stages)
    if group[0] == 0:
        _export(out, request, task, trainer, source, config, figures)
    if group[1] > 1:
        torch.distributed.destroy_process_group()
    return out


class _Run:
    """The steps with what is written on the way."""

    def __init__(self, out: Path, task: Task, trainer: Trainer, source: Source, config: TrainingConfig, lead: bool) -> None:
        self.out, self.task, self.trainer, self.source, self.config, self.lead = out, task, trainer, source, config, lead
        if lead:
            (out / "preview").mkdir(exist_ok=True)
            self.log, self.checks = (Rows(out / name, trainer.done) for name in ("log.csv", "validation.csv"))
            self.board = Board(out / "board", trainer.done)

    def go(self, stages: Progress) -> dict[str, float]:
        """All remaining steps; returns the last validation."""
        trainer, total, figures = self.trainer, self.config.steps, dict[str, float]()
        while trainer.done < total:
            step = trainer.done
            if self.lead and step % self.config.validate_every == 0:
                figures = self._validate(step)
            values = trainer.step()
            if self.lead:
                self.log.add(step, values)
                self.board.add(step, values)
                if trainer.done % self.config.checkpoint_every == 0 or trainer.done == total:
                    _write_checkpoint(trainer, self.out / CHECKPOINT)
            stages.step(trainer.done / total, f"step {trainer.done} of {total}, loss {values['loss']:.4g}")
        if self.lead:
            self.task.settle(trainer.model.eval(), (pair.to(trainer.device) for pair in self.source.held_out))
            figures = self._validate(total)
            self.board.close()
        return figures

    def _validate(self, step: int) -> dict[str, float]:
        figures = validate(self.task, self.trainer.model, self.source.held_out, self.trainer.device)
        self.checks.add(step, figures)
        self.board.add(step, {f"validation/{name}": value for name, value in figures.items()})
        title = f"{self.task.key}, step {step}: " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        path = self.out / "preview" / f"step_{step:07d}.png"
        preview(self.task, self.trainer.model, self.source.held_out[0], self.trainer.device, path, title)
        return figures


def _loop(config: TrainingConfig, seed: int) -> LoopSettings:
    names = ("steps", "learning_rate", "halve_every", "accumulate", "mixed_precision", "cpu_bfloat16")
    return LoopSettings(seed=seed, **{name: getattr(config, name) for name in names})


def _check_run(out: Path, stated: dict[str, Any], resume: bool) -> None:
    """Is the folder free for a new run, or does it hold the one to go on with? Writes nothing."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"Cannot write to '{out}': expected a folder, found a file.")
    there = out / CONFIG
    if not resume:
        if there.exists():
            raise InputError(f"'{out}' already holds a training; continue it with --resume or choose another folder.")
        return
    if not there.is_file() or not (out / CHECKPOINT).is_file():
        raise InputError(f"Cannot resume in '{out}': expected {CONFIG} and {CHECKPOINT} of a training begun there.")
    before = json.loads(there.read_text(encoding="utf-8"))
    changed = [key for key in stated if before.get(key) != json.loads(json.dumps(stated[key]))]
    if changed:
        raise InputError(f"Cannot resume in '{out}': {' and '.join(changed)} differ from those it was begun with.")


def _begin_run(out: Path, stated: dict[str, Any]) -> None:
    """The folder with its config."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder '{out}': {(error.strerror or 'an error').lower()}.") from error
    with staged_file(out / CONFIG) as stage:
        stage.write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")


def _write_checkpoint(trainer: Trainer, path: Path) -> None:
    with staged_file(path) as stage:
        torch.save(trainer.state(), stage)


def _read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        raise InputError(f"Cannot resume from '{path}': expected a checkpoint of a training, found a damaged file.") from error


def _export(
    out: Path,
    request: TrainRequest,
    task: Task,
    trainer: Trainer,
    source: Source,
    config: TrainingConfig,
    figures: dict[str, float],
) -> None:
    settings = [f"--set {key}={value}" for key, value in request.settings.items()]
    data = "phantom" if request.data == "phantom" else Path(request.data).name
    parts = ["regsuite train", request.method, f"--data {shlex.quote(data)}", *settings, f"--seed {request.seed}", "-o RUN"]
    card = Card(task.key, task.version, source.name, request.seed, " ".join(parts), figures, dataclasses.asdict(config))
    signed = save_weights(out / WEIGHTS, trainer.model.state_dict(), card)
    with staged_file(out / CARD) as stage:
        stage.write_text(json.dumps(dataclasses.asdict(signed), indent=2) + "\n", encoding="utf-8")


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _group(device: str) -> tuple[int, int]:
    """(rank, world): what torchrun says, else one process alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1
    on_gpu = device != "cpu" and torch.cuda.is_available()
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
    return torch.distributed.get_rank(), world
