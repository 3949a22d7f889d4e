"""Which networks can be trained, and the settings that all trainings share.

A network is listed here from the day it can be trained; it becomes a method of the registry when there are weights of ours, which
`trained` loads. A module named here has `Training` (a subclass of TrainingConfig), `PHANTOM` (what it is trained on by default),
`MOTION` (how real scans are deformed) and `task(config) -> Task`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regsuite.errors import InputError
from regsuite.io.weights import fill, load_weights, shipped
from regsuite.methods.api import Config, limited, option
from regsuite.solvers.training import Task

TRAINABLE: dict[str, str] = {
    "lung-mlvirnet": "regsuite.methods.lung.mlvirnet",
    "lung-vxmpp": "regsuite.methods.lung.vxmpp",
    "pediatric-unet": "regsuite.methods.pediatric.unet",
    "uncertainty-net": "regsuite.methods.uncertainty.net",
}


@dataclass(frozen=True)
class TrainingConfig(Config):
    """Settings of every training. Defaults are ours unless a method names its paper's."""

    steps: int = limited(3000, 1, 10_000_000, "Steps of the optimiser, shared out equally among the stages")
    learning_rate: float = limited(1e-3, 1e-7, 1.0, "Learning rate of Adam")
    halve_every: int = limited(0, 0, 10_000_000, "Steps after which the learning rate is halved; 0 never")
    accumulate: int = limited(1, 1, 1000, "Pairs whose gradients make one step")
    voxels: int = limited(64, 16, 512, "Voxels along the longest side of the working grid")
    subjects: int = limited(16, 1, 100_000, "Phantoms to train on; each is made once and kept")
    validation_subjects: int = limited(2, 1, 1000, "Phantoms or scans held out for validation")
    real_share: float = limited(0.5, 0.0, 1.0, "Share of a phantom's own motion; the rest are random deformations of it")
    variety: float = limited(
        0.0, 0.0, 1.0, "How far pairs stray from their images: size of motion, shape, filled lungs, view, contrast; 0: not at all"
    )
    margin_mm: float = limited(0.0, 0.0, 200.0, "The network sees the box around the fixed mask and this far beyond; 0: everything")
    matches: bool = option(False, "Pairs of a folder: what keypoints of both images match counts as their true motion")
    pose_mm: float = limited(0.0, 0.0, 10.0, "Heads: how far a pair's poses lie apart, with as many degrees")
    contrast: bool = option(False, "Random contrast from label maps, where there are labels")
    mixed_precision: bool = option(True, "Half precision on GPUs")
    cpu_bfloat16: bool = option(False, "Products in bfloat16 on processors too; faster where they have instructions for it")
    checkpoint_every: int = limited(100, 1, 1_000_000, "Steps between checkpoints")
    validate_every: int = limited(500, 1, 1_000_000, "Steps between validations and previews")


def load(key: str) -> Any:
    """The module of a trainable network; raises InputError listing the known ones."""
    if key not in TRAINABLE:
        raise InputError(f"'{key}' cannot be trained; expected one of {', '.join(TRAINABLE)}.")
    return importlib.import_module(TRAINABLE[key])


def trained(module: Any, weights: str, device: torch.device, asked: dict[str, Any] | None = None) -> tuple[Task, nn.Module, Any]:
    """Task, network with its weights, ready to be asked, and the settings that it was trained with.

    module: one of `TRAINABLE`; weights: a file, or "" for those that come with the package; asked: settings that
    are not those of the training. Raises InputError for unfit files.
    """
    plain: Task = module.task(module.Training())
    path = Path(weights) if weights else shipped(plain.key)
    tensors, card = load_weights(path, plain.key, plain.version)
    settings = module.Training(**card.config).replaced(**(asked or {}))
    task: Task = module.task(settings)
    model = task.build()
    fill(model, tensors, str(path))
    return task, model.to(device).eval(), settings
