"""What the methods of uncertainty have in common: the limits of sigma, its kernel, its maps and their summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.methods.api import limited
from regsuite.ops.sampling import resample

LIMITS_MM = (0.05, 60.0)  # of sigma


def correlation_setting() -> float:
    """The setting `correlation_mm` of a config."""
    says = "Kernel that makes errors smooth: errors d apart correlate by exp(-d^2 / 4 k^2) (paper: 29)"
    return limited(15.0, 2.0, 200.0, says, "mm", advanced=False)


def maps(sigma: torch.Tensor, lattice: Grid, fixed: Grid) -> dict[str, Image]:
    """sigma (3, d, h, w) mm on `lattice` -> "sigma" and "sigma_magnitude" on the fixed grid: linear between the nodes."""
    found = resample(Image(sigma.cpu(), lattice), fixed)
    return {"sigma": found, "sigma_magnitude": found.with_data(found.data.norm(dim=0, keepdim=True))}


def findings(images: dict[str, Image], correlation_mm: float) -> dict[str, Any]:
    """The kernel, and mean and percentiles of sigma's length."""
    length = images["sigma_magnitude"].data.flatten()
    thin = length[:: max(1, length.numel() // 500_000)].double().numpy()
    p05, p50, p95 = np.percentile(thin, (5, 50, 95))
    return {
        "correlation_mm": correlation_mm,
        "sigma_mm": {"mean": float(thin.mean()), "p05": float(p05), "p50": float(p50), "p95": float(p95)},
    }
