"""The shape of a set of slices: is there a common axis, which slot could each belong to, which order fits best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from regsuite.geometry.grid import Grid

_AXIS_DEG, _AXIS_MM = 6.0, 8.0  # ours: how far planes may be off a common line
_APART_DEG = 6.0


@dataclass(frozen=True, eq=False)
class Stack:
    """Where slices are said to lie. centre (3,): mean of their middles; axis: (point, direction) of the common line of a radial
    set, or None; variants (S, S, 2, 4, 4): slice m put into slot n, from its own side or from the other; None when order is given.
    angles (S,): degrees of the normals about the axis.
    """

    centre: np.ndarray
    axis: tuple[np.ndarray, np.ndarray] | None
    variants: np.ndarray | None
    angles: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """radial or free."""
        return "radial" if self.axis is not None else "free"


def describe(grids: Sequence[Grid], order: str) -> Stack:
    """order: "given" (headers are right up to a common move), "search", or "auto" (search a radial set of three or more)."""
    centre = np.mean([grid.centre for grid in grids], axis=0)
    axis = common_axis(grids)
    if order == "given" or len(grids) < 2 or (axis is None and order == "auto"):
        return Stack(centre, axis, None)
    angles = None if axis is None else _angles(np.stack([grid.direction[:, 2] for grid in grids]), axis[1])
    return Stack(centre, axis, _slots(grids, axis, angles), angles)


def common_axis(grids: Sequence[Grid]) -> tuple[np.ndarray, np.ndarray] | None:
    """The line in which three or more differently turned planes meet, (nearest point to their middles, unit direction)."""
    normals = np.stack([grid.direction[:, 2] for grid in grids])
    if len(grids) < 3:
        return None
    _, sizes, rows = np.linalg.svd(normals)
    direction = rows[2]
    tilt = np.rad2deg(np.arcsin(np.clip(np.abs(normals @ direction).max(), 0.0, 1.0)))
    angles = np.sort(_angles(normals, direction) % 180.0)
    gaps = np.diff(np.append(angles, angles[0] + 180.0))
    if tilt > _AXIS_DEG or gaps.min() < _APART_DEG or sizes[1] < 0.2 * sizes[0]:
        return None
    centres = np.stack([grid.centre for grid in grids])
    rows_, sides = np.vstack([normals, direction]), np.append((normals * centres).sum(axis=1), direction @ centres.mean(axis=0))
    point = np.linalg.lstsq(rows_, sides, rcond=None)[0]
    if np.abs(rows_[:-1] @ point - sides[:-1]).max() > _AXIS_MM:
        return None
    return point, direction


def _angles(normals: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Degrees in [0, 360) of each normal about the direction."""
    first = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    first /= np.linalg.norm(first)
    second = np.cross(direction, first)
    return np.rad2deg(np.arctan2(normals @ second, normals @ first)) % 360.0


def about(axis: tuple[np.ndarray, np.ndarray], degrees: float) -> np.ndarray:
    """4x4 turn about a line (point, direction)."""
    point, direction = axis
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * direction).as_matrix()
    matrix[:3, 3] = point - matrix[:3, :3] @ point
    return matrix


def _slots(grids: Sequence[Grid], axis: tuple[np.ndarray, np.ndarray] | None, angles: np.ndarray | None) -> np.ndarray:
    """variants[m, n, f]: with an axis a turn about it (f: by 180 degrees more); without, the rigid map from slice m onto slice n
    (f: turned by 180 degrees about its second in-plane axis)."""
    count = len(grids)
    out = np.zeros((count, count, 2, 4, 4))
    for m in range(count):
        for n in range(count):
            for side in range(2):
                if axis is not None and angles is not None:
                    out[m, n, side] = about(axis, angles[n] - angles[m] + 180.0 * side)
                else:
                    here = _frame(grids[n])
                    flip = np.diag([-1.0, 1.0, -1.0, 1.0]) if side else np.eye(4)
                    out[m, n, side] = here @ flip @ np.linalg.inv(_frame(grids[m]))
    return out


def _frame(grid: Grid) -> np.ndarray:
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = grid.direction, grid.centre
    return frame


def assign(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """scores (S, S, 2) of slice, slot, side -> (slot of each slice, side of each slice, mean score): the best one-to-one order."""
    best = scores.max(axis=2)
    rows, slots = linear_sum_assignment(-best)
    sides = scores[rows, slots].argmax(axis=1)
    return slots, sides, float(best[rows, slots].mean())


def shared_move(stack: Stack, grids: Sequence[Grid], poses: np.ndarray, slots: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """4x4 rigid move M with M @ variant closest to the poses (S, 4, 4): least squares over the corners of all slices (Kabsch)."""
    source, target = [], []
    for m, grid in enumerate(grids):
        corners = np.c_[grid.corners(), np.ones(8)]
        variant = np.eye(4) if stack.variants is None else stack.variants[m, slots[m], sides[m]]
        source.append((corners @ variant.T)[:, :3])
        target.append((corners @ poses[m].T)[:, :3])
    a, b = np.concatenate(source), np.concatenate(target)
    u, _, vt = np.linalg.svd((b - b.mean(axis=0)).T @ (a - a.mean(axis=0)))
    turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = turn, b.mean(axis=0) - turn @ a.mean(axis=0)
    return move
