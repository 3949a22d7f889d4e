"""Rotations of space: uniform sets, the rotations of the cube, distances. Rotations are (3, 3) float64 matrices."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

_PHI = 2.0**0.5
_PSI = 1.533751168755204288118041413  # the root of psi^4 = psi + 4, as in the reference


@cache
def cube_rotations() -> np.ndarray:
    """(24, 3, 3): the rotations that map the coordinate axes onto each other; the first is the identity."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0.0:
                found.append(matrix)
    return np.stack(found)


def super_fibonacci(count: int) -> np.ndarray:
    """(count, 4) unit quaternions (x, y, z, w), spread evenly over all rotations.

    Alexa, Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3), CVPR 2022.
    """
    s = np.arange(count) + 0.5
    inner, outer = np.sqrt(s / count), np.sqrt(1.0 - s / count)
    a, b = 2.0 * np.pi * s / _PHI, 2.0 * np.pi * s / _PSI
    return np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], axis=1)


def matrices(quaternions: np.ndarray) -> np.ndarray:
    """(N, 4) unit quaternions (x, y, z, w) -> (N, 3, 3)."""
    x, y, z, w = np.asarray(quaternions, dtype=np.float64).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def near_identity(count: int) -> np.ndarray:
    """(about count / 24, 3, 3): the members of a uniform set of `count` that are closer to the identity than to the 23 other
    rotations of the cube. Times `cube_rotations` they cover all rotations evenly, with about `count` members."""
    turns = matrices(super_fibonacci(count))
    traces = np.einsum("nij,cij->nc", turns, cube_rotations())  # 1 + 2 cos of the angle to each
    return turns[traces.argmax(axis=1) == 0]


def angle_degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between rotations (..., 3, 3), broadcast, in degrees."""
    trace = np.einsum("...ij,...ij->...", a, b)
    return np.degrees(np.arccos(np.clip((trace - 1.0) / 2.0, -1.0, 1.0)))


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation closest to a (3, 3) matrix (Frobenius norm)."""
    u, _, v = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
