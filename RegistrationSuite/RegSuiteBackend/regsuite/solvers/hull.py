"""The visual hull of slices: the body that all silhouettes allow, the order that makes it smooth, and its place in a bone mask.

Source: Laurentini, The visual hull concept, IEEE PAMI 1994; with parallel rays (orthographic prisms) as paper 23 has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from regsuite.geometry.grid import Grid, affine_lattice
from regsuite.geometry.image import Image
from regsuite.ops.sampling import normalise_matrix, sample_index, sample_normalised
from regsuite.ops.silhouette import signed_distance
from regsuite.solvers.slice_match import rigid
from regsuite.solvers.slice_stack import Stack, about

_MOST_PERMUTED = 7  # slices; more orders than these allow are not enumerated
_POINTS = 1500


@dataclass(frozen=True, eq=False)
class Hull:
    """inside (1, D, H, W) bool on `grid`: the visual hull; poses (S, 4, 4) and the order it was built with."""

    inside: torch.Tensor
    grid: Grid
    poses: np.ndarray
    slots: np.ndarray
    sides: np.ndarray

    def surface(self) -> torch.Tensor:
        """(N, 3) float64 RAS mm of at most 1500 voxels on the hull's surface."""
        body = functional.pad(self.inside[None].float(), (1,) * 6)
        core = -functional.max_pool3d(-body, 3, stride=1)[0] > 0.5
        index = (self.inside & ~core)[0].nonzero().flip(1).double()
        return self.grid.index_to_world(index[:: max(1, -(-len(index) // _POINTS))])


def visual_hull(masks: Sequence[Image], poses: np.ndarray, spacing_mm: float) -> tuple[torch.Tensor, Grid]:
    """Voxels whose orthographic projection on every slice lies in its silhouette; masks (1, 1, H, W), poses (S, 4, 4).

    Beyond a slice's border its nearest border pixel decides: a silhouette cut off by the picture goes on as a prism.
    """
    corners = np.concatenate(
        [pose[:3, :3] @ _outline(mask).T + pose[:3, 3:] for mask, pose in zip(masks, poses, strict=True)], axis=1
    )
    low, high = corners.min(axis=1) - spacing_mm, corners.max(axis=1) + spacing_mm
    size = np.ceil((high - low) / spacing_mm).astype(int) + 1
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = low
    grid = Grid((int(size[2]), int(size[1]), int(size[0])), affine)
    inside = torch.ones(1, *grid.shape, dtype=torch.bool)
    for mask, pose in zip(masks, poses, strict=True):
        index = affine_lattice(grid.shape, np.linalg.inv(pose @ mask.grid.affine) @ affine).view(-1, 3)
        index[:, 2] = 0.0  # along the normal
        inside &= (sample_index(mask.data.float(), index) > 0.5).view(1, *grid.shape)
    return inside, grid


def _outline(mask: Image) -> np.ndarray:
    """(8, 3) RAS mm: the corners of the silhouette's box, as deep to both sides of the slice as the box is wide."""
    index = mask.data[0, 0].nonzero().flip(1).numpy()
    low, high = index.min(axis=0), index.max(axis=0)
    deep = float(np.linalg.norm((high - low) * mask.grid.spacing[:2])) / 2.0 / mask.grid.spacing[2]
    box = np.array([[i, j, k] for i in (low[0], high[0]) for j in (low[1], high[1]) for k in (-deep, deep)])
    return box @ mask.grid.affine[:3, :3].T + mask.grid.affine[:3, 3]


def orders(masks: Sequence[Image], stack: Stack, keep: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The orders (slot and side of each slice) of a radial set in which silhouettes change least from slice to slice.

    Each slice holds two half planes that meet in the axis. Going round, half planes follow each other in the order of the slots
    and then, from the other side, once more. Both senses of rotation are equally smooth, so both are returned.
    """
    count = len(masks)
    if stack.axis is None or stack.variants is None or stack.angles is None or count > _MOST_PERMUTED:
        return [(np.arange(count), np.zeros(count, int))]
    around = np.argsort(stack.angles % 180.0)  # the slots as one meets them, going round by half a turn
    beyond = (stack.angles >= 180.0).astype(int)  # these slots' own side is met in the second half
    halves = _halves(masks, stack)
    cost = (halves[:, None] - halves[None]).abs().mean(dim=(2, 3)).numpy().reshape(count, 2, count, 2)
    ranked = []
    for tail in itertools.permutations(range(1, count)):
        ring = (0, *tail)
        for flips in itertools.product((0, 1), repeat=count - 1):
            side = (0, *flips)
            steps = sum(cost[ring[n], side[n], ring[n + 1], side[n + 1]] for n in range(count - 1))
            steps += sum(cost[ring[n], 1 - side[n], ring[n + 1], 1 - side[n + 1]] for n in range(count - 1))
            close = cost[ring[-1], side[-1], ring[0], 1 - side[0]] + cost[ring[-1], 1 - side[-1], ring[0], side[0]]
            ranked.append((steps + close, ring, side))
    ranked.sort(key=lambda item: item[0])
    out = []
    for _, ring, side in ranked[:keep]:
        slots, sides = np.empty(count, int), np.empty(count, int)
        slots[list(ring)] = around
        sides[list(ring)] = np.array(side) ^ beyond[around]
        out.append((slots, sides))
    return out


def _halves(masks: Sequence[Image], stack: Stack, step_mm: float = 3.0) -> torch.Tensor:
    """(2 S, R, Z) silhouettes of the half planes: slice m's own side in row 2 m, the other in row 2 m + 1, turned into slot 0."""
    assert stack.axis is not None and stack.variants is not None
    point, direction = stack.axis
    reach = max(float(np.linalg.norm(np.array(mask.grid.size) * mask.grid.spacing)) for mask in masks) / 2.0
    first = np.cross(masks[0].grid.direction[:, 2], direction)
    radius, along = np.arange(step_mm / 2, reach, step_mm), np.arange(-reach, reach, step_mm)
    out = []
    for number, mask in enumerate(masks):
        back = np.linalg.inv(stack.variants[number, 0, 0])
        for sign in (1.0, -1.0):
            places = point + sign * radius[:, None, None] * first + along[None, :, None] * direction
            points = torch.from_numpy(places.reshape(-1, 3) @ back[:3, :3].T + back[:3, 3])
            index = mask.grid.world_to_index(points)
            index[:, 2] = 0.0
            out.append(sample_index(mask.data.float(), index, fill=0.0).view(len(radius), len(along)))
    return torch.stack(out)


def build(masks: Sequence[Image], stack: Stack, keep: int, spacing_mm: float) -> list[Hull]:
    """The visual hulls of the `keep` smoothest orders that are not empty."""
    hulls = []
    for slots, sides in orders(masks, stack, keep):
        poses = np.repeat(np.eye(4)[None], len(masks), axis=0)
        if stack.variants is not None:
            poses = np.stack([stack.variants[m, slots[m], sides[m]] for m in range(len(masks))])
        inside, grid = visual_hull(masks, poses, spacing_mm)
        if bool(inside.any()):
            hulls.append(Hull(inside, grid, poses, slots, sides))
    return hulls


def fit(
    hull: Hull, stack: Stack, bone: Image, spacing_mm: float, iterations: int, tick: Callable[[float], None] = lambda fraction: None
) -> list[tuple[np.ndarray, float]]:
    """Rigid fits of the hull's surface to the bone mask (1, D, H, W): moves (4, 4) and their overlap (Dice), best first.

    Starts: the header, turned about the axis by every slot (or by the corners of a cube of 25 degrees), with the middle of the hull
    as it lies and put on the middle of the bone. Minimises the mean distance of surface points to the bone's surface plus the share
    of the hull outside it.
    """
    field, to_sampler = _distance_field(bone, spacing_mm)
    points = hull.surface()
    middle = points.mean(dim=0)
    bone_middle = bone.grid.index_to_world(bone.data[0].nonzero().flip(1).double()).mean(dim=0)
    moves = torch.from_numpy(_starts(hull, stack, (bone_middle - middle).numpy()))
    parameters = torch.zeros(len(moves), 6, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([parameters], lr=1.5)
    centre = (moves[:, :3, :3] @ middle) + moves[:, :3, 3]
    for step in range(iterations):
        optimiser.zero_grad()
        with torch.enable_grad():
            distance = _distances(field, to_sampler, rigid(parameters, centre) @ moves, points)
            functional.huber_loss(distance, torch.zeros_like(distance), delta=6.0, reduction="sum").backward()
        optimiser.param_groups[0]["lr"] = 1.5 * 0.05 ** (step / max(iterations - 1, 1))
        optimiser.step()
        tick(step / max(iterations, 1))
    with torch.no_grad():
        placed = rigid(parameters, centre) @ moves
        body = hull.grid.index_to_world(hull.inside[0].nonzero().flip(1).double())[::7]
        overlap = (_distances(field, to_sampler, placed, body) < 0).double().mean(dim=1)
        near = _distances(field, to_sampler, placed, points).abs().clamp(max=15.0).mean(dim=1)
    score = overlap - near / 15.0
    order = score.argsort(descending=True, stable=True)
    return [(placed[b].numpy(), float(score[b])) for b in order]


def _starts(hull: Hull, stack: Stack, shift: np.ndarray) -> np.ndarray:
    if stack.axis is not None:
        turns = [about(stack.axis, angle) for angle in np.arange(0.0, 360.0, 180.0 / len(hull.slots))]
    else:
        cube = torch.tensor(list(itertools.product((-25.0, 25.0), repeat=3)), dtype=torch.float64)
        turns_deg = torch.cat([cube, torch.zeros(1, 3)])
        lever = torch.cat([torch.zeros(9, 3, dtype=torch.float64), turns_deg * (np.pi / 180 * 60)], dim=1)
        turns = list(rigid(lever, torch.from_numpy(stack.centre)).numpy())
    moved = np.eye(4)
    moved[:3, 3] = shift
    return np.stack([start @ turn for turn in turns for start in (np.eye(4), moved)])


def _distance_field(bone: Image, spacing_mm: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed distances (1, D, H, W) on a lattice of about `spacing_mm` that reaches 40 mm beyond the bone's image."""
    spacing = np.array(bone.grid.spacing)
    size = np.maximum(1, np.round(np.array(bone.grid.size) * spacing / spacing_mm)).astype(int)
    coarse = bone.grid.resized((int(size[2]), int(size[1]), int(size[0])))
    margin = int(np.ceil(40.0 / spacing_mm))
    grid = coarse.cropped((-margin,) * 3, tuple(n + 2 * margin for n in coarse.shape))  # type: ignore[arg-type]
    index = affine_lattice(grid.shape, bone.grid.inverse_affine() @ grid.affine).view(-1, 3)
    inside = (sample_index((bone.data > 0).float(), index, fill=0.0) > 0.5).view(grid.shape)
    field = signed_distance(inside, tuple(grid.spacing))
    return field[None], torch.from_numpy(normalise_matrix(grid.shape) @ grid.inverse_affine())


def _distances(field: torch.Tensor, to_sampler: torch.Tensor, moves: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(B, N) signed mm of moved points to the bone."""
    maps = to_sampler @ moves
    places = torch.einsum("na,bxa->bnx", points, maps[:, :3, :3]) + maps[:, None, :3, 3]
    return sample_normalised(field, places.float()[:, None])[0, :, 0]
