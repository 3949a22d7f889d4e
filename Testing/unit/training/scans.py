"""A folder of small scans to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Grid, Image
from regsuite.io.volumes import write_image
from scipy import ndimage

TINY = {"steps": 6, "voxels": 16, "width": 2, "validation_subjects": 1, "validate_every": 3, "checkpoint_every": 2, "accumulate": 1}


def image(seed: int, shape: tuple[int, int, int] = (18, 20, 22)) -> Image:
    """A smooth random blob in air, on an oblique grid of 4 mm."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    values = ndimage.gaussian_filter(noise, 1.5)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    values = (1.0 + 3.0 * values) * (k**2 + j**2 + i**2 < 0.8)
    affine = np.eye(4)
    affine[:3, :3] = 4.0 * np.array([[-0.8, 0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    return Image(torch.from_numpy(values.astype(np.float32)), Grid(shape, affine))


def folder(path: Path, count: int = 4) -> Path:
    """scan_0.nrrd ... with a mask beside the first."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_image(image(number), path / f"scan_{number}.nrrd")
    first = image(0)
    write_image(first.with_data((first.data != 0).to(torch.uint8)), path / "scan_0_mask.nrrd")
    return path
