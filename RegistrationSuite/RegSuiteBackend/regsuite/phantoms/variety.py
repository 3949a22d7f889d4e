"""More variety than the images of a training have: other shapes, partly filled lungs, other fields of view, sizes and voxels.

A network that has seen sixteen chests knows sixteen chests. `amount` (0 to 1) says how far to stray; 0 changes nothing.
Everything is a function of the generator given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.nets.fields import sample
from regsuite.nets.pair import Pair, voxels, world_mm
from regsuite.ops.sampling import resample
from regsuite.phantoms.synthetic import smooth_noise

_SHAPE_MM, _SHAPE_OVER_MM = 12.0, 60.0
_FLUID_OVER_MM = 40.0
_LEAST_SIDE = 16  # voxels of a view


def strength(rng: np.random.Generator, amount: float) -> float:
    """A factor of the motion: 1 for amount 0, 0.4 to 2.6 for 1."""
    return float(rng.uniform(1.0 - 0.6 * amount, 1.0 + 1.6 * amount))


def other_shape(image: Image, mask: Image | None, rng: np.random.Generator, amount: float) -> tuple[Image, Image | None]:
    """Another person: image (values 0..1) and mask under a smooth random displacement of up to 12 mm."""
    u = voxels(rng.uniform(0.3, 1.0) * amount * _SHAPE_MM * smooth_noise(image.grid, rng, _SHAPE_OVER_MM), image.grid)
    warped = image.with_data(sample(image.data[None].float(), u)[0])
    return warped, None if mask is None else mask.with_data((sample(mask.data[None].float(), u)[0] > 0.5).float())


def partly_filled(image: Image, lungs: Image, rng: np.random.Generator, amount: float) -> tuple[Image, Image]:
    """In half of the cases (amount 1) fluid or solid tissue in parts of the lungs; these no longer belong to the mask."""
    if rng.uniform() > 0.5 * amount or not bool(lungs.data.any()):
        return image, lungs
    noise = smooth_noise(image.grid, rng, _FLUID_OVER_MM)[:1] - float(rng.uniform(0.2, 1.5))
    share = torch.sigmoid(noise / 0.15) * lungs.data
    filled = image.data + share * (float(rng.uniform(0.5, 0.8)) - image.data)
    return image.with_data(filled), lungs.with_data(lungs.data * (noise < 0))


def around(mask: torch.Tensor, grid: Grid, margins_mm: np.ndarray) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """First tensor index and shape of the box around mask (D, H, W) and margins (2, 3) mm (before and after, along k, j, i)."""
    index = mask.nonzero().numpy()
    spacing = grid.spacing[::-1]
    first = np.maximum(0, index.min(axis=0) - np.round(margins_mm[0] / spacing)).astype(int)
    last = np.minimum(np.array(mask.shape) - 1, index.max(axis=0) + np.round(margins_mm[1] / spacing)).astype(int)
    k, j, i = (int(n) for n in first)
    d, h, w = (int(n) for n in last - first + 1)
    return (k, j, i), (d, h, w)


def viewed(pair: Pair, rng: np.random.Generator, margin_mm: float, amount: float) -> Pair:
    """The pair as a network sees it: the box around the fixed mask and `margin_mm` beyond, 0 the whole image.

    amount: the margins vary from 0.2 to 1.8 times theirs, each axis is stretched by up to 20 %, and one box in three cuts into the
    mask from above or below.
    """
    grid = pair.grid
    if margin_mm > 0.0 and pair.fixed_mask is not None and bool(pair.fixed_mask.any()):
        margins = margin_mm * rng.uniform(1.0 - 0.8 * amount, 1.0 + 0.8 * amount, (2, 3))
        if rng.uniform() < 0.33 * amount:
            height = float((pair.fixed_mask[0, 0].any(dim=2).any(dim=1)).sum() * grid.spacing[2])
            margins[int(rng.integers(2)), 0] = -rng.uniform(0.0, 0.25) * height
        grid = grid.cropped(*around(pair.fixed_mask[0, 0], grid, margins))
    stretch = np.exp(rng.uniform(-0.2 * amount, 0.2 * amount, 3))
    d, h, w = (max(_LEAST_SIDE, round(n * s)) for n, s in zip(grid.shape, stretch, strict=True))
    return on_grid(pair, grid.resized((d, h, w)))


def on_grid(pair: Pair, grid: Grid) -> Pair:
    """The same pair on another grid."""

    still = torch.zeros_like(pair.fixed)
    masks = [pair.fixed_mask, pair.moving_mask]
    truth = None if pair.truth is None else world_mm(pair.truth, pair.grid)[None]
    given = [pair.fixed, pair.moving, *(still if m is None else m for m in masks), *([] if truth is None else [truth])]
    there = resample(Image(torch.cat(given, dim=1)[0], pair.grid), grid).data  # once for all: the places are most of the work
    inside = [None if m is None else (there[n : n + 1] > 0.5).float()[None] for n, m in enumerate(masks, 2)]
    names = [pair.fixed_labels, pair.moving_labels]
    labels = [None if m is None else resample(Image(m, pair.grid), grid, None, "nearest").data for m in names]
    points, moves = pair.points, pair.moves
    if points is not None and moves is not None:
        ends = [grid.world_to_index(pair.grid.index_to_world(x.double())) for x in (points, points + moves)]
        points, moves = ends[0].to(points), (ends[1] - ends[0]).to(moves)
    return replace(
        pair, fixed=there[None, :1], moving=there[None, 1:2], grid=grid, fixed_mask=inside[0], moving_mask=inside[1],
        truth=None if truth is None else voxels(there[4:], grid), fixed_labels=labels[0], moving_labels=labels[1],
        points=points, moves=moves,
    )  # fmt: skip
