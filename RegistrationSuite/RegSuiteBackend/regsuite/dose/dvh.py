"""Dose-volume histograms from occupancies: partial volumes, doses sampled inside the cells, bins fitted to each structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from regsuite.geometry import Grid, Image
from regsuite.ops.sampling import PointMap, sample_index

BINS = 5000
LEAST_POINTS = 400_000
MOST_REPEATS = 64
_CHUNK = 2_000_000
_PLASTIC = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)  # the additive recurrence that fills a cube most evenly


@dataclass(frozen=True, eq=False)
class Histogram:
    """How much volume gets which dose: `volume_cc` (B,) between `edges_gy` (B + 1,); mean_gy is exact, not from bins."""

    edges_gy: np.ndarray
    volume_cc: np.ndarray
    mean_gy: float

    @property
    def total_cc(self) -> float:
        """Volume of the structure."""
        return float(self.volume_cc.sum())

    def volume_at(self, dose_gy: np.ndarray | float) -> np.ndarray:
        """cm^3 that get at least this dose; linear within bins."""
        above = np.append(np.cumsum(self.volume_cc[::-1])[::-1], 0.0)
        low = np.asarray(dose_gy) <= self.edges_gy[0]
        return np.where(low, above[0], np.interp(dose_gy, self.edges_gy, above))

    def dose_at(self, volume_cc: float) -> float:
        """Gy that the hottest `volume_cc` get at least; NaN when the structure is smaller."""
        if volume_cc > self.total_cc * (1 + 1e-9):
            return float("nan")
        above = np.append(np.cumsum(self.volume_cc[::-1]), [])  # from the hottest bin downwards
        above = np.insert(above, 0, 0.0)
        return float(np.interp(volume_cc, above, self.edges_gy[::-1]))


@dataclass(frozen=True, eq=False)
class Samples:
    """Places inside a structure: points (N, 3) float64 RAS mm and their volumes (N,) mm^3."""

    points: torch.Tensor
    volumes: torch.Tensor


def structure_samples(occupancy: Image, most: int | None = None, least: int = LEAST_POINTS) -> Iterator[Samples]:
    """Points spread evenly in the filled cells, in chunks. Small structures get several per cell (at least `least` in all, up to
    MOST_REPEATS each); `most` thins large ones out evenly. The same points every time.
    """
    share = occupancy.data[0]
    filled = torch.nonzero(share.reshape(-1) > 0)[:, 0]
    step = 1 if most is None else max(1, -(-len(filled) // most))
    if step > 1:  # evenly, but not on a lattice: the recurrence below picks the offset in each run of `step` cells
        start = torch.arange(0, len(filled), step)
        offset = (torch.frac(torch.arange(len(start), dtype=torch.float64) * 0.6180339887498949) * step).long()
        scale = len(filled) / len(start)
        filled = filled[(start + offset).clamp(max=len(filled) - 1)]
    else:
        scale = 1.0
    repeats = min(MOST_REPEATS, max(1, -(-min(least, most or least) // max(len(filled), 1))))
    grid = occupancy.grid
    number = 0
    for part in filled.split(max(1, _CHUNK // repeats)):
        volumes = (share.reshape(-1)[part].double() * (grid.voxel_volume * scale / repeats)).repeat(repeats)
        _, h, w = grid.shape
        index = torch.stack([part % w, part // w % h, part // (w * h)], dim=1).double().repeat(repeats, 1)
        line = torch.arange(number, number + len(index), dtype=torch.float64)[:, None]
        number += len(index)
        index += torch.frac(line * torch.tensor(_PLASTIC, dtype=torch.float64)) - 0.5
        yield Samples(grid.index_to_world(index), volumes)


def sample_dose(dose: Image, points: torch.Tensor, mapping: PointMap | None = None) -> torch.Tensor:
    """(N,) Gy at points (N, 3) RAS mm, at mapping(points) when given; trilinear; 0 beyond the dose grid."""
    points = points if mapping is None else mapping.map_points(points)
    return sample_index(dose.data, dose.grid.world_to_index(points), "linear", fill=0.0)[0]


def outside_share(grid: Grid, occupancy: Image) -> float:
    """Share of the structure's volume that lies beyond `grid` (half a voxel of margin allowed)."""
    outside = total = 0.0
    for samples in structure_samples(occupancy, most=100_000, least=0):
        inside = grid.contains(samples.points)
        total += float(samples.volumes.sum())
        outside += float(samples.volumes[~inside].sum())
    return outside / total


def histogram(doses: torch.Tensor, volumes: torch.Tensor, bins: int = BINS) -> Histogram:
    """Doses (N,) Gy with volumes (N,) mm^3 -> bins from the least to the highest dose of this structure."""
    values, weights = doses.double().numpy(), volumes.numpy() / 1000.0
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, max(high, low + 1e-9), bins + 1)
    place = np.clip(((values - low) * (bins / (edges[-1] - low))).astype(np.int64), 0, bins - 1)
    return Histogram(edges, np.bincount(place, weights, bins), float(np.average(values, weights=weights)))


def structure_histogram(
    dose: Image,
    occupancy: Image,
    mapping: PointMap | None = None,
    most: int | None = None,
    tick: Callable[[], object] = lambda: None,
) -> Histogram:
    """DVH of one structure in `dose` (Gy), seen through `mapping` (points of the structure -> points of the dose) when given."""
    doses, volumes = [], []
    for samples in structure_samples(occupancy, most):
        doses.append(sample_dose(dose, samples.points, mapping))
        volumes.append(samples.volumes)
        tick()
    return histogram(torch.cat(doses), torch.cat(volumes))
