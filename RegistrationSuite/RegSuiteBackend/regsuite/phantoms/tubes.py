"""Vessels, airways and ribs: trees that fill a volume, and tubes drawn with the scanner's blur."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special

from regsuite.geometry import Grid

_RADII_MM = np.geomspace(0.25, 20.0, 110)
_TABLE_STEP_MM = 0.05
_CHUNK = 200_000  # voxels drawn at once


@dataclass(frozen=True, eq=False)
class Tubes:
    """Short straight pieces of tubes: centre (N, 3) mm, unit tangent (N, 3), half length (N,) mm, radius (N,) mm."""

    centre: np.ndarray
    tangent: np.ndarray
    half: np.ndarray
    radius: np.ndarray

    def thicker(self, by_mm: float) -> Tubes:
        """The same lines with radius + by_mm (negative: thinner; pieces whose radius vanishes are dropped)."""
        keep = self.radius + by_mm > 0.2
        return Tubes(self.centre[keep], self.tangent[keep], self.half[keep], self.radius[keep] + by_mm)

    def where(self, keep: np.ndarray) -> Tubes:
        """Only the pieces with keep (N,) true."""
        return Tubes(self.centre[keep], self.tangent[keep], self.half[keep], self.radius[keep])


def join(parts: list[Tubes]) -> Tubes:
    """All pieces of several sets."""
    stacked = [np.concatenate([getattr(p, f) for p in parts]) for f in ("centre", "tangent", "half", "radius")]
    return Tubes(*stacked)


def polyline(points: np.ndarray, radius: np.ndarray | float, step_mm: float = 1.2) -> Tubes:
    """Tubes along a line through points (N, 3) mm, N >= 2, with radius (mm; one, or one per point, linear between)."""
    radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(points))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    edges = np.linspace(0.0, length[-1], max(1, int(np.ceil(length[-1] / step_mm))) + 1)
    line = np.stack([np.interp(edges, length, points[:, c]) for c in range(3)], axis=1)
    piece = np.diff(line, axis=0)
    norm = np.maximum(np.linalg.norm(piece, axis=1), 1e-9)
    middle = (edges[1:] + edges[:-1]) / 2
    return Tubes((line[1:] + line[:-1]) / 2, piece / norm[:, None], norm / 2, np.interp(middle, length, radius))


@dataclass(frozen=True, eq=False)
class Tree:
    """Nodes of a binary tree, root first: position (N, 3) mm, parent (N,) (-1 at the root), radius (N,) mm of the branch
    that ends in the node, children (N,) how many branches start there."""

    position: np.ndarray
    parent: np.ndarray
    radius: np.ndarray
    children: np.ndarray

    def tubes(self, shortest_radius_mm: float = 0.0, step_mm: float = 1.2) -> Tubes:
        """Every branch with at least this radius as a smooth curve that leaves its parent in the parent's direction."""
        nodes = np.flatnonzero((self.parent >= 0) & (self.radius >= shortest_radius_mm))
        start, end = self.position[self.parent[nodes]], self.position[nodes]
        above = self.parent[self.parent[nodes]]
        into = np.where((above >= 0)[:, None], start - self.position[above], end - start)
        into /= np.maximum(np.linalg.norm(into, axis=1, keepdims=True), 1e-9)
        length = np.linalg.norm(end - start, axis=1, keepdims=True)
        control = 0.5 * start + 0.15 * length * into + 0.25 * (start + end)
        count = np.maximum(1, np.ceil(length[:, 0] / step_mm)).astype(int)
        branch = np.repeat(np.arange(len(nodes)), count)
        first = np.arange(len(branch)) - np.repeat(np.cumsum(count) - count, count)
        ends = []
        for t in (first / count[branch], (first + 1) / count[branch]):
            u = t[:, None]
            ends.append((1 - u) ** 2 * start[branch] + 2 * u * (1 - u) * control[branch] + u**2 * end[branch])
        piece = ends[1] - ends[0]
        norm = np.maximum(np.linalg.norm(piece, axis=1), 1e-9)
        return Tubes((ends[0] + ends[1]) / 2, piece / norm[:, None], norm / 2, self.radius[nodes][branch])


def grow_tree(
    points: np.ndarray, line: np.ndarray, rng: np.random.Generator, leaf_points: int, leaf_radius_mm: float, exponent: float = 2.7
) -> Tree:
    """A binary tree that fills the cloud `points` (N, 3) mm from a stem `line` (M, 3) mm, root first.

    The cloud is halved again and again across its longest extent beside the branch; each branch runs 40 % of the way to
    its half's centroid (after Tawhai's volume filling), until a part holds at most `leaf_points`. Radii follow
    r^exponent = sum of the children's r^exponent.
    """
    position, parent = list(line), [i - 1 for i in range(len(line))]
    stack = [(points, len(line) - 1)]
    while stack:
        cloud, above = stack.pop()
        target = cloud.mean(axis=0)
        leaf = len(cloud) <= leaf_points
        reach = rng.uniform(0.7, 1.0) if leaf else rng.uniform(0.34, 0.46)
        here = position[above] + reach * (target - position[above])
        position.append(here)
        parent.append(above)
        if leaf:
            continue
        axis = here - position[above]
        axis = axis / max(np.linalg.norm(axis), 1e-9)
        flat = cloud - target
        flat = flat - np.outer(flat @ axis, axis)
        longest = np.linalg.eigh(flat.T @ flat)[1][:, -1] + rng.normal(scale=0.12, size=3)
        side = flat @ longest
        place = int(rng.uniform(0.38, 0.62) * (len(side) - 1))
        cut = side > np.partition(side, place)[place]
        for half in (cloud[cut], cloud[~cut]):
            if len(half):
                stack.append((half, len(position) - 1))
    return _with_radii(np.array(position), np.array(parent), rng, leaf_radius_mm, exponent)


def _with_radii(position: np.ndarray, parent: np.ndarray, rng: np.random.Generator, leaf_mm: float, exponent: float) -> Tree:
    children = np.bincount(parent[1:], minlength=len(parent))
    power = np.zeros(len(parent))
    power[children == 0] = (leaf_mm * rng.uniform(0.8, 1.25, int((children == 0).sum()))) ** exponent
    for node in range(len(parent) - 1, 0, -1):
        power[parent[node]] += power[node]
    return Tree(position, parent, power ** (1.0 / exponent), children)


def coverage(tubes: Tubes, start: np.ndarray, grid: Grid, reference: torch.Tensor, blur_mm: float) -> torch.Tensor:
    """(V,) float32: the share of each voxel of `grid` that lies in the tubes, seen with a Gaussian blur (sigma, mm).

    Voxel v shows the point reference[v] (V, 3) of the space the tubes are given in; `start` (N, 3) mm is where the
    tubes' centres appear in the grid's own world. A disc of radius r blurred by s is 1 - Q1(d/s, r/s) at distance d.
    """
    out = np.zeros(grid.voxels, dtype=np.float32)
    table = _disc_table(blur_mm)
    which = np.interp(np.log(tubes.radius), np.log(_RADII_MM), np.arange(len(_RADII_MM))).round().astype(int)
    index = grid.world_to_index(torch.from_numpy(start)).round().long().numpy()
    reach = np.ceil((1.2 * (tubes.radius + 2.4 * blur_mm) + tubes.half)[:, None] / grid.spacing[None] + 0.5).astype(int)
    seen = ((index >= -reach) & (index < np.array(grid.size) + reach)).all(axis=1)
    for size in np.unique(reach[seen], axis=0):
        chosen = np.flatnonzero(seen & (reach == size).all(axis=1))
        box = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in size), indexing="ij"), axis=-1).reshape(-1, 3)
        for part in np.array_split(chosen, int(np.ceil(len(chosen) * len(box) / _CHUNK))):
            _splat(out, tubes.where(part), table, which[part], index[part], box, grid, reference.numpy(), blur_mm)
    return torch.from_numpy(out)


def _splat(
    out: np.ndarray, tubes: Tubes, table: np.ndarray, which: np.ndarray, index: np.ndarray, box: np.ndarray, grid: Grid,
    reference: np.ndarray, blur_mm: float,
) -> None:  # fmt: skip
    """Raise `out` (V,) to the coverage of each piece in the box of voxels around it.

    Indices beyond the border are clipped to it: the same voxel twice does no harm, as its own place decides its value.
    """
    i, j, k = (np.clip(index[:, c, None] + box[None, :, c], 0, grid.size[c] - 1) for c in range(3))
    flat = (k * grid.size[1] + j) * grid.size[0] + i
    offset = reference[flat] - tubes.centre.astype(np.float32)[:, None]
    along = np.einsum("nmc,nc->nm", offset, tubes.tangent.astype(np.float32))
    square = np.einsum("nmc,nmc->nm", offset, offset) - along**2
    square += np.maximum(np.abs(along) - tubes.half.astype(np.float32)[:, None], 0.0) ** 2
    limit = (tubes.radius + 3.5 * blur_mm).astype(np.float32) ** 2
    piece, column = np.nonzero(square < limit[:, None])
    distance = np.sqrt(np.maximum(square[piece, column], 0.0)) / _TABLE_STEP_MM
    low = distance.astype(np.int64)
    rest = (distance - low).astype(np.float32)
    rows = which[piece] * table.shape[1] + low
    values = table.ravel()
    np.maximum.at(out, flat[piece, column], values[rows] * (1 - rest) + values[rows + 1] * rest)


@functools.lru_cache(maxsize=4)
def _disc_table(blur_mm: float) -> np.ndarray:
    """(radii, distances) float32: a disc of each radius, blurred, at each distance."""
    distance = np.arange(0.0, _RADII_MM[-1] + 6 * blur_mm, _TABLE_STEP_MM)
    radius = _RADII_MM[:, None]
    table = special.chndtr((radius / blur_mm) ** 2, 2.0, (distance[None] / blur_mm) ** 2)
    edge = special.ndtr((radius - distance[None]) / blur_mm)  # far out in a thick tube the disc is a straight edge
    use = np.isfinite(table) & (radius < 12 * blur_mm)
    return np.where(use, table, edge).astype(np.float32)
