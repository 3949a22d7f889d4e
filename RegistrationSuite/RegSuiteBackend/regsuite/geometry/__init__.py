"""Where voxels lie in the world: frames, grids and images."""

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image

__all__ = ["Grid", "Image"]
