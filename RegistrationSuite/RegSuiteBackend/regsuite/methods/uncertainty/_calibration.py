"""The stored recalibration of uncertainty-elbo; how it was fitted, on what, and what it is worth: Documentation/Uncertainty.md.

log sigma' = OFFSET + SLOPE log sigma + NEAR log n + WIDE log w, then the monotone curve KNOTS. sigma: the bound's minimum;
n: root mean square distance (mm, +- NEAR_MM around the place) to where the images agree better than at the transform; w: the same
times the share of disagreement that goes away, over +- WIDE_MM.
"""

from __future__ import annotations

import numpy as np
import torch

NEAR_MM, WIDE_MM = 12.0, 60.0
NEAR_FLOOR_MM2, WIDE_FLOOR_MM2 = 0.25, 0.05
OFFSET, SLOPE, NEAR, WIDE = -0.858, 1.486, 0.204, 0.285
KNOTS: tuple[tuple[float, float], ...] = (
    (-1.19, -1.09), (-0.862, -0.771), (-0.709, -0.618), (-0.59, -0.516), (-0.483, -0.427), (-0.379, -0.368),
    (-0.277, -0.329), (-0.179, -0.262), (-0.081, -0.186), (0.016, -0.081), (0.116, 0.058), (0.216, 0.171),
    (0.318, 0.267), (0.423, 0.386), (0.536, 0.503), (0.66, 0.608), (0.798, 0.758), (0.956, 0.902),
    (1.145, 1.058), (1.376, 1.363), (1.671, 1.823), (1.994, 2.184), (2.355, 2.45), (2.802, 2.652),
)  # fmt: skip
"""(log sigma before, log sigma after), rising; straight lines between, the end slopes go on."""


def recalibrated(log_sigma: torch.Tensor, near_mm2: torch.Tensor, wide_mm2: torch.Tensor) -> torch.Tensor:
    """log sigma' (3, d, h, w) from the bound's log sigma and the two mean squared distances, all (3, d, h, w)."""
    return curve(linear(log_sigma, near_mm2, wide_mm2))


def linear(log_sigma: torch.Tensor, near_mm2: torch.Tensor, wide_mm2: torch.Tensor) -> torch.Tensor:
    """The part before the monotone curve."""
    near, wide = (near_mm2 + NEAR_FLOOR_MM2).log(), (wide_mm2 + WIDE_FLOOR_MM2).log()
    return OFFSET + SLOPE * log_sigma + 0.5 * NEAR * near + 0.5 * WIDE * wide


def curve(values: torch.Tensor) -> torch.Tensor:
    """KNOTS, elementwise."""
    before, after = np.array(KNOTS).T
    x = values.detach().cpu().double().numpy()
    y = np.interp(x, before, after)
    y += np.where(x < before[0], (x - before[0]) * (after[1] - after[0]) / (before[1] - before[0]), 0.0)
    y += np.where(x > before[-1], (x - before[-1]) * (after[-1] - after[-2]) / (before[-1] - before[-2]), 0.0)
    return torch.from_numpy(y).to(values)
