"""Keypoints of a pair matched from coarse to fine, and the smooth field through the matches.

Foerstner's keypoints, one in each cell of the region's inside (its rim moves with what lies beyond it); MIND-SSC of the finest
images, averaged to the step of each stage; agreement of neighbours on a tree; a robust spline moves the image for the next stage.
Frame as in `solvers.frame`: millimetres along the fixed image's axes.

References: Heinrich, Handels and Simpson, Estimating large lung motion in COPD patients by symmetric regularised correspondence
fields, MICCAI 2015; the schedule is ours. Differs in: cells instead of local maxima (low contrast is bridged by neighbours); the
descriptors of fine images are averaged (those of coarse images tell little in the lungs); fields are composed, not added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.geometry.image import Image
from regsuite.ops.keypoints import distinctiveness, eroded, spread_keypoints
from regsuite.ops.mind import mind_ssc
from regsuite.ops.sampling import sample_index
from regsuite.progress import Progress
from regsuite.solvers.frame import Level, lattice_shape, make_level, sample_displacement
from regsuite.solvers.keypoint_match import MatchSettings, match
from regsuite.solvers.spline import Spline, SplineSettings, fit_spline

_STIFFNESS, _OUTER_STIFFNESS = 0.014, 0.05  # 1/mm: disagreement of neighbours against costs of mean 1; outside of the region
_RIM_MM = 6.0  # keypoints keep this far from the region's border
_DISTINCT = 0.2  # outside of the region, in shares of what the most distinct hundredth reaches
_BODY = 0.1  # of the intensity range: darker is no tissue outside a region
_SPLINE_MM, _LATTICE_MM = 8.0, 3.0  # nodes at which splines are evaluated; nodes of the field where two regions meet
_FEWEST = 12


@dataclass(frozen=True)
class Stage:
    """step_mm: between candidates; reach: candidates to each side (None: as many as `range_mm` needs); tolerance_mm: of the
    spline; patch, stride: as in `MatchSettings`."""

    step_mm: float
    reach: int | None
    tolerance_mm: float
    symmetric: bool
    patch: int = 1
    stride: int = 1


STAGES = (Stage(6.0, None, 6.0, False), Stage(3.0, 3, 3.0, True, stride=2), Stage(0.0, 2, 2.0, True, stride=2))


@dataclass(frozen=True)
class FieldSettings:
    """keypoints: about so many inside the region, half as many outside; range_mm: largest motion along each axis; finest_mm: of the
    images; stiffness: of the splines; apart: fields inside and outside of the region apart."""

    keypoints: int = 1200
    range_mm: float = 30.0
    finest_mm: float = 3.0
    stiffness: float = 0.05
    apart: bool = True


@dataclass(frozen=True, eq=False)
class Matches:
    """fixed, moving: matched points (K, 3) RAS mm; confidence (K,) in 0..1; inside (K,): in the region or beside it?"""

    fixed: torch.Tensor
    moving: torch.Tensor
    confidence: torch.Tensor
    inside: torch.Tensor


@dataclass(frozen=True, eq=False)
class _Part:
    """The inside or the outside of the region with its keypoints: voxels (K, 3) = (k, j, i)."""

    points: torch.Tensor
    inside: bool


def match_pair(
    fixed: Image,
    moving: Image,
    start: np.ndarray,
    region: Image | None,
    moving_weight: Image | None,
    settings: FieldSettings,
    progress: Progress,
) -> tuple[torch.Tensor, Matches]:
    """u (3, d, h, w) mm on a lattice that fills the fixed box, and the matches of the last stage.

    fixed: canonical; both images one channel, 0..1. region: binary, on the fixed grid. Deterministic.
    Raises InputError when there are fewer than twelve keypoints.
    """
    level = make_level(fixed, moving, start, settings.finest_mm, settings.finest_mm, region, moving_weight)
    grid = level.fixed.grid
    lattice = grid.resized(lattice_shape(grid, _LATTICE_MM))
    parts = _parts(level, settings)
    here = mind_ssc(level.fixed.data, dilation=(1, 1, 1))
    u = torch.zeros(3, *lattice.shape, device=level.fixed.data.device)
    matches: list[Matches] = []
    for number, stage in enumerate(STAGES):
        with progress.part(0.05 + 0.31 * number, 0.05 + 0.31 * (number + 1)):
            u, matches = _stage(level, here, u, lattice, parts, stage, settings, progress)
    joined = (torch.cat([getattr(m, name) for m in matches]).cpu() for name in ("fixed", "moving", "confidence", "inside"))
    return u, Matches(*joined)


def _parts(level: Level, settings: FieldSettings) -> list[_Part]:
    """Keypoints inside the region, and outside it where both move apart; of the whole image without a region."""
    strength = distinctiveness(level.fixed.data, level.spacing)
    tissue = level.fixed.data[0] > _BODY
    region = None if level.weight is None or not bool((level.weight > 0.5).any()) else level.weight[0] > 0.5
    if region is None:
        plans = [(tissue, settings.keypoints)]
    else:
        plans = [(region, settings.keypoints)]
        plans += [(tissue & ~region, settings.keypoints // 2)] if settings.apart else []
    rim = [max(0, round(_RIM_MM / h)) for h in level.spacing]
    parts = []
    for number, (allowed, count) in enumerate(plans):
        inner = eroded(region if number == 0 else ~region, (rim[0], rim[1], rim[2])) & allowed if region is not None else allowed
        inner = inner if 4 * int(inner.sum()) > int(allowed.sum()) else allowed  # thin regions have nothing but a rim
        if number:  # soft tissue has little that can be matched, and noise there pulls astray
            inner = inner & (strength > _DISTINCT * float(strength[inner].quantile(0.99))) if bool(inner.any()) else inner
        points = spread_keypoints(strength, inner, count)
        if len(points) >= _FEWEST:
            parts.append(_Part(points, number == 0))
        elif number == 0:
            raise InputError(f"Expected at least {_FEWEST} keypoints to match in the fixed image, found {len(points)}.")
    return parts


def _stage(
    level: Level,
    here: torch.Tensor,
    u: torch.Tensor,
    lattice: Grid,
    parts: list[_Part],
    stage: Stage,
    settings: FieldSettings,
    progress: Progress,
) -> tuple[torch.Tensor, list[Matches]]:
    """Match every part from u on and lay new splines."""
    grid, spacing = level.fixed.grid, level.spacing
    dense = sample_displacement(u, grid, level.lattice_grid)
    coordinates = level.coordinates(dense)
    progress.step(0.02, "descriptors")
    there = mind_ssc(level.warp(coordinates), dilation=(1, 1, 1))
    visible = None if level.moving_weight is None else (level.warp(coordinates, level.moving_weight) > 0.5).float()
    size = [max(1, round(stage.step_mm / h)) for h in spacing]
    f, m, seen = (None if x is None else _averaged(x, size) for x in (here, there, visible))
    assert f is not None and m is not None
    step = (spacing[0] * size[0], spacing[1] * size[1], spacing[2] * size[2])
    reach = math.ceil(settings.range_mm / min(step)) if stage.reach is None else stage.reach
    fields, matches = [], []
    for number, part in enumerate(parts):
        with progress.part((0.1 + 0.9 * number) / len(parts), (number + 1) / len(parts)):
            stiffness = _STIFFNESS if part.inside else _OUTER_STIFFNESS
            wanted = MatchSettings(reach, stiffness, stage.symmetric, stage.patch, stage.stride)
            cells = part.points // torch.tensor(size, device=u.device)
            with progress.part(0.0, 0.7):
                moved = match(f, m, seen, cells, step, wanted, lambda share: progress.step(share, "matching"))
            total = _composed(dense, part.points, moved * torch.tensor(step).to(moved), grid)
            progress.step(0.75, "field")
            spline = _fitted(part.points, total, grid, SplineSettings(settings.stiffness, stage.tolerance_mm))
            fields.append(_on(spline, grid, lattice).to(u))
            matches.append(_in_world(level, part, total, spline.confidence))
    if len(fields) == 1:
        return fields[0], matches
    assert level.weight is not None
    return torch.where(sample_displacement(level.weight, grid, lattice) > 0.5, fields[0], fields[1]), matches


def _averaged(data: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Means of blocks of `size` voxels from the first voxel on; borders repeat."""
    if max(size) == 1:
        return data
    pad = [p for n, s in zip(reversed(data.shape[1:]), reversed(size), strict=True) for p in (0, -n % s)]
    return functional.avg_pool3d(functional.pad(data[None], pad, mode="replicate"), size)[0]


def _composed(dense: torch.Tensor, points: torch.Tensor, moved_mm: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Total displacement (K, 3) mm along (i, j, k): moving was seen through x + u(x), so T(p) = p + d + u(p + d)."""
    d = moved_mm.flip(1).double()
    mm = torch.as_tensor(grid.spacing.copy()).to(d)
    lattice = grid.resized((int(dense.shape[1]), int(dense.shape[2]), int(dense.shape[3])))
    index = lattice.world_to_index(grid.index_to_world(points.flip(1).double() + d / mm))
    return d + sample_index(dense, index).T.double()


def _fitted(points: torch.Tensor, total: torch.Tensor, grid: Grid, settings: SplineSettings) -> Spline:
    """In mm along the axes of `grid` from its first voxel."""
    p = points.flip(1).double().cpu() * torch.as_tensor(grid.spacing.copy())
    return fit_spline(p, p + total.cpu(), settings)


def _on(spline: Spline, grid: Grid, lattice: Grid) -> torch.Tensor:
    """(3, d, h, w) mm along (i, j, k) at the nodes of `lattice`; the spline is evaluated at coarser ones."""
    coarse = grid.resized(lattice_shape(grid, _SPLINE_MM))
    local = grid.world_to_index(coarse.world_points(torch.float64).view(-1, 3)) * torch.as_tensor(grid.spacing.copy())
    return sample_displacement(spline.at(local).T.reshape(3, *coarse.shape).float(), grid, lattice)


def _in_world(level: Level, part: _Part, total: torch.Tensor, confidence: torch.Tensor) -> Matches:
    grid = level.fixed.grid
    fixed = grid.index_to_world(part.points.flip(1).double().cpu())
    moved = fixed + total.cpu() @ torch.from_numpy(grid.direction.T.copy())
    moved = moved @ torch.from_numpy(np.array(level.start[:3, :3]).T) + torch.from_numpy(np.array(level.start[:3, 3]))
    return Matches(fixed, moved, confidence, torch.full((len(fixed),), part.inside))
