"""Every trainable network learns from a tiny pair and answers with a field; the heatmap network in all its forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid
from regsuite.methods import trainable
from regsuite.methods.lung import vxmpp
from regsuite.nets.pair import Pair
from regsuite.phantoms.synthetic import streamed_pair
from regsuite.solvers.training import LoopSettings, Task, Trainer
from torch import nn

from Testing.unit.training import scans

SMALL = {"width": 2, "levels": 2, "keypoints": 32, "answered": 64}


def pair(shape: tuple[int, int, int] = (16, 18, 20)) -> Pair:
    image = scans.image(2, shape)
    image = type(image)(image.data.clamp(0, 1), Grid(shape, np.diag([4.0, 5.0, 6.0, 1.0])))
    return streamed_pair(image, 0, 1, "growth")


def config(key: str, **changes: object):
    kind = trainable.load(key).Training
    known = {name: value for name, value in SMALL.items() if name in kind.__dataclass_fields__}
    return kind(**{**known, **changes})


@pytest.mark.parametrize("key", [key for key in trainable.TRAINABLE if key != "uncertainty-net"])  # it judges given fields
def test_it_learns_and_answers(key: str) -> None:
    """Twelve steps on one pair lower its loss; the field is finite and of the pair's shape."""
    seen, module = pair(), trainable.load(key)
    task = module.task(config(key))
    task.stages = 1 if key == "lung-mlvirnet" else task.stages
    trainer = Trainer(task, LoopSettings(12, 3e-3), lambda n: seen)
    losses = [trainer.step()["loss"] for _ in range(12)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    with torch.no_grad():
        u = task.displacement(trainer.model.eval(), seen)
    assert u.shape == (1, 3, 16, 18, 20)
    assert torch.isfinite(u).all()
    assert task.key == key


@pytest.mark.parametrize("changes", [{"unsupervised": True}, {"heatmap": False}, {"heatmap": False, "unsupervised": True}])
def test_the_ablations_of_the_heatmap_run(changes: dict[str, bool]) -> None:
    task = vxmpp.task(config("lung-vxmpp", **changes))
    trainer = Trainer(task, LoopSettings(1, 1e-3), lambda n: pair())
    values = trainer.step()
    assert set(values) == ({"loss", "mind", "roughness"} if changes.get("unsupervised") else {"loss", "error_voxels"})


class Fragile(Task):
    """Its gradients are no numbers in half precision."""

    key = "fragile"

    def build(self) -> nn.Module:
        return nn.Linear(1, 1)

    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        value = model(torch.ones(1, 1)).float().square().sum()
        return (value + 0.0 * (value - value.detach()).sqrt() if torch.is_autocast_enabled("cpu") else value), {}

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        raise NotImplementedError


def test_a_step_that_bfloat16_spoils_is_taken_in_full_precision() -> None:
    trainers = [Trainer(Fragile(), LoopSettings(1, 1e-2, cpu_bfloat16=half), lambda n: pair()) for half in (True, False)]
    losses = [trainer.step()["loss"] for trainer in trainers]
    assert losses[0] == losses[1]
    half, full = (dict(trainer.model.named_parameters()) for trainer in trainers)
    assert all(torch.equal(half[name], full[name]) and bool(torch.isfinite(full[name]).all()) for name in full)
