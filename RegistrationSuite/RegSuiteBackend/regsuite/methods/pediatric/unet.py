"""pediatric-unet: a small U-Net for two scans of one child, then the finer levels of brain-svf.

1. start: as brain-svf; 2. network: the growth at once, left out where it does not help, taken as a velocity (to first order);
3. refine: symmetric LNCC as in brain-svf, which makes the map one to one.

Training loss: 1 - local correlation + mean squared gradient of the displacement + the error where the true motion is known.

Reference: Dimitrijevic, Noblet and De Leener, Deep Learning-Based Longitudinal Intra-subject Registration of Pediatric Brain MR
Images, WBIR 2022: channels 8, 16, 32, window of 9 voxels, both weights 1, Adam 1e-4, batch 2.
Differs from the paper in: see regsuite.nets.unet; the gradient is per millimetre; the error's part in the loss; the refinement.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from regsuite.geometry.image import Image
from regsuite.losses.image import lncc
from regsuite.losses.regularisers import diffusion
from regsuite.methods import _symmetric
from regsuite.methods.api import Result, limited, option
from regsuite.methods.trainable import TrainingConfig, trained
from regsuite.nets.fields import sample
from regsuite.nets.pair import Pair, world_mm
from regsuite.nets.truth import both_errors_mm, error_mm
from regsuite.nets.unet import FieldUNet
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import foretell
from regsuite.solvers.device import choose_device
from regsuite.solvers.training import Task
from regsuite.transforms import Transform

PHANTOM = "growth"
MOTION = "growth"
_VIEW_MM = (
    204.0  # longest side of the growth phantom: with the card's number of voxels, the voxel size that the network has learned
)


@dataclass(frozen=True)
class Training(TrainingConfig):
    """Settings of the training. The paper: 153 x 153 x 125 voxels, batch 2, learning rate 1e-4, 250 epochs."""

    learning_rate: float = limited(1e-3, 1e-7, 1.0, "Learning rate of Adam (paper: 1e-4)")
    accumulate: int = limited(1, 1, 1000, "Pairs whose gradients make one step (paper: 2)")
    steps: int = limited(200, 1, 10_000_000, "Steps of the optimiser")
    voxels: int = limited(48, 16, 512, "Voxels along the longest side of the working grid (paper: 153)")
    truth_weight: float = limited(0.3, 0.0, 1e4, "Weight of the mean error (mm) where the true motion is known (paper: 0)")
    gradient_weight: float = limited(1.0, 0.0, 1e4, "Weight of the displacement's squared gradient (paper: 1)")
    window_voxels: int = limited(9, 3, 21, "Side of the correlation window, odd (paper: 9)")
    width: int = limited(8, 2, 64, "Channels at the finest resolution (paper: 8)")
    both_ways: bool = option(False, "Every pair is learned there and back")


class UNetTask(Task):
    """One net, one stage."""

    key = "pediatric-unet"

    def __init__(self, config: Training) -> None:
        self.config = config

    def build(self) -> nn.Module:
        return FieldUNet(self.config.width)

    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        both = self.config.both_ways
        u = model(torch.cat(pair.both_ways() if both else (pair.fixed, pair.moving), dim=1)).float()
        ways = list(zip(u.split(1), (pair, pair.swapped()), strict=False))  # one or two
        window = self.config.window_voxels | 1
        local = torch.stack([lncc(way.fixed[0], sample(way.moving, part)[0], window) for part, way in ways]).mean()
        gradient = torch.stack([diffusion(world_mm(part, pair.grid), pair.grid) for part, _ in ways]).mean()
        total = local + self.config.gradient_weight * gradient
        parts = {"lncc": float(local.detach()), "gradient": float(gradient.detach())}
        if pair.truth is not None and self.config.truth_weight > 0.0:
            error = both_errors_mm(u, pair) if both else error_mm(u, pair)
            total, parts["error_mm"] = total + self.config.truth_weight * error, float(error.detach())
        return total, parts

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        return model(torch.cat([pair.fixed, pair.moving], dim=1)).float()


def task(config: Training) -> Task:
    """What the training loop needs."""
    return UNetTask(config)


@dataclass(frozen=True)
class PediatricUnetConfig(_symmetric.SymmetricConfig):
    """Settings of pediatric-unet. The defaults are ours."""

    weights: str = option("", "File of other weights for this network; empty: those that come with regsuite")


PRESETS: dict[str, PediatricUnetConfig] = {
    "Default": PediatricUnetConfig(levels=2, coarse_iterations=8, fine_iterations=6),
    "Preview": PediatricUnetConfig(finest_mm=2.5, levels=1, coarse_iterations=6, fine_iterations=6),
    "Best": PediatricUnetConfig(finest_mm=0.8, most_megavoxels=8.0, levels=3, coarse_iterations=30, fine_iterations=20),
}


def register(
    fixed: Image,
    moving: Image,
    config: PediatricUnetConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find T = T0 o exp(v) with moving(T(x)) like fixed(x); inputs and result as in brain-svf. Deterministic.

    The network's motion is left out, with a warning, where it does not make the images more alike. Raises InputError for unusable
    input and unfit weights, Cancelled when `progress` returns False.
    """
    config = config or PRESETS["Default"]
    task, model, settings = trained(sys.modules[__name__], config.weights, choose_device(device))

    def first(target: Image, source: Image, matrix: np.ndarray, reporter: Progress, warnings: list[str]) -> Image:
        seen = foretell.on_network_grid(target, source, matrix, _VIEW_MM / settings.voxels)
        return foretell.foretold(task, model, seen, reporter, warnings)

    return _symmetric.run(
        (fixed, moving), (fixed_mask, moving_mask), config, first,
        initial=initial, device=device, seed=seed, progress=progress,
    )  # fmt: skip


Config = PediatricUnetConfig  # the registry reads module.Config
