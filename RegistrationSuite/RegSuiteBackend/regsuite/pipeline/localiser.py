"""Radial slices of which only the localiser is known: the plane they stand on, its centre and its normal (paper 23)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from regsuite.geometry import Grid

UPRIGHT = ("j", "-j", "i", "-i")
_SAME_MM, _SAME_DEG = 0.1, 0.1


def fan(grids: Sequence[Grid], localiser: Grid, upright: str, thickness_mm: float) -> list[Grid]:
    """Grids of slices turned evenly over 180 degrees about the localiser's normal through its centre, in their order.

    upright: the axis of the pictures that runs along the normal, "j" (down the picture), "-j", "i" or "-i". thickness_mm: of
    all slices (0: each its own). What the slices say of their own places is not used; size and spacing are kept.
    """
    along = localiser.direction[:, 2]
    across = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    across /= np.linalg.norm(across)
    out = []
    for n, grid in enumerate(grids):
        turn = Rotation.from_rotvec(np.pi * n / len(grids) * along).as_matrix()
        axis = along if len(upright) == 1 else -along
        side = turn @ across
        i, j = (side, axis) if upright[-1] == "j" else (axis, side)
        k = np.cross(i, j) * np.sign(np.linalg.det(grid.direction))
        spacing = grid.spacing.copy()
        spacing[2] = thickness_mm or spacing[2]
        affine = np.eye(4)
        affine[:3, :3] = np.stack([i, j, k], axis=1) * spacing
        affine[:3, 3] = localiser.centre - affine[:3, :3] @ ((np.array(grid.size) - 1) / 2)
        out.append(Grid(grid.shape, affine))
    return out


def move(given: Grid, arranged: Grid) -> np.ndarray:
    """The rigid 4x4 that brings a slice from its given place to its arranged one."""
    frames = []
    for grid in (given, arranged):
        frame = np.eye(4)
        frame[:3, :3], frame[:3, 3] = grid.direction, grid.centre
        frames.append(frame)
    return frames[1] @ np.linalg.inv(frames[0])


def one_plane(grids: Sequence[Grid]) -> bool:
    """Whether three or more slices all claim the same plane, as radial ones do whose headers hold the localiser's."""
    normal, centre = grids[0].direction[:, 2], grids[0].centre
    off = [abs(float((grid.centre - centre) @ normal)) for grid in grids]
    turn = [np.rad2deg(np.arccos(np.clip(abs(float(grid.direction[:, 2] @ normal)), 0.0, 1.0))) for grid in grids]
    return len(grids) >= 3 and max(off) < _SAME_MM and max(turn) < _SAME_DEG
