"""MIND-SSC: the modality independent neighbourhood descriptor in its self-similarity-context form (12 channels)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional

from regsuite.ops.filters import box_mean

_FACES = ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))
PAIRS = tuple((a, b) for a, b in itertools.combinations(_FACES, 2) if sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) == 2)
"""The 12 pairs of face neighbours at squared distance 2."""


def mind_ssc(data: torch.Tensor, radius: Sequence[int] = (1, 1, 1), dilation: Sequence[int] = (2, 2, 2)) -> torch.Tensor:
    """(1, D, H, W) -> (12, D, H, W) in (0, 1], float32.

    m_c(x) = box mean over (2 radius + 1)^3 of (I(x + a_c) - I(x + b_c))^2 for the 12 neighbour pairs at `dilation` voxels;
    V(x) = mean_c (m_c - min m), clamped to [0.001, 1000] times its own mean; feature = exp(-(m_c - min m) / V). Borders repeat.
    A constant image gives 1 everywhere (the published code gives NaN). Source: Heinrich et al., MICCAI 2013; window means are
    normalised at the border, where the published code pads.
    """
    pad = [p for d in reversed(tuple(dilation)) for p in (d, d)]
    padded = functional.pad(data[None], pad, mode="replicate")[0, 0]
    shape = data.shape[1:]

    def shifted(offset: tuple[int, int, int]) -> torch.Tensor:
        window = tuple(slice(d + o * d, d + o * d + n) for o, d, n in zip(offset, dilation, shape, strict=True))
        return padded[window]

    faces = {offset: shifted(offset) for offset in _FACES}
    distance = torch.empty(len(PAIRS), *shape, dtype=data.dtype, device=data.device)
    for channel, (a, b) in enumerate(PAIRS):
        torch.sub(faces[a], faces[b], out=distance[channel])
    distance = box_mean(distance.square_(), radius)
    distance -= distance.amin(dim=0, keepdim=True)
    variance = distance.mean(dim=0, keepdim=True)
    typical = float(variance.mean())
    if typical <= 0.0:
        return torch.ones_like(distance)
    return distance.div_(variance.clamp_(0.001 * typical, 1000.0 * typical)).neg_().exp_()
