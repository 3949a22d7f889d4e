"""lung-keypoints: matches of distinct points, then the smooth field through them; training-free, for breathing lungs.

1. start: as lung-convex; 2. match: Foerstner's keypoints inside the lungs (or the mask) and beside them, all displacements of each
compared by MIND-SSC, agreement of neighbours on a tree, robust splines, three stages (see `solvers.keypoint_field`);
3. refine: as lung-convex, off unless asked for; 4. unfold: the last folds are smoothed away.

The matches are in Result.findings; they are also what `lung-vxmpp` learns from where the true motion is not known.

References: Heinrich, Handels and Simpson, Estimating large lung motion in COPD patients by symmetric regularised correspondence
fields, MICCAI 2015; Heinrich and Hansen, VoxelMorph++, WBIR 2022 (keypoints and spline).
Differs from the published matcher in: see `solvers.keypoint_field`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from regsuite.geometry.image import Image
from regsuite.methods.api import Result, limited, option
from regsuite.methods.lung import _sliding
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers.keypoint_field import FieldSettings, Matches, match_pair
from regsuite.transforms import Transform

_TRANSLATION_MM = 8.5  # ours: resolution at which the start's translation is looked for
_TRUSTED = 0.5


@dataclass(frozen=True)
class LungKeypointsConfig(_sliding.SlidingConfig):
    """Settings of lung-keypoints. The defaults are ours."""

    finest_mm: float = limited(3.0, 0.5, 8.0, "Finest resolution used; finer images are averaged to it", "mm", advanced=False)
    coarse_iterations: int = limited(0, 0, 200, "Largest number of Gauss-Newton steps after the spline on the coarser levels")
    fine_iterations: int = limited(0, 0, 200, "Largest number of Gauss-Newton steps after the spline on the finest level")
    sliding: bool = option(
        True, "Match inside and outside of the mask (or the lungs found) apart, so that they can slide", advanced=False
    )
    keypoints: int = limited(
        1200, 100, 5000, "Largest number of keypoints in the lungs or mask; half as many beside", advanced=False
    )
    range_mm: float = limited(30.0, 4.0, 60.0, "Largest motion looked for along each axis", "mm", advanced=False)
    spline_stiffness: float = limited(0.05, 0.0, 100.0, "Smoothness of the field through the matches; 0 goes through them")


PRESETS: dict[str, LungKeypointsConfig] = {
    "Default": LungKeypointsConfig(),
    "Preview": LungKeypointsConfig(finest_mm=4.0, keypoints=600),
    "Best": LungKeypointsConfig(finest_mm=2.0, keypoints=2500, coarse_iterations=12, fine_iterations=12),
}


def register(
    fixed: Image,
    moving: Image,
    config: LungKeypointsConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find T with moving(T(x)) like fixed(x) at distinct points, smooth between them.

    Inputs and result as in lung-convex. findings["matches"]: how many, how many are trusted (confidence above one half), and a row
    of text for each: fixed point, moving point (RAS mm), confidence. Deterministic.
    Raises InputError for unusable input or too few points to match, Cancelled when `progress` returns False.
    """
    config = config or LungKeypointsConfig()
    found: list[Matches] = []

    def first(pair: _sliding.LungPair, reporter: Progress, warnings: list[str]) -> torch.Tensor:
        settings = FieldSettings(
            config.keypoints, config.range_mm, pair.finest(config), config.spline_stiffness, apart=config.sliding
        )
        region = pair.region
        if region is None and pair.weight is not None:
            region = pair.weight.with_data((pair.weight.data > 0.5).float())
        u, matches = match_pair(pair.fixed, pair.moving, pair.start, region, pair.moving_weight, settings, reporter)
        found.append(matches)
        return u

    result = _sliding.run(
        (fixed, moving), (fixed_mask, moving_mask), config, first, "match",
        initial=initial, translation_mm=_TRANSLATION_MM, device=device, seed=seed, progress=progress,
    )  # fmt: skip
    return dataclasses.replace(result, findings={"matches": _listed(found[0])})


def _listed(matches: Matches) -> dict[str, Any]:
    rows = torch.cat([matches.fixed, matches.moving, matches.confidence[:, None]], dim=1).tolist()
    return {
        "number": len(rows),
        "trusted": int((matches.confidence > _TRUSTED).sum()),
        "columns": "fixed x y z, moving x y z (RAS mm), confidence",
        "rows": [" ".join(f"{value:.2f}" for value in row) for row in rows],
    }


Config = LungKeypointsConfig  # the registry reads module.Config
