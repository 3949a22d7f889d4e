"""Landmark errors."""

from __future__ import annotations

import numpy as np
import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.ops.sampling import PointMap


def tre(
    transform: PointMap | None, fixed_points: torch.Tensor | np.ndarray, moving_points: torch.Tensor | np.ndarray
) -> torch.Tensor:
    """Target registration error |T(f_n) - m_n| of corresponding landmarks (N, 3) RAS mm -> (N,) mm, float64.

    T maps fixed points to moving points, so no inverse is needed; None is the identity (the error before registration).
    Raises InputError on no points, unequal numbers, another shape or non-finite coordinates.
    """
    fixed, moving = check.points("fixed landmarks", fixed_points), check.points("moving landmarks", moving_points)
    if len(fixed) != len(moving):
        raise InputError(f"Landmarks must correspond one to one, found {len(fixed)} fixed and {len(moving)} moving points.")
    if not len(fixed):
        raise InputError("Expected at least one landmark, found none.")
    mapped = fixed if transform is None else transform.map_points(fixed)
    return (mapped - moving.to(mapped.device)).norm(dim=1)


def error_summary(errors_mm: torch.Tensor | np.ndarray) -> dict[str, float]:
    """{mean, std, median, p95, max} in mm of errors (N,); std is over the points (N in the denominator).

    Raises InputError when there are none.
    """
    errors = torch.as_tensor(errors_mm).detach().cpu().double().numpy().ravel()
    if errors.size == 0:
        raise InputError("Expected at least one error to summarise, found none.")
    return {
        "mean": float(errors.mean()),
        "std": float(errors.std()),
        "median": float(np.median(errors)),
        "p95": float(np.percentile(errors, 95)),
        "max": float(errors.max()),
    }
