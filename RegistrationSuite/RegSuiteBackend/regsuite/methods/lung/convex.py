"""lung-convex: training-free registration of the breathing lung; also a general choice for CT and MR of one patient.

1. start: header, or centring without overlap, then the best translation by MIND-SSC over all shifts (FFT);
2. search: coupled convex discrete optimisation on MIND-SSC with inverse consistency, +-32 mm (WBIR 2022, paper 13);
3. refine: multi-level Gauss-Newton on LNCC with robust second-order smoothness that lets tissue slide (ours);
4. unfold: the last folds of the lattice are smoothed away.

References: Siebert and Heinrich, WBIR 2022; Heinrich and Hansen, VoxelMorph++, WBIR 2022 (instance refinement); Vishnevskiy et al.,
Isotropic total variation regularisation of displacements, IEEE TMI 2017 (sliding).
Differs from paper 13 in: no learned feature fusion; Gauss-Newton on LNCC instead of Adam on MIND; robust generalised smoothness.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regsuite.geometry.image import Image
from regsuite.methods.api import Result, limited, option
from regsuite.methods.lung import _sliding
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import convex
from regsuite.solvers.frame import make_level
from regsuite.transforms import Transform


@dataclass(frozen=True)
class LungConvexConfig(_sliding.SlidingConfig):
    """Settings of lung-convex. The defaults are ours; the papers' values are named where they exist."""

    search: bool = option(True, "Search large motion first (discrete, all displacements at once)", advanced=False)
    range_mm: float = limited(
        32.0, 4.0, 96.0, "Largest motion the search looks for along each axis (paper: about 32)", "mm", advanced=False
    )
    cell_mm: float = limited(8.5, 4.0, 32.0, "Size of a search cell", "mm")


PRESETS: dict[str, LungConvexConfig] = {
    "Default": LungConvexConfig(),
    "Preview": LungConvexConfig(cell_mm=12.0, finest_mm=3.5, coarse_iterations=10, fine_iterations=8),
    "Best": LungConvexConfig(finest_mm=1.0, levels=3, coarse_iterations=25, fine_iterations=25),
}


def register(
    fixed: Image,
    moving: Image,
    config: LungConvexConfig | None = None,
    *,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    initial: Transform | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Result:
    """Find T with moving(T(x)) like fixed(x).

    fixed, moving: one-channel images on any grids. fixed_mask: region that matters (outside counts `outside_weight`), its border
    may slide. moving_mask: moving voxels outside it are ignored. initial: affine start, RAS mm, fixed -> moving points.
    Returns Result with T = affine o displacement field on a lattice of its own that fills the fixed image's box. Deterministic.
    Raises InputError for unusable input, Cancelled when `progress` returns False.
    """
    config = config or LungConvexConfig()

    def first(pair: _sliding.LungPair, reporter: Progress, warnings: list[str]) -> torch.Tensor:
        level = make_level(pair.fixed, pair.moving, pair.start, config.cell_mm / 3.0, config.cell_mm)
        if not config.search:
            return torch.zeros(3, *level.lattice, device=pair.device)
        return convex.search(level, convex.ConvexSettings(config.cell_mm, config.range_mm), reporter)

    return _sliding.run(
        (fixed, moving), (fixed_mask, moving_mask), config, first, "search",
        initial=initial, translation_mm=config.cell_mm, device=device, seed=seed, progress=progress,
    )  # fmt: skip


Config = LungConvexConfig  # the registry reads module.Config
