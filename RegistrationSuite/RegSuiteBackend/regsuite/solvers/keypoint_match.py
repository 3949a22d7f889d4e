"""Displacements of keypoints that agree with their neighbours: all candidates at once, exact belief propagation on a tree.

Cost of a candidate: mean squared MIND-SSC difference over a patch. Neighbours (minimum spanning tree of a nearest-neighbour graph)
pay the squared difference of their displacements over their distance; on a tree two passes give the exact min-marginals.
Source: Heinrich, Handels and Simpson, Estimating large lung motion in COPD patients by symmetric regularised correspondence fields,
MICCAI 2015, re-derived. Differs in: costs scaled to a mean of 1; sub-voxel minimum by parabolas; symmetric costs in one pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

_NEIGHBOURS = 24
_CHUNK = 96  # keypoints worked on at once
_STILLNESS = 1e-4  # per squared voxel: among equal candidates the smaller displacement wins
Tick = Callable[[float], None]


@dataclass(frozen=True)
class MatchSettings:
    """reach: candidates along each axis to each side, voxels; stiffness: of neighbours, 1/mm; symmetric: the fixed image shifted
    back counts as well (for small displacements); patch, stride: samples to each side in a patch, and voxels between them."""

    reach: int
    stiffness: float
    symmetric: bool
    patch: int = 1
    stride: int = 1


def match(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    inside: torch.Tensor | None,
    keypoints: torch.Tensor,
    spacing: tuple[float, float, float],
    settings: MatchSettings,
    tick: Tick = lambda fraction: None,
) -> torch.Tensor:
    """fixed, moving: features (C, D, H, W) on one lattice; keypoints (K, 3) voxels (k, j, i); inside (1, D, H, W): weight of the
    moving voxels, or None. Returns displacements (K, 3) in voxels (k, j, i), fixed -> moving."""
    cost = candidate_costs(fixed, moving, inside, keypoints, settings, lambda f: tick(0.5 * f))
    belief = propagate(cost, keypoints, spacing, settings.stiffness, lambda f: tick(0.5 + 0.5 * f))
    return lowest(belief, settings.symmetric)


def candidate_costs(
    fixed: torch.Tensor,
    moving: torch.Tensor,
    inside: torch.Tensor | None,
    keypoints: torch.Tensor,
    settings: MatchSettings,
    tick: Tick,
) -> torch.Tensor:
    """(K, n, n, n) with n = 2 reach + 1, mean 1: cost of each displacement (k, j, i) from -reach to reach."""
    parts = []
    for start in range(0, len(keypoints), _CHUNK):
        tick(start / len(keypoints))
        part = keypoints[start : start + _CHUNK]
        forward = _patch_costs(fixed, moving, part, settings)
        if settings.symmetric:
            forward = 0.5 * (forward + _patch_costs(moving, fixed, part, settings).flip(1, 2, 3))
        parts.append(forward)
    cost = torch.cat(parts)
    if inside is not None:
        weight = torch.cat([_blocks(inside, part, settings.reach)[:, 0] for part in keypoints.split(_CHUNK)])
        typical = (cost * weight).sum() / weight.sum().clamp(min=1e-6)
        cost = weight * cost + (1.0 - weight) * typical
    cost = cost / cost.mean().clamp(min=1e-12)
    line = torch.arange(-settings.reach, settings.reach + 1, dtype=cost.dtype, device=cost.device).square()
    return cost + _STILLNESS * (line.view(-1, 1, 1) + line.view(1, -1, 1) + line.view(1, 1, -1))


def _patch_costs(here: torch.Tensor, there: torch.Tensor, points: torch.Tensor, settings: MatchSettings) -> torch.Tensor:
    """Sum over patch and channels of (here(p + o) - there(p + o + d))^2 for all d, (K, n, n, n)."""
    r, stride = settings.patch, settings.stride
    patch = _blocks(here, points, r, stride)
    area = _blocks(there, points, settings.reach + r * stride)
    square = area.square().sum(dim=1)
    n = 2 * settings.reach + 1
    total = patch.square().flatten(1).sum(dim=1, keepdim=True).repeat(1, n**3)
    for place in itertools.product(range(2 * r + 1), repeat=3):  # products in one batch: grouped convolution is far slower
        c, b, a = (slice(x * stride, x * stride + n) for x in place)
        seen = area[:, :, c, b, a].flatten(2)
        total += square[:, c, b, a].flatten(1) - 2.0 * torch.bmm(patch[:, None, :, place[0], place[1], place[2]], seen)[:, 0]
    return total.view(-1, n, n, n).clamp(min=0.0)


def _blocks(data: torch.Tensor, points: torch.Tensor, radius: int, stride: int = 1) -> torch.Tensor:
    """(K, C, m, m, m): the samples within +-radius of each point, `stride` voxels apart, borders repeated."""
    line = stride * torch.arange(-radius, radius + 1, device=data.device)
    k, j, i = ((points[:, a : a + 1] + line).clamp(0, data.shape[a + 1] - 1) for a in range(3))
    return data[:, k[:, :, None, None], j[:, None, :, None], i[:, None, None, :]].movedim(0, 1)


def propagate(
    cost: torch.Tensor, keypoints: torch.Tensor, spacing: tuple[float, float, float], stiffness: float, tick: Tick = lambda f: None
) -> torch.Tensor:
    """Min-marginals (K, n, n, n) of sum_p cost_p(d_p) + stiffness sum_edges |d_p - d_q|^2 / |p - q|, lengths in mm."""
    parent, length, levels = _tree(keypoints.cpu().numpy() * np.array(spacing))
    price = torch.from_numpy(stiffness / length).to(cost)
    line = torch.arange(cost.shape[1], dtype=cost.dtype, device=cost.device)
    steps = [(h * (line[:, None] - line[None, :])).square() for h in spacing]
    up = torch.zeros_like(cost)  # what the children say, summed
    said = torch.zeros_like(cost)  # what each node has told its parent
    for number, level in enumerate(reversed(levels[1:])):
        tick(0.5 * number / len(levels))
        message = _min_plus(cost[level] + up[level], price[level], steps)
        said[level] = message
        up.index_add_(0, parent[level], message)
    down = torch.zeros_like(cost)
    for number, level in enumerate(levels[1:]):
        tick(0.5 + 0.5 * number / len(levels))
        above = parent[level]
        down[level] = _min_plus(cost[above] + up[above] + down[above] - said[level], price[level], steps)
    return cost + up + down


def _min_plus(values: torch.Tensor, price: torch.Tensor, steps: list[torch.Tensor]) -> torch.Tensor:
    """min over d' of values(d') + price |d - d'|^2, axis by axis; the smallest becomes 0."""
    for axis, step in enumerate(steps):
        moved = values.movedim(axis + 1, -1)
        penalty = price.view(-1, 1, 1) * step
        best = torch.stack([(moved + penalty[:, None, None, d]).amin(dim=-1) for d in range(len(step))], dim=-1)
        values = best.movedim(-1, axis + 1)
    return values - values.flatten(1).amin(dim=1).view(-1, 1, 1, 1)


def _tree(points: np.ndarray) -> tuple[torch.Tensor, np.ndarray, list[torch.Tensor]]:
    """Parent of each node (itself for roots), mm to it, and the nodes by their depth."""
    count = len(points)
    distance, index = cKDTree(points).query(points, min(_NEIGHBOURS, count - 1) + 1)
    rows = np.repeat(np.arange(count), index.shape[1] - 1)
    graph = coo_matrix((np.maximum(distance[:, 1:].ravel(), 1e-3), (rows, index[:, 1:].ravel())), shape=(count, count)).tocsr()
    tree = minimum_spanning_tree(graph)
    tree = tree + tree.T
    _, label = connected_components(tree, directed=False)
    parent, depth = np.arange(count), np.zeros(count, dtype=int)
    for component in np.unique(label):
        root = int(np.flatnonzero(label == component)[0])
        order, before = breadth_first_order(tree, root, directed=False)
        for node in order[1:]:
            parent[node] = before[node]
            depth[node] = depth[before[node]] + 1
    length = np.maximum(np.linalg.norm(points - points[parent], axis=1), 1e-3)
    levels = [torch.from_numpy(np.flatnonzero(depth == d)) for d in range(depth.max() + 1)]
    return torch.from_numpy(parent), length, levels


def lowest(belief: torch.Tensor, between: bool) -> torch.Tensor:
    """(K, n, n, n) -> (K, 3) displacement (k, j, i) of the minimum, with `between` refined by a parabola along each axis."""
    n = belief.shape[1]
    flat = belief.flatten(1).argmin(dim=1)
    place = [flat // (n * n), flat // n % n, flat % n]
    rows = torch.arange(len(belief), device=belief.device)
    out = []
    for axis in range(3):
        found = (place[axis] - n // 2).to(belief.dtype)
        if between:
            near = [list(place), list(place)]
            near[0][axis], near[1][axis] = (place[axis] - 1).clamp(min=0), (place[axis] + 1).clamp(max=n - 1)
            a, b = (belief[rows, where[0], where[1], where[2]] for where in near)
            middle = belief[rows, place[0], place[1], place[2]]
            bend = a + b - 2.0 * middle
            inner = (place[axis] > 0) & (place[axis] < n - 1) & (bend > 1e-9)
            found = found + torch.where(inner, 0.5 * (a - b) / bend.clamp(min=1e-9), 0.0).clamp(-0.5, 0.5)
        out.append(found)
    return torch.stack(out, dim=1)
