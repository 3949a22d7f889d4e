"""Exhaustive coarse search: evenly spread rotations, all translations of each by FFT.

Both images lie on cubic lattices around their own centres. With R = R0 C, C one of the 24 rotations of the cube,

    sum_x <A(x), B(R (x + t))> = sum_y <A(C^T y), B(R0 (y + C t))>:

turning the fixed lattice by C only permutes it, so its 24 spectra are made once and one sampling of the moving image, with one set
of forward transforms, serves 24 rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.ops.orientation import GradientField, sample_tensor, tensor_rotation
from regsuite.progress import Progress
from regsuite.solvers.cross_similarity import CrossSimilarity, best_shift, scores
from regsuite.solvers.rotations import cube_rotations, near_identity

_LEAST_VOXELS = 64  # ours: a mask of fewer lattice voxels cannot be told from chance
_REACH = 1.2  # ours: moving voxels further from the centre than this times the longest half axis are left out


@dataclass(frozen=True)
class SearchSettings:
    """spacing_mm: lattice; rotations: about how many; least_overlap: share of the smaller region; power: of the overlap."""

    spacing_mm: float
    rotations: int
    least_overlap: float
    power: float


@dataclass(frozen=True)
class Pose:
    """A rigid map (4x4, RAS mm, fixed -> moving points) and its score (higher is better)."""

    matrix: np.ndarray
    score: float


def search(fixed: GradientField, moving: GradientField, settings: SearchSettings, progress: Progress) -> list[Pose]:
    """The best translation for every rotation, best first. Raises InputError when a mask is too small for the lattice."""
    h, turns = settings.spacing_mm, cube_rotations()
    (centre_a, half_a), (centre_b, half_b) = _region(fixed, "fixed"), _region(moving, "moving")
    radius_b = min(float(np.linalg.norm(half_b)), _REACH * float(half_b.max()))
    lattice_a = _lattice(centre_a, float(half_a.max()), h, np.eye(3))
    tensor_a, tensor_b = fixed.tensor(), moving.tensor()
    a = sample_tensor(tensor_a, fixed.grid, lattice_a, np.eye(3))
    cross = CrossSimilarity(_turned(a, turns), _lattice(centre_b, radius_b, h, np.eye(3)).shape, settings.least_overlap)
    least = settings.least_overlap * min(_voxels(fixed, h), _voxels(moving, h))
    found: list[Pose] = []
    near = near_identity(settings.rotations)
    for number, base in enumerate(near):
        progress.step(number / len(near), f"{24 * number} of {24 * len(near)} rotations")
        b = sample_tensor(tensor_b, moving.grid, _lattice(centre_b, radius_b, h, base), base)
        value, shift = best_shift(scores(*cross.maps(b), least, settings.power), cross.range.low)
        for turn, score, s in zip(turns, value, shift, strict=True):
            if np.isfinite(score):
                rotation = base @ turn
                t = turn.T @ (s + lattice_a.shape[0] // 2 - b.shape[1] // 2)[::-1]  # voxels along the lattice's x, y, z
                found.append(Pose(rigid(rotation, centre_a, centre_b + rotation @ (h * t)), float(score)))
    if not found:
        share = f"{100 * settings.least_overlap:.0f} %"
        raise InputError(f"No pose lets {share} of the smaller image or mask overlap with the other; expected larger masks.")
    return sorted(found, key=lambda pose: -pose.score)


def rigid(rotation: np.ndarray, fixed_point: np.ndarray, moving_point: np.ndarray) -> np.ndarray:
    """4x4 T(x) = R (x - fixed_point) + moving_point."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = moving_point - rotation @ fixed_point
    return matrix


def _region(field: GradientField, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Centre and half axes (3,), world mm along x, y, z, of the box around the mask."""
    index = torch.nonzero(field.mask[0]).flip(1).double()  # i, j, k
    if len(index) < _LEAST_VOXELS:
        raise InputError(
            f"The {name} mask covers {len(index)} voxels of {field.grid.spacing.max():.2g} mm; "
            f"expected at least {_LEAST_VOXELS} to compare."
        )
    points = field.grid.index_to_world(index)
    low, high = points.amin(dim=0).numpy(), points.amax(dim=0).numpy()
    return (low + high) / 2.0, (high - low) / 2.0


def _voxels(field: GradientField, spacing_mm: float) -> float:
    """Size of the mask in voxels of the cubic lattice."""
    return float(field.mask.sum()) * field.grid.voxel_volume / spacing_mm**3


def _lattice(centre: np.ndarray, radius: float, spacing_mm: float, rotation: np.ndarray) -> Grid:
    """A cube of 2 m + 1 points a side around `centre`, axes along the columns of `rotation`, at least `radius` mm to each side."""
    m = max(1, int(np.ceil(radius / spacing_mm - 1e-6)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing_mm
    affine[:3, 3] = centre - affine[:3, :3] @ np.full(3, m)
    return Grid((2 * m + 1, 2 * m + 1, 2 * m + 1), affine)


def _turned(a: torch.Tensor, turns: np.ndarray) -> torch.Tensor:
    """(K + 1, n, n, n) -> (24, K + 1, n, n, n): A(C^T y), with its tensors turned to C Q C^T."""
    out = []
    for turn in turns:
        order = [3 - int(np.abs(turn[row]).argmax()) for row in (2, 1, 0)]  # which axis of A runs along each new one
        moved = a.permute(0, *order)
        moved = moved.flip([3 - row for row in range(3) if turn[row].sum() < 0.0])
        matrix = torch.as_tensor(tensor_rotation(turn)).to(a)
        out.append(torch.cat([torch.tensordot(matrix, moved[:-1], dims=1), moved[-1:]]))
    return torch.stack(out)
