"""Images at coarser resolutions, always together with their grids."""

from __future__ import annotations

import numpy as np

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.filters import downsample


def level_shape(grid: Grid, spacing_mm: float) -> tuple[int, int, int]:
    """Voxels (D, H, W) that cut the grid's box into voxels of about `spacing_mm`, never finer than the grid itself."""
    size = np.maximum(1, np.round(np.array(grid.size) * grid.spacing / np.maximum(grid.spacing, spacing_mm))).astype(int)
    return int(size[2]), int(size[1]), int(size[0])


def at_spacing(image: Image, spacing_mm: float) -> Image:
    """The image smoothed and sampled at about `spacing_mm` along every axis that is finer than that."""
    shape = level_shape(image.grid, spacing_mm)
    if shape == image.grid.shape:
        return image
    return Image(downsample(image.data, shape), image.grid.resized(shape))
