"""affine: the nearest affine map of two images of any contrast.

T(x) = R expm(S) x + t, S symmetric. L-BFGS from coarse to fine over points between the voxels (solvers/linear).

References: Viola and Wells, IJCV 1997; Mattes et al., IEEE TMI 2003 (mutual information, cubic B-spline windows); Haber and
Modersitzki, MICCAI 2006 (normalised gradient fields). Differs from them in: one fixed, seeded set of points between the voxels for
each level and exact gradients, so that a quasi-Newton method can be used; turned starts on the coarsest level.
"""

from __future__ import annotations

from dataclasses import dataclass

from regsuite.geometry.image import Image
from regsuite.methods.api import Result
from regsuite.methods.multimodal._linear import BEST, PREVIEW, LinearConfig, run
from regsuite.progress import ProgressCallback
from regsuite.transforms import Transform


@dataclass(frozen=True)
class AffineConfig(LinearConfig):
    """Settings of affine. All defaults are ours."""


PRESETS: dict[str, AffineConfig] = {"Default": AffineConfig(), "Preview": AffineConfig(**PREVIEW), "Best": AffineConfig(**BEST)}


def register(
    fixed: Image,
    moving: Image,
    config: AffineConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find the affine T with moving(T(x)) like fixed(x), near the start.

    fixed, moving: one-channel images on any grids. Masks: what lies outside has no say. initial: a linear start, RAS mm, fixed ->
    moving points, instead of config.start. Deterministic for a seed. Raises InputError for unusable input and for images that do
    not meet under the start, Cancelled when `progress` returns False.
    """
    config = config or AffineConfig()
    return run(fixed, moving, "affine", config, fixed_mask, moving_mask, initial, device, seed, progress)


Config = AffineConfig  # type: ignore[misc]  # the registry reads module.Config
