"""Training pairs for a network that judges given fields: images, a transform between them, its true error and its fitted sigma."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regsuite.geometry.image import Image
from regsuite.io import read_image, read_transform
from regsuite.nets.pair import Pair
from regsuite.ops.random_fields import SmoothNoise
from regsuite.ops.sampling import resample
from regsuite.pipeline.region import foreground
from regsuite.solvers.intake import scaled
from regsuite.solvers.sigma_inputs import judged, world_lattice
from regsuite.transforms import DisplacementField, Transform

ROLES = ("transform", "truth", "sigma")
_ERROR_MM, _KERNEL_MM, _PLACE_MM = (0.5, 12.0), (12.0, 50.0), (30.0, 80.0)


@dataclass(frozen=True, eq=False)
class Given:
    """A row of pairs.csv: images (0..1), the transform to be judged and the true one (fixed -> moving points), the body (0 or 1)
    and sigma (3, D, H, W) mm on the lattice that the network sees."""

    fixed: Image
    moving: Image
    transform: Transform
    truth: Transform
    body: Image
    sigma: Image

    def pair(self, added: torch.Tensor | None = None) -> Pair:
        """What the network sees and should say; added (3, D, H, W) mm: further errors on the lattice; no sigma is known then."""
        lattice = self.body.grid
        transform, error = self.transform, self.transform.displacement(lattice) - self.truth.displacement(lattice)
        if added is not None:
            transform, error = DisplacementField(transform.displacement(lattice) + added, lattice), error + added
        return Pair(
            resample(self.fixed, lattice).data[None], resample(self.moving, lattice, transform).data[None], lattice,
            self.body.data[None], judged=judged(self.fixed, self.moving, transform, lattice)[None], error=error[None],
            sigma=self.sigma.data[None] if added is None else None,
        )  # fmt: skip


def read_given(folder: Path, row: dict[str, str]) -> Given:
    """Files of a row: fixed, moving, transform, truth (transforms or displacement volumes), sigma (three components, mm)."""
    whole, other = read_image(folder / row["fixed"]), read_image(folder / row["moving"])
    transform, truth = (read_transform(folder / row[role]) for role in ROLES[:2])
    lattice = world_lattice(whole.grid)
    body = resample(whole.with_data(foreground(whole)[None].float()), lattice, fill=0.0)
    sigma = resample(read_image(folder / row["sigma"], channels=3), lattice)
    return Given(
        scaled(whole, "fixed"), scaled(other, "moving"), transform, truth, body.with_data((body.data > 0.5).float()), sigma
    )


def spoilt(given: Given, rng: np.random.Generator) -> Pair:
    """The pair with smooth errors of random size added to its transform, larger here and smaller there."""
    lattice, stream = given.body.grid, int(rng.integers(2**31))
    size = float(np.exp(rng.uniform(*np.log(_ERROR_MM))))
    error = SmoothNoise(lattice, float(rng.uniform(*_KERNEL_MM))).draw(stream, 0)
    where = SmoothNoise(lattice, float(rng.uniform(*_PLACE_MM))).draw(stream, 1, channels=1).exp()
    return given.pair(size * error * where / where.mean())


def mirrored(pair: Pair, rng: np.random.Generator) -> Pair:
    """The pair seen in a mirror across some of the world's axes, each with a chance of one half."""
    assert pair.judged is not None and pair.error is not None and pair.fixed_mask is not None
    axes = [axis for axis in range(3) if rng.uniform() < 0.5]
    sign = torch.ones(1, 5, 1, 1, 1)
    sign[:, [2 + axis for axis in axes]] = -1.0

    def turned(values: torch.Tensor) -> torch.Tensor:
        return values.flip([4 - axis for axis in axes])

    return Pair(
        turned(pair.fixed), turned(pair.moving), pair.grid, turned(pair.fixed_mask), judged=turned(pair.judged) * sign,
        error=turned(pair.error) * sign[:, 2:], sigma=None if pair.sigma is None else turned(pair.sigma),
    )  # fmt: skip
