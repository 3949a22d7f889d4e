"""The smoothness term on a lattice and the linear system of one Gauss-Newton step."""

from __future__ import annotations

import torch

from regsuite.ops.filters import gaussian_smooth


class Smoothness:
    """Robust first-order smoothness around a locally constant gradient (a lagged total generalised variation).

    R(u) = lambda * mean over nodes of eps^2 (sqrt(1 + |grad u - A|^2 / eps^2) - 1), |.| Frobenius, mm per mm, linearised at u.
    A is `affinity` times the smoothed gradient of u (robustly weighted Gaussian of `reach` nodes, which may be one number for
    each component of u), held fixed in one
    Gauss-Newton step: steady stretch costs little, its changes cost, and a sliding wall costs its area, not its square.
    """

    def __init__(
        self,
        u: torch.Tensor,
        spacing: tuple[float, float, float],
        strength: float,
        eps: float,
        affinity: float = 0.0,
        reach: float | tuple[float, float, float] = 2.0,
        weight: torch.Tensor | None = None,
    ) -> None:
        self.spacing = spacing
        slopes = [_difference(u, axis) / spacing[axis] for axis in range(3)]
        drift = [torch.zeros_like(s) for s in slopes]
        self.edges, self.degree = self._weights(slopes, strength, eps, weight)
        if affinity > 0.0:
            drift = [affinity * _weighted_smooth(s, e[None], reach) for s, e in zip(slopes, self.edges, strict=True)]
            self.edges, self.degree = self._weights([s - a for s, a in zip(slopes, drift, strict=True)], strength, eps, weight)
        self.pull = torch.zeros_like(u)  # gradient of R at u: the Laplacian of u less the divergence of A
        for axis in range(3):
            if slopes[axis].shape[axis + 1]:
                _scatter(self.pull, (slopes[axis] - drift[axis]) * self.edges[axis] * spacing[axis], axis)

    def _weights(
        self, slopes: list[torch.Tensor], strength: float, eps: float, weight: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        shape = [slopes[1].shape[1], slopes[0].shape[2], slopes[0].shape[3]]
        total = slopes[0].new_zeros(shape)
        for axis, slope in enumerate(slopes):
            square = slope.square().sum(dim=0)
            n = square.shape[axis]
            total.narrow(axis, 0, n).add_(square, alpha=0.5)
            total.narrow(axis, 1, n).add_(square, alpha=0.5)
        node = strength * torch.rsqrt(1.0 + total / (eps * eps))
        if weight is not None:
            node = node * weight
        edges, degree = [], torch.zeros_like(node)
        for axis in range(3):
            n = node.shape[axis] - 1
            edge = (node.narrow(axis, 1, n) + node.narrow(axis, 0, n)) * (0.5 / self.spacing[axis] ** 2)
            edges.append(edge)
            degree.narrow(axis, 0, n).add_(edge)
            degree.narrow(axis, 1, n).add_(edge)
        return edges, degree

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """The weighted graph Laplacian times x (3, d, h, w), per mm^2; natural (free) borders."""
        out = torch.zeros_like(x)
        for axis in range(3):
            _scatter(out, _difference(x, axis).mul_(self.edges[axis]), axis)
        return out


def _difference(x: torch.Tensor, axis: int) -> torch.Tensor:
    n = x.shape[axis + 1] - 1
    return x.narrow(axis + 1, 1, n) - x.narrow(axis + 1, 0, n)


def _scatter(out: torch.Tensor, flux: torch.Tensor, axis: int) -> None:
    n = flux.shape[axis + 1]
    out.narrow(axis + 1, 1, n).add_(flux)
    out.narrow(axis + 1, 0, n).sub_(flux)


def _weighted_smooth(x: torch.Tensor, weight: torch.Tensor, sigma: float | tuple[float, float, float]) -> torch.Tensor:
    """(3, d, h, w) averaged with (1, d, h, w) weights; one sigma (nodes) for all components, or one for each."""
    if min(x.shape) == 0:
        return x
    if isinstance(sigma, tuple):
        if len(set(sigma)) > 1:
            return torch.cat([_weighted_smooth(part[None], weight, s) for part, s in zip(x, sigma, strict=True)])
        sigma = sigma[0]
    both = gaussian_smooth(torch.cat([x * weight, weight]), (sigma, sigma, sigma))
    return both[:-1] / both[-1:].clamp(min=1e-20)


def _symmetric_times(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(6, ...) symmetric matrices (xx, yy, zz, xy, xz, yz) times vectors (3, ...)."""
    xx, yy, zz, xy, xz, yz = matrix
    a, b, c = x
    out = torch.empty_like(x)
    for row, (p, q, r) in zip(out, ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz)), strict=True):
        torch.mul(p, a, out=row).addcmul_(q, b).addcmul_(r, c)
    return out


def _symmetric_inverse(matrix: torch.Tensor) -> torch.Tensor:
    xx, yy, zz, xy, xz, yz = matrix
    cxx, cxy, cxz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    det = xx * cxx + xy * cxy + xz * cxz
    return torch.stack([cxx, xx * zz - xz * xz, xx * yy - xy * xy, cxy, cxz, xy * xz - xx * yz]) / det


def solve(matrix: torch.Tensor, right: torch.Tensor, smooth: Smoothness, iterations: int, tolerance: float = 1e-2) -> torch.Tensor:
    """Block-Jacobi preconditioned conjugate gradients on (A + L) x = right.

    A: (6, d, h, w) symmetric positive semidefinite per node; L: `smooth`. Stops after `iterations` or when the preconditioned
    residual has fallen to `tolerance` of its start: an inexact step is enough inside Gauss-Newton.
    """
    diagonal = matrix.clone()
    damping = 1e-4 * float(matrix[:3].mean()) + 1e-12
    diagonal[:3] += smooth.degree + damping
    inverse = _symmetric_inverse(diagonal)
    x = torch.zeros_like(right)
    r = right.contiguous()
    z = _symmetric_times(inverse, r)
    p = z
    rz = torch.dot(r.view(-1), z.view(-1))
    first = rz
    for _ in range(iterations):
        ap = _symmetric_times(matrix, p).add_(smooth.apply(p)).add_(p, alpha=damping)
        alpha = float(rz / torch.dot(p.view(-1), ap.view(-1)).clamp(min=1e-30))
        x.add_(p, alpha=alpha)
        r = r.sub(ap, alpha=alpha)
        z = _symmetric_times(inverse, r)
        rz_new = torch.dot(r.view(-1), z.view(-1))
        if float(rz_new) <= tolerance**2 * float(first):
            break
        p = z.add_(p, alpha=float(rz_new / rz))
        rz = rz_new
    return x
