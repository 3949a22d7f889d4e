"""A regular lattice of two or three dimensions: sampling, derivatives per millimetre and determinants, each with its adjoint.

Images are (C, D, H, W); vectors have one component for each axis longer than one voxel, in the order i, j, k (tensor axes 3, 2, 1).
The adjoints are written out because they are several times cheaper than recording every operation, and need no stored graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from regsuite.errors import InputError
from regsuite.ops.sampling import normalised_centres, sample_lattice, sample_lattice_back


class Lattice:
    """shape (D, H, W); spacing_mm along (D, H, W); at least two axes of more than one voxel."""

    def __init__(self, shape: Sequence[int], spacing_mm: Sequence[float], like: torch.Tensor) -> None:
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.axes = [a for a in (3, 2, 1) if self.shape[a - 1] > 1]
        if len(self.axes) < 2:
            raise InputError(f"Expected an image with at least two axes of more than one voxel, found {self.shape}.")
        self.spacing = [float(spacing_mm[a - 1]) for a in self.axes]
        self.size = [self.shape[a - 1] for a in self.axes]
        self._flat = tuple(reversed(self.size))
        scale = [2.0 / (n * h) for n, h in zip(self.size, self.spacing, strict=True)]
        self._scale = torch.tensor(scale, dtype=like.dtype, device=like.device)
        self._base = normalised_centres(self._flat).to(like)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.axes)

    def _grid(self, u: torch.Tensor) -> torch.Tensor:
        """(d, D, H, W) mm -> (1, ..., d) normalised coordinates of id + u."""
        flat = u.reshape(self.dimensions, *self._flat).movedim(0, -1)
        return torch.addcmul(self._base, flat, self._scale)[None]

    def _squeeze(self, data: torch.Tensor) -> torch.Tensor:
        return data.reshape(1, -1, *self._flat)

    def sample(self, data: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """data(x + u(x)), linear, border values beyond the border: (C, D, H, W), (d, D, H, W) mm -> (C, D, H, W)."""
        return sample_lattice(self._squeeze(data), self._grid(u)).view(-1, *self.shape)

    def sample_back(self, bar: torch.Tensor, data: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adjoint of `sample`: adjoints of data and of u (per mm)."""
        data_bar, grid_bar = sample_lattice_back(self._squeeze(bar), self._squeeze(data), self._grid(u))
        u_bar = (grid_bar[0] * self._scale).movedim(-1, 0).reshape(u.shape)
        return data_bar.view(data.shape), u_bar

    def gradient(self, image: torch.Tensor) -> torch.Tensor:
        """(1, D, H, W) -> (d, D, H, W) per mm: central differences, one-sided at the border."""
        return torch.cat([_difference(image, a, h) for a, h in zip(self.axes, self.spacing, strict=True)])

    def gradient_back(self, bar: torch.Tensor) -> torch.Tensor:
        """Adjoint of `gradient`: (d, D, H, W) -> (1, D, H, W)."""
        out = torch.zeros_like(bar[:1])
        for component, a, h in zip(bar.split(1), self.axes, self.spacing, strict=True):
            _difference_back(component, a, h, out)
        return out

    def determinant(self, u: torch.Tensor) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        """det(I + Du) (1, D, H, W) and the cofactors [component][axis]."""
        d = self.dimensions
        jac = [[_difference(u[r : r + 1], a, h) for a, h in zip(self.axes, self.spacing, strict=True)] for r in range(d)]
        for r in range(d):
            jac[r][r] += 1.0
        if d == 2:
            (a, b), (c, e) = jac
            return torch.addcmul(a * e, b, c, value=-1.0), [[e, -c], [-b, a]]
        cof = []
        for r in range(3):
            p, q = jac[(r + 1) % 3], jac[(r + 2) % 3]
            cof.append([_cross(p, q, s) for s in range(3)])
        det = jac[0][0] * cof[0][0]
        det.addcmul_(jac[0][1], cof[0][1]).addcmul_(jac[0][2], cof[0][2])
        return det, cof

    def determinant_back(self, bar: torch.Tensor, cofactors: Sequence[Sequence[torch.Tensor]], out: torch.Tensor) -> None:
        """Adds the adjoint of `determinant` to `out` (d, D, H, W)."""
        for r, row in enumerate(cofactors):
            for cofactor, a, h in zip(row, self.axes, self.spacing, strict=True):
                _difference_back(bar * cofactor, a, h, out[r : r + 1])


def _cross(p: Sequence[torch.Tensor], q: Sequence[torch.Tensor], s: int) -> torch.Tensor:
    a, b = (s + 1) % 3, (s + 2) % 3
    return torch.addcmul(p[a] * q[b], p[b], q[a], value=-1.0)


def _difference(x: torch.Tensor, axis: int, h: float) -> torch.Tensor:
    """(x[i + 1] - x[i - 1]) / 2h along `axis`; (x[1] - x[0]) / h at the border."""
    n = x.shape[axis]
    out = torch.empty_like(x)
    if n > 2:
        inner = out.narrow(axis, 1, n - 2)
        torch.sub(x.narrow(axis, 2, n - 2), x.narrow(axis, 0, n - 2), out=inner)
        inner.mul_(0.5 / h)
    for first, second, at in ((0, 1, 0), (n - 2, n - 1, n - 1)):
        out.narrow(axis, at, 1).copy_((x.narrow(axis, second, 1) - x.narrow(axis, first, 1)) / h)
    return out


def _difference_back(bar: torch.Tensor, axis: int, h: float, out: torch.Tensor) -> None:
    n = bar.shape[axis]
    if n > 2:
        inner = bar.narrow(axis, 1, n - 2)
        out.narrow(axis, 2, n - 2).add_(inner, alpha=0.5 / h)
        out.narrow(axis, 0, n - 2).add_(inner, alpha=-0.5 / h)
    for first, second, at in ((0, 1, 0), (n - 2, n - 1, n - 1)):
        edge = bar.narrow(axis, at, 1)
        out.narrow(axis, second, 1).add_(edge, alpha=1.0 / h)
        out.narrow(axis, first, 1).add_(edge, alpha=-1.0 / h)
