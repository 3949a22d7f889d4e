"""A dose carried to the fixed image by uncertain transforms: fractions added up, samples streamed, percentiles in slabs.

    D(x) = sum over fractions f of  w_f d_f(T_f(x)),          sample s: T_f replaced by T_{f,s}

Doses are evaluated where points fall, never warped twice; before, they are cut finer with a cubic spline, because a coarse dose
grid read linearly shifts DVHs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from regsuite.geometry import Grid, Image
from regsuite.geometry.grid import affine_lattice
from regsuite.io.atomic import require_space
from regsuite.ops.sampling import normalise_matrix, sample_index, sample_normalised
from regsuite.ops.upsample import upsample
from regsuite.transforms import DisplacementField, Transform

FINEST_MM = 1.3
MOST_VOXELS = 60_000_000
IN_MEMORY_BYTES = 1_500_000_000
PERCENTILES = (5.0, 50.0, 95.0)
NAMES = ("mean", "sigma", "p05", "p50", "p95")
_SLAB_VALUES = 20_000_000


@dataclass(frozen=True, eq=False)
class Fraction:
    """One delivered dose (Gy, moving space), the map fixed -> moving points, its weight, and an iterable of sampled maps (or
    None).
    """

    dose: Image
    transform: Transform
    weight: float = 1.0
    samples: Iterable[Transform] | None = None


@dataclass(frozen=True, eq=False)
class Extended(Transform):
    """A sampled field where it is known (its grid), the mean transform beyond."""

    field: DisplacementField
    mean: Transform

    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        inside = self.field.grid.contains(points)
        out = self.field.map_points(points)
        if not bool(inside.all()):
            out[~inside] = self.mean.map_points(points[~inside])
        return out

    def inverse(self) -> Transform:
        return self.field.inverse()

    def to(self, device: torch.device | str) -> Extended:
        return Extended(self.field.to(device), self.mean.to(device))

    def displacement(self, grid: Grid, device: torch.device | str = "cpu") -> torch.Tensor:
        if self.field.grid == grid:
            return self.field.field.to(device)
        return super().displacement(grid, device)


def finer(dose: Image) -> Image:
    """The dose on voxels of at most FINEST_MM (cubic spline, never below 0), or as fine as MOST_VOXELS allows."""
    factors = [max(1, int(np.ceil(s / FINEST_MM - 1e-6))) for s in dose.grid.spacing]
    while dose.grid.voxels * int(np.prod(factors)) > MOST_VOXELS and max(factors) > 1:
        factors[int(np.argmax(factors))] -= 1
    found = upsample(dose, (factors[0], factors[1], factors[2]))
    return found if found is dose else found.with_data(found.data.clamp_(min=0.0))


def dose_on_grid(dose: Image, grid: Grid, transform: Transform, beyond: float = 0.0) -> torch.Tensor:
    """(D, H, W) float32: dose(T(x)) at the voxel centres x of `grid`; `beyond` where T(x) lies outside the dose. In slabs, float32
    lattice coordinates."""
    shift = transform.displacement(grid)
    matrix = normalise_matrix(dose.grid.shape) @ dose.grid.inverse_affine()
    turn = torch.from_numpy(matrix[:3, :3].copy()).float()
    limit = torch.tensor([1.0, 1.0, 1.0])
    out = torch.empty(grid.shape)
    slab = max(1, 4_000_000 // (grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], slab):
        part = grid.cropped((start, 0, 0), (min(slab, grid.shape[0] - start), *grid.shape[1:]))
        at = affine_lattice(part.shape, matrix @ part.affine)
        moved = shift[:, start : start + part.shape[0]].reshape(3, -1)
        at += (turn @ moved).T.reshape(*part.shape, 3)
        values = sample_normalised(dose.data, at)[0]
        values[(at.abs() > limit).any(dim=-1)] = beyond
        out[start : start + part.shape[0]] = values
    return out


def total_on_grid(
    fractions: Sequence[Fraction], maps: Sequence[Transform], grid: Grid, beyond: float = 0.0
) -> torch.Tensor:
    """(D, H, W) Gy: the weighted sum of all fractions, each seen through its map; `beyond` (0 or NaN) where a dose ends."""
    out = torch.zeros(grid.shape)
    for fraction, mapping in zip(fractions, maps, strict=True):
        out.add_(dose_on_grid(fraction.dose, grid, mapping, beyond), alpha=fraction.weight)
    return out


def total_at_points(fractions: Sequence[Fraction], maps: Sequence[Transform], points: torch.Tensor) -> torch.Tensor:
    """(N,) Gy at points (N, 3) RAS mm of the fixed space: the same sum."""
    out = torch.zeros(len(points))
    for fraction, mapping in zip(fractions, maps, strict=True):
        index = fraction.dose.grid.world_to_index(mapping.map_points(points))
        out.add_(sample_index(fraction.dose.data, index, "linear", fill=0.0)[0], alpha=fraction.weight)
    return out


def sampled_maps(fractions: Sequence[Fraction]) -> Iterator[tuple[Transform, ...]]:
    """One tuple of maps after the other; a fraction without samples keeps its transform (at least one must have some)."""
    streams = [None if f.samples is None else iter(f.samples) for f in fractions]
    while True:
        maps: list[Transform] = []
        for stream, fraction in zip(streams, fractions, strict=True):
            if stream is None:
                maps.append(fraction.transform)
                continue
            sample = next(stream, None)
            if sample is None:
                return
            maps.append(Extended(sample, fraction.transform) if isinstance(sample, DisplacementField) else sample)
        yield tuple(maps)


class Spread:
    """Collects sampled volumes and gives their mean, standard deviation and percentiles voxel by voxel.

    Up to IN_MEMORY_BYTES the volumes stay in memory, beyond that in a temporary file in `folder` (default: the system's);
    statistics are made in slabs.
    """

    def __init__(self, shape: tuple[int, int, int], count: int, folder: Path | None) -> None:
        self._count, self._shape, self._used = count, shape, 0
        size = 4 * count * int(np.prod(shape))
        self._file = None
        if size <= IN_MEMORY_BYTES:
            self._store = np.empty((count, *shape), dtype=np.float32)
        else:
            folder = Path(tempfile.gettempdir()) if folder is None else folder
            require_space(folder / "samples", size)
            self._file = tempfile.NamedTemporaryFile(dir=folder, prefix=".samples-", suffix=".partial")  # noqa: SIM115
            self._store = np.memmap(self._file, dtype=np.float32, mode="w+", shape=(count, *shape))

    def add(self, volume: torch.Tensor) -> None:
        """Keep one sample (D, H, W); NaN where it says nothing."""
        self._store[self._used] = volume.numpy()
        self._used += 1

    def statistics(self, tick: Callable[[float], object] = lambda fraction: None) -> dict[str, torch.Tensor]:
        """mean, sigma (n - 1 in the denominator), p05, p50, p95, each (D, H, W) float32; percentiles as metrics.RANKS.

        A sample that left the dose somewhere (NaN) is left out there: counted as 0 Gy it would be a spread of the dose's border.
        """
        out = {name: torch.zeros(self._shape) for name in NAMES}
        n = self._used
        depth, height, width = self._shape
        slab = max(1, _SLAB_VALUES // (n * height * width))
        for start in range(0, depth, slab):
            rows = slice(start, start + slab)
            block = torch.from_numpy(np.ascontiguousarray(self._store[:n, rows].reshape(n, -1).T))
            least, most = block.nan_to_num().aminmax(dim=1)
            hit = torch.nonzero((most > 0.0) | (least < 0.0))[:, 0]  # where no sample brings dose there is nothing to sort
            found = _statistics(block[hit].sort(dim=1).values)
            for name, value in zip(NAMES, found, strict=True):
                out[name][rows].view(-1)[hit] = value
            tick(min(1.0, (start + slab) / depth))
        return out

    def close(self) -> None:
        """Free the memory or the file."""
        self._store = np.empty((0,), dtype=np.float32)
        if self._file is not None:
            self._file.close()


def _statistics(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(N,) each of NAMES from sorted rows (N, n), NaN last; at least one value of each row is a number."""
    n = values.shape[1]
    count = n - values.isnan().sum(dim=1)
    out = tuple(torch.zeros(len(values)) for _ in NAMES)
    for used in count.unique().tolist():
        rows = torch.nonzero(count == used)[:, 0]
        some = values if len(rows) == len(values) else values[rows, :used]
        spread = some.std(dim=1) if used > 1 else torch.zeros(len(some))
        found = (some.mean(dim=1), spread, *(_at_rank(some, p) for p in PERCENTILES))
        for whole, part in zip(out, found, strict=True):
            whole[rows] = part
    return out


def _at_rank(values: torch.Tensor, percent: float) -> torch.Tensor:
    """Percentile of sorted rows (N, n) -> (N,), as numpy's method 'weibull' (see metrics.RANKS)."""
    last = values.shape[1] - 1
    place = min(max(percent / 100.0 * (last + 2) - 1.0, 0.0), float(last))
    low = int(np.floor(place))
    high = min(low + 1, values.shape[1] - 1)
    return values[:, low] + (place - low) * (values[:, high] - values[:, low])
