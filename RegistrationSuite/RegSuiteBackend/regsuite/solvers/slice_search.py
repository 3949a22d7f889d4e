"""Where could a stack of slices lie? All places of a coarse lattice are tried; then the order is read off, place by place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from regsuite.solvers.slice_match import SliceLevel, information_of_many
from regsuite.solvers.slice_stack import Stack, about, assign


@dataclass(frozen=True, eq=False)
class Candidate:
    """A place of the whole set: poses (S, 4, 4), the slot of each slice and the side it is seen from, and the mean information."""

    poses: np.ndarray
    slots: np.ndarray
    sides: np.ndarray
    score: float


def lattice(stack: Stack, turn_deg: float, shift_mm: float, turn_step_deg: float, shift_step_mm: float) -> np.ndarray:
    """(B, 4, 4) moves of the stack about its centre: every turn up to `turn_deg` with every shift up to `shift_mm`.

    With slots about an axis only half a slot is turned about that axis, since whole slots are tried by the order.
    """
    turns = _tilts(stack, turn_deg, turn_step_deg) if stack.axis is not None and stack.variants is not None else None
    turns = _turns(turn_deg, turn_step_deg) if turns is None else turns
    moves = []
    for turn, shift in itertools.product(turns, _shifts(shift_mm, shift_step_mm)):
        move = np.eye(4)
        move[:3, :3] = turn
        move[:3, 3] = stack.centre - turn @ stack.centre + shift
        moves.append(move)
    return np.stack(moves)


def _steps(limit: float, step: float) -> np.ndarray:
    count = int(np.floor(limit / step + 1e-9))
    return step * np.arange(-count, count + 1)


def _shifts(limit: float, step: float) -> np.ndarray:
    grid = np.array(list(itertools.product(_steps(limit, step), repeat=3)))
    return grid[np.linalg.norm(grid, axis=1) <= limit + 0.3 * step]


def _turns(limit: float, step: float) -> np.ndarray:
    grid = np.array(list(itertools.product(_steps(limit, step), repeat=3)))
    grid = grid[np.linalg.norm(grid, axis=1) <= limit + 0.3 * step]
    return Rotation.from_rotvec(np.deg2rad(grid)).as_matrix()


def _tilts(stack: Stack, limit: float, step: float) -> np.ndarray:
    """Tilts of the axis in both directions across it, each with turns about it that fill half a slot to either side."""
    assert stack.axis is not None and stack.variants is not None
    point, direction = stack.axis
    basis = np.linalg.svd(direction[None])[2][1:]
    grid = np.array(list(itertools.product(_steps(limit, step), repeat=2)))
    grid = grid[np.linalg.norm(grid, axis=1) <= limit + 0.3 * step]
    slot = 180.0 / len(stack.variants)
    count = max(1, round(slot / step))
    spins = (np.arange(count) + 0.5) * slot / count - 0.5 * slot if count > 1 else np.zeros(1)
    tilts = Rotation.from_rotvec(np.deg2rad(grid @ basis)).as_matrix()
    return np.stack([tilt @ about((point, direction), spin)[:3, :3] for tilt in tilts for spin in spins])


def rank(
    level: SliceLevel, stack: Stack, moves: np.ndarray, keep: int, tick: Callable[[float], None] = lambda fraction: None
) -> list[Candidate]:
    """The `keep` best of the moves (B, 4, 4), each with its best order; equal ones are not thinned out."""
    count = level.count
    if stack.variants is None:
        poses = np.repeat(moves[:, None], count, axis=1)
        values = information_of_many(level, torch.from_numpy(poses), tick).double().numpy().mean(axis=1)
        best = np.argsort(-values, kind="stable")[:keep]
        return [Candidate(poses[b], np.arange(count), np.zeros(count, int), float(values[b])) for b in best]
    scores = np.empty((len(moves), count, count, 2))
    for slot, side in itertools.product(range(count), range(2)):
        poses = moves[:, None] @ stack.variants[None, :, slot, side]
        done = (2 * slot + side) / (2 * count)
        tick(done)
        scores[:, :, slot, side] = information_of_many(level, torch.from_numpy(poses)).double().numpy()
    found = [assign(table) for table in scores]
    best = np.argsort([-item[2] for item in found], kind="stable")[:keep]
    return [candidate(stack, moves[b], *found[b]) for b in best]


def candidate(stack: Stack, move: np.ndarray, slots: np.ndarray, sides: np.ndarray, score: float) -> Candidate:
    """The poses of an order at a place of the stack."""
    assert stack.variants is not None
    poses = np.stack([move @ stack.variants[m, slots[m], sides[m]] for m in range(len(slots))])
    return Candidate(poses, slots, sides, score)
