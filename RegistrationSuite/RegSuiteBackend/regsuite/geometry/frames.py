"""The only file that flips signs (LPS <-> RAS) or reverses axis order (i, j, k <-> D, H, W).

Inside regsuite the world is RAS millimetres. ITK (SimpleITK files, DICOM) speaks LPS; MRML speaks RAS.
Use these functions at file and scene boundaries and nowhere else.
"""

from __future__ import annotations

import numpy as np
import torch

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LPS_FROM_RAS.flags.writeable = False


def flip_points(points: torch.Tensor) -> torch.Tensor:
    """(N, 3) points or vectors RAS -> LPS or LPS -> RAS: x and y change sign (the map is its own inverse)."""
    return points * torch.tensor([-1.0, -1.0, 1.0], dtype=points.dtype, device=points.device)


def flip_vector_field(field: torch.Tensor) -> torch.Tensor:
    """(3, D, H, W) vectors RAS <-> LPS: components x and y change sign; the voxels stay where they are."""
    return field * torch.tensor([-1.0, -1.0, 1.0], dtype=field.dtype, device=field.device).view(3, 1, 1, 1)


def flip_grid_affine(affine: np.ndarray) -> np.ndarray:
    """Index -> world matrix (4x4) with a RAS world <-> the same with an LPS world: F @ A."""
    return LPS_FROM_RAS @ affine


def flip_world_affine(matrix: np.ndarray) -> np.ndarray:
    """World -> world matrix (4x4) in RAS <-> the same map in LPS: F @ M @ F."""
    return LPS_FROM_RAS @ matrix @ LPS_FROM_RAS


def affine_from_itk(origin: tuple[float, ...], spacing: tuple[float, ...], direction: tuple[float, ...]) -> np.ndarray:
    """ITK geometry (LPS mm, direction row-major, columns are axes) -> index (i, j, k) -> RAS mm matrix, 4x4 float64."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction, dtype=np.float64).reshape(3, 3) * np.asarray(spacing, dtype=np.float64)
    affine[:3, 3] = origin
    return flip_grid_affine(affine)


def affine_to_itk(affine: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Index (i, j, k) -> RAS mm matrix -> ITK (origin, spacing, direction) in LPS mm."""
    lps = flip_grid_affine(affine)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    return tuple(lps[:3, 3]), tuple(spacing), tuple(direction.ravel())


def shape_from_size(size: tuple[int, ...]) -> tuple[int, int, int]:
    """ITK/VTK size (i, j, k) -> tensor shape (D, H, W) = (k, j, i)."""
    i, j, k = size
    return int(k), int(j), int(i)
