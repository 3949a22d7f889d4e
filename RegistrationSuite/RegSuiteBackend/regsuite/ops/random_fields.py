"""Smooth Gaussian random fields of unit variance, one at a time, the same for a seed on every machine.

n = C eps with eps white on a coarse lattice that reaches beyond the grid, C separable and Gaussian in mm. Every row of C has unit
L2 norm, so each voxel of n has variance exactly 1, at the border as well; a kernel that sums to 1 would leave far less.
Source: Smolders et al., Deformable Image Registration Uncertainty Quantification ..., WBIR 2022, section 2.3.
"""

from __future__ import annotations

import numpy as np
import torch

from regsuite import check
from regsuite.geometry.grid import Grid
from regsuite.ops.filters import apply_matrices

_NODES_PER_KERNEL = 1.5  # lattice nodes per standard deviation of the kernel: variance and correlation are right to 1e-5
_REACH = 4.0  # standard deviations that the lattice goes on beyond the grid
_SHORTEST = 0.5  # kernel in shares of the smallest spacing; below it the voxels are independent anyway


def neighbour_correlation(distance_mm: float, kernel_mm: float) -> float:
    """Correlation of two points of the field `distance_mm` apart: exp(-d^2 / (4 kernel^2))."""
    return float(np.exp(-0.25 * (distance_mm / kernel_mm) ** 2))


class SmoothNoise:
    """Random fields on `grid` with variance 1 and correlation exp(-d^2 / (4 kernel_mm^2)) at a distance of d mm.

    kernel_mm: standard deviation of the Gaussian kernel C (the paper's sigma_c). Isotropic in mm when the grid's axes are at right
    angles. Only the kernel's three matrices are kept. Raises InputError for a kernel below half the smallest spacing.
    """

    def __init__(self, grid: Grid, kernel_mm: float) -> None:
        kernel_mm = check.finite_number("correlation_mm", kernel_mm, _SHORTEST * float(grid.spacing.min()), 1e4)
        self.grid, self.kernel_mm = grid, kernel_mm
        lines = [_kernel_matrix(n, float(h), kernel_mm) for n, h in zip(grid.shape, grid.spacing[::-1], strict=True)]
        self._matrices = (lines[0], lines[1], lines[2])

    def draw(self, seed: int, index: int, channels: int = 3) -> torch.Tensor:
        """(channels, D, H, W) float32: field number `index` of the stream `seed`; the channels are independent."""
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((int(seed), int(index)))))
        white = rng.standard_normal((channels, *(m.shape[1] for m in self._matrices)), dtype=np.float32)
        return apply_matrices(torch.from_numpy(white), self._matrices)


def _kernel_matrix(n: int, spacing_mm: float, kernel_mm: float) -> torch.Tensor:
    """(n, nodes): Gaussian weights of the lattice's nodes at each voxel of an axis, rows of unit L2 norm."""
    step = kernel_mm / _NODES_PER_KERNEL
    reach = _REACH * kernel_mm
    length = (n - 1) * spacing_mm + 2.0 * reach
    nodes = np.arange(int(np.ceil(length / step)) + 1) * step - reach
    distance = np.arange(n)[:, None] * spacing_mm - nodes[None, :]
    weight = np.exp(-0.5 * (distance / kernel_mm) ** 2)
    return torch.from_numpy((weight / np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32))
