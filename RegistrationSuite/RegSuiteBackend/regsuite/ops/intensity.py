"""Bringing the grey values of two images of the same kind onto one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

_SAMPLES = 500_000
_KNOTS = 17


@dataclass(frozen=True)
class IntensityMap:
    """A monotone, piecewise linear map of grey values: `knots` -> `values`, both (N,) increasing; it goes on straight at both
    ends."""

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, data: torch.Tensor) -> torch.Tensor:
        """Values of any shape -> the same shape, float."""
        x = torch.tensor(self.knots, dtype=data.dtype, device=data.device)
        y = torch.tensor(self.values, dtype=data.dtype, device=data.device)
        at = torch.searchsorted(x, data.contiguous()).clamp(1, len(x) - 1)
        share = (data - x[at - 1]) / (x[at] - x[at - 1])
        return y[at - 1] + share * (y[at] - y[at - 1])


def match_quantiles(moving: torch.Tensor, fixed: torch.Tensor, knots: int = _KNOTS) -> IntensityMap:
    """The map that takes the quantiles of the values `moving` (N,) to those of `fixed` (M,), and 0 to 0.

    Quantiles from 1 to 99 %; where one value of `moving` fills several, the median of those of `fixed` is taken. Between images
    of one kind over the same tissue this is the usual histogram matching (Nyul and Udupa, Magn. Reson. Med. 1999), with the
    landmarks taken at equal shares of the voxels.
    """
    shares = np.linspace(0.01, 0.99, knots)
    pairs = [np.quantile(_sample(values), shares) for values in (moving, fixed)]
    smallest = 1e-3 * float(pairs[0][-1] - min(pairs[0][0], 0.0))
    x, y, runs = [0.0], [0.0], list[list[tuple[float, float]]]()
    for a, b in zip(*pairs, strict=True):
        if runs and a <= runs[-1][0][0] + smallest:
            runs[-1].append((float(a), float(b)))
        else:
            runs.append([(float(a), float(b))])
    for run in runs:
        a, b = run[0][0], float(np.median([value for _, value in run]))
        if a > x[-1] + smallest and b >= y[-1]:
            x.append(a)
            y.append(b)
    return IntensityMap(tuple(x), tuple(y))


def _sample(values: torch.Tensor) -> np.ndarray:
    flat = values.reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLES)].detach().cpu().double().numpy()
