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
MOST_POINTS = 800_000
"""Of a nominal histogram. All points instead change means by 0.03 % at most, D2cc of a lung of two litres by 0.2 %."""
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
        return float(self.doses_at(np.array([volume_cc]))[0])

    def doses_at(self, volumes_cc: np.ndarray) -> np.ndarray:
        """The same for many volumes (N,) -> (N,)."""
        above = np.insert(np.cumsum(self.volume_cc[::-1]), 0, 0.0)  # from the hottest bin downwards
        doses = np.interp(volumes_cc, above, self.edges_gy[::-1])
        return np.where(volumes_cc > above[-1] * (1 + 1e-9), np.nan, doses)


@dataclass(frozen=True, eq=False)
class Samples:
    """Places inside a structure: points (N, 3) float64 RAS mm and their volumes (N,) mm^3."""

    points: torch.Tensor
    volumes: torch.Tensor


def structure_samples(occupancy: Image, most: int | None = None, least: int = LEAST_POINTS) -> Iterator[Samples]:
    """Points spread evenly in the filled cells, in chunks. Small structures get several per cell (at least `least` in all, up to
    MOST_REPEATS each); `most` thins large ones out evenly. Their volumes add up to the structure's. The same points every time.
    """
    for index, volumes in _samples_in_cells(occupancy, most, least):
        yield Samples(occupancy.grid.index_to_world(index), volumes)


def _samples_in_cells(occupancy: Image, most: int | None, least: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The same as continuous indices (N, 3) of the occupancy's grid, float64, and volumes (N,) mm^3."""
    share = occupancy.data[0].reshape(-1)
    filled = torch.nonzero(share > 0)[:, 0]
    step = 1 if most is None else max(1, -(-len(filled) // most))
    scale = occupancy.grid.voxel_volume
    if step > 1:  # evenly, but not on a lattice: the recurrence below picks the offset in each run of `step` cells
        whole = float(share.sum(dtype=torch.float64))
        start = torch.arange(0, len(filled), step)
        offset = (torch.frac(torch.arange(len(start), dtype=torch.float64) * 0.6180339887498949) * step).long()
        filled = filled[(start + offset).clamp(max=len(filled) - 1)]
        scale *= whole / float(share[filled].sum(dtype=torch.float64))
    repeats = min(MOST_REPEATS, max(1, -(-min(least, most or least) // max(len(filled), 1))))
    _, h, w = occupancy.grid.shape
    number = 0
    for part in filled.split(max(1, _CHUNK // repeats)):
        volumes = (share[part].double() * (scale / repeats)).repeat(repeats)
        index = torch.empty(len(volumes), 3, dtype=torch.float64)
        line = torch.arange(number, number + len(volumes), dtype=torch.float64)
        number += len(volumes)
        for axis, cell in enumerate((part % w, part // w % h, part // (w * h))):
            torch.frac(line * _PLASTIC[axis], out=index[:, axis])
            index[:, axis].view(repeats, -1).add_(cell.double() - 0.5)
        yield index, volumes


def _last_index(grid: Grid) -> torch.Tensor:
    """(i, j, k) of the last cell."""
    return torch.tensor(grid.shape[::-1]) - 1


def sample_dose(dose: Image, points: torch.Tensor, mapping: PointMap | None = None) -> torch.Tensor:
    """(N,) Gy at points (N, 3) RAS mm, at mapping(points) when given; trilinear; 0 beyond the dose grid."""
    points = points if mapping is None else mapping.map_points(points)
    return sample_index(dose.data, dose.grid.world_to_index(points), "linear", fill=0.0)[0]


def outside_share(grid: Grid, occupancy: Image) -> float:
    """Share of the structure's volume that lies beyond `grid` (half a voxel of margin allowed)."""
    corners = occupancy.grid.index_to_world((torch.cartesian_prod(*3 * [torch.arange(2)]) * _last_index(occupancy.grid)).double())
    if bool(grid.contains(corners).all()):
        return 0.0
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
    most: int | None = MOST_POINTS,
    tick: Callable[[], object] = lambda: None,
) -> Histogram:
    """DVH of one structure in `dose` (Gy), seen through `mapping` (points of the structure -> points of the dose) when given."""
    doses, volumes = [], []
    direct = torch.from_numpy(dose.grid.inverse_affine() @ occupancy.grid.affine)  # cell -> dose voxel, when nothing lies between
    for index, share in _samples_in_cells(occupancy, most, LEAST_POINTS):
        if mapping is None:
            at = torch.addmm(direct[:3, 3], index, direct[:3, :3].T).float()
            doses.append(sample_index(dose.data, at, "linear", fill=0.0)[0])
        else:
            doses.append(sample_dose(dose, occupancy.grid.index_to_world(index), mapping))
        volumes.append(share)
        tick()
    return histogram(torch.cat(doses), torch.cat(volumes))
