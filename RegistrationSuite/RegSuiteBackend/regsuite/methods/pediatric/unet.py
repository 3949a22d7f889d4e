"""pediatric-unet: a small U-Net for two scans of one child; not a method yet, as there are no weights of ours.

Loss: 1 - local correlation + mean squared gradient of the displacement.

Reference: Dimitrijevic, Noblet and De Leener, Deep Learning-Based Longitudinal Intra-subject Registration of Pediatric Brain MR
Images, WBIR 2022: channels 8, 16, 32, window of 9 voxels, both weights 1, Adam 1e-4, batch 2.
Differs from the paper in: see regsuite.nets.unet; the gradient is per millimetre.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from regsuite.losses.image import lncc
from regsuite.losses.regularisers import diffusion
from regsuite.methods.api import limited
from regsuite.methods.trainable import TrainingConfig
from regsuite.nets.fields import sample
from regsuite.nets.pair import Pair, world_mm
from regsuite.nets.unet import FieldUNet
from regsuite.solvers.training import Task

PHANTOM = "growth"
MOTION = "growth"


@dataclass(frozen=True)
class Training(TrainingConfig):
    """Settings of the training. The paper: 153 x 153 x 125 voxels, batch 2, learning rate 1e-4, 250 epochs."""

    learning_rate: float = limited(1e-3, 1e-7, 1.0, "Learning rate of Adam (paper: 1e-4)")
    accumulate: int = limited(2, 1, 1000, "Pairs whose gradients make one step (paper: 2)")
    gradient_weight: float = limited(1.0, 0.0, 1e4, "Weight of the displacement's squared gradient (paper: 1)")
    window_voxels: int = limited(9, 3, 21, "Side of the correlation window, odd (paper: 9)")
    width: int = limited(8, 2, 64, "Channels at the finest resolution (paper: 8)")


class UNetTask(Task):
    """One net, one stage."""

    key = "pediatric-unet"

    def __init__(self, config: Training) -> None:
        self.config = config

    def build(self) -> nn.Module:
        return FieldUNet(self.config.width)

    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        u = model(torch.cat([pair.fixed, pair.moving], dim=1)).float()
        local = lncc(pair.fixed[0], sample(pair.moving, u)[0], self.config.window_voxels | 1)
        gradient = diffusion(world_mm(u, pair.grid), pair.grid)
        parts = {"lncc": float(local.detach()), "gradient": float(gradient.detach())}
        return local + self.config.gradient_weight * gradient, parts

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        return model(torch.cat([pair.fixed, pair.moving], dim=1)).float()


def task(config: Training) -> Task:
    """What the training loop needs."""
    return UNetTask(config)
