"""Keeping displacement lattices free of folds."""

from __future__ import annotations

import itertools

import torch

from regsuite.ops.filters import box_mean, gaussian_smooth


def corner_determinants(u: torch.Tensor, spacing: tuple[float, float, float]) -> torch.Tensor:
    """(d-1, h-1, w-1) smallest of the eight one-sided Jacobian determinants at the corners of each lattice cell.

    u (3, d, h, w) mm along (i, j, k). Inside a cell the trilinear map's determinant is bounded by these to good accuracy:
    all positive means that the interpolated map does not fold there.
    """
    slopes = []
    for component_axis in (2, 1, 0):
        n = u.shape[component_axis + 1] - 1
        slopes.append((u.narrow(component_axis + 1, 1, n) - u.narrow(component_axis + 1, 0, n)) / spacing[component_axis])
    shape = [n - 1 for n in u.shape[1:]]
    lowest = torch.full(shape, torch.inf, dtype=u.dtype, device=u.device)
    for corner in itertools.product((0, 1), repeat=3):
        columns = []
        for axis, slope in zip((2, 1, 0), slopes, strict=True):
            window = tuple(slice(0, None) if a == axis else slice(corner[a], corner[a] + shape[a]) for a in range(3))
            columns.append(slope[(slice(None), *window)])
        a, b, c = columns
        ax, ay, az = 1.0 + a[0], a[1], a[2]
        bx, by, bz = b[0], 1.0 + b[1], b[2]
        cx, cy, cz = c[0], c[1], 1.0 + c[2]
        det = ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx)
        lowest = torch.minimum(lowest, det)
    return lowest


def unfold(u: torch.Tensor, spacing: tuple[float, float, float], least: float = 0.05, rounds: int = 60) -> tuple[torch.Tensor, int]:
    """Smooth u where a cell's determinant is below `least`, and only there, until none is; returns (u, cells that were below).

    Each round blends u with its 3^3 mean in the neighbourhood of the bad cells; the neighbourhood grows while they persist.
    """
    first = 0
    if min(u.shape[1:]) < 2:
        return u, first
    for number in range(rounds):
        bad = corner_determinants(u, spacing) < least
        count = int(bad.sum())
        if number == 0:
            first = count
        if not count:
            break
        node = torch.zeros(1, *u.shape[1:], dtype=u.dtype, device=u.device)
        for a, b, c in itertools.product((0, 1), repeat=3):
            node[0, a : a + bad.shape[0], b : b + bad.shape[1], c : c + bad.shape[2]] += bad
        reach = 0.7 + 0.1 * number
        blend = (gaussian_smooth((node > 0).to(u.dtype), (reach, reach, reach)) * 2.0).clamp(max=1.0)
        u = u + blend * (box_mean(u, (1, 1, 1)) - u)
    return u, first
