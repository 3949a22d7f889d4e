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
        self, points: torch.Tensor, tolerance_mm: float = INVERSE_TOLERANCE_MM, iterations: int = 200
    ) -> torch.Tensor:
        """(N, 3) y -> x with |T(x) - y| <= tolerance_mm, by damped fixed-point iteration on x <- x - (T(x) - y).

        Raises NotInvertibleError naming the share of points that did not reach the tolerance. Beside a small fold y has
        several such x; one of them is returned.
        """
        target = points.double()
        x = target - (self.map_points(target) - target)
        residual = self.map_points(x) - target
        step = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
        for _ in range(iterations):
            norm = residual.norm(dim=1, keepdim=True)
            if not len(x) or float(norm.max()) <= tolerance_mm:
                return x.to(points.dtype)
            trial = x - step * residual
            trial_residual = self.map_points(trial) - target
            better = trial_residual.norm(dim=1, keepdim=True) < norm
            x = torch.where(better, trial, x)
            residual = torch.where(better, trial_residual, residual)
            step = torch.where(better, (step * 1.5).clamp(max=1.0), step * 0.5)
        share = float((residual.norm(dim=1) > tolerance_mm).double().mean())
        raise NotInvertibleError(
            f"The transform could not be inverted at {100 * share:.3g} % of the points to {tolerance_mm:g} mm; "
            "it folds or tears there."
        )


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
