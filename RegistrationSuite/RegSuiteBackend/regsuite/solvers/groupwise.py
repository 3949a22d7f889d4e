"""Several scans of one subject in a space between them that favours none: velocities that sum to zero.

T_n = A_n o exp(v_n) maps mid-space points to scan n, sum_n v_n = 0, sum_n log A_n = 0. Each scan is matched in turn to the mean of
the *others* (its own copy in the mean would hold it back), then the common part of all v is taken away. Any two scans are
connected through mid-space, T_ab = T_b o T_a^-1, so the maps are transitive and inverse consistent by construction.
Source: the unbiased mid-space of Joshi et al., NeuroImage 2004, here with symmetric LNCC and leave-one-out means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import linalg

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.ops.pyramid import at_spacing
from regsuite.progress import Progress
from regsuite.solvers.frame import Level, lattice_shape, resize_displacement
from regsuite.solvers.gauss_newton import RefineSettings, refine
from regsuite.solvers.velocity import SymmetricCorrelation, flow, to_velocity_transform
from regsuite.transforms import Transform


@dataclass(frozen=True)
class GroupSettings:
    """finest_mm: of the last level; levels: each twice as coarse as the next; sweeps: times round the scans on each level."""

    finest_mm: float = 1.5
    levels: int = 3
    sweeps: int = 2
    coarse_iterations: int = 10
    fine_iterations: int = 6
    smoothness: float = 1.0
    steep_gradient: float = 0.3
    window_voxels: int = 2
    noise: float = 0.02
    any_contrast: bool = False


@dataclass(frozen=True)
class Group:
    """What came out: transforms mid-space -> scan n, the velocities' lattice grid, log Jacobian determinants on it.

    agreement: of each scan with the mean of the others, 0..1, the mean square of the local correlation within the masks.
    """

    transforms: tuple[Transform, ...]
    lattice: Grid
    log_jacobians: tuple[torch.Tensor, ...]  # (d, h, w) each, the linear part included
    velocities: tuple[torch.Tensor, ...]  # (3, d, h, w) mm each, on `lattice`
    starts: tuple[np.ndarray, ...]  # 4x4 each, mid-space -> scan
    agreement: tuple[float, ...] = ()
    history: tuple[dict, ...] = field(default=())


def unbiased_starts(to_scan: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps from one reference scan to every scan (4x4; the reference's own is the identity) -> maps from mid-space.

    Mid-space is moved by the mean of the matrix logarithms, so that no scan's position or size is special. Raises InputError
    when the poses are too far apart for a logarithm.
    """
    logs = [linalg.logm(matrix) for matrix in to_scan]
    if any(np.abs(np.imag(log)).max() > 1e-6 for log in logs):
        raise InputError("The scans lie turned by half a turn or mirrored against each other; their mean position is not defined.")
    mean = np.real(sum(logs)) / len(logs)
    starts = [np.real(matrix @ linalg.expm(-mean)) for matrix in to_scan]
    for start in starts:
        start[3] = (0.0, 0.0, 0.0, 1.0)  # expm leaves 1e-18 there
    return starts


def mid_grid(scans: Sequence[Image], starts: Sequence[np.ndarray], spacing_mm: float) -> Grid:
    """Axis-aligned isotropic grid in mid-space that holds the part every scan covers on average: mean of the boxes' corners."""
    boxes = []
    for scan, matrix in zip(scans, starts, strict=True):
        corners = scan.grid.corners()
        mapped = corners @ np.linalg.inv(matrix)[:3, :3].T + np.linalg.inv(matrix)[:3, 3]
        boxes.append((mapped.min(axis=0), mapped.max(axis=0)))
    low, high = (np.mean([box[n] for box in boxes], axis=0) for n in (0, 1))
    size = np.maximum(2, np.ceil((high - low) / spacing_mm).astype(int) + 1)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = 0.5 * (low + high) - 0.5 * spacing_mm * (size - 1)
    return Grid((int(size[2]), int(size[1]), int(size[0])), affine)


def register_group(
    scans: Sequence[Image],
    starts: Sequence[np.ndarray],
    masks: Sequence[Image | None],
    grid: Grid,
    settings: GroupSettings,
    progress: Progress,
) -> Group:
    """scans: one channel, scaled to 0..1, any grids; masks: weights on their grids; grid: of mid-space, canonical axes."""
    plan = [settings.finest_mm * 2**n for n in reversed(range(settings.levels))]
    cost = np.cumsum([0.0] + [(1.0 / h) ** 3 + 1e-3 for h in plan])
    history: list[dict] = []
    velocities: list[torch.Tensor] = []
    for number, spacing in enumerate(plan):
        last = number == len(plan) - 1
        small = grid.resized(tuple(max(2, round(n * h / spacing)) for n, h in zip(grid.shape, grid.spacing[::-1], strict=True)))  # type: ignore[arg-type]
        lattice = lattice_shape(small, 2.0 * spacing if last else spacing)
        velocities = [resize_displacement(v, lattice) for v in velocities] or [torch.zeros(3, *lattice) for _ in scans]
        blank = Image(torch.zeros(1, *small.shape), small)
        levels = [
            Level(blank, at_spacing(s, spacing), a, lattice, None, None if w is None else at_spacing(w, spacing).data)
            for s, a, w in zip(scans, starts, masks, strict=True)
        ]
        done = [cost[number] / cost[-1], (cost[number + 1] - cost[number]) / cost[-1]]
        with progress.part(done[0], done[0] + done[1]):
            _sweep(levels, velocities, settings, last, progress, history)
    transforms = tuple(to_velocity_transform(v, grid, a) for v, a in zip(velocities, starts, strict=True))
    lattice_grid = grid.resized((int(velocities[0].shape[1]), int(velocities[0].shape[2]), int(velocities[0].shape[3])))
    logs = tuple(_log_jacobian(v, lattice_grid, a) for v, a in zip(velocities, starts, strict=True))
    return Group(transforms, lattice_grid, logs, tuple(velocities), tuple(starts), _agreement(history, len(scans)), tuple(history))


def _agreement(history: Sequence[dict], count: int) -> tuple[float, ...]:
    """From the last energy of each scan; E is half the mean of 1 - cc^2."""
    last = {row["level"].split(" at ")[0]: row["energy"] for row in history}
    return tuple(1.0 - 2.0 * last[f"scan {n + 1}"] for n in range(count))


def _sweep(
    levels: list[Level], velocities: list[torch.Tensor], settings: GroupSettings, last: bool, progress: Progress, history: list
) -> None:
    """Every scan against the mean of the others, `sweeps` times round; `velocities` is changed in place and stays centred."""
    turns = settings.sweeps * len(levels)
    rules = RefineSettings(
        iterations=settings.fine_iterations if last else settings.coarse_iterations,
        window_radius=settings.window_voxels,
        smoothness=settings.smoothness,
        robust_gradient=settings.steep_gradient,
        noise=settings.noise,
    )
    for turn in range(turns):
        n = turn % len(levels)
        target, weight = _mean_of_others(levels, velocities, n)
        level = Level(target, levels[n].moving, levels[n].start, levels[n].lattice, weight, levels[n].moving_weight)
        similarity = SymmetricCorrelation(level, settings.window_voxels, settings.noise, settings.any_contrast)
        tag = f"scan {n + 1} at {level.spacing[0]:.3g} mm"
        with progress.part(turn / turns, (turn + 1) / turns):
            velocities[n] = refine(level, velocities[n], rules, progress, history, tag, similarity)
        mean = torch.stack(velocities).mean(dim=0)
        for v in velocities:
            v -= mean


def _mean_of_others(levels: list[Level], velocities: list[torch.Tensor], n: int) -> tuple[Image, torch.Tensor | None]:
    images, weights = [], []
    for other, (level, v) in enumerate(zip(levels, velocities, strict=True)):
        if other != n:
            coordinates = level.coordinates(flow(v, level.lattice_spacing))
            images.append(level.warp(coordinates))
            if level.moving_weight is not None:
                weights.append(level.warp(coordinates, level.moving_weight))
    mean = torch.stack(images).mean(dim=0)
    return levels[n].fixed.with_data(mean), torch.stack(weights).mean(dim=0) if weights else None


def _log_jacobian(v: torch.Tensor, lattice: Grid, start: np.ndarray) -> torch.Tensor:
    """log det of A o exp(v) at the nodes; exp(v) has a positive determinant there or the velocity is unusable."""
    i, j, k = (float(h) for h in lattice.spacing)
    rotation = torch.as_tensor(lattice.direction.copy()).to(v)
    u = torch.tensordot(rotation, flow(v, (k, j, i)), dims=1)
    return jacobian_determinant(u, lattice).clamp(min=1e-3).log() + float(np.log(abs(np.linalg.det(start[:3, :3]))))
