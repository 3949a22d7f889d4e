"""Displacements between matched points: the smooth spline of three dimensions, with weights that leave false matches out.

f(x) = sum_n w_n (-|x - p_n|) + A x + b minimises sum_n |f(p_n) - d_n|^2 c_n / stiffness + the bending energy whose kernel in three
dimensions is |r| (Duchon 1977; Wahba 1990). The published VoxelMorph++ code uses r^2 log r, the kernel of two dimensions, in three.
Lengths are counted in units of `UNIT_MM`, so `stiffness` means the same for every cloud of points.

Confidence of a match: how well its neighbours, fitted by an affine map without it, foretell its displacement; Geman-McClure
weights under a scale that shrinks from far above any motion to `tolerance_mm` (graduated non-convexity, Blake and Zisserman 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.grid import Grid

UNIT_MM = 50.0
_CHUNK = 8192  # points evaluated at once
_LEAST_WEIGHT = 1e-6  # of a rejected match: its row stays solvable
_FIRST_SCALE_MM = 40.0
_ROUNDS = 12
_RIDGE = 0.05  # pull of the local gradient to zero, in shares of the neighbours' weight


@dataclass(frozen=True)
class SplineSettings:
    """stiffness: 0 goes through every match; tolerance_mm: deviation from its neighbours at which a match counts a quarter, 0
    trusts all; neighbours: matches that foretell another."""

    stiffness: float = 0.01
    tolerance_mm: float = 2.0
    neighbours: int = 24

    def __post_init__(self) -> None:
        check.finite_number("stiffness", self.stiffness, 0.0, 1e6)
        check.finite_number("tolerance_mm", self.tolerance_mm, 0.0, 1e6)
        check.finite_number("neighbours", self.neighbours, 8, 512)


@dataclass(frozen=True, eq=False)
class Spline:
    """A fitted displacement: knots (N, 3) in units about `centre`, coefficients (N + 4, 3) mm, confidence (N,) of the matches."""

    centre: torch.Tensor
    knots: torch.Tensor
    coefficients: torch.Tensor
    confidence: torch.Tensor

    def at(self, points: torch.Tensor) -> torch.Tensor:
        """(M, 3) RAS mm -> displacement (M, 3) mm, float64."""
        parts = []
        for part in ((points.double() - self.centre) / UNIT_MM).split(_CHUNK):
            parts.append(-torch.cdist(part, self.knots) @ self.coefficients[:-4] + _affine(part) @ self.coefficients[-4:])
        return torch.cat(parts)

    def on(self, grid: Grid) -> torch.Tensor:
        """(3, D, H, W) float32 mm at the voxels of `grid`, RAS components."""
        points = grid.world_points(torch.float64, self.knots.device).view(-1, 3)
        return self.at(points).T.reshape(3, *grid.shape).float()


def fit_spline(fixed_points: torch.Tensor, moving_points: torch.Tensor, settings: SplineSettings | None = None) -> Spline:
    """The spline of the displacements moving - fixed of matched points (N, 3) RAS mm. Deterministic, float64.

    Raises InputError on fewer than five points, unequal numbers, non-finite coordinates, or points in one plane.
    """
    settings = settings or SplineSettings()
    p, q = check.points("fixed points", fixed_points), check.points("moving points", moving_points)
    if len(p) != len(q):
        raise InputError(f"Matched points must correspond one to one, found {len(p)} fixed and {len(q)} moving points.")
    if len(p) < 5:
        raise InputError(f"Expected at least five matched points, found {len(p)}.")
    p, q = _merged(p, q)
    centre = p.mean(dim=0)
    knots = (p - centre) / UNIT_MM
    spread = torch.linalg.svdvals(knots)
    if len(p) < 5 or float(spread[2]) < 1e-4 * float(spread[0]):
        raise InputError("The matched points lie in one plane or are too few apart; expected points spread over three dimensions.")
    trusted = settings.tolerance_mm <= 0.0 or len(p) < 9
    weight = torch.ones(len(p), dtype=torch.float64, device=p.device) if trusted else match_confidence(p, q - p, settings)
    return Spline(centre, knots, _solve(knots, q - p, weight, settings.stiffness), weight)


def match_confidence(points: torch.Tensor, displacement: torch.Tensor, settings: SplineSettings) -> torch.Tensor:
    """(N,) weights in (0, 1] of matches: points (N, 3) mm, displacement (N, 3) mm."""
    count = min(settings.neighbours, len(points) - 1)
    distance, index = _nearest(points, count)
    near = torch.exp(-0.5 * (distance / distance.mean(dim=1, keepdim=True)).square())
    local = (points[index] - points[:, None]) / distance.mean(dim=1)[:, None, None]
    design = torch.cat([torch.ones_like(local[..., :1]), local], dim=2)  # (N, k, 4)
    weight = torch.ones(len(points), dtype=points.dtype, device=points.device)
    ridge = torch.diag(torch.tensor([0.0, _RIDGE, _RIDGE, _RIDGE], dtype=points.dtype, device=points.device))
    for number in range(_ROUNDS):
        share = number / (_ROUNDS - 1)
        scale = _FIRST_SCALE_MM ** (1.0 - share) * settings.tolerance_mm**share
        rows = (near * weight[index])[..., None] * design
        total = (near * weight[index]).sum(dim=1).clamp(min=1e-12)
        normal = design.transpose(1, 2) @ rows + total[:, None, None] * ridge
        normal[:, 0, 0] += 1e-9
        foretold = torch.linalg.solve(normal, rows.transpose(1, 2) @ displacement[index])[:, 0]
        deviation = (foretold - displacement).norm(dim=1)
        weight = (1.0 + (deviation / scale).square()).pow(-2).clamp(min=_LEAST_WEIGHT)
    return weight


def _nearest(points: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances and indices (N, count) of the nearest other points."""
    found = [torch.cdist(part, points).topk(count + 1, dim=1, largest=False) for part in points.split(_CHUNK // 8)]
    distance, index = (torch.cat(items)[:, 1:] for items in zip(*found, strict=True))
    return distance.clamp(min=1e-9), index


def _merged(p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Matches of one fixed point become their mean: two knots in one place make the system singular."""
    unique, place = torch.unique((p * 1e4).round(), dim=0, return_inverse=True)
    if len(unique) == len(p):
        return p, q
    count = torch.zeros(len(unique), 1, dtype=p.dtype).index_add_(0, place, torch.ones(len(p), 1, dtype=p.dtype))
    mean = [torch.zeros(len(unique), 3, dtype=p.dtype).index_add_(0, place, values) / count for values in (p, q)]
    return mean[0], mean[1]


def _affine(points: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.ones_like(points[:, :1]), points], dim=1)


def _solve(knots: torch.Tensor, d: torch.Tensor, weight: torch.Tensor, stiffness: float) -> torch.Tensor:
    """Coefficients (N + 4, 3) of [[K + stiffness / c, P], [P^T, 0]] [w; a] = [d; 0], K = -|r|."""
    n, polynomial = len(knots), _affine(knots)
    system = torch.zeros(n + 4, n + 4, dtype=knots.dtype, device=knots.device)
    system[:n, :n] = -torch.cdist(knots, knots)
    system[:n, :n].diagonal().add_(max(stiffness, 1e-9) / weight)
    system[:n, n:], system[n:, :n] = polynomial, polynomial.T
    return torch.linalg.solve(system, torch.cat([d, torch.zeros(4, 3, dtype=d.dtype, device=d.device)]))
