"""The energy of a linear map over sampled points, with its gradient in a centred, scaled parametrisation."""

from __future__ import annotations

import math

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.sampling import normalise_matrix, sample_normalised, sample_world
from regsuite.solvers.linear_metrics import Metric

KINDS = {"rigid": 6, "similarity": 7, "affine": 12}
"""Kind -> number of parameters: 3 of translation, 3 of rotation, then those of the symmetric part."""
_SYMMETRIC = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))

LEAST_POINTS = 64  # ours: fewer points cannot place anything


def sample_points(grid: Grid, mask: Image | None, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """At most `count` points (N, 3) world mm between the voxels of `grid`, one in each of as many chosen voxels of the mask, and
    their weights (N,): the mask there. Seeded; the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    inside = torch.arange(grid.voxels) if mask is None else torch.nonzero(mask.data.flatten().cpu() > 0.01)[:, 0]
    if len(inside) < min(LEAST_POINTS, grid.voxels):
        raise InputError(f"The fixed mask is too small: {len(inside)} voxels at the resolution of the comparison.")
    if len(inside) > count:
        inside = _spread(inside, count, generator)
    _, h, w = grid.shape
    index = torch.stack([inside % w, inside // w % h, inside // (w * h)], dim=1).double()
    jitter = torch.rand(len(index), 3, generator=generator, dtype=torch.float64) - 0.5
    last = torch.tensor(grid.size, dtype=torch.float64) - 1.0
    points = grid.index_to_world(torch.minimum((index + jitter).clamp(min=0.0), last))
    weight = torch.ones(len(points)) if mask is None else sample_world(mask, points.to(mask.data.device))[0].cpu()
    device = "cpu" if mask is None else mask.data.device
    return points.to(device), weight.to(device)


def _spread(inside: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """One of every len/count successive voxels: evener than independent draws."""
    edges = torch.linspace(0, len(inside), count + 1, dtype=torch.float64)
    place = edges[:-1] + torch.rand(count, generator=generator, dtype=torch.float64) * (edges[1:] - edges[:-1])
    return inside[place.long().clamp(max=len(inside) - 1)]


class Problem:
    """Energy of T(x) = c + expm(W) expm(S) (T0(x) - c) + t at parameters p (K,) in mm; see solvers/linear."""

    def __init__(
        self,
        points: torch.Tensor,
        weight: torch.Tensor,
        moving: Grid,
        moving_mask: Image | None,
        metric: Metric,
        start: np.ndarray,
        kind: str,
        least_overlap: float,
    ) -> None:
        self.start, self.kind, self._metric, self._least = start, kind, metric, least_overlap
        there = points.cpu().numpy() @ start[:3, :3].T + start[:3, 3]
        self.centre = np.average(there, axis=0, weights=weight.cpu().numpy().astype(np.float64) + 1e-12)
        local = there - self.centre
        self.radius_mm = max(float(np.sqrt((local**2).sum(axis=1).mean())), 1e-3)
        self._local = torch.as_tensor(local).to(weight)
        self._weight, self._total = weight, float(weight.sum())
        self._normalise = torch.as_tensor((normalise_matrix(moving.shape) @ moving.inverse_affine())[:3])
        self._mask = torch.ones(1, *moving.shape).to(weight) if moving_mask is None else moving_mask.data.to(weight)
        self._free = _in_plane(moving, kind) if min(moving.shape) == 1 else None

    def turned(self, vector: np.ndarray) -> np.ndarray:
        """4x4: the start, then a rotation (vector in radians) about the centre."""
        p = torch.zeros(KINDS[self.kind], dtype=torch.float64)
        p[3:6] = torch.as_tensor(vector * self.radius_mm)
        return self.matrix(p)

    def matrix(self, p: torch.Tensor) -> np.ndarray:
        """4x4 T, world -> world."""
        linear, shift = (part.detach().numpy() for part in self._parts(p))
        update = np.eye(4)
        update[:3, :3] = linear
        update[:3, 3] = self.centre + shift - linear @ self.centre
        return update @ self.start

    def overlap(self, p: torch.Tensor | None = None) -> float:
        """Share of the weight of the points that meets the moving image (and its mask)."""
        p = torch.zeros(KINDS[self.kind], dtype=torch.float64) if p is None else p
        return float(self._meeting(self._coordinates(*self._parts(p))).sum()) / max(self._total, 1e-12)

    def energy(self, p: torch.Tensor) -> tuple[float, torch.Tensor, dict[str, float]]:
        """Value, gradient (K,) and the overlap; infinite where too little of the fixed points meets the moving image."""
        with torch.enable_grad():
            leaf = p.detach().clone().requires_grad_(True)
            linear, shift = self._parts(leaf)
            coordinates = self._coordinates(linear, shift)
            weight = self._meeting(coordinates)
            overlap = float(weight.detach().sum()) / max(self._total, 1e-12)
            if overlap < self._least and bool((p != 0).any()):
                return math.inf, torch.zeros_like(p), {"overlap": overlap}
            value = self._metric(coordinates, weight, linear @ torch.tensor(self.start[:3, :3]))
            value.backward()
        assert leaf.grad is not None
        gradient = leaf.grad if self._free is None else self._free @ leaf.grad
        return float(value.detach()), gradient, {"overlap": overlap}

    def _parts(self, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(3, 3) expm(W) expm(S) and (3,) t, float64 on the CPU."""
        x, y, z = p[3:6] / self.radius_mm
        zero = torch.zeros_like(x)
        linear = torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3))
        if self.kind == "similarity":
            linear = linear * torch.exp(p[6] / self.radius_mm)
        elif self.kind == "affine":
            a, b, c, d, e, f = p[6:12] / self.radius_mm  # in the order of _SYMMETRIC
            linear = linear @ torch.linalg.matrix_exp(torch.stack([a, d, e, d, b, f, e, f, c]).view(3, 3))
        return linear, p[:3]

    def _coordinates(self, linear: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """(N, 3) grid_sample coordinates of the moving image."""
        to = self._normalise
        matrix = (to[:, :3] @ linear).to(self._local)
        offset = (to[:, :3] @ (torch.as_tensor(self.centre) + shift) + to[:, 3]).to(self._local)
        return self._local @ matrix.T + offset

    def _meeting(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(N,) weight of each point: its own times the moving mask there, sinking to 0 over the outermost voxel."""
        return self._weight * sample_normalised(self._mask, coordinates.view(1, 1, -1, 3), padding="zeros")[0, 0, 0]


def _in_plane(slice_grid: Grid, kind: str) -> torch.Tensor:
    """(K, K) float64: projection of the parameters onto the maps that keep the plane of a single slice.

    Along its normal a slice has no contrast; what its grey values leave open must not move.
    """
    across = np.eye(3)[[n for n, size in enumerate(slice_grid.size) if size == 1]] @ slice_grid.direction.T
    keep = np.eye(3) - across.T @ across
    turn = across.T @ across if len(across) == 1 else np.zeros((3, 3))
    columns = np.zeros((KINDS[kind], KINDS[kind]))
    columns[:3, :3], columns[3:6, 3:6] = keep, turn
    if kind == "similarity":
        columns[6, 6] = 1.0
    elif kind == "affine":
        for number, (a, b) in enumerate(_SYMMETRIC):
            basis = np.zeros((3, 3))
            basis[a, b] = basis[b, a] = 1.0
            inside = keep @ basis @ keep
            columns[6:, 6 + number] = [inside[c, d] for c, d in _SYMMETRIC]
    directions, sizes, _ = np.linalg.svd(columns)
    directions = directions[:, sizes > 1e-9]
    return torch.from_numpy(directions @ directions.T)
