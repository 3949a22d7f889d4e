"""What the recalibration of uncertainty-elbo looks at, for each component of each node: logarithms of lengths and ratios."""

from __future__ import annotations

import torch

from regsuite.solvers.second_opinion import Opinion
from regsuite.solvers.sigma_evidence import Evidence

NEAR_MM, MIDDLE_MM, WIDE_MM = 12.0, 35.0, 60.0
_SHIFT_MM, _STRAIN_MM = 6.0, 20.0
NAMES = (
    "log sigma of the bound", "distance to a better match near by", "the same, weighted, in a wide region",
    "disagreement with the registration made anew, near by", "the same around", "change by refining", "residual near by",
    "residual around", "residual made anew over given, near by", "the same around", "strain", "contrast over noise", "brightness",
)  # fmt: skip
LINEAR = 3  # of these go on without bounds


def terms(evidence: Evidence, log_sigma: torch.Tensor, anew: Opinion, refined: Opinion) -> torch.Tensor:
    """(len(NAMES), 3, d, h, w) from the evidence, the bound's log sigma (3, d, h, w) and two other registrations."""
    square, gain = evidence.shifts(_SHIFT_MM)
    near = evidence.smooth(gain * square, NEAR_MM) / evidence.smooth(gain + 0.02, NEAR_MM)
    wide = evidence.smooth(gain * square, WIDE_MM)
    given = [evidence.smooth(evidence.residual[None], width) for width in (NEAR_MM, MIDDLE_MM)]
    better = [evidence.smooth(anew.residual[None], width) for width in (NEAR_MM, MIDDLE_MM)]
    ratios = [_half_log(b, 0.01) - _half_log(g, 0.01) for b, g in zip(better, given, strict=True)]
    found = [
        log_sigma,
        _half_log(near, 0.25),
        _half_log(wide, 0.05),
        _half_log(evidence.smooth(anew.difference.square(), NEAR_MM), 0.05),
        _half_log(evidence.smooth(anew.difference.square(), MIDDLE_MM), 0.05),
        _half_log(evidence.smooth(refined.difference.square(), NEAR_MM), 0.05),
        *(_half_log(g, 0.01) for g in given),
        *ratios,
        _half_log(evidence.smooth(evidence.strain(), _STRAIN_MM), 1e-4),
        _half_log(evidence.contrast[None], 1.0),
        evidence.brightness[None],
    ]
    return torch.stack([value.expand_as(log_sigma) for value in found])


def _half_log(square: torch.Tensor, least: float) -> torch.Tensor:
    """log of the root, with a floor."""
    return 0.5 * (square + least).log()
