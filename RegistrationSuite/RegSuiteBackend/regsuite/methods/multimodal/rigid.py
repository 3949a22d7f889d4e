"""rigid: the nearest rigid pose (optionally with one scale) of two images of any contrast.

T(x) = R x + t, or s R x + t. L-BFGS from coarse to fine over points between the voxels (solvers/linear).

References: Viola and Wells, IJCV 1997; Mattes et al., IEEE TMI 2003 (mutual information, cubic B-spline windows); Haber and
Modersitzki, MICCAI 2006 (normalised gradient fields). Differs from them in: one fixed, seeded set of points between the voxels for
each level and exact gradients, so that a quasi-Newton method can be used; turned starts on the coarsest level.
"""

from __future__ import annotations

from dataclasses import dataclass

from regsuite.geometry.image import Image
from regsuite.methods.api import Result, option
from regsuite.methods.multimodal._linear import BEST, PREVIEW, LinearConfig, run
from regsuite.progress import ProgressCallback
from regsuite.transforms import Transform


@dataclass(frozen=True)
class RigidConfig(LinearConfig):
    """Settings of rigid. All defaults are ours."""

    scaling: bool = option(False, "Find one scale too (a similarity)", advanced=False)


PRESETS: dict[str, RigidConfig] = {"Default": RigidConfig(), "Preview": RigidConfig(**PREVIEW), "Best": RigidConfig(**BEST)}


def register(
    fixed: Image,
    moving: Image,
    config: RigidConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find the rigid T with moving(T(x)) like fixed(x), near the start.

    fixed, moving: one-channel images on any grids. Masks: what lies outside has no say. initial: a linear start, RAS mm, fixed ->
    moving points, instead of config.start. Deterministic for a seed. Raises InputError for unusable input and for images that do
    not meet under the start, Cancelled when `progress` returns False.
    """
    config = config or RigidConfig()
    kind = "similarity" if config.scaling else "rigid"
    return run(fixed, moving, kind, config, fixed_mask, moving_mask, initial, device, seed, progress)


Config = RigidConfig  # type: ignore[misc]  # the registry reads module.Config
