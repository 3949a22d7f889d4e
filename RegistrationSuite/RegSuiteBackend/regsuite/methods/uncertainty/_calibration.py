"""The stored recalibration of uncertainty-elbo; how it was fitted, on what, and what it is worth: Documentation/Uncertainty.md.

Per component, with the terms t of `_terms` (the first three unbounded, the rest only through the network):

    log s = OFFSET + sum_k SLOPES_k t_k + BOUND tanh(network(t) / BOUND),      then all three components by one common factor,

chosen by a rising curve (`KNOTS`) of the length of s. The network has one layer of tanh; its inputs are t less MEANS over SPREADS,
cut at +- CUT, so that it changes sigma by no more than exp(BOUND) on images unlike those it was fitted on.
"""

from __future__ import annotations

import numpy as np
import torch

from regsuite.methods.uncertainty._network import (
    HIDDEN_BIAS,
    HIDDEN_WEIGHTS,
    KNOTS,
    MEANS,
    OFFSET,
    OUTPUT_BIAS,
    OUTPUT_WEIGHTS,
    SLOPES,
    SPREADS,
)

BOUND, CUT = 1.2, 3.0


def recalibrated(terms: torch.Tensor) -> torch.Tensor:
    """log sigma' (3, d, h, w) from the terms (K, 3, d, h, w)."""
    log_sigma = before_curve(terms)
    length = 0.5 * (2.0 * log_sigma).exp().sum(dim=0).log()
    return log_sigma + (curve(length) - length)


def before_curve(terms: torch.Tensor) -> torch.Tensor:
    """log s, the part before the monotone curve."""
    shape = terms.shape[1:]
    flat = terms.reshape(len(terms), -1)
    column = [torch.tensor(v, dtype=flat.dtype, device=flat.device)[:, None] for v in (MEANS, SPREADS, HIDDEN_BIAS)]
    weights = torch.tensor(HIDDEN_WEIGHTS, dtype=flat.dtype, device=flat.device)
    out = torch.tensor(OUTPUT_WEIGHTS, dtype=flat.dtype, device=flat.device)
    slopes = torch.tensor(SLOPES, dtype=flat.dtype, device=flat.device)
    found = torch.empty(flat.shape[1], dtype=flat.dtype, device=flat.device)
    for part, into in zip(flat.split(500_000, dim=1), found.split(500_000), strict=True):
        hidden = torch.tanh(weights @ ((part - column[0]) / column[1]).clamp(-CUT, CUT) + column[2])
        network = BOUND * torch.tanh((out @ hidden + OUTPUT_BIAS) / BOUND)
        into.copy_(OFFSET + slopes @ part[: len(SLOPES)] + network)
    return found.view(shape)


def curve(values: torch.Tensor) -> torch.Tensor:
    """KNOTS, elementwise: straight lines between, the end slopes go on."""
    before, after = np.array(KNOTS).T
    x = values.detach().cpu().double().numpy()
    y = np.interp(x, before, after)
    y += np.where(x < before[0], (x - before[0]) * (after[1] - after[0]) / (before[1] - before[0]), 0.0)
    y += np.where(x > before[-1], (x - before[-1]) * (after[-1] - after[-2]) / (before[-1] - before[-2]), 0.0)
    return torch.from_numpy(y).to(values)
