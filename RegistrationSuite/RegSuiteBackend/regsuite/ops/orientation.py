"""Normalised gradient fields and the orientation tensors that make their squared products linear.

With n = grad I / sqrt(|grad I|^2 + eps^2) the squared similarity of two fields is (n . m)^2 = <n n^T, m m^T>: a sum of six products
of tensor components, so cross-correlations of n n^T score all translations at once (Ofverstedt et al., WBIR 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from regsuite.geometry.grid import Grid, affine_lattice
from regsuite.geometry.image import Image
from regsuite.ops.derivatives import spatial_gradient
from regsuite.ops.filters import Matrices, apply_matrices, gaussian_resample_matrix
from regsuite.ops.pyramid import level_shape
from regsuite.ops.sampling import normalise_matrix, sample_normalised

_H, _S = 0.5**0.5, 6.0**-0.5
BASIS = np.array(
    [
        np.eye(3) / 3.0**0.5,
        np.diag([_H, -_H, 0.0]),
        np.diag([-_S, -_S, 2.0 * _S]),
        [[0.0, _H, 0.0], [_H, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[0.0, 0.0, _H], [0.0, 0.0, 0.0], [_H, 0.0, 0.0]],
        [[0.0, 0.0, 0.0], [0.0, 0.0, _H], [0.0, _H, 0.0]],
    ]
)
"""(6, 3, 3) orthonormal symmetric matrices: Q = sum_k q_k BASIS[k] and <P, Q> = p . q. The first alone has a trace."""
BASIS.flags.writeable = False

_LEAST_SUPPORT = 0.5  # ours: share of the smoothing window that must lie inside the mask for its gradient to count


@dataclass(frozen=True, eq=False)
class GradientField:
    """n (3, D, H, W) in world RAS axes, |n| <= 1, and mask (1, D, H, W) of the voxels that count, on `grid`."""

    normal: torch.Tensor
    mask: torch.Tensor
    grid: Grid

    def tensor(self, centred: bool = True) -> torch.Tensor:
        """(5 + 1, D, H, W): n n^T in the five traceless matrices of BASIS, then the mask; all zero outside the mask.

        Without the trace the product of two tensors is (n . m)^2 - |n|^2 |m|^2 / 3, which is zero on average for directions
        that have nothing to do with each other. centred=False keeps the trace: (6 + 1, D, H, W), the product is (n . m)^2.
        """
        return torch.cat([direction_tensor(self.normal * self.mask, centred), self.mask])


def direction_tensor(normal: torch.Tensor, centred: bool = True) -> torch.Tensor:
    """n (3, ...) -> (5, ...), or (6, ...) with the trace: the components of n n^T in BASIS."""
    x, y, z = normal
    parts = [] if centred else [(x * x + y * y + z * z) / 3.0**0.5]
    parts += [_H * (x * x - y * y), _S * (2.0 * z * z - x * x - y * y)]
    parts += [2.0 * _H * x * y, 2.0 * _H * x * z, 2.0 * _H * y * z]
    return torch.stack(parts)


def gradient_field(
    image: Image, mask: torch.Tensor | None, sigma_mm: float, spacing_mm: float, noise_per_mm: float
) -> GradientField:
    """NGF of a one-channel image on a lattice of about `spacing_mm` after smoothing by `sigma_mm` (world millimetres).

    image: (1, D, H, W) scaled to 0..1. mask: (1, D, H, W) 0/1 or None. noise_per_mm: eps, in intensity per mm. What a voxel of the
    image averages by itself (its thickness) counts as smoothing done. Smoothing is normalised by the mask and ends at the image's
    border, so neither edge becomes a gradient.
    """
    shape = level_shape(image.grid, spacing_mm)
    matrices = _smoothing(image, shape, sigma_mm)
    grid = image.grid.resized(shape)
    if mask is None:
        smooth, support = apply_matrices(image.data, matrices), torch.ones(1, *shape).to(image.data)
    else:
        weight = apply_matrices(mask.to(image.data), matrices)
        smooth = apply_matrices(image.data * mask, matrices) / weight.clamp(min=1e-3)
        support = (weight > _LEAST_SUPPORT).to(image.data)
    gradient = spatial_gradient(smooth, grid)[0]
    length = torch.sqrt(gradient.square().sum(dim=0, keepdim=True) + noise_per_mm**2)
    return GradientField(gradient / length * support, support, grid)


def _smoothing(image: Image, shape: tuple[int, int, int], sigma_mm: float) -> Matrices:
    matrices = []
    for n_in, n_out, mm in zip(image.grid.shape, shape, image.grid.spacing[::-1], strict=True):
        own = mm / math.sqrt(12.0)  # standard deviation of a box of one voxel
        sigma = math.sqrt(max(sigma_mm**2 - own**2, 0.0)) / mm
        matrices.append(None if n_in == 1 else gaussian_resample_matrix(n_in, n_out, sigma, image.data))
    return matrices[0], matrices[1], matrices[2]


def tensor_rotation(rotation: np.ndarray, centred: bool = True) -> np.ndarray:
    """(5, 5), or (6, 6) with the trace: the orthogonal matrix of Q -> R Q R^T in BASIS."""
    basis = BASIS[1:] if centred else BASIS
    return np.einsum("kab,ac,lcd,bd->kl", basis, rotation, basis, rotation)


def sample_tensor(tensor: torch.Tensor, grid: Grid, lattice: Grid, rotation: np.ndarray) -> torch.Tensor:
    """A tensor field (K + 1, D, H, W) on `grid` read at the voxels of `lattice`, in axes R (columns) -> (K + 1, d, h, w).

    q'(x) = R^T Q(x) R with Q from GradientField.tensor, linear between voxels, zero outside the grid.
    """
    matrix = normalise_matrix(grid.shape) @ grid.inverse_affine() @ lattice.affine
    coordinates = affine_lattice(lattice.shape, matrix, tensor.dtype, tensor.device)
    values = sample_normalised(tensor, coordinates, padding="zeros")
    turn = torch.as_tensor(tensor_rotation(rotation.T, centred=tensor.shape[0] == 6)).to(values)
    return torch.cat([torch.tensordot(turn, values[:-1], dims=1), values[-1:]])
