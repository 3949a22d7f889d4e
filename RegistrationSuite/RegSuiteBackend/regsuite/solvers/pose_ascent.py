"""Continuous refinement of many rigid poses at once: gradient ascent on the squared NGF similarity (Adam, autograd)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from regsuite.ops.orientation import GradientField, direction_tensor
from regsuite.ops.sampling import normalise_matrix, sample_normalised
from regsuite.progress import Progress
from regsuite.solvers.rotation_search import Pose, rigid
from regsuite.solvers.rotations import nearest_rotation

_BATCH_POINTS = 400_000


@dataclass(frozen=True)
class AscentSettings:
    """points: fixed voxels looked at; iterations; step_mm: first step, sinks to a tenth; power: of the overlap in the score."""

    points: int
    iterations: int
    step_mm: float
    power: float


def ascend(
    fixed: GradientField, moving: GradientField, poses: list[Pose], settings: AscentSettings, seed: int, progress: Progress
) -> list[Pose]:
    """Each pose at its nearest maximum of sum / overlap^power, best first; the scores of one call can be compared.

    The best iterate of each pose is kept, so no score ever falls. A random but seeded part of the fixed mask is looked at.
    """
    problem = _Problem.of(fixed, moving, settings, seed)
    chunk = max(1, _BATCH_POINTS // problem.points.shape[0])
    out: list[Pose] = []
    for start in range(0, len(poses), chunk):
        part = np.stack([pose.matrix for pose in poses[start : start + chunk]])
        span = (start / len(poses), (start + len(part)) / len(poses))
        out += _ascend_batch(problem, part, settings, progress, span)
    return sorted(out, key=lambda pose: -pose.score)


@dataclass(frozen=True)
class _Problem:
    """Fixed points (N, 3) world mm around `centre`, their normals (3, N), the moving tensors, and what places them."""

    points: torch.Tensor
    centre: np.ndarray
    radius_mm: float
    normals: torch.Tensor
    tensor: torch.Tensor
    to_normalised: torch.Tensor  # (3, 4): world -> grid_sample coordinate

    @classmethod
    def of(cls, fixed: GradientField, moving: GradientField, settings: AscentSettings, seed: int) -> _Problem:
        inside = torch.nonzero(fixed.mask.flatten() > 0.5)[:, 0]
        if len(inside) > settings.points:
            order = torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))[: settings.points]
            inside = inside[order.sort().values.to(inside.device)]
        _, h, w = fixed.grid.shape
        index = torch.stack([inside % w, inside // w % h, inside // (w * h)], dim=1).double()
        points = fixed.grid.index_to_world(index)
        centre = points.mean(dim=0).cpu().numpy()
        local = points - torch.as_tensor(centre).to(points)
        radius = float(local.square().sum(dim=1).mean().sqrt())
        matrix = torch.as_tensor((normalise_matrix(moving.grid.shape) @ moving.grid.inverse_affine())[:3]).float()
        normals = fixed.normal.flatten(1)[:, inside]
        device = fixed.normal.device
        return cls(local.float(), centre, max(radius, 1e-3), normals, moving.tensor(), matrix.to(device))

    def score(self, rotation: torch.Tensor, place: torch.Tensor, power: float) -> torch.Tensor:
        """(P, 3, 3), (P, 3) where the centre goes -> (P,) sum / overlap^power, scaled to one point being 1."""
        world = self.points @ rotation.transpose(1, 2) + place[:, None]
        coordinates = world @ self.to_normalised[:, :3].T + self.to_normalised[:, 3]
        values = sample_normalised(self.tensor, coordinates[None], padding="zeros")[:, 0]  # (K + 1, P, N)
        turned = direction_tensor(torch.einsum("pab,bn->apn", rotation, self.normals))
        total = (turned * values[:-1]).sum(dim=(0, 2))
        return total / values[-1].sum(dim=1).clamp(min=1.0) ** power


def _ascend_batch(
    problem: _Problem, start: np.ndarray, settings: AscentSettings, progress: Progress, span: tuple[float, float]
) -> list[Pose]:
    like = problem.points
    base = torch.as_tensor(start[:, :3, :3]).to(like)
    place = torch.as_tensor(start[:, :3, :3] @ problem.centre + start[:, :3, 3]).to(like)
    step = torch.zeros(len(start), 6, dtype=like.dtype, device=like.device, requires_grad=True)  # mm: turn * radius, shift
    optimiser = torch.optim.Adam([step], lr=settings.step_mm, betas=(0.8, 0.95))
    best_score = torch.full((len(start),), -torch.inf, device=like.device)
    best_step = torch.zeros_like(step, requires_grad=False)
    for iteration in range(settings.iterations + 1):
        done = iteration / (settings.iterations + 1)
        progress.step(span[0] + (span[1] - span[0]) * done, "poses")
        optimiser.param_groups[0]["lr"] = settings.step_mm * 0.1**done
        with torch.enable_grad():
            optimiser.zero_grad()
            score = problem.score(_exp(step[:, :3] / problem.radius_mm) @ base, place + step[:, 3:], settings.power)
            if iteration < settings.iterations:
                (-score.sum()).backward()
        better = score.detach() > best_score
        best_score = torch.where(better, score.detach(), best_score)
        best_step = torch.where(better[:, None], step.detach(), best_step)
        if iteration < settings.iterations:
            optimiser.step()
    turns = _exp(best_step[:, :3].double() / problem.radius_mm).cpu().numpy() @ start[:, :3, :3]
    ends = (place.double() + best_step[:, 3:]).cpu().numpy()
    matrices = [rigid(nearest_rotation(r), problem.centre, p) for r, p in zip(turns, ends, strict=True)]
    return [Pose(m, float(s)) for m, s in zip(matrices, best_score, strict=True)]


def _exp(vector: torch.Tensor) -> torch.Tensor:
    """Rotation vectors (P, 3), radians -> rotations (P, 3, 3)."""
    x, y, z = vector.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    return torch.linalg.matrix_exp(skew)
