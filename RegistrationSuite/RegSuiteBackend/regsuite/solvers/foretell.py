"""How a network meets a pair: images on the grid it was trained at, its field in the solvers' frame, and only if it helps."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.nets.fields import sample
from regsuite.nets.pair import Pair
from regsuite.ops.mind import mind_ssc
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers.training import Task
from regsuite.transforms import AffineTransform

NO_HELP = "The network's motion did not bring these images closer together and was left out."
_LEAST_SIDE = 8
_MOST_SIDE = 320  # a larger box is looked at more coarsely; bounds memory


def on_network_grid(fixed: Image, moving: Image, start: np.ndarray, spacing_mm: float, region: Image | None = None) -> Pair:
    """Both images (values 0..1) on one lattice of about `spacing_mm` that fills the fixed box, moving under the linear start.

    region: binary, on the fixed grid; becomes the pair's fixed mask.
    """
    sides = np.array(fixed.grid.size) * fixed.grid.spacing
    spacing_mm = max(spacing_mm, float(sides.max()) / _MOST_SIDE)
    i, j, k = (max(_LEAST_SIDE, round(side / spacing_mm)) for side in sides)
    grid = fixed.grid.resized((k, j, i))

    def seen(image: Image, mapping: AffineTransform | None) -> torch.Tensor:
        return resample(at_spacing(image, spacing_mm), grid, mapping).data[None]

    mask = None if region is None else (seen(region, None) > 0.5).float()
    return Pair(seen(fixed, None), seen(moving, AffineTransform(start)), grid, mask)


def helpful(pair: Pair, u: torch.Tensor) -> bool:
    """Does u (1, 3, D, H, W) voxels make the MIND-SSC of the images agree better, in the pair's mask if it has one?"""
    fixed = mind_ssc(pair.fixed[0])
    weight = torch.ones_like(pair.fixed[0]) if pair.fixed_mask is None or not bool(pair.fixed_mask.any()) else pair.fixed_mask[0]
    before, after = (
        float(((fixed - mind_ssc(image[0])).square().mean(dim=0, keepdim=True) * weight).sum())
        for image in (pair.moving, sample(pair.moving, u))
    )
    return after < before


def foretold(task: Task, model: nn.Module, pair: Pair, progress: Progress, warnings: list[str]) -> Image:
    """The displacement, three channels in mm along the axes of the pair's grid; zero, with a warning, where it is no help."""
    progress.step(0.2, "network")
    u = task.displacement(model, pair)
    progress.step(0.8, "does it help?")
    if not helpful(pair, u):
        warnings.append(NO_HELP)
        u = torch.zeros_like(u)
    return Image(u[0] * torch.as_tensor(pair.grid.spacing.copy()).to(u).view(3, 1, 1, 1), pair.grid)


def widened(found: Image, box: Grid) -> torch.Tensor:
    """A displacement on a part of `box`, now on a lattice of about the same spacing that fills it; beyond the part the values of
    its border hold."""
    sides = np.array(box.size) * box.spacing
    i, j, k = (max(_LEAST_SIDE, round(n)) for n in sides / found.grid.spacing)
    return resample(found, box.resized((k, j, i))).data
