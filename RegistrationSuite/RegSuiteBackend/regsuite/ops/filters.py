"""Separable linear filters. Every filter is one small matrix per axis or a few shifted sums: both beat convolution on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

Matrices = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
"""One (n_out, n_in) matrix for each of the axes D, H, W; None leaves the axis alone."""


def apply_matrices(data: torch.Tensor, matrices: Matrices) -> torch.Tensor:
    """Apply a separable operator: data (C, D, H, W) -> (C, D', H', W'), out = M_D x M_H x M_W x data.

    Cost: voxels * (n_D + n_H + n_W) multiply-adds in dense matrix products. Shrinking axes go first.
    """
    order = sorted((0, 1, 2), key=lambda a: 1.0 if matrices[a] is None else matrices[a].shape[0] / matrices[a].shape[1])  # type: ignore[union-attr]
    for axis in order:
        matrix = matrices[axis]
        if matrix is None:
            continue
        c, d, h, w = data.shape
        if axis == 2:
            data = data.reshape(-1, w) @ matrix.T
            data = data.view(c, d, h, -1)
        elif axis == 1:
            data = torch.matmul(matrix, data)
        else:
            data = torch.matmul(matrix, data.reshape(c, d, h * w)).view(c, -1, h, w)
    return data


def gaussian_matrix(n: int, sigma: float, like: torch.Tensor) -> torch.Tensor | None:
    """(n, n) Gaussian smoothing of standard deviation `sigma` voxels, cut at 4 sigma; rows sum to 1, also at the borders."""
    if sigma <= 0.0 or n == 1:
        return None
    return gaussian_resample_matrix(n, n, sigma, like)


def gaussian_resample_matrix(n_in: int, n_out: int, sigma: float, like: torch.Tensor) -> torch.Tensor:
    """(n_out, n_in): sample after smoothing by a Gaussian of `sigma` input voxels; both lattices fill the same interval.

    Rows sum to 1 (normalised convolution at the borders). sigma 0 is linear interpolation.
    """
    source = torch.arange(n_in, dtype=torch.float64)
    target = (torch.arange(n_out, dtype=torch.float64) + 0.5) * (n_in / n_out) - 0.5
    distance = (target[:, None] - source[None, :]).abs()
    if sigma > 0.0:
        weight = torch.exp(-0.5 * (distance / sigma) ** 2) * (distance <= max(4.0 * sigma, 1.0))
    else:
        weight = (1.0 - (target.clamp(0, n_in - 1)[:, None] - source[None, :]).abs()).clamp(min=0.0)
    return (weight / weight.sum(dim=1, keepdim=True)).to(dtype=like.dtype, device=like.device)


def gaussian_smooth(data: torch.Tensor, sigma_voxels: Sequence[float]) -> torch.Tensor:
    """Gaussian smoothing of (C, D, H, W); sigma per axis (D, H, W) in voxels; constants are kept up to the border."""
    d, h, w = data.shape[1:]
    sd, sh, sw = sigma_voxels
    return apply_matrices(data, (gaussian_matrix(d, sd, data), gaussian_matrix(h, sh, data), gaussian_matrix(w, sw, data)))


def downsample(data: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """(C, D, H, W) onto `shape` (same box of space), smoothed against aliasing: sigma = sqrt(r^2 - 1) / 2 input voxels for
    a shrink factor r, the value that leaves a Gaussian-sampled image about as sharp as its new voxels."""
    matrices = []
    for n_in, n_out in zip(data.shape[1:], shape, strict=True):
        factor = n_in / n_out
        same = n_in == n_out
        sigma = 0.5 * math.sqrt(max(factor * factor - 1.0, 0.0))
        matrices.append(None if same else gaussian_resample_matrix(n_in, n_out, sigma, data))
    return apply_matrices(data, (matrices[0], matrices[1], matrices[2]))


def upsample_matrix(n_in: int, n_out: int, like: torch.Tensor) -> torch.Tensor | None:
    """(n_out, n_in) linear interpolation between lattices that fill the same interval; None when they are the same."""
    return None if n_in == n_out else gaussian_resample_matrix(n_in, n_out, 0.0, like)


def box_sum(data: torch.Tensor, radius: Sequence[int]) -> torch.Tensor:
    """Sum over a window of 2 r + 1 voxels per axis (D, H, W); voxels outside count as 0.

    Shifted sums up to radius 3, a band matrix beyond: both are several times faster than pooling on the CPU.
    """
    for axis, r in zip((1, 2, 3), radius, strict=True):
        if r:
            data = _box_axis(data, axis, min(r, data.shape[axis] - 1))
    return data


def _box_axis(data: torch.Tensor, axis: int, r: int) -> torch.Tensor:
    n = data.shape[axis]
    if n == 1 or r == 0:
        return data
    out = data.clone()
    if r <= 3:
        for s in range(1, r + 1):
            out.narrow(axis, 0, n - s).add_(data.narrow(axis, s, n - s))
            out.narrow(axis, s, n - s).add_(data.narrow(axis, 0, n - s))
        return out
    distance = torch.arange(n, device=data.device)
    band = ((distance[:, None] - distance[None, :]).abs() <= r).to(data.dtype)
    matrices: list[torch.Tensor | None] = [None, None, None]
    matrices[axis - 1] = band
    return apply_matrices(data, (matrices[0], matrices[1], matrices[2]))


def box_count(shape: Sequence[int], radius: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """(1, D, H, W) number of voxels of the image inside each window."""
    lines = [
        box_sum(torch.ones(1, n, 1, 1, dtype=like.dtype, device=like.device), (r, 0, 0)).view(-1)
        for n, r in zip(shape, radius, strict=True)
    ]
    return (lines[0].view(-1, 1, 1) * lines[1].view(1, -1, 1) * lines[2].view(1, 1, -1))[None]


def box_mean(data: torch.Tensor, radius: Sequence[int]) -> torch.Tensor:
    """Mean over the part of the window inside the image: constants are kept up to the border."""
    return box_sum(data, radius) / box_count(data.shape[1:], radius, data)
