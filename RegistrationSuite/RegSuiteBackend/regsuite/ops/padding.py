"""Which pixels of a slice hold data: made-up constants around a picture are no measurement."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

_LEAST_PIXELS = 16  # fewer equal neighbours are chance, as in pictures of few grey levels
_LEAST_BORDER = 3


def has_data(values: torch.Tensor) -> torch.Tensor:
    """(H, W) bool: False where a pixel belongs to an area of one exactly constant value that reaches the border.

    Areas are connected through edges; those of fewer than 16 pixels, or with fewer than 3 on the border, stay.
    """
    picture = values.detach().cpu().numpy()
    rim = np.ones(picture.shape, bool)
    rim[1:-1, 1:-1] = False
    levels, counts = np.unique(picture[rim], return_counts=True)
    padded = np.zeros(picture.shape, bool)
    for level in levels[counts >= _LEAST_BORDER]:
        areas, count = ndimage.label(picture == level)
        sizes = np.bincount(areas.ravel(), minlength=count + 1)
        touching = np.unique(areas[rim & (picture == level)])
        padded |= np.isin(areas, [n for n in touching if sizes[n] >= _LEAST_PIXELS])
    return torch.from_numpy(~padded).to(values.device)
