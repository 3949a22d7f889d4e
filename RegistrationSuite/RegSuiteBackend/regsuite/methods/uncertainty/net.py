"""uncertainty-net: what uncertainty-elbo fits to a pair, foretold by a network; not a method yet, as there are no weights of ours.

The U-Net sees both images and the given displacement on a lattice of 6 mm along the world's axes and answers the logarithm of the
standard deviation along x, y, z. Loss of the training: log s + e^2 / (2 s^2) with the true error e of each component, and the
squared difference to log sigma of uncertainty-elbo where it was fitted; in the body, and with a tenth of the weight outside.

Reference: Smolders, Lomax, Weber and Albertini, Deformable Image Registration Uncertainty Quantification Using Deep Learning for
Dose Accumulation in Adaptive Proton Therapy, WBIR 2022.
Differs from paper 07 in: the moving image is shown as moved by the given displacement; images are locally normalised; the network
learns from true errors of phantoms and from fitted minima of the bound instead of minimising the bound itself; 6 mm instead of 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from regsuite.errors import InputError
from regsuite.methods.api import limited
from regsuite.methods.trainable import TrainingConfig
from regsuite.nets.pair import Pair
from regsuite.nets.sigma import SigmaUNet
from regsuite.solvers.training import Task

PHANTOM, MOTION = "thorax", "breathing"
KEY, VERSION = "uncertainty-net", 1
_OUTSIDE = 0.1  # weight outside the body
_LIMITS_MM = (0.05, 60.0)


@dataclass(frozen=True)
class Training(TrainingConfig):
    """Settings of the training. The paper: 3 cm patches of CT at 2 mm, 16 channels."""

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
        log_sigma = (0.5 * model(inputs).float()).clamp(*(math.log(v) for v in _LIMITS_MM))
        each = log_sigma + 0.5 * (error * torch.exp(-log_sigma)).square()
        parts = {"likelihood": float(each[body.expand_as(each) > 0.5].detach().mean())}
        if pair.sigma is not None:
            each = each + self.config.fit_weight * (log_sigma - pair.sigma.clamp(*_LIMITS_MM).log()).square()
        weight = (_OUTSIDE + (1.0 - _OUTSIDE) * body).expand_as(each)
        return (weight * each).sum() / weight.sum(), parts

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        """(1, 3, D, H, W) mm: sigma, as this network answers no displacement."""
        return (0.5 * model(_of(pair)[0]).float()).exp().clamp(*_LIMITS_MM)

    def measure(self, model: nn.Module, pair: Pair) -> dict[str, float]:
        _, error, body = _of(pair)
        inside = body.expand_as(error) > 0.5
        sigma, off = self.displacement(model, pair)[inside], error[inside]
        found = {"error_mm": off.square().mean().sqrt(), "stated_mm": sigma.square().mean().sqrt()}
        found["likelihood"] = (sigma.log() + 0.5 * (off / sigma).square()).mean()
        if pair.sigma is not None:
            fitted = pair.sigma.clamp(*_LIMITS_MM)[inside]
            found["likelihood_fitted"] = (fitted.log() + 0.5 * (off / fitted).square()).mean()
            found["log_rms"] = (sigma / fitted).log().square().mean().sqrt()
        return {name: float(value) for name, value in found.items()}


def task(config: Training) -> Task:
    """What the training loop needs."""
    return SigmaTask(config)


def _of(pair: Pair) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if pair.judged is None or pair.error is None or pair.fixed_mask is None:
        raise InputError(f"{KEY} needs given fields: expected a folder with transform, truth and sigma in its pairs.csv.")
    return pair.judged, pair.error, pair.fixed_mask
