"""uncertainty-net: what uncertainty-elbo fits to a pair, foretold by a network in a small part of the time.

The U-Net sees both images and the given displacement on a lattice of 6 mm along the world's axes and answers the logarithm of the
standard deviation along x, y, z. Loss of the training: log s + e^2 / (2 s^2) with the true error e of each component, and the
squared difference to log sigma of uncertainty-elbo where it was fitted; in the body, and with a tenth of the weight outside. After
the last step one factor on sigma makes 90 % of the held-out persons' errors lie inside the 90 % ellipsoid.

Reference: Smolders, Lomax, Weber and Albertini, Deformable Image Registration Uncertainty Quantification Using Deep Learning for
Dose Accumulation in Adaptive Proton Therapy, WBIR 2022.
Differs from paper 07 in: the moving image is shown as moved by the given displacement; images are locally normalised; the network
learns from true errors of phantoms and from fitted minima of the bound instead of minimising the bound itself; 6 mm instead of 2.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.methods.trainable import TrainingConfig, trained
from regsuite.methods.uncertainty import _maps
from regsuite.metrics.calibration import QUANTILES
from regsuite.nets.pair import Pair
from regsuite.nets.sigma import SigmaUNet
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers.device import choose_device
from regsuite.solvers.intake import scaled
from regsuite.solvers.own_mean import own_mean
from regsuite.solvers.sigma_inputs import judged, world_lattice
from regsuite.solvers.start import POLICIES, SAYS
from regsuite.solvers.training import Task
from regsuite.transforms import Transform

PHANTOM, MOTION = "thorax", "breathing"
KEY, VERSION = "uncertainty-net", 1
_OUTSIDE = 0.1  # weight outside the body


@dataclass(frozen=True)
class Training(TrainingConfig):
    """Settings of the training. The paper: 3 cm patches of CT at 2 mm, 16 channels."""

    steps: int = limited(1000, 1, 10_000_000, "Steps of the optimiser")
    halve_every: int = limited(300, 0, 10_000_000, "Steps after which the learning rate is halved; 0 never")
    validation_subjects: int = limited(9, 1, 1000, "Rows at the end of pairs.csv that are held out")
    accumulate: int = limited(1, 1, 1000, "Fields whose gradients make one step")
    fit_weight: float = limited(0.3, 0.0, 100.0, "Weight of the squared difference to the fitted log sigma")
    width: int = limited(16, 1, 64, "Channels at the finest resolution (paper: 16)")


class SigmaTask(Task):
    """One net, one stage."""

    key, version = KEY, VERSION

    def __init__(self, config: Training) -> None:
        self.config = config

    def build(self) -> nn.Module:
        return SigmaUNet(self.config.width)

    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        inputs, error, body = _of(pair)
        log_sigma = (0.5 * model(inputs).float()).clamp(*(math.log(v) for v in _maps.LIMITS_MM))
        each = log_sigma + 0.5 * (error * torch.exp(-log_sigma)).square()
        parts = {"likelihood": float(each[body.expand_as(each) > 0.5].detach().mean())}
        if pair.sigma is not None:
            each = each + self.config.fit_weight * (log_sigma - pair.sigma.clamp(*_maps.LIMITS_MM).log()).square()
        weight = (_OUTSIDE + (1.0 - _OUTSIDE) * body).expand_as(each)
        return (weight * each).sum() / weight.sum(), parts

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        """(1, 3, D, H, W) mm: sigma, as this network answers no displacement."""
        return (0.5 * model(_of(pair)[0]).float()).exp().clamp(*_maps.LIMITS_MM)

    def settle(self, model: nn.Module, held_out: Iterable[Pair]) -> None:
        """One factor on sigma, by which 90 % of the held-out bodies' errors lie inside the 90 % ellipsoid."""
        lengths = []
        for pair in held_out:
            _, error, body = _of(pair)
            with torch.no_grad():
                lengths.append(_squared_length(error[0], self.displacement(model, pair)[0])[body[0, 0] > 0.5].cpu().numpy())
        factor = float(np.quantile(np.concatenate(lengths), 0.9)) / QUANTILES["90"]
        assert isinstance(model, SigmaUNet) and model.last.bias is not None
        model.last.bias.data += math.log(factor)

    def measure(self, model: nn.Module, pair: Pair) -> dict[str, float]:
        _, error, body = _of(pair)
        inside = body.expand_as(error) > 0.5
        sigma, off = self.displacement(model, pair)[inside], error[inside]
        found = {"error_mm": off.square().mean().sqrt(), "stated_mm": sigma.square().mean().sqrt()}
        found["inside_90"] = (_squared_length(off.view(3, -1), sigma.view(3, -1)) < QUANTILES["90"]).float().mean()
        found["likelihood"] = (sigma.log() + 0.5 * (off / sigma).square()).mean()
        if pair.sigma is not None:
            fitted = pair.sigma.clamp(*_maps.LIMITS_MM)[inside]
            found["likelihood_fitted"] = (fitted.log() + 0.5 * (off / fitted).square()).mean()
            found["log_rms"] = (sigma / fitted).log().square().mean().sqrt()
        return {name: float(value) for name, value in found.items()}


def task(config: Training) -> Task:
    """What the training loop needs."""
    return SigmaTask(config)


def _squared_length(error: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """(3, ...) mm -> (...): squared length of the error in units of sigma."""
    return (error / sigma).square().sum(dim=0)


def _of(pair: Pair) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if pair.judged is None or pair.error is None or pair.fixed_mask is None:
        raise InputError(f"{KEY} needs given fields: expected a folder with transform, truth and sigma in its pairs.csv.")
    return pair.judged, pair.error, pair.fixed_mask


@dataclass(frozen=True)
class NetConfig(Config):
    """Settings of uncertainty-net."""

    correlation_mm: float = _maps.correlation_setting()
    refine_mm: float = limited(3.0, 1.0, 8.0, "Without a given transform: finest resolution of the own registration", "mm")
    start: str = option("translation", f"Start of the own registration. {SAYS}", choices=POLICIES)
    weights: str = option("", "File of other weights for this network; empty: those that come with regsuite")


PRESETS: dict[str, NetConfig] = {"Default": NetConfig(), "Preview": NetConfig(refine_mm=4.0), "Best": NetConfig(refine_mm=2.0)}


def register(
    fixed: Image,
    moving: Image,
    config: NetConfig | None = None,
    *,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """The uncertainty of `initial` (any transform, fixed -> moving points), or of a registration of its own when there is none.

    Takes and returns what uncertainty-elbo does: images["sigma"] (3, D, H, W), mm along world x, y, z on the fixed grid, and
    images["sigma_magnitude"]. Deterministic. Raises InputError for unusable input or weights, Cancelled when `progress` returns
    False.
    """
    config = config or NetConfig()
    reporter = Progress(progress)
    warnings: list[str] = []
    history: list[dict[str, Any]] = []
    where = choose_device(device)
    _, model, _ = trained(sys.modules[__name__], config.weights, where)
    with torch.no_grad():
        target, source = scaled(fixed, "fixed").to(where), scaled(moving, "moving").to(where)
        split = 0.0 if initial is not None else 0.5
        own = (target, source, config.refine_mm, config.start, seed, reporter, history, warnings)
        transform = initial if initial is not None else own_mean(*own)
        with reporter.stage("compare", split, split + 0.5 * (1.0 - split)):
            lattice = world_lattice(target.grid)
            inputs = judged(target, source, transform.to(where), lattice)
        with reporter.stage("foretell", split + 0.5 * (1.0 - split), 1.0):
            log_variance = model(inputs[None])[0]
            images = _maps.maps((0.5 * log_variance.float()).exp().clamp(*_maps.LIMITS_MM), lattice, fixed.grid)
    return Result(
        transform.to("cpu"), Status.CONVERGED, config, tuple(history), dict(reporter.timings_s), str(where), seed, tuple(warnings),
        images=images, findings=_maps.findings(images, config.correlation_mm),
    )  # fmt: skip


Config = NetConfig  # type: ignore[misc,assignment]  # the registry reads module.Config
