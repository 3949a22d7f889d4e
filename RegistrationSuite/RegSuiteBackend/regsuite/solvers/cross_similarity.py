"""Squared NGF similarity of two tensor fields for every translation at once.

For fields p, q (K components of n n^T, see ops/orientation) with masks M_A, M_B and every whole-voxel shift t

    sum(t) = sum_x <p(x), q(x + t)>,   overlap(t) = sum_x M_A(x) M_B(x + t),

both by real FFTs, K + 1 forward and 2 inverse ones a map; the fixed field's are made once. Transforms are just long enough that no
wanted shift wraps around, and the inverse ones skip the shifts that nobody asked for.
Source: Ofverstedt, Lindblad, Sladoje, Cross-Sim-NGF: FFT-based global rigid multimodal alignment of image volumes using
normalized gradient fields, WBIR 2022, equation (5). Differs in: K = 5 where the tensors are traceless; padding by what the
overlap allows instead of a full image; any sizes, odd and even; the fixed field may come in several variants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len


@dataclass(frozen=True)
class ShiftRange:
    """Shifts low..high (inclusive) per axis (D, H, W), and the transform lengths at which none of them wraps around."""

    low: tuple[int, int, int]
    high: tuple[int, int, int]
    transform: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of shifts per axis."""
        d, h, w = (b - a + 1 for a, b in zip(self.low, self.high, strict=True))
        return d, h, w


def shift_range(fixed: Sequence[int], moving: Sequence[int], least_overlap: float) -> ShiftRange:
    """All shifts that leave at least the share `least_overlap` of the shorter image along each axis. Sizes are (D, H, W)."""
    low, high, lengths = [], [], []
    for a, b in zip(fixed, moving, strict=True):
        kept = max(1, math.ceil(least_overlap * min(a, b) - 1e-9))
        low.append(kept - a)
        high.append(b - kept)
        lengths.append(next_fast_len(a + b - kept, real=True))
    return ShiftRange((low[0], low[1], low[2]), (high[0], high[1], high[2]), (lengths[0], lengths[1], lengths[2]))


class CrossSimilarity:
    """A fixed field against which moving fields of one size are scored.

    fixed: (V, K + 1, D, H, W), V variants of the fixed field, the last channel being the mask. moving_shape: (d, h, w).
    """

    def __init__(self, fixed: torch.Tensor, moving_shape: Sequence[int], least_overlap: float = 0.0) -> None:
        self.range = shift_range(fixed.shape[2:], moving_shape, least_overlap)
        self._size = self.range.transform
        half = (self._size[0], self._size[1], self._size[2] // 2 + 1)
        self._fixed = torch.empty(*fixed.shape[:2], *half, dtype=fixed.dtype.to_complex(), device=fixed.device)
        for spectra, variant in zip(self._fixed, fixed, strict=True):  # one at a time bounds the memory
            torch.fft.rfftn(variant, s=self._size, dim=(1, 2, 3), out=spectra).conj_physical_()
        self._wanted = [
            torch.arange(low, high + 1, device=fixed.device) % n
            for low, high, n in zip(self.range.low, self.range.high, self._size, strict=True)
        ]

    def maps(self, moving: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(K + 1, d, h, w) -> sum and overlap, each (V, *range.shape); entry s is the shift range.low + s."""
        spectrum = torch.fft.rfftn(moving, s=self._size, dim=(1, 2, 3))
        total = self._fixed[:, 0] * spectrum[0]
        for k in range(1, moving.shape[0] - 1):
            total.addcmul_(self._fixed[:, k], spectrum[k])
        return self._shifts(total), self._shifts(self._fixed[:, -1] * spectrum[-1])

    def _shifts(self, spectrum: torch.Tensor) -> torch.Tensor:
        """(V, ...) half spectra -> the wanted shifts: axis by axis, dropping what is not wanted before the next axis."""
        part = torch.fft.ifft(spectrum, dim=1).index_select(1, self._wanted[0])
        part = torch.fft.ifft(part, dim=2).index_select(2, self._wanted[1])
        return torch.fft.irfft(part, n=self._size[2], dim=3).index_select(3, self._wanted[2])


def scores(total: torch.Tensor, overlap: torch.Tensor, least_voxels: float, power: float) -> torch.Tensor:
    """total / overlap^power where the overlap reaches `least_voxels`, minus infinity elsewhere. power 1 is the paper's mean."""
    score = total / overlap.clamp(min=1.0) ** power
    return score.masked_fill_(overlap < least_voxels - 0.5, -torch.inf)


def best_shift(score: torch.Tensor, low: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(V, d, h, w) -> best score (V,) and its shift (V, 3) in voxels along (D, H, W)."""
    value, place = score.flatten(1).max(dim=1)
    index = np.stack(np.unravel_index(place.cpu().numpy(), tuple(score.shape[1:])), axis=1)
    return value.cpu().double().numpy(), index + np.array(low)
