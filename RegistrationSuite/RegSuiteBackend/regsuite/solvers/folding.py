"""Keeping displacement lattices free of folds."""

from __future__ import annotations

import itertools

import torch

from regsuite.ops.filters import box_mean, gaussian_smooth

_CORNERS = tuple(itertools.product((0, 1), repeat=3))


def corner_determinants(
    u: torch.Tensor, spacing: tuple[float, float, float], corners: tuple[tuple[int, ...], ...] = _CORNERS
) -> torch.Tensor:
    """(d-1, h-1, w-1) smallest of the one-sided Jacobian determinants at the (eight) corners of each lattice cell.

    u (3, d, h, w) mm along (i, j, k). Inside a cell the trilinear map's determinant is bounded by these to good accuracy:
    all positive means that the interpolated map does not fold there.
    """
    slopes = []
    for component, axis in enumerate((2, 1, 0)):
        n = u.shape[axis + 1] - 1
        slope = (u.narrow(axis + 1, 1, n) - u.narrow(axis + 1, 0, n)).mul_(1.0 / spacing[axis])
        slope[component] += 1.0
        slopes.append(slope)
    shape = [n - 1 for n in u.shape[1:]]
    lowest = torch.full(shape, torch.inf, dtype=u.dtype, device=u.device)
    for corner in corners:
        columns = []
        for axis, slope in zip((2, 1, 0), slopes, strict=True):
            window = [slice(None)] + [slice(0, None) if a == axis else slice(corner[a], corner[a] + shape[a]) for a in range(3)]
            columns.append(slope[tuple(window)])
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = columns
        det = (by * cz).sub_(bz * cy).mul_(ax)
        det.sub_((bx * cz).sub_(bz * cx).mul_(ay)).add_((bx * cy).sub_(by * cx).mul_(az))
        torch.minimum(lowest, det, out=lowest)
    return lowest


def unfold(
    u: torch.Tensor,
    spacing: tuple[float, float, float],
    least: float = 0.05,
    rounds: int = 40,
    keep: torch.Tensor | None = None,
) -> tuple[torch.Tensor, int]:
    """Smooth u where a cell's determinant is below `least`, and only there, until none is; returns (u, cells that were below).

    Each round blends u with its 5^3 mean in the neighbourhood of the bad cells; the neighbourhood grows while they persist.
    keep (d, h, w) in 0..1: nodes that give way little during the first half of the rounds (the organ beside a sliding wall).
    """
    if min(u.shape[1:]) < 2:
        return u, 0
    u = u.clone()
    bad = corner_determinants(u, spacing) < least
    first = int(bad.sum())
    for number in range(rounds):
        index = torch.nonzero(bad)
        if not len(index):
            break
        reach = 1.0 + 0.2 * number
        margin = int(4.0 * reach) + 3
        low = [max(0, int(a) - margin) for a in index.amin(dim=0)]
        high = [min(n, int(b) + 2 + margin) for n, b in zip(u.shape[1:], index.amax(dim=0), strict=True)]
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        cells = tuple(slice(a, b - 1) for a, b in zip(low, high, strict=True))
        whole = (slice(None), box[0], box[1], box[2])
        part = u[whole]
        near = _neighbourhood(bad[cells], reach).to(u.dtype)
        if keep is not None and number < rounds // 2:
            near = near * (1.0 - 0.9 * keep[box])
        for _ in range(1 + number // 4):
            part = part + near * (box_mean(part, (2, 2, 2)) - part)
        u[whole] = part
        bad[cells] = corner_determinants(part, spacing) < least
    return u, first


def _neighbourhood(bad: torch.Tensor, reach: float) -> torch.Tensor:
    """(d-1, h-1, w-1) cells -> (1, d, h, w) in 0..1: 1 at their nodes, falling off over `reach` nodes."""
    node = torch.zeros(1, *(n + 1 for n in bad.shape), device=bad.device)
    for a, b, c in _CORNERS:
        node[0, a : a + bad.shape[0], b : b + bad.shape[1], c : c + bad.shape[2]] += bad
    return (gaussian_smooth((node > 0).float(), (reach, reach, reach)) * 2.0).clamp(max=1.0)
