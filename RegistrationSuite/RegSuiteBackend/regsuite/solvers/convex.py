"""Coupled convex discrete search: all displacements within a range at once, for motion that a gradient cannot follow."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from regsuite.ops.filters import box_count, box_mean, box_sum, downsample
from regsuite.ops.mind import mind_ssc
from regsuite.ops.sampling import sample_normalised
from regsuite.progress import Progress
from regsuite.solvers.frame import Level

COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""theta of the published schedule, for costs scaled to a mean of 1 per cell (ours) and displacements in cells."""


_STILLNESS = 1e-3  # ours: cost per squared cell of shift, so that cells without texture stay where they are
_BLOCK = 2048
_SHIFT_BLOCK = 16
Tick = Callable[[float], None]
"""tick(fraction 0..1): called several times a second by what takes long; may raise Cancelled."""


@dataclass(frozen=True)
class ConvexSettings:
    """cell_mm: size of a search cell; range_mm: largest displacement along each axis; consistency: symmetric updates."""

    cell_mm: float = 8.0
    range_mm: float = 32.0
    consistency: int = 15
    coupling_scale: float = 1.0


def search(level: Level, settings: ConvexSettings, progress: Progress) -> torch.Tensor:
    """u (3, d, h, w) mm on the lattice of search cells of `level`.

    MIND-SSC features of both images (the moving one seen through the level's linear start) averaged over cells; the cost of
    every whole-cell shift; alternate minimisation of  cost(v) + theta |v - u|^2  and smoothing of v into u while theta grows;
    then inverse consistency between both directions. Source: Siebert and Heinrich, WBIR 2022; Heinrich et al., MICCAI 2014.
    Differs from the paper: cells fill the image's box exactly (nothing is cropped or stretched), windows are normalised at
    the border (zero padding pulls the field towards 0), out-of-image shifts cost the mean, both directions are always scaled.
    """
    spacing = level.fixed.grid.spacing[::-1]
    cells = tuple(max(1, round(n * h / settings.cell_mm)) for n, h in zip(level.fixed.grid.shape, spacing, strict=True))
    cell_mm = [n * h / c for n, h, c in zip(level.fixed.grid.shape, spacing, cells, strict=True)]
    reach = [0 if c == 1 else min(c - 1, max(1, round(settings.range_mm / mm))) for c, mm in zip(cells, cell_mm, strict=True)]
    coordinates = level.coordinates(torch.zeros(3, *level.lattice, device=level.fixed.data.device))
    dilation = [max(1, round(2.0 * min(spacing) / h)) for h in spacing]
    moving = level.warp(coordinates)
    inside = downsample((coordinates.abs() <= 1.0).all(dim=0, keepdim=True).to(moving.dtype), cells)
    f = _cell_means(mind_ssc(level.fixed.data, dilation=dilation), cells)
    progress.step(0.15, "descriptors")
    m = _cell_means(mind_ssc(moving, dilation=dilation), cells)
    progress.step(0.3, "descriptors")
    ones = torch.ones_like(inside)
    part = 0.3 if settings.consistency else 0.6

    def tick(fraction: float, first: float, name: str) -> None:
        progress.step(first + part * fraction, f"{name} search")

    forward = _one_way(f, m, ones, inside, reach, cell_mm, settings.coupling_scale, partial(tick, first=0.3, name="forward"))
    if settings.consistency:
        backward = _one_way(m, f, inside, ones, reach, cell_mm, settings.coupling_scale, partial(tick, first=0.6, name="backward"))
        forward = make_consistent(forward, backward, cell_mm, settings.consistency)
    return forward


def _cell_means(features: torch.Tensor, cells: tuple[int, ...]) -> torch.Tensor:
    return functional.adaptive_avg_pool3d(features, (cells[0], cells[1], cells[2]))


def _one_way(
    f: torch.Tensor,
    m: torch.Tensor,
    f_weight: torch.Tensor,
    m_weight: torch.Tensor,
    reach: list[int],
    cell_mm: list[float],
    scale: float,
    tick: Tick,
) -> torch.Tensor:
    """Features (12, d, h, w) -> smoothed best displacement (3, d, h, w) in mm along (i, j, k)."""
    cost, mesh = cost_volume(f, m, f_weight, m_weight, reach, lambda fraction: tick(0.6 * fraction))
    cost += (_STILLNESS * mesh.square().sum(dim=1)).view(-1, 1, 1, 1)
    mesh_mm = mesh * torch.tensor(cell_mm[::-1], dtype=f.dtype, device=f.device)
    mean_cell = sum(cell_mm) / 3.0
    u = _coupled_argmin(cost, mesh_mm, mean_cell, 0.0, torch.zeros(3, *f.shape[1:], dtype=f.dtype, device=f.device))
    for number, theta in enumerate(COUPLING):
        tick(0.6 + 0.4 * (number + 1) / (len(COUPLING) + 1))
        u = _coupled_argmin(cost, mesh_mm, mean_cell, theta * scale, box_mean(u, (1, 1, 1)))
    tick(1.0)
    return box_mean(u, (1, 1, 1))


def _coupled_argmin(cost: torch.Tensor, mesh_mm: torch.Tensor, cell: float, theta: float, u: torch.Tensor) -> torch.Tensor:
    """v(x) = argmin over the mesh of cost + theta |v - u(x)|^2 in cells, (3, d, h, w) mm. In blocks that stay in the cache."""
    flat, target = cost.view(len(mesh_mm), -1), u.reshape(3, -1) / cell
    scaled = mesh_mm / cell
    quadratic = theta * scaled.square().sum(dim=1, keepdim=True)
    best = torch.empty(flat.shape[1], dtype=torch.long, device=u.device)
    for start in range(0, flat.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        energy = flat[:, block]
        if theta > 0.0:
            energy = torch.addmm(energy + quadratic, scaled, target[:, block], alpha=-2.0 * theta)
        torch.argmin(energy, dim=0, out=best[block])
    return mesh_mm[best].T.reshape(u.shape)


def cost_volume(
    f: torch.Tensor, m: torch.Tensor, f_weight: torch.Tensor, m_weight: torch.Tensor, reach: list[int], tick: Tick | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """All shifts: cost (n, d, h, w), mean over channels of (f(x) - m(x + s))^2 averaged twice over 3^3 cells and scaled to a
    mean of 1; mesh (n, 3) whole-cell shifts s along (i, j, k). Cells without a partner take the shift's weighted mean."""
    d, h, w = f.shape[1:]
    rd, rh, rw = reach
    padded = functional.pad(m, (rw, rw, rh, rh, rd, rd))
    weight = functional.pad(m_weight, (rw, rw, rh, rh, rd, rd))
    shifts = list(itertools.product(range(-rd, rd + 1), range(-rh, rh + 1), range(-rw, rw + 1)))
    cost = torch.empty(len(shifts), d, h, w, dtype=f.dtype, device=f.device)
    known = torch.empty_like(cost)
    for n, (a, b, c) in enumerate(shifts):
        if tick and n % _SHIFT_BLOCK == 0:
            tick(0.5 * n / len(shifts))
        window = (slice(None), slice(rd + a, rd + a + d), slice(rh + b, rh + b + h), slice(rw + c, rw + c + w))
        torch.mul(f_weight[0], weight[window][0], out=known[n])
        torch.mean((f - padded[window]).square_(), dim=0, out=cost[n]).mul_(known[n])
    mean = cost.sum() / known.sum().clamp(min=1e-6)
    cost.add_(known.neg_().add_(1.0).mul_(mean)).div_(mean.clamp(min=1e-12))
    del known
    count = 1.0 / box_count((d, h, w), (1, 1, 1), f)
    mesh = torch.tensor(shifts, dtype=f.dtype, device=f.device).flip(1)
    for start in range(0, len(cost), _SHIFT_BLOCK):
        if tick:
            tick(0.5 + 0.5 * start / len(cost))
        block = cost[start : start + _SHIFT_BLOCK]
        block.copy_(box_sum(box_sum(block, (1, 1, 1)).mul_(count), (1, 1, 1)).mul_(count))
    return cost, mesh


def make_consistent(forward: torch.Tensor, backward: torch.Tensor, cell_mm: list[float], iterations: int) -> torch.Tensor:
    """f <- (f - b o (id + f)) / 2 and the same for b, both from the old pair; fields (3, d, h, w) in mm on one lattice."""
    shape = forward.shape[1:]
    lines = [torch.arange(n, dtype=forward.dtype, device=forward.device) for n in shape]
    size = torch.tensor(shape[::-1], dtype=forward.dtype, device=forward.device).view(3, 1, 1, 1)
    index = torch.stack(torch.meshgrid(*lines, indexing="ij")).flip(0)
    mm = torch.tensor(cell_mm[::-1], dtype=forward.dtype, device=forward.device).view(3, 1, 1, 1)

    def at(field: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        normalised = (2.0 * (index + u / mm) + 1.0) / size - 1.0
        return sample_normalised(field, normalised.permute(1, 2, 3, 0))

    for _ in range(iterations):
        forward, backward = 0.5 * (forward - at(backward, forward)), 0.5 * (backward - at(forward, backward))
    return forward
