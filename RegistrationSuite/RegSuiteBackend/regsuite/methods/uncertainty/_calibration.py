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
OFFSET, SLOPE, NEAR, WIDE = -0.158, 1.447, 0.309, 0.350
KNOTS: tuple[tuple[float, float], ...] = (
    (-1.058, -1.13), (-0.793, -0.764), (-0.665, -0.62), (-0.564, -0.511), (-0.475, -0.435), (-0.392, -0.405),
    (-0.305, -0.34), (-0.215, -0.275), (-0.123, -0.195), (-0.029, -0.104), (0.067, 0.064), (0.165, 0.164),
    (0.269, 0.289), (0.38, 0.423), (0.502, 0.559), (0.637, 0.675), (0.789, 0.776), (0.965, 0.939),
    (1.173, 1.097), (1.428, 1.463), (1.739, 1.901), (2.075, 2.201), (2.44, 2.449), (2.908, 2.615),
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
