"""Training pairs for a network that judges given fields: images, a transform between them, and the sigma to be foretold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from regsuite.io import read_image, read_transform
from regsuite.nets.pair import Pair
from regsuite.ops.sampling import resample
from regsuite.pipeline.region import foreground
from regsuite.solvers.intake import scaled
from regsuite.solvers.sigma_inputs import judged, world_lattice

ROLES = ("transform", "sigma")


def judged_pair(folder: Path, row: dict[str, str]) -> Pair:
    """A row of pairs.csv: fixed, moving, transform (fixed -> moving points), sigma (three components, mm, on any grid)."""
    whole, other = read_image(folder / row["fixed"]), read_image(folder / row["moving"])
    fixed, moving = scaled(whole, "fixed"), scaled(other, "moving")
    transform = read_transform(folder / row["transform"])
    lattice = world_lattice(whole.grid)
    body = resample(whole.with_data(foreground(whole)[None].float()), lattice, fill=0.0).data > 0.5
    sigma = resample(read_image(folder / row["sigma"], channels=3), lattice)
    return Pair(
        resample(fixed, lattice).data[None], resample(moving, lattice, transform).data[None], lattice, body[None].float(),
        judged=judged(fixed, moving, transform, lattice)[None], sigma=sigma.data[None],
    )  # fmt: skip


def mirrored(pair: Pair, rng: np.random.Generator) -> Pair:
    """The pair seen in a mirror across some of the world's axes, each with a chance of one half."""
    assert pair.judged is not None and pair.sigma is not None and pair.fixed_mask is not None
    axes = [axis for axis in range(3) if rng.uniform() < 0.5]
    sign = torch.ones(5)
    sign[[2 + axis for axis in axes]] = -1.0

    def turned(values: torch.Tensor) -> torch.Tensor:
        return values.flip([4 - axis for axis in axes])

    return Pair(
        turned(pair.fixed), turned(pair.moving), pair.grid, turned(pair.fixed_mask),
        judged=turned(pair.judged) * sign.view(1, 5, 1, 1, 1), sigma=turned(pair.sigma),
    )  # fmt: skip
