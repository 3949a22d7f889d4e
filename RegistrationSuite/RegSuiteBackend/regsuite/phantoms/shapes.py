"""Soft-edged shapes: signed distances in mm (negative inside) and the coverage a blurred scanner sees. Points (N, 3) RAS mm."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def cover(distance: torch.Tensor, blur_mm: float) -> torch.Tensor:
    """Share of a straight edge's inside seen at a signed distance through a Gaussian blur (sigma, mm)."""
    return torch.special.ndtr(distance * (-1.0 / blur_mm))


def paint(hu: torch.Tensor, value: torch.Tensor | float, share: torch.Tensor) -> torch.Tensor:
    """Put a tissue of `value` HU over `hu` where it covers a share of the voxel."""
    return hu + (value - hu) * share


def ellipsoid(p: torch.Tensor, centre: Sequence[float], radii: Sequence[float]) -> torch.Tensor:
    """Distance to an ellipsoid along the axes, exact on its surface to first order."""
    axes = [axis for axis in range(3) if radii[axis] != float("inf")]  # an infinite radius makes a cylinder
    k = torch.zeros_like(p[:, 0])
    slope = torch.zeros_like(k)
    for axis in axes:
        t = (p[:, axis] - centre[axis]) * (1.0 / radii[axis])
        t = t * t
        k = k + t
        slope = slope + t * (1.0 / radii[axis] ** 2)
    return (k - 1.0) / (2.0 * torch.sqrt(slope)).clamp(min=1.0 / max(radii[axis] for axis in axes))


def capsule(p: torch.Tensor, start: Sequence[float], end: Sequence[float], radius: float) -> torch.Tensor:
    """Distance to a straight tube with round ends."""
    a, b = (torch.tensor(list(v), dtype=p.dtype) for v in (start, end))
    axis = b - a
    t = ((p - a) @ axis / (axis @ axis)).clamp(0.0, 1.0)
    return (p - a - t[:, None] * axis).norm(dim=1) - radius


def merge(first: torch.Tensor, second: torch.Tensor, round_mm: float = 6.0) -> torch.Tensor:
    """Union with a rounded seam (polynomial smooth minimum)."""
    h = (round_mm - (first - second).abs()).clamp(min=0.0) / round_mm
    return torch.minimum(first, second) - h * h * (0.25 * round_mm)


def common(first: torch.Tensor, second: torch.Tensor, round_mm: float = 6.0) -> torch.Tensor:
    """Intersection with a rounded edge."""
    return -merge(-first, -second, round_mm)
