"""What the lung networks share: where their weights come from, and the way from a pair to the first displacement."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import torch

from regsuite.geometry.image import Image
from regsuite.methods.api import Result, option
from regsuite.methods.lung import _sliding
from regsuite.methods.trainable import trained
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import foretell
from regsuite.solvers.device import choose_device
from regsuite.solvers.frame import crop
from regsuite.solvers.intake import on_grid_of
from regsuite.transforms import Transform

_VIEW_MM = 340.0  # longest side of the thorax phantom: with the card's number of voxels, the voxel size that a network has learned
_TRANSLATION_MM = 8.5  # ours: resolution at which the start's translation is looked for


@dataclass(frozen=True)
class NetworkConfig(_sliding.SlidingConfig):
    """Settings of a lung network and of the refinement after it. The defaults are ours."""

    weights: str = option("", "File of other weights for this network; empty: those that come with regsuite")


def run(
    key_module: str,
    images: tuple[Image, Image],
    masks: tuple[Image | None, Image | None],
    config: NetworkConfig,
    *,
    asked: dict[str, Any] | None = None,
    coarsest_mm: float | None = None,
    initial: Transform | None,
    device: str,
    seed: int,
    progress: ProgressCallback | None,
) -> Result:
    """Start, network, refinement, unfolding. key_module: name of the module with `Training` and `task`; asked: settings of the
    training that only say how the network is asked, and what they are now; coarsest_mm: where the network helps inside found lungs,
    the refinement begins at about this resolution (one level coarser inside them), whatever `levels` says.

    The network's motion is left out, with a warning, where it does not make the images more alike.
    """
    task, model, settings = trained(sys.modules[key_module], config.weights, choose_device(device), asked)

    def first(pair: _sliding.LungPair, reporter: Progress, warnings: list[str]) -> torch.Tensor:
        if config.unrefined and masks != (None, None):
            warnings.append("Masks have no say without steps of refinement.")
        spacing_mm, part = _VIEW_MM / settings.voxels, pair.fixed
        if pair.region is not None and settings.margin_mm > 0.0:
            part = crop(pair.fixed, pair.region, settings.margin_mm)
        region = None if pair.region is None else on_grid_of(pair.region, part)
        found = foretell.foretold(
            task, model, foretell.on_network_grid(part, pair.moving, pair.start, spacing_mm, region), reporter, warnings
        )
        if coarsest_mm is not None and pair.region is not None and foretell.NO_HELP not in warnings:
            pair.most_levels = max(1, 1 + round(math.log2(coarsest_mm / pair.finest(config))))
        return found.data if part is pair.fixed else foretell.widened(found, pair.fixed.grid)

    return _sliding.run(
        images, masks, config, first, "network",
        initial=initial, translation_mm=_TRANSLATION_MM, device=device, seed=seed, progress=progress,
    )  # fmt: skip
