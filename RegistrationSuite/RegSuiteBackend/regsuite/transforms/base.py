"""The contract of every transform, as equations.

    moved(x) = moving(T(x))              T maps fixed points to moving points
    compose(a, b)(x) = a(b(x))
    T.inverse()(T(x)) = x                exact, or to a stated tolerance, or NotInvertibleError

Landmarks of the moving image therefore go to fixed space by the *inverse*.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from regsuite.errors import NotInvertibleError
from regsuite.geometry.grid import Grid

INVERSE_TOLERANCE_MM = 0.01


class Transform(ABC):
    """A map of the world. Immutable; points are (N, 3) RAS mm, any float dtype."""

    @abstractmethod
    def map_points(self, points: torch.Tensor) -> torch.Tensor:
        """(N, 3) RAS mm -> (N, 3) RAS mm."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The inverse map; raises NotInvertibleError when there is none to tolerance."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Transform:
        """The same map with its tensors on another device."""

    def displacement(self, grid: Grid, device: torch.device | str = "cpu") -> torch.Tensor:
        """(3, D, H, W) float32 mm: T(x) - x at every voxel centre x of `grid`, RAS components; computed in slabs."""
        out = torch.empty(3, *grid.shape, device=device)
        slab = max(1, 4_000_000 // (grid.shape[1] * grid.shape[2]))
        for start in range(0, grid.shape[0], slab):
            part = grid.cropped((start, 0, 0), (min(slab, grid.shape[0] - start), *grid.shape[1:]))
            points = part.world_points(torch.float64, device).view(-1, 3)
            moved = self.map_points(points) - points
            out[:, start : start + part.shape[0]] = moved.T.reshape(3, *part.shape).to(out.dtype)
        return out

    def inverse_points(
        self, points: torch.Tensor, tolerance_mm: float = INVERSE_TOLERANCE_MM, iterations: int = 100
    ) -> torch.Tensor:
        """(N, 3) y -> x with |T(x) - y| <= tolerance_mm: fixed-point steps x <- x - (T(x) - y), then damped Newton steps (with a
        Jacobian by differences) for the points where those do not contract, as beside a sliding wall.

        Raises NotInvertibleError naming the share of points that did not reach the tolerance. Beside a small fold y has
        several such x; one of them is returned.
        """
        target = points.double()
        x = target - (self.map_points(target) - target)
        open_ = torch.arange(len(x), device=x.device)
        for use_newton in (False, True):
            found = self._solve_points(x[open_], target[open_], tolerance_mm, iterations, use_newton)
            x[open_] = found
            missed = (self.map_points(found) - target[open_]).norm(dim=1) > tolerance_mm
            if use_newton:  # Newton also ends where space is turned over
                missed |= torch.linalg.det(self._point_jacobian(found)) <= 0.0
            open_ = open_[missed]
            if not len(open_):
                return x.to(points.dtype)
        raise NotInvertibleError(
            f"The transform could not be inverted at {100 * len(open_) / len(x):.3g} % of the points to {tolerance_mm:g} mm; "
            "it folds or tears there."
        )

    def _solve_points(self, x: torch.Tensor, y: torch.Tensor, tolerance_mm: float, iterations: int, newton: bool) -> torch.Tensor:
        """Damped steps on T(x) = y; a step that makes a point's residual longer is halved and tried again."""
        residual = self.map_points(x) - y
        damping = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
        for _ in range(iterations):
            length = residual.norm(dim=1, keepdim=True)
            if not len(x) or float(length.max()) <= tolerance_mm:
                break
            step = self._newton_step(x, residual) if newton else residual
            trial = x - damping * step
            trial_residual = self.map_points(trial) - y
            better = trial_residual.norm(dim=1, keepdim=True) < length
            x = torch.where(better, trial, x)
            residual = torch.where(better, trial_residual, residual)
            damping = torch.where(better, (damping * 2.0).clamp(max=1.0), damping * 0.5)
        return x

    def _newton_step(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return torch.linalg.lstsq(self._point_jacobian(x), residual[:, :, None]).solution[:, :, 0]

    def _point_jacobian(self, x: torch.Tensor, tick_mm: float = 0.01) -> torch.Tensor:
        ticks = tick_mm * torch.eye(3, dtype=x.dtype, device=x.device)
        return torch.stack([(self.map_points(x + t) - self.map_points(x - t)) / (2.0 * tick_mm) for t in ticks], dim=2)


def compose(outer: Transform, inner: Transform) -> Transform:
    """The map x -> outer(inner(x)). Two affine maps give one affine map; anything else a CompositeTransform."""
    from regsuite.transforms.composite import CompositeTransform
    from regsuite.transforms.linear import AffineTransform

    if isinstance(outer, AffineTransform) and isinstance(inner, AffineTransform):
        return AffineTransform(outer.matrix @ inner.matrix)
    parts: list[Transform] = []
    for item in (outer, inner):
        parts.extend(item.parts if isinstance(item, CompositeTransform) else [item])
    return CompositeTransform(tuple(parts))
