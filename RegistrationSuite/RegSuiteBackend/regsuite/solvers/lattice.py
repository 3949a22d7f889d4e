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
        self._scale = torch.tensor(scale, dtype=like.dtype, device=like.device).view(-1, *[1] * self.dimensions)
        self._base = normalised_centres(self._flat).movedim(-1, 0).contiguous().to(like)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.axes)

    def _grid(self, u: torch.Tensor) -> torch.Tensor:
        """(d, D, H, W) mm -> (1, ..., d) normalised coordinates of id + u; one plane per coordinate in memory, which is quicker."""
        planes = torch.addcmul(self._base, u.reshape(self.dimensions, *self._flat), self._scale)
        return planes.movedim(0, -1)[None]

    def _squeeze(self, data: torch.Tensor) -> torch.Tensor:
        return data.reshape(1, -1, *self._flat)

    def sample(self, data: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """data(x + u(x)), linear, border values beyond the border: (C, D, H, W), (d, D, H, W) mm -> (C, D, H, W)."""
        return sample_lattice(self._squeeze(data), self._grid(u)).view(-1, *self.shape)

    def sample_back(self, bar: torch.Tensor, data: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adjoint of `sample`: adjoints of data and of u (per mm)."""
        data_bar, grid_bar = sample_lattice_back(self._squeeze(bar), self._squeeze(data), self._grid(u))
        u_bar = torch.empty(self.dimensions, *self._flat, dtype=u.dtype, device=u.device)
        torch.mul(grid_bar[0].movedim(-1, 0), self._scale, out=u_bar)
        return data_bar.view(data.shape), u_bar.view(u.shape)

    def gradient(self, image: torch.Tensor) -> torch.Tensor:
        """(1, D, H, W) -> (d, D, H, W) per mm: central differences, one-sided at the border."""
        out = image.new_empty(self.dimensions, *self.shape)
        for n, (axis, h) in enumerate(zip(self.axes, self.spacing, strict=True)):
            _difference(image, axis, h, out[n : n + 1])
        return out

    def gradient_back(self, bar: torch.Tensor) -> torch.Tensor:
        """Adjoint of `gradient`: (d, D, H, W) -> (1, D, H, W)."""
        out = torch.zeros_like(bar[:1])
        for component, axis, h in zip(bar.split(1), self.axes, self.spacing, strict=True):
            _difference_back(component, axis, h, out)
        return out

    def determinant(self, u: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """det(I + Du) (1, D, H, W) and the columns of I + Du: derivatives along each axis, (d, D, H, W)."""
        columns = []
        for n, (axis, h) in enumerate(zip(self.axes, self.spacing, strict=True)):
            column = torch.empty_like(u)
            _difference(u, axis, h, column)
            column[n].add_(1.0)
            columns.append(column)
        x, y = columns[:2]
        if len(columns) == 2:
            return (x[:1] * y[1:]).addcmul_(x[1:], y[:1], value=-1.0), columns
        det = torch.zeros_like(u[:1])
        for r, (s, t) in enumerate(_TURNS):
            minor = (x[s] * y[t]).addcmul_(x[t], y[s], value=-1.0)
            det[0].addcmul_(minor, columns[2][r])
        return det, columns

    def determinant_back(self, bar: torch.Tensor, columns: Sequence[torch.Tensor], out: torch.Tensor) -> None:
        """Adds the adjoint of `determinant` to `out` (d, D, H, W)."""
        part = torch.empty_like(out)
        if len(columns) == 2:
            against = -bar
            for n, (plus, minus) in enumerate(((bar, against), (against, bar))):
                other = columns[1 - n]
                torch.mul(plus, other[1:], out=part[:1])
                torch.mul(minus, other[:1], out=part[1:])
                _difference_back(part, self.axes[n], self.spacing[n], out)
            return
        for n, (a, b) in enumerate(_TURNS):
            p, q = columns[a], columns[b]
            for r, (s, t) in enumerate(_TURNS):
                torch.mul(p[s], q[t], out=part[r]).addcmul_(p[t], q[s], value=-1.0).mul_(bar[0])
            _difference_back(part, self.axes[n], self.spacing[n], out)


_TURNS = ((1, 2), (2, 0), (0, 1))


def _ends(n: int) -> tuple[slice, slice, slice]:
    """The border voxels of a line of n > 2, and of the pairs next to them the voxels with the higher and with the lower index."""
    return slice(0, n, n - 1), slice(1, n, n - 2), slice(0, n - 1, n - 2)


def _along(x: torch.Tensor, axis: int, part: slice) -> torch.Tensor:
    return x[(slice(None),) * axis + (part,)]


def _difference(x: torch.Tensor, axis: int, h: float, out: torch.Tensor) -> None:
    """out = (x[i + 1] - x[i - 1]) / 2h along `axis`; (x[1] - x[0]) / h at the border."""
    n = x.shape[axis]
    if n == 2:
        out.copy_((x.narrow(axis, 1, 1) - x.narrow(axis, 0, 1)) / h)
        return
    border, upper, lower = _ends(n)
    torch.sub(x.narrow(axis, 2, n - 2), x.narrow(axis, 0, n - 2), out=out.narrow(axis, 1, n - 2)).mul_(0.5 / h)
    torch.sub(_along(x, axis, upper), _along(x, axis, lower), out=_along(out, axis, border)).mul_(1.0 / h)


def _difference_back(bar: torch.Tensor, axis: int, h: float, out: torch.Tensor) -> None:
    n = bar.shape[axis]
    if n == 2:
        both = bar.sum(dim=axis, keepdim=True) / h
        out.narrow(axis, 1, 1).add_(both)
        out.narrow(axis, 0, 1).sub_(both)
        return
    border, upper, lower = _ends(n)
    inner, edge = bar.narrow(axis, 1, n - 2), _along(bar, axis, border)
    out.narrow(axis, 2, n - 2).add_(inner, alpha=0.5 / h)
    out.narrow(axis, 0, n - 2).add_(inner, alpha=-0.5 / h)
    _along(out, axis, upper).add_(edge, alpha=1.0 / h)
    _along(out, axis, lower).add_(edge, alpha=-1.0 / h)
