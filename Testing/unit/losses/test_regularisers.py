"""Regularisers: values in world millimetres that do not depend on resolution or on how the axes lie."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid
from regsuite.losses import curvature, diffusion, folding_barrier

from Testing.unit.lattices import grid_of, rotation, sheared_grid, smooth_field, world

MATRIX = torch.tensor([[0.2, -0.1, 0.3], [0.05, -0.4, 0.15], [-0.25, 0.35, 0.1]], dtype=torch.float64)
GRIDS = pytest.mark.parametrize("grid", [grid_of(), sheared_grid()], ids=["oblique", "sheared"])
REGULARISERS = pytest.mark.parametrize("loss", [diffusion, curvature, folding_barrier])


@GRIDS
def test_diffusion_of_a_linear_field_is_its_squared_matrix_norm(grid: Grid) -> None:
    displacement = torch.einsum("ab,b...->a...", MATRIX, world(grid)) + 4.0
    assert float(diffusion(displacement, grid)) == pytest.approx(float(MATRIX.square().sum()), rel=1e-9)  # 0.525
    assert float(diffusion(torch.full((3, *grid.shape), 2.5), grid)) == 0.0


@GRIDS
def test_curvature_of_a_quadratic_field_is_its_squared_laplacian(grid: Grid) -> None:
    x, y, z = world(grid)
    displacement = torch.stack([x * x + 3 * y * y + x * z, 2 * x * y - z, z * z])  # laplacians 8, 0, 2
    assert float(curvature(displacement, grid)) == pytest.approx(68.0, rel=1e-6)
    affine = torch.einsum("ab,b...->a...", MATRIX, world(grid)) + 4.0
    assert float(curvature(affine, grid)) == pytest.approx(0.0, abs=1e-18)


def test_first_differences_see_an_alternating_field() -> None:
    grid = Grid((4, 5, 6), np.eye(4))
    alternating = torch.zeros(3, 4, 5, 6)
    alternating[0, :, :, ::2] = 1.0
    assert float(diffusion(alternating, grid)) == pytest.approx(1.0)


def wavy(grid: Grid) -> torch.Tensor:
    x, y, z = world(grid)
    return torch.stack([6 * torch.sin(x / 6) * torch.cos(y / 8), 4 * torch.cos(z / 6), 5 * torch.sin((x + z) / 6)])


@REGULARISERS
def test_the_value_is_the_same_at_another_resolution(loss: Callable[..., torch.Tensor]) -> None:
    coarse = grid_of((18, 16, 20), (1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))
    fine = coarse.resized((36, 32, 40))
    anisotropic = coarse.resized((36, 16, 30))
    reference = float(loss(wavy(fine), fine))
    assert reference > 1e-3
    assert float(loss(wavy(coarse), coarse)) == pytest.approx(reference, rel=0.12)
    assert float(loss(wavy(anisotropic), anisotropic)) == pytest.approx(reference, rel=0.12)


@REGULARISERS
def test_flipped_and_permuted_axes_give_the_same_value(loss: Callable[..., torch.Tensor]) -> None:
    grid = sheared_grid()
    displacement = 4.0 * smooth_field(grid, 1.0, seed=1)
    flip = np.array([[-1.0, 0, 0, grid.size[0] - 1], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # i reversed, j and k swapped
    other = Grid((grid.shape[1], grid.shape[0], grid.shape[2]), grid.affine @ flip)
    moved = displacement.permute(0, 2, 1, 3).flip(3)
    torch.testing.assert_close(world(other), world(grid).permute(0, 2, 1, 3).flip(3))
    assert float(loss(moved, other)) == pytest.approx(float(loss(displacement, grid)), rel=1e-9)


@REGULARISERS
def test_a_rotated_world_gives_the_same_value(loss: Callable[..., torch.Tensor]) -> None:
    grid = grid_of()
    displacement = smooth_field(grid, 2.5, seed=2)
    turn = np.eye(4)
    turn[:3, :3] = rotation((2, -1, 1), 70.0)
    rotated = torch.einsum("ab,b...->a...", torch.as_tensor(turn[:3, :3]), displacement)
    value = float(loss(displacement, grid))
    assert value > 0.0
    assert float(loss(rotated, Grid(grid.shape, turn @ grid.affine))) == pytest.approx(value, rel=1e-9)


@REGULARISERS
def test_gradcheck_and_weights(loss: Callable[..., torch.Tensor]) -> None:
    grid = sheared_grid((4, 4, 5))
    displacement = smooth_field(grid, 3.0, seed=5, sigma=0.8)
    weights = torch.rand(grid.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda u: loss(u, grid, weights), displacement.clone().requires_grad_(), fast_mode=True)
    assert float(loss(displacement, grid, weights)) != pytest.approx(float(loss(displacement, grid)), rel=1e-3)
    uniform = torch.full(grid.shape, 0.3, dtype=torch.float64)
    assert float(loss(displacement, grid, uniform)) == pytest.approx(float(loss(displacement, grid)), rel=1e-9)


@REGULARISERS
def test_one_slice_counts_as_a_plane(loss: Callable[..., torch.Tensor]) -> None:
    grid = Grid((1, 6, 7), np.diag([1.5, 1.0, 3.0, 1.0]))
    thick = Grid((5, 6, 7), np.diag([1.5, 1.0, 3.0, 1.0]))
    displacement = smooth_field(Grid((6, 6, 7), np.eye(4)), 4.0, seed=1)[:, 2:3]
    assert float(loss(displacement, grid)) > 0.0
    assert float(loss(displacement, grid)) == pytest.approx(float(loss(displacement.expand(3, 5, 6, 7), thick)), rel=1e-9)
    assert float(loss(torch.zeros(3, 1, 1, 1), Grid((1, 1, 1), np.eye(4)))) == 0.0


@REGULARISERS
def test_bad_input_is_refused(loss: Callable[..., torch.Tensor]) -> None:
    grid = grid_of()
    with pytest.raises(InputError, match=r"\(3, D, H, W\), found \(3, 7, 9, 10\)"):
        loss(torch.zeros(3, 7, 9, 10), grid)
    with pytest.raises(InputError, match="empty mask"):
        loss(torch.zeros(3, 7, 9, 11), grid, torch.zeros(7, 9, 11))


def scaled(grid: Grid, x_stretch: float) -> torch.Tensor:
    displacement = torch.zeros(3, *grid.shape, dtype=torch.float64)
    displacement[0] = (x_stretch - 1.0) * world(grid)[0]
    return displacement


@pytest.mark.parametrize(("det", "expected"), [(1.0, 0.0), (0.3, 0.0), (0.1, math.log(3.0) ** 2), (0.05, math.log(6.0) ** 2)])
def test_barrier_values_above_the_joint(det: float, expected: float) -> None:
    grid = grid_of()
    assert float(folding_barrier(scaled(grid, det), grid)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_barrier_is_smooth_at_the_joint_finite_and_steeper_in_a_fold() -> None:
    grid = grid_of((2, 3, 4))
    values = [float(folding_barrier(scaled(grid, d), grid)) for d in (0.05 + 1e-5, 0.05, 0.05 - 1e-5, 0.0, -1.0, -2.0)]
    assert (values[0] - values[1]) == pytest.approx(values[1] - values[2], rel=1e-3)
    log6, expected = math.log(6.0), []
    for step in (-0.05, -1.05, -2.05):
        expected.append(log6**2 - 2 * log6 / 0.05 * step + (1 + log6) / 0.05**2 * step**2)
    assert values[3:] == pytest.approx(expected, rel=1e-9)
    assert values[5] > values[4] > values[3] > values[1]
    with pytest.raises(InputError, match="linearise_below"):
        folding_barrier(scaled(grid, 1.0), grid, threshold=0.02)
