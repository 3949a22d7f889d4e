"""Slices in a volume: emulate what a slice at a pose would show, compare by mutual information, many poses at once.

A pose is the rigid 4x4 map from a slice's given position to a position in the volume, RAS mm. Poses come as (B, S, 4, 4): B
candidates for each of S slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from regsuite.geometry.image import Image
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.sampling import normalise_matrix, sample_normalised

_LEVER_MM = 60.0  # ours: a turn of 1 radian counts as a move of this length
_CHUNK_SAMPLES = 400_000


@dataclass(frozen=True, eq=False)
class SliceLevel:
    """Volume and slices at one resolution, values scaled to 0..1.

    volume (1, D, H, W); to_sampler: world -> the sampler's frame, 4x4 float64; points (S, N, 3): mm from the slice's centre
    along RAS axes, padded with points of weight 0; weights (S, N) sum to 1 for each slice; windows (S, N, A): Parzen windows of the
    slices' values; centres (S, 4, 4): translations to the slices' centres, float64; normals (S, 3); offsets (S, Q): mm of
    the planes through a slice's thickness.
    """

    volume: torch.Tensor
    to_sampler: torch.Tensor
    points: torch.Tensor
    weights: torch.Tensor
    windows: torch.Tensor
    centres: torch.Tensor
    normals: torch.Tensor
    offsets: torch.Tensor
    spacing_mm: float

    @property
    def count(self) -> int:
        """Number of slices."""
        return int(self.points.shape[0])

    @property
    def bins(self) -> int:
        """Bins of a histogram along each of its axes."""
        return int(self.windows.shape[2])

    def part(self, first: int, last: int) -> SliceLevel:
        """The level with the slices [first, last) only."""
        pick = slice(first, last)
        return SliceLevel(
            self.volume,
            self.to_sampler,
            self.points[pick],
            self.weights[pick],
            self.windows[pick],
            self.centres[pick],
            self.normals[pick],
            self.offsets[pick],
            self.spacing_mm,
        )


def make_level(
    volume: Image, slices: Sequence[Image], spacing_mm: float, bins: int, data: Sequence[Image | None] | None = None
) -> SliceLevel:
    """Volume and slices averaged to about `spacing_mm`, never finer than they are.

    data: for each slice 1 where it holds data and 0 where not, or None for everywhere; what holds no data has weight 0.
    """
    coarse = at_spacing(volume, spacing_mm)
    device = volume.data.device
    averaged = [_averaged(image, part, spacing_mm) for image, part in zip(slices, data or [None] * len(slices), strict=True)]
    flats = [flat for flat, _ in averaged]
    longest = max(image.grid.voxels for image in flats)
    thickness = [float(image.grid.spacing[2]) for image in slices]
    planes = max(1, 2 * math.floor(max(thickness) / (2.0 * max(spacing_mm, float(volume.grid.spacing.min()))) + 0.5) + 1)
    planes = min(planes, 7)
    points = torch.zeros(len(flats), longest, 3, device=device)
    kept = torch.zeros(len(flats), longest, device=device)
    values = torch.zeros(len(flats), longest, device=device)
    for number, flat in enumerate(flats):
        n = flat.grid.voxels
        local = flat.grid.world_points(torch.float64).view(-1, 3) - torch.from_numpy(np.array(flat.grid.centre))
        points[number, :n] = local.to(device, torch.float32)
        kept[number, :n] = averaged[number][1].view(-1)
        values[number, :n] = flat.data.view(-1)
    kept = kept / kept.sum(dim=1, keepdim=True).clamp(min=1e-6)
    centres = torch.eye(4, dtype=torch.float64).repeat(len(flats), 1, 1)
    centres[:, :3, 3] = torch.from_numpy(np.stack([image.grid.centre for image in slices]))
    share = (torch.arange(planes, dtype=torch.float64) + 0.5) / planes - 0.5
    return SliceLevel(
        volume=coarse.data,
        to_sampler=torch.from_numpy(normalise_matrix(coarse.grid.shape) @ coarse.grid.inverse_affine()),
        points=points,
        weights=kept,
        windows=parzen(values, bins),
        centres=centres,
        normals=torch.from_numpy(np.stack([image.grid.direction[:, 2] for image in slices])),
        offsets=torch.tensor(thickness, dtype=torch.float64)[:, None] * share,
        spacing_mm=spacing_mm,
    )


def _averaged(image: Image, data: Image | None, spacing_mm: float) -> tuple[Image, torch.Tensor]:
    """The mean of what holds data, and its share (0 where that is half or less)."""
    if data is None:
        flat = at_spacing(image, spacing_mm)
        return flat, torch.ones_like(flat.data)
    share = at_spacing(data, spacing_mm).data
    total = at_spacing(image.with_data(image.data * data.data), spacing_mm)
    return total.with_data(total.data / share.clamp(min=1e-6)), torch.where(share > 0.5, share, 0.0)


def parzen(values: torch.Tensor, bins: int) -> torch.Tensor:
    """(...) values in 0..1 -> (..., bins) cubic B-spline windows that sum to 1; values outside are clamped."""
    position = 1.0 + values.clamp(0.0, 1.0) * (bins - 3)
    a = (position[..., None] - torch.arange(bins, dtype=values.dtype, device=values.device)).abs()
    return torch.where(a < 1.0, 2.0 / 3.0 - a * a * (1.0 - a / 2.0), (2.0 - a).clamp(min=0.0) ** 3 / 6.0)


def emulate(level: SliceLevel, poses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the slices would show at poses (B, S, 4, 4) float64: values (B, S, N), and 1.0 where the pixel lies in the volume.

    The volume is averaged over planes through the slice's thickness. Differentiable in the poses.
    """
    maps = level.to_sampler.to(poses) @ poses @ level.centres.to(poses)
    step = maps[..., :3, :3] @ level.normals.to(poses)[None, :, :, None]
    device = level.volume.device
    matrix = maps[..., :3, :3].to(device, torch.float32)
    origin = maps[..., :3, 3].to(device, torch.float32)
    middle = torch.einsum("sna,bsxa->bsnx", level.points, matrix) + origin[:, :, None]
    shift = (step[..., 0][:, :, None] * level.offsets.to(poses)[None, :, :, None]).to(device, torch.float32)
    b, s, n, _ = middle.shape
    q = shift.shape[2]
    places = middle[:, :, None] + shift[:, :, :, None]
    sampled = sample_normalised(level.volume, places.reshape(b * s * q, 1, n, 3))
    values = sampled.view(b, s, q, n).mean(dim=2)
    return values, (middle.detach().abs().amax(dim=3) <= 1.0).to(values.dtype)


def information(level: SliceLevel, poses: torch.Tensor) -> torch.Tensor:
    """(B, S) mutual information in nats between each slice and its emulation, times the share of the slice in the volume.

    I = sum_ab p(a, b) ln(p(a, b) / (p(a) p(b))) over a joint histogram of cubic B-spline windows (Mattes et al. 2003).
    """
    values, inside = emulate(level, poses)
    weight = inside * level.weights
    total = weight.sum(dim=2)
    joint = torch.einsum("sna,bsnc->bsac", level.windows, parzen(values, level.bins) * weight[..., None])
    joint = joint / total.clamp(min=1e-6)[..., None, None]
    return _entropy_gain(joint) * total


def _entropy_gain(joint: torch.Tensor) -> torch.Tensor:
    """H(a) + H(b) - H(a, b) of joint histograms (..., A, C) that sum to 1."""
    parts = (joint.flatten(-2), joint.sum(dim=-1), joint.sum(dim=-2))
    whole, first, second = ((p * p.clamp(min=1e-9).log()).sum(dim=-1) for p in parts)
    return whole - first - second


def information_of_many(
    level: SliceLevel, poses: torch.Tensor, tick: Callable[[float], None] = lambda fraction: None
) -> torch.Tensor:
    """(B, S) as `information`, but from plain histograms of the middle planes: far faster, for ranking."""
    bins, count = level.bins, level.count
    maps = level.to_sampler @ poses @ level.centres
    maps = maps[..., :3, :].to(level.volume.device, torch.float32)
    row = level.windows.argmax(dim=2) * bins
    weight = level.weights
    each = max(1, _CHUNK_SAMPLES // weight.numel())
    out = []
    with torch.no_grad():
        for number, part in enumerate(maps.split(each)):
            places = torch.einsum("sna,bsxa->bsnx", level.points, part[..., :3]) + part[..., 3][:, :, None]
            b = len(part)
            values = sample_normalised(level.volume, places.reshape(b * count, 1, -1, 3)).view(b, count, -1)
            inside = ((places.amax(dim=3) <= 1.0) & (places.amin(dim=3) >= -1.0)) * weight
            column = values.mul_(bins - 1).add_(0.5).long() + row
            column += torch.arange(b * count, device=values.device).view(b, count, 1) * (bins * bins)
            joint = torch.bincount(column.view(-1), inside.view(-1), minlength=b * count * bins * bins).float()
            total = inside.sum(dim=2)
            out.append(_entropy_gain(joint.view(b, count, bins, bins) / total.clamp(min=1e-6)[..., None, None]) * total)
            tick(min(1.0, (number + 1) * each / len(poses)))
    return torch.cat(out)


def rigid(parameters: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """(..., 6) float64 -> (..., 4, 4): a turn by parameters[3:] / 60 mm (rotation vector, rad) about `centre` (..., 3), then a
    shift by parameters[:3] mm. Differentiable at zero."""
    x, y, z = (parameters[..., 3:] / _LEVER_MM).unbind(dim=-1)
    nil = torch.zeros_like(x)
    turn = torch.linalg.matrix_exp(torch.stack([nil, -z, y, z, nil, -x, -y, x, nil], dim=-1).view(*x.shape, 3, 3))
    shift = parameters[..., :3] + centre - (turn @ centre[..., None])[..., 0]
    top = torch.cat([turn, shift[..., None]], dim=-1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, last], dim=-2)


def parameters_of(poses: torch.Tensor, base: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """The inverse of `rigid`: (..., 6) with rigid(p, centre) @ base = poses, turns below 180 degrees."""
    move = poses @ torch.linalg.inv(base)
    turn = Rotation.from_matrix(move[..., :3, :3].reshape(-1, 3, 3).numpy()).as_rotvec()
    vector = torch.from_numpy(turn).view(*move.shape[:-2], 3) * _LEVER_MM
    shift = move[..., :3, 3] - centre + (move[..., :3, :3] @ centre[..., None])[..., 0]
    return torch.cat([shift, vector], dim=-1)


@dataclass(frozen=True)
class Climb:
    """iterations: Adam steps; first_mm, last_mm: step length at the start and the end; motion: None moves each candidate's slices
    together; a pair (mm, degrees) moves each slice on its own, held to the start by a Gaussian of these standard deviations."""

    iterations: int
    first_mm: float
    last_mm: float
    motion: tuple[float, float] | None = None
    motion_weight: float = 0.02


def climb(
    level: SliceLevel, poses: torch.Tensor, settings: Climb, tick: Callable[[float], None], anchor: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Raise the mean information of each candidate from poses (B, S, 4, 4); returns (poses, information (B, S)) of the best step.

    Adam on six rigid parameters for each candidate (about the middle of its slices), or for each slice (about its own centre)
    with the penalty motion_weight * mean((shift / mm)^2 + (turn / degrees)^2) / 2 on its move away from `anchor` (default: the
    start), of which each component is held within three standard deviations.
    """
    apart = settings.motion is not None
    centre = (poses @ level.centres)[..., :3, 3].mean(dim=1, keepdim=True)
    scale = _motion_scale(settings)
    base = poses if anchor is None else anchor
    centre = (base @ level.centres)[..., :3, 3] if apart else centre
    parameters = parameters_of(poses, base, centre) if apart else torch.zeros(*centre.shape[:2], 6, dtype=torch.float64)
    parameters.requires_grad_(True)
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    best = torch.full((len(poses),), -math.inf, dtype=torch.float64)
    kept, found = poses, torch.zeros(poses.shape[:2])
    for step in range(settings.iterations + 1):
        with torch.enable_grad():
            moved = rigid(parameters, centre) @ base
            gain = information(level, moved)
            value = gain.mean(dim=1).double()
            if apart:
                value = value - 0.5 * settings.motion_weight * (parameters / scale).square().sum(dim=2).mean(dim=1)
            (slope,) = torch.autograd.grad(value.sum(), parameters)
        better = value.detach() > best
        best = torch.where(better, value.detach(), best)
        kept = torch.where(better[:, None, None, None], moved.detach(), kept)
        found = torch.where(better[:, None], gain.detach(), found)
        tick(step / max(settings.iterations, 1))
        if step == settings.iterations:
            break
        first = 0.8 * first + 0.2 * slope
        second = 0.95 * second + 0.05 * slope.square().mean(dim=2, keepdim=True)
        done = step / max(settings.iterations - 1, 1)
        length = settings.first_mm * (settings.last_mm / settings.first_mm) ** done
        direction = first / (1.0 - 0.8 ** (step + 1)) / (second / (1.0 - 0.95 ** (step + 1))).sqrt().clamp(min=1e-12)
        with torch.no_grad():
            parameters += length * direction
            if apart:
                parameters.clamp_(-3.0 * scale, 3.0 * scale)
    return kept, found


def _motion_scale(settings: Climb) -> torch.Tensor:
    mm, degrees = settings.motion or (1.0, 1.0)
    return torch.tensor([mm] * 3 + [math.radians(degrees) * _LEVER_MM] * 3, dtype=torch.float64)
