"""lung-vxmpp: heatmaps of displacements at points of the lungs, a robust spline; then the refinement of lung-convex.

1. start: as lung-convex; 2. network: features of a U-Net, a heatmap of displacements at random points of the lungs, the spline
through their means, left out where it does not help; 3. refine and 4. unfold: as lung-convex.

Training loss: squared error of the displacement at random points of the mask, in shares of the box's half length, where the true
motion is known, or at matched keypoints (`matches`); else, or with `unsupervised`, the non-local MIND loss: fixed MIND against the
moving MIND of all candidates weighted by their probability (without the heatmap: at the displaced point), with the smoothness of
the displacements over each point's nearest neighbours.

Reference: Heinrich and Hansen, VoxelMorph++: going beyond the cranial vault with keypoint supervision and multi-channel instance
optimisation, WBIR 2022: 512 keypoints a step, Adam 1e-3 halved every 700 of 4,900 steps, seven neighbours, weight 0.25.
Differs from the paper in: the robust spline with the kernel of three dimensions; Gauss-Newton on LNCC instead of Adam on MIND;
points' motion known from phantoms and random deformations too, not from a matcher alone; see also regsuite.nets.heatmap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from regsuite.geometry.image import Image
from regsuite.methods.api import Result, limited, option
from regsuite.methods.lung import _network
from regsuite.methods.trainable import TrainingConfig
from regsuite.nets.heatmap import Backbone, HeatmapHead, RegressionHead, candidates, expectation
from regsuite.nets.pair import Pair
from regsuite.ops.mind import mind_ssc
from regsuite.ops.sampling import sample_index
from regsuite.progress import ProgressCallback
from regsuite.solvers.spline import SplineSettings, fit_spline
from regsuite.solvers.training import Task
from regsuite.transforms import Transform

PHANTOM = "thorax"
MOTION = "breathing"
_PART = 64  # keypoints given to the head at once when it is only asked
_LATTICE = 4  # voxels between the nodes at which the spline is evaluated (paper: 4)
_INFERENCE_SEED = 20


@dataclass(frozen=True)
class Training(TrainingConfig):
    """Settings of the training. The paper: 112^3 voxels, 30 pairs."""

    steps: int = limited(1600, 1, 10_000_000, "Steps of the optimiser (paper: 4,900)")
    learning_rate: float = limited(2e-3, 1e-7, 1.0, "Learning rate of Adam (paper: 1e-3)")
    halve_every: int = limited(400, 0, 10_000_000, "Steps after which the learning rate is halved; 0 never (paper: 700)")
    voxels: int = limited(42, 16, 512, "Voxels along the longest side of the working grid (paper: 112)")
    subjects: int = limited(24, 1, 100_000, "Phantoms to train on; each is made once and kept")
    validate_every: int = limited(400, 1, 1_000_000, "Steps between validations and previews")
    matches: bool = option(True, "Pairs of a folder: what keypoints of both images match counts as their true motion")
    cpu_bfloat16: bool = option(True, "Products in bfloat16 on processors too; faster where they have instructions for it")
    keypoints: int = limited(32, 32, 100_000, "Points a step learns from (paper: 512)")
    answered: int = limited(2048, 64, 100_000, "Points the field is made from (paper: 2,048)")
    reach: float = limited(0.3, 0.02, 1.0, "Largest displacement of the heatmap, in shares of the box's half length (paper: 0.3)")
    heatmap: bool = option(True, "Heatmap head; else displacements are regressed (ablation: VoxelMorph+)")
    unsupervised: bool = option(False, "MIND loss although the true motion is known: non-local with the heatmap, warping without")
    smoothness: float = limited(0.25, 0.0, 100.0, "Weight of the neighbours' agreement in the unsupervised loss (paper: 0.25)")


class HeatmapTask(Task):
    """Backbone and head together."""

    key = "lung-vxmpp"

    def __init__(self, config: Training) -> None:
        self.config = config

    def build(self) -> nn.Module:
        return nn.ModuleDict({"backbone": Backbone(), "head": HeatmapHead() if self.config.heatmap else RegressionHead()})

    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        points, truth = _learned_from(pair, self.config.keypoints, torch.default_generator)
        features = _features(model, pair, points)
        if truth is not None and not self.config.unsupervised:
            found = self._answer(model["head"](features).float())  # type: ignore[index]
            error = (found - truth / _half(pair)).square().sum(dim=1).mean()
            return error, {"error_voxels": float((found.detach() * _half(pair) - truth).norm(dim=1).mean())}
        logits = model["head"](features).float()  # type: ignore[index]
        move = self._answer(logits)
        if self.config.heatmap:
            metric = _non_local_mind(pair, points, logits, self.config.reach)
        else:
            metric = _warped_mind(pair, points, move)
        rough = _roughness(points, move)
        return metric + self.config.smoothness * rough, {"mind": float(metric.detach()), "roughness": float(rough.detach())}

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        points = _random_points(pair, self.config.answered, torch.Generator().manual_seed(_INFERENCE_SEED))
        features = _features(model, pair, points)
        head = model["head"]  # type: ignore[index]
        move = torch.cat([self._answer(head(part).float()) for part in features.split(_PART)]) * _half(pair)
        mm = torch.as_tensor(pair.grid.spacing.copy()).to(points)
        spline = fit_spline((points * mm).cpu(), ((points + move) * mm).cpu(), SplineSettings(stiffness=0.1))
        d, h, w = (max(2, -(-n // _LATTICE)) for n in pair.grid.shape)
        coarse = pair.grid.resized((d, h, w))
        local = pair.grid.world_to_index(coarse.world_points(torch.float64).view(-1, 3)) * mm.cpu().double()
        u = (spline.at(local) / mm.cpu().double()).T.reshape(1, 3, d, h, w).to(points)
        return functional.interpolate(u, size=pair.grid.shape, mode="trilinear", align_corners=False)

    def _answer(self, output: torch.Tensor) -> torch.Tensor:
        """(K, 3) displacement in shares of the box's half length."""
        return expectation(output, self.config.reach) if self.config.heatmap else output


def _half(pair: Pair) -> torch.Tensor:
    """Half the box along (i, j, k), voxels."""
    return 0.5 * torch.tensor(pair.grid.size, dtype=pair.fixed.dtype, device=pair.fixed.device)


def _learned_from(pair: Pair, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Points (K, 3) and their true displacements, both in voxels (i, j, k): random ones where all is known, else matched ones."""
    if pair.truth is None and pair.points is not None and pair.moves is not None and len(pair.points):
        chosen = torch.randperm(len(pair.points), generator=generator)[:count].to(pair.points.device)
        return pair.points[chosen], pair.moves[chosen]
    points = _random_points(pair, count, generator)
    return points, None if pair.truth is None else sample_index(pair.truth[0], points).T


def _random_points(pair: Pair, count: int, generator: torch.Generator) -> torch.Tensor:
    """(K, 3) voxels (i, j, k) of the mask (or of what is not air), drawn anew each time."""
    inside = pair.fixed_mask[0, 0] > 0.5 if pair.fixed_mask is not None else pair.fixed[0, 0] > 0.05
    index = inside.nonzero().flip(1)
    index = index if len(index) > 8 else torch.ones_like(inside).nonzero().flip(1)
    chosen = torch.randperm(len(index), generator=generator)[:count].to(index.device)
    return index[chosen].to(pair.fixed.dtype)


def _features(model: nn.Module, pair: Pair, points: torch.Tensor) -> torch.Tensor:
    """(K, 64) at voxels (i, j, k) of the pair: the backbone sees it padded to multiples of 16, at half the resolution."""
    both = torch.cat([pair.fixed, pair.moving], dim=1)
    pad = [p for n in reversed(both.shape[2:]) for p in (0, max(32, n + -n % 16) - n)]
    features = model["backbone"](functional.pad(both, pad))  # type: ignore[index]
    return sample_index(features[0].float(), (points - 0.5) / 2.0).T


def _non_local_mind(pair: Pair, points: torch.Tensor, logits: torch.Tensor, reach: float) -> torch.Tensor:
    """Mean of (MIND_f(p) - sum_d P(d) MIND_m(p + d))^2."""
    with torch.no_grad():
        fixed = sample_index(mind_ssc(pair.fixed[0]), points).T
        moving = mind_ssc(pair.moving[0])
        places = points[:, None] + candidates(reach, points)[None] * _half(pair)
        seen = torch.stack([sample_index(moving, part).T for part in places])  # (K, 11^3, 12)
    warped = (torch.softmax(logits.flatten(1), dim=1)[..., None] * seen).sum(dim=1)
    return (fixed - warped).square().mean()


def _warped_mind(pair: Pair, points: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
    """Mean of (MIND_f(p) - MIND_m(p + d))^2: the comparison without a heatmap (VoxelMorph)."""
    with torch.no_grad():
        fixed, moving = sample_index(mind_ssc(pair.fixed[0]), points), mind_ssc(pair.moving[0])
    return (fixed - sample_index(moving, points + move * _half(pair))).square().mean()


def _roughness(points: torch.Tensor, move: torch.Tensor, neighbours: int = 7) -> torch.Tensor:
    """Mean squared difference of a point's displacement from the mean of its nearest neighbours'."""
    index = torch.cdist(points, points).topk(neighbours + 1, largest=False).indices[:, 1:]
    return (move - move[index].mean(dim=1)).square().sum(dim=1).mean()


def task(config: Training) -> Task:
    """What the training loop needs."""
    return HeatmapTask(config)


@dataclass(frozen=True)
class VxmppConfig(_network.NetworkConfig):
    """Settings of lung-vxmpp."""

    keypoints: int = limited(1024, 64, 20_000, "Points of the lungs at which the network is asked (paper: 2,048)")


PRESETS: dict[str, VxmppConfig] = {
    "Default": VxmppConfig(levels=3),
    "Preview": VxmppConfig(finest_mm=3.5, levels=1, coarse_iterations=6, fine_iterations=6, keypoints=512),
    "Best": VxmppConfig(finest_mm=1.0, levels=4, coarse_iterations=25, fine_iterations=25, keypoints=2048),
}


def register(
    fixed: Image,
    moving: Image,
    config: VxmppConfig | None = None,
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
    config = config or PRESETS["Default"]
    return _network.run(
        __name__, (fixed, moving), (fixed_mask, moving_mask), config, asked={"answered": config.keypoints},
        initial=initial, device=device, seed=seed, progress=progress,
    )  # fmt: skip


Config = VxmppConfig  # the registry reads module.Config
