"""Other registrations of a pair beside a given transform: one made anew (`own_mean`), and the given one refined. Where they
disagree with it, and the images agree better under them, the given one is in doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.progress import Progress
from regsuite.solvers.frame import canonical, make_level, to_transform
from regsuite.solvers.own_mean import coarse_to_fine
from regsuite.transforms import Transform

_PLAN = ((2.0, 6), (1.0, 10))
_FITTED, _TURNED = 6, 0.2


@dataclass(frozen=True)
class Opinion:
    """On the lattice of an Evidence: displacement (3, d, h, w) mm of another registration less the given one's, components along
    world x, y, z, and residual (d, h, w), the mean squared difference of the normalised images at it."""

    difference: torch.Tensor
    residual: torch.Tensor


def compare(other: Transform, given: torch.Tensor, lattice: Grid, residual_at: Callable[[Transform], torch.Tensor]) -> Opinion:
    """Opinion of `other` beside the displacement `given` (3, d, h, w) on `lattice`; residual_at: as Evidence's."""
    return Opinion(other.displacement(lattice, given.device) - given, residual_at(other))


def linear_start(given: Transform, fixed: Grid) -> np.ndarray | str:
    """The affine map (4, 4) nearest to `given` over the grid when it turns or scales by more than _TURNED, which a search for
    translations cannot find; else the name of that search."""
    points = fixed.resized((_FITTED, _FITTED, _FITTED)).world_points(torch.float64).view(-1, 3)
    design = np.c_[points.numpy(), np.ones(len(points))]
    found = np.eye(4)
    found[:3] = np.linalg.lstsq(design, given.map_points(points).cpu().numpy(), rcond=None)[0].T
    return found if np.abs(found[:3, :3] - np.eye(3)).max() > _TURNED else "translation"


def refine_given(
    fixed: Image, moving: Image, given: Transform, finest_mm: float, progress: Progress, span: tuple[float, float]
) -> Transform:
    """Gauss-Newton under local correlation from the given transform on; scaled images, any axes."""
    fixed = canonical(fixed)
    start = np.eye(4)
    with progress.stage("refine given", *span):
        lattice = make_level(fixed, moving, start, finest_mm, 2.0 * finest_mm).lattice_grid
        axes = torch.as_tensor(fixed.grid.direction.copy()).to(fixed.data)
        u = torch.tensordot(axes.T, given.displacement(lattice, fixed.data.device), dims=1)
        _, u = coarse_to_fine(fixed, moving, start, u, finest_mm, _PLAN, progress, [])
    return to_transform(u.cpu(), fixed.grid, start)
