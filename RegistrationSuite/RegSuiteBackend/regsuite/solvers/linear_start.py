"""Rigid and affine alignment by Gauss-Newton on local correlation: the force and matrix of the deformable engine, summed up.

With u(x) = B(x) p (translation, rotation or any linear map about the middle of the fixed image), the normal equations are
(sum B^T M B) p = sum B^T f over the lattice nodes. Good from about 25 mm and 20 degrees; start further off with `global_pose`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import linalg

from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.progress import Progress
from regsuite.solvers import start
from regsuite.solvers.frame import Level, canonical, make_level
from regsuite.solvers.gauss_newton import LocalCorrelation
from regsuite.solvers.intake import scaled

KINDS = ("none", "rigid", "affine")
_TRANSLATION_MM = 8.0
_TRANSLATION_GAIN = 0.02


@dataclass(frozen=True)
class LinearSettings:
    """coarse_mm to fine_mm by halves; steps: Gauss-Newton steps per level; it stops early below tolerance_mm."""

    coarse_mm: float = 8.0
    fine_mm: float = 4.0
    steps: int = 15
    window_voxels: int = 3
    noise: float = 0.02
    tolerance_mm: float = 0.02
    scale_limit: float = 1.6  # no axis shrinks or grows more than this


def align(
    fixed: Image,
    moving: Image,
    kind: str,
    progress: Progress,
    *,
    fixed_mask: Image | None = None,
    initial: np.ndarray | None = None,
    settings: LinearSettings | None = None,
) -> np.ndarray:
    """4x4 matrix, fixed -> moving points (RAS mm). kind: none (centring only without overlap), rigid, or affine (rigid first).

    fixed_mask: weight on the fixed grid. Raises InputError for another kind or unusable images.
    """
    if kind not in KINDS:
        raise InputError(f"The linear start must be one of {', '.join(KINDS)}; found '{kind}'.")
    settings = settings or LinearSettings()
    target, source = canonical(scaled(fixed, "fixed")), scaled(moving, "moving")
    weight = None if fixed_mask is None else canonical(fixed_mask.with_data((fixed_mask.data > 0).float()))
    matrix = np.eye(4) if initial is None else np.array(initial)
    if initial is None and start.overlap_fraction(target, source) <= 0.0:
        matrix = start.centring(target, source)
    if kind == "none":
        return matrix
    if initial is None:
        moved, gain = start.best_translation(target, source, matrix, _TRANSLATION_MM)
        matrix = moved if gain > _TRANSLATION_GAIN else matrix
    progress.step(0.1, "translation")
    plan = []
    spacing = settings.coarse_mm
    while spacing > 0.99 * settings.fine_mm:
        plan.append((spacing, "rigid"))
        spacing /= 2.0
    if kind == "affine":
        plan = [plan[0], *((spacing, "affine") for spacing, _ in plan)]
    for number, (spacing, model) in enumerate(plan):
        with progress.part(0.1 + 0.9 * number / len(plan), 0.1 + 0.9 * (number + 1) / len(plan)):
            level = make_level(target, source, matrix, spacing, 2.0 * spacing, weight)
            matrix = _descend(level, model, settings, progress)
    return matrix


def _descend(level: Level, model: str, settings: LinearSettings, progress: Progress) -> np.ndarray:
    similarity = LocalCorrelation(level, settings.window_voxels, settings.noise)
    grid = level.lattice_grid
    world = grid.world_points(torch.float64).view(-1, 3).numpy()
    centre = world.mean(axis=0)
    reach_mm = max(1.0, float(np.abs(world - centre).max()))
    basis = _basis(world - centre, model, reach_mm)
    axes = grid.direction
    zero = torch.zeros(3, *level.lattice, dtype=level.fixed.data.dtype)
    best, best_matrix, previous = np.inf, level.start, None
    matrix = level.start
    for number in range(settings.steps):
        similarity.level = replace(level, start=matrix)
        energy, force, curvature = similarity.linearise(zero)
        if energy < best:
            best, best_matrix = energy, matrix
        step = _solve(basis, force, curvature, axes)
        change = _as_matrix(step, model, centre, reach_mm)
        reach = np.abs((world @ change[:3, :3].T + change[:3, 3]) - world).max()
        limit = 2.0 * float(max(level.spacing))
        if reach > limit:
            change = _as_matrix(step * (limit / reach), model, centre, reach_mm)
        matrix = matrix @ change
        _check_scale(matrix, settings.scale_limit)
        progress.step((number + 1) / settings.steps, f"{model} at {level.spacing[0]:.3g} mm")
        if reach < settings.tolerance_mm or (previous is not None and abs(previous - energy) < 1e-6):
            break
        previous = energy
    similarity.level = replace(level, start=matrix)
    return matrix if similarity.linearise(zero)[0] <= best else best_matrix


def _basis(x: np.ndarray, model: str, reach: float) -> np.ndarray:
    """(N, 3, P): world displacement at points x (about the centre) for each parameter, linear ones divided by `reach` (mm)."""
    columns = [np.broadcast_to(axis, x.shape) for axis in np.eye(3)]
    if model == "rigid":
        columns += [np.cross(axis, x) / reach for axis in np.eye(3)]
    else:
        columns += [np.outer(x[:, b] / reach, np.eye(3)[a]) for a in range(3) for b in range(3)]
    return np.stack(columns, axis=2)


def _solve(basis: np.ndarray, force: torch.Tensor, curvature: torch.Tensor, axes: np.ndarray) -> np.ndarray:
    n = basis.shape[0]
    xx, yy, zz, xy, xz, yz = curvature.double().view(6, n).numpy()
    local = np.einsum("ab,nap->nbp", axes, basis)  # world -> the image's own axes, in which force and matrix are given
    product = np.stack(
        [
            xx[:, None] * local[:, 0] + xy[:, None] * local[:, 1] + xz[:, None] * local[:, 2],
            xy[:, None] * local[:, 0] + yy[:, None] * local[:, 1] + yz[:, None] * local[:, 2],
            xz[:, None] * local[:, 0] + yz[:, None] * local[:, 1] + zz[:, None] * local[:, 2],
        ],
        axis=1,
    )
    normal = np.einsum("nap,naq->pq", local, product)
    right = np.einsum("nap,an->p", local, force.double().view(3, n).numpy())
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal)) + 1e-12 * np.eye(len(normal))
    return linalg.solve(normal, right, assume_a="pos")


def _as_matrix(step: np.ndarray, model: str, centre: np.ndarray, reach: float) -> np.ndarray:
    """4x4 map x -> x + B(x) step about `centre`, made exactly rigid for the rigid model."""
    linear = np.zeros((3, 3))
    if model == "rigid":
        x, y, z = step[3:] / reach
        linear[:] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    else:
        linear[:] = step[3:].reshape(3, 3) / reach
    matrix = np.eye(4)
    matrix[:3, :3] = linalg.expm(linear)
    matrix[:3, 3] = centre + step[:3] - matrix[:3, :3] @ centre
    return matrix


def _check_scale(matrix: np.ndarray, limit: float) -> None:
    sizes = linalg.svdvals(matrix[:3, :3])
    if sizes.max() > limit or sizes.min() < 1.0 / limit:
        raise InputError(
            f"The linear alignment shrank or stretched the image {max(sizes.max(), 1.0 / sizes.min()):.2f} times; do the "
            "images show the same thing?"
        )
