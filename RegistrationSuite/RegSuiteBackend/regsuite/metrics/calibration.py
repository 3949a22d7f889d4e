"""Is a stated uncertainty true? Errors (N, 3) mm against their stated standard deviations (N, 3) mm, component by component."""

from __future__ import annotations

import math
from typing import Any

import torch

from regsuite.errors import InputError

QUANTILES = {"50": 2.365974, "90": 6.251389, "95": 7.814728}
"""Squared radius of the ellipsoid that holds so many percent of a 3D normal distribution (chi-squared, 3 degrees of freedom)."""
_TRIMMED_MEAN = 0.96469  # mean of chi2_3 / 3 over its lowest 99 %: what the trimmed scale of a true normal would be
TRIM = 0.01


def squared_distance(errors: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """(N,) squared Mahalanobis distance: sum over components of (error / sigma)^2. Raises InputError for unusable input."""
    if errors.ndim != 2 or errors.shape[1] != 3 or errors.shape != sigma.shape or not len(errors):
        raise InputError(
            f"Errors and sigmas must both have shape (N, 3), N > 0; found {tuple(errors.shape)}, {(*sigma.shape,)}."
        )
    if not bool(torch.isfinite(errors).all() and (sigma > 0).all() and torch.isfinite(sigma).all()):
        raise InputError("Errors must be finite and sigmas finite and above 0 mm.")
    return (errors.double() / sigma.double()).square().sum(dim=1)


def coverage(errors: torch.Tensor, sigma: torch.Tensor) -> dict[str, float]:
    """Share of the errors inside the 50, 90 and 95 % ellipsoids; a true statement gives 0.5, 0.9, 0.95."""
    distance = squared_distance(errors, sigma)
    return {name: float((distance <= limit).double().mean()) for name, limit in QUANTILES.items()}


def log_density(errors: torch.Tensor, sigma: torch.Tensor, trim: float = TRIM) -> float:
    """Mean log density (1/mm^3) of the errors, the `trim` share that is least probable left out (paper 07, section 2.5)."""
    logs = -0.5 * squared_distance(errors, sigma) - sigma.double().log().sum(dim=1) - 1.5 * math.log(2.0 * math.pi)
    kept = logs.sort(descending=True).values[: max(1, round((1.0 - trim) * len(logs)))]
    return float(kept.mean())


def recalibration(errors: torch.Tensor, sigma: torch.Tensor, trim: float = TRIM) -> float:
    """The one factor on sigma under which the errors are most probable, outliers left out.

    sqrt(mean d^2 / 3) over the 99 % nearest, divided by what a normal distribution gives, so that true sigmas get 1.
    """
    distance = squared_distance(errors, sigma).sort().values
    kept = distance[: max(1, round((1.0 - trim) * len(distance)))]
    return math.sqrt(float(kept.mean()) / 3.0 / (_TRIMMED_MEAN if len(kept) < len(distance) else 1.0))


def reliability(errors: torch.Tensor, sigma: torch.Tensor, bins: int = 10) -> list[dict[str, Any]]:
    """Rows of a reliability diagram: the errors sorted by stated sigma (length of the vector) into bins of equal width.

    Each row: low_mm, high_mm, count, share, sigma_mm (root mean square of the stated), error_mm (root mean square of the found),
    ratio error / sigma; empty bins have None. The last bin ends at the 99.5 percentile and takes what is above as well.
    """
    squared_distance(errors, sigma)
    stated, found = sigma.double().norm(dim=1), errors.double().norm(dim=1)
    low = float(stated.min())
    thin = stated[:: max(1, len(stated) // 1_000_000)]
    width = max((float(thin.quantile(0.995)) - low) / bins, 1e-9)
    number = ((stated - low) / width).floor().clamp(0, bins - 1)
    rows: list[dict[str, Any]] = []
    for index in range(bins):
        inside = number == index
        count = int(inside.sum())
        row: dict[str, Any] = {"low_mm": low + index * width, "high_mm": low + (index + 1) * width, "count": count}
        row |= {"share": count / len(stated), "sigma_mm": None, "error_mm": None, "ratio": None}
        if count:
            pair = [math.sqrt(float(v[inside].square().mean())) for v in (stated, found)]
            row |= {"sigma_mm": pair[0], "error_mm": pair[1], "ratio": pair[1] / pair[0]}
        rows.append(row)
    return rows


def correlation(errors: torch.Tensor, sigma: torch.Tensor) -> float:
    """Pearson correlation of stated and found lengths; NaN when one of them does not vary."""
    pair = torch.stack([sigma.double().norm(dim=1), errors.double().norm(dim=1)])
    still = (pair.amax(dim=1) - pair.amin(dim=1)) <= 1e-9 * pair.amax(dim=1)
    pair = pair - pair.mean(dim=1, keepdim=True)
    norm = pair.norm(dim=1)
    return math.nan if bool(still.any()) else float((pair[0] * pair[1]).sum() / (norm[0] * norm[1]))


def calibration(errors: torch.Tensor, sigma: torch.Tensor, bins: int = 10) -> dict[str, Any]:
    """All of the above: count, expected and observed error (root mean square, mm), correlation, coverage, density, scale, bins."""
    return {
        "count": len(errors),
        "expected_rms_mm": math.sqrt(float(sigma.double().square().sum(dim=1).mean())),
        "observed_rms_mm": math.sqrt(float(errors.double().square().sum(dim=1).mean())),
        "correlation": correlation(errors, sigma),
        "coverage": coverage(errors, sigma),
        "log_density": log_density(errors, sigma),
        "scale": recalibration(errors, sigma),
        "reliability": reliability(errors, sigma, bins),
    }
