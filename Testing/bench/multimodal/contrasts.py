"""Four contrasts of one head: T1, T2-, CT- and PET-like images made from the template's T1 and its tissue maps.

The template has no skull: fluid, bone and scalp are added as layers of uneven thickness around the brain, in all four alike.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Image
from regsuite.io import read_image
from scipy import ndimage
from torch.nn import functional

MODALITIES = ("T1", "T2", "CT", "PET")
_FILES = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@cache
def head(folder: Path) -> dict[str, Image]:
    """Modality -> image, all on the template's grid, without noise."""
    t1, gm, wm = (read_image(folder / _FILES.format(name)) for name in ("t1", "gm", "wm"))
    grey, white = (i.data[0].numpy().astype(np.float32) / float(i.data.max()) for i in (gm, wm))
    signal = t1.data[0].numpy().astype(np.float32)
    signal = np.clip(signal / np.percentile(signal[white > 0.9], 50), 0.0, 1.6)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(signal > 0.12, iterations=4))
    depth = ndimage.distance_transform_edt(~brain) + _bumps(brain.shape)  # mm outside the brain: CSF, bone, scalp, air
    fluid, skull, scalp = (_soft((depth > a) & (depth <= b) & ~brain) for a, b in ((-9.0, 2.0), (2.0, 8.0), (8.0, 13.0)))
    csf = np.clip(brain - grey - white, 0.0, 1.0) + fluid
    air = np.clip(1.0 - brain - fluid - skull - scalp, 0.0, 1.0)
    arrays = {
        "T1": np.where(brain, signal, 0.3 * fluid + 0.1 * skull + 1.1 * scalp),
        "T2": 1.0 * csf + 0.62 * grey + 0.42 * white + 0.08 * skull + 0.5 * scalp,
        "CT": 1000.0 * skull - 60.0 * scalp + 38.0 * grey + 30.0 * white + 6.0 * csf - 1000.0 * air,
        "PET": ndimage.gaussian_filter(1.0 * grey + 0.25 * white + 0.03 * csf + 0.15 * scalp + 0.03 * skull, 2.3),
    }
    return {name: Image(torch.from_numpy(values.astype(np.float32)), t1.grid) for name, values in arrays.items()}


def acquired(image: Image, modality: str, rng: np.random.Generator) -> Image:
    """The image with a receive field and noise of its modality; a name that is none of MODALITIES leaves it as it is."""
    if modality not in MODALITIES:
        return image
    data = image.data[0].numpy()
    coarse = torch.from_numpy(rng.normal(0.0, 1.0, (1, 1, 4, 4, 4)).astype(np.float32))
    receive = functional.interpolate(coarse, data.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    noise = rng.standard_normal((2, *data.shape), dtype=np.float32)
    if modality == "CT":
        out = data + 8.0 * noise[0]
    elif modality == "PET":
        out = data + 0.48 * ndimage.gaussian_filter(noise[0], 1.5) * np.sqrt(np.clip(data, 0.02, None))
    else:
        out = np.hypot(data * (1.0 + 0.1 * receive) + 0.03 * noise[0], 0.03 * noise[1])
    return image.with_data(torch.from_numpy(out.astype(np.float32)))


def _bumps(shape: tuple[int, ...]) -> np.ndarray:
    """The skull is not equally thick: smooth variation of about 1.5 mm (the same head every time)."""
    rough = np.random.default_rng(152).normal(0.0, 1.0, shape).astype(np.float32)
    smooth = ndimage.gaussian_filter(rough, 12.0)
    return 1.5 * smooth / smooth.std()


def _soft(mask: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(mask.astype(np.float32), 0.7)
