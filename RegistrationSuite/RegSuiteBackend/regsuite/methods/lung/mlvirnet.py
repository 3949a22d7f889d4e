"""lung-mlvirnet: three U-Nets, coarse to fine, for breathing lungs; then the refinement of lung-convex.

1. start: as lung-convex; 2. network: the motion at once, left out where it does not help; 3. refine: as lung-convex,
but where the network helped from about 3 mm on (6 mm inside the lungs); 4. unfold: as lung-convex.

Training loss: NGF distance + curvature + difference of the masks, at the level being trained, and the error where the true motion
is known, all of it there and back. Progressive: the coarsest net first, each finer one begins with the weights of the coarser one
and leaves those alone.

Reference: Hering, van Ginneken and Heldmann, mlVIRNET: Multilevel Variational Image Registration Network, MICCAI 2019.
The paper leaves open: weights of curvature and mask, the NGF's edge parameter, optimiser, learning rate, batch; ours are below.
Differs from the paper in: see regsuite.nets.multilevel; lung masks instead of lobes; the error's part in the loss; the refinement.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from regsuite.geometry.image import Image
from regsuite.losses.image import ngf
from regsuite.losses.regularisers import curvature
from regsuite.methods.api import Result, limited, option
from regsuite.methods.lung import _network
from regsuite.methods.trainable import TrainingConfig
from regsuite.nets.fields import resized, sample
from regsuite.nets.multilevel import MultilevelNet, pooled
from regsuite.nets.pair import Pair, world_mm
from regsuite.nets.truth import both_errors_mm
from regsuite.progress import ProgressCallback
from regsuite.solvers.training import Task
from regsuite.transforms import Transform

PHANTOM = "thorax"
MOTION = "breathing"
_COARSEST_MM = 3.0  # ours: coarser levels only undo what the network has found; without it they are needed


@dataclass(frozen=True)
class Training(TrainingConfig):
    """Settings of the training. The paper: 160^3 voxels, 75 epochs of 500 pairs in three stages."""

    steps: int = limited(3900, 1, 10_000_000, "Steps of the optimiser, shared out equally among the nets (paper: 37,500)")
    learning_rate: float = limited(2e-3, 1e-7, 1.0, "Learning rate of Adam")
    halve_every: int = limited(2000, 0, 10_000_000, "Steps after which the learning rate is halved; 0 never")
    voxels: int = limited(40, 16, 512, "Voxels along the longest side of a whole chest (paper: 160)")
    validate_every: int = limited(650, 1, 1_000_000, "Steps between validations and previews")
    real_share: float = limited(0.3, 0.0, 1.0, "Share of a phantom's own motion; the rest are random deformations of it")
    variety: float = limited(
        0.8, 0.0, 1.0, "How far pairs stray from their images: size of motion, shape, filled lungs, view, contrast; 0: not at all"
    )
    margin_mm: float = limited(25.0, 0.0, 200.0, "The network sees the box around the lungs and this far beyond; 0: everything")
    curvature_weight: float = limited(5.0, 0.0, 1e4, "Weight of the curvature (mm^-2) against the NGF distance")
    mask_weight: float = limited(1.0, 0.0, 1e4, "Weight of half the mean squared difference of the masks")
    truth_weight: float = limited(
        0.1, 0.0, 1e4, "Weight of the mean error (mm, lungs ten times) where the true motion is known (paper: 0)"
    )
    edge_per_mm: float = limited(0.02, 1e-5, 1.0, "Gradient (share of the intensity range per mm) below which edges are noise")
    width: int = limited(16, 2, 64, "Channels at the finest resolution of each net (paper: 16)")
    levels: int = limited(3, 1, 4, "Nets, each at half the resolution of the next (paper: 3)")
    single: bool = option(False, "Ablation: one net at the finest level only")
    carried: bool = option(True, "Each net begins with the weights of the coarser one; else Xavier (ablation)")


class MultilevelTask(Task):
    """Trains the nets one after the other."""

    key = "lung-mlvirnet"
    version = 2  # 2: sees the box around the lungs

    def __init__(self, config: Training) -> None:
        self.config = config
        self.stages = 1 if config.single else config.levels

    def build(self) -> nn.Module:
        return MultilevelNet(self.config.levels, self.config.width, self.config.single)

    def enter(self, model: nn.Module, stage: int) -> None:
        assert isinstance(model, MultilevelNet)
        if stage and self.config.carried:
            model.carry(stage)

    def trainable(self, model: nn.Module, stage: int) -> list[nn.Parameter]:
        assert isinstance(model, MultilevelNet)
        return list(model.nets[stage].parameters())

    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        assert isinstance(model, MultilevelNet)
        both = model(*pair.both_ways(), stage + 1)[-1].float()
        stride = model.strides[stage]
        ways = [self._unsupervised(u, way, stride) for u, way in zip(both.split(1), (pair, pair.swapped()), strict=True)]
        parts = {name: 0.5 * (ways[0][name] + ways[1][name]) for name in ways[0]}
        total = parts["ngf"] + self.config.curvature_weight * parts["curvature"]
        if "mask" in parts:
            total = total + self.config.mask_weight * parts["mask"]
        if pair.truth is not None and self.config.truth_weight > 0.0:
            parts["error_mm"] = both_errors_mm(both, pair)
            total = total + self.config.truth_weight * parts["error_mm"]
        return total, {name: float(value.detach()) for name, value in parts.items()}

    def _unsupervised(self, u: torch.Tensor, pair: Pair, stride: int) -> dict[str, torch.Tensor]:
        """The paper's loss by its parts."""
        f, m = pooled(pair.fixed, stride), sample(pooled(pair.moving, stride), u)
        grid = pair.grid.resized((int(u.shape[2]), int(u.shape[3]), int(u.shape[4])))
        parts = {"ngf": ngf(f[0], m[0], grid, self.config.edge_per_mm), "curvature": curvature(world_mm(u, grid), grid)}
        if pair.fixed_mask is not None and pair.moving_mask is not None:
            moved = sample(pooled(pair.moving_mask, stride), u)
            parts["mask"] = 0.5 * (pooled(pair.fixed_mask, stride) - moved).square().mean()
        return parts

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        d, h, w = pair.grid.shape
        return resized(model(pair.fixed, pair.moving)[-1].float(), (d, h, w))


def task(config: Training) -> Task:
    """What the training loop needs."""
    return MultilevelTask(config)


@dataclass(frozen=True)
class MlvirnetConfig(_network.NetworkConfig):
    """Settings of lung-mlvirnet."""


PRESETS: dict[str, MlvirnetConfig] = {
    "Default": MlvirnetConfig(levels=3),
    "Preview": MlvirnetConfig(finest_mm=3.5, levels=1, coarse_iterations=6, fine_iterations=6),
    "Best": MlvirnetConfig(finest_mm=1.0, levels=4, coarse_iterations=25, fine_iterations=25),
}


def register(
    fixed: Image,
    moving: Image,
    config: MlvirnetConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find T with moving(T(x)) like fixed(x); inputs and result as in lung-convex. Deterministic.

    Raises InputError for unusable input and unfit weights, Cancelled when `progress` returns False.
    """
    return _network.run(
        __name__, (fixed, moving), (fixed_mask, moving_mask), config or PRESETS["Default"], coarsest_mm=_COARSEST_MM,
        initial=initial, device=device, seed=seed, progress=progress,
    )  # fmt: skip


Config = MlvirnetConfig  # the registry reads module.Config
