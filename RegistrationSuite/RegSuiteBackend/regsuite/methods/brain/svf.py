"""brain-svf: training-free diffeomorphic registration of brains; the default for any pair of brains.

T = T0 o exp(v): v is a stationary velocity field, T0 a linear start. Both images are compared half way (exp(v/2), exp(-v/2)) by
local normalised cross-correlation, with its closed-form gradient and a Gauss-Newton step per iteration, from coarse to fine.
The map cannot fold, its inverse is exp(-v), and exchanging the images exchanges map and inverse.

References: Hernandez, Bossa and Olmos, IJCV 2009 (stationary velocities); Avants et al., Med. Image Anal. 2008 (symmetric LNCC).
Differs from both in: Gauss-Newton steps instead of smoothed gradient steps; a robust second-order smoothness of v in the energy.
"""

from __future__ import annotations

from dataclasses import dataclass

from regsuite.geometry.image import Image
from regsuite.methods import _symmetric
from regsuite.methods.api import Result
from regsuite.progress import ProgressCallback
from regsuite.transforms import Transform


@dataclass(frozen=True)
class BrainSvfConfig(_symmetric.SymmetricConfig):
    """Settings of brain-svf."""


PRESETS: dict[str, BrainSvfConfig] = {
    "Default": BrainSvfConfig(),
    "Preview": BrainSvfConfig(finest_mm=2.5, coarse_iterations=10, fine_iterations=6),
    "Best": BrainSvfConfig(finest_mm=0.8, most_megavoxels=8.0, levels=4, coarse_iterations=16, fine_iterations=12),
}


def register(
    fixed: Image,
    moving: Image,
    config: BrainSvfConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find T = T0 o exp(v) with moving(T(x)) like fixed(x).

    fixed, moving: one-channel images on any grids. Masks: what lies outside has no say. initial: affine start, RAS mm, fixed ->
    moving points. Deterministic. Raises InputError for unusable input, Cancelled when `progress` returns False.
    """
    return _symmetric.run(
        (fixed, moving), (fixed_mask, moving_mask), config or BrainSvfConfig(),
        initial=initial, device=device, seed=seed, progress=progress,
    )  # fmt: skip


Config = BrainSvfConfig  # the registry reads module.Config
