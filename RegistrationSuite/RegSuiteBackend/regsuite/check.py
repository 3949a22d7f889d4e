"""Checks at the public doors. Each raises InputError with one sentence that names what was expected and what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from regsuite.errors import InputError


def finite_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `value` as float if low <= value <= high and it is finite, else raise InputError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(f"'{name}' must be a number, found {value!r}.")
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise InputError(f"'{name}' must lie in [{low:g}, {high:g}], found {value!r}.")
    return number


def choice(name: str, value: object, options: Sequence[str]) -> str:
    """Return `value` if it is one of `options`, else raise InputError listing them."""
    if value not in options:
        raise InputError(f"'{name}' must be one of {', '.join(options)}; found {value!r}.")
    return str(value)


def affine_matrix(name: str, matrix: object) -> np.ndarray:
    """Return a read-only float64 copy of an invertible 4x4 homogeneous matrix, else raise InputError."""
    array = np.array(matrix, dtype=np.float64)
    if array.shape != (4, 4):
        raise InputError(f"'{name}' must be a 4x4 matrix, found shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError(f"'{name}' must be finite, found NaN or infinite entries.")
    if not np.array_equal(array[3], [0.0, 0.0, 0.0, 1.0]):
        raise InputError(f"'{name}' must have the last row 0 0 0 1, found {array[3].tolist()}.")
    scale = np.prod(np.linalg.norm(array[:3, :3], axis=0))
    if scale == 0.0 or abs(np.linalg.det(array[:3, :3])) < 1e-6 * scale:
        raise InputError(f"'{name}' is singular: its axes do not span the three dimensions of space.")
    array.flags.writeable = False
    return array


def points(name: str, value: object) -> torch.Tensor:
    """Return finite points (N, 3), (x, y, z) RAS mm, as a float64 tensor, else raise InputError."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if tensor.ndim != 2 or tensor.shape[1] != 3:
        raise InputError(f"'{name}' must have shape (N, 3), found {tuple(tensor.shape)}.")
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"'{name}' must be finite, found NaN or infinite coordinates.")
    return tensor


def finite_tensor(name: str, tensor: torch.Tensor) -> None:
    """Raise InputError if `tensor` holds a NaN or an infinite value; says how many."""
    if not torch.is_floating_point(tensor):
        return
    if bool(torch.isfinite(tensor.sum())):  # one cheap pass; an infinite or NaN voxel always spoils the sum
        return
    count = int((~torch.isfinite(tensor)).sum())
    if count:
        raise InputError(f"{name} holds {count} NaN or infinite voxels; expected finite numbers everywhere.")
