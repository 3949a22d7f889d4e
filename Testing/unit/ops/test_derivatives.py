"""World derivatives: exact on linear functions, whatever the grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from regsuite.errors import InputError
from regsuite.geometry import Grid
from regsuite.ops import derivatives
from regsuite.ops.derivatives import jacobian_determinant, jacobian_matrix, spatial_gradient

from Testing.unit.lattices import grid_of, grids, sheared_grid, smooth_field, world

GRADIENT = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
MATRIX = torch.tensor([[0.2, -0.1, 0.3], [0.05, -0.4, 0.15], [-0.25, 0.35, 0.1]], dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(grids())
def test_gradient_of_a_linear_function_is_its_coefficients_at_every_voxel(grid: Grid) -> None:
    data = (GRADIENT.view(3, 1, 1, 1) * world(grid)).sum(dim=0, keepdim=True)
    expected = GRADIENT.view(1, 3, 1, 1, 1).expand(1, 3, *grid.shape)
    torch.testing.assert_close(spatial_gradient(data, grid), expected, atol=1e-7, rtol=1e-7)


def test_gradient_of_a_quadratic_is_central_inside_and_one_sided_at_the_border() -> None:
    grid = Grid((1, 1, 4), np.diag([2.0, 1.0, 1.0, 1.0]))
    data = torch.tensor([0.0, 4.0, 16.0, 36.0]).view(1, 1, 1, 4)  # x^2 at x = 0, 2, 4, 6
    gradient = spatial_gradient(data, grid)
    assert gradient[0, 0, 0, 0].tolist() == [2.0, 4.0, 8.0, 10.0]
    assert gradient[0, 1:].abs().max() == 0.0  # axes of one voxel


def test_channels_are_kept_apart() -> None:
    grid = grid_of()
    data = torch.stack([world(grid)[0], 5.0 * world(grid)[2]])
    gradient = spatial_gradient(data, grid)
    assert gradient.shape == (2, 3, 7, 9, 11)
    torch.testing.assert_close(gradient[:, :, 3, 4, 5], torch.tensor([[1.0, 0, 0], [0, 0, 5.0]], dtype=torch.float64))


@pytest.mark.parametrize("grid", [grid_of(), sheared_grid()], ids=["oblique", "sheared"])
def test_jacobian_of_an_affine_displacement(grid: Grid) -> None:
    displacement = torch.einsum("ab,b...->a...", MATRIX, world(grid))
    jacobian = jacobian_matrix(displacement, grid)
    torch.testing.assert_close(jacobian[:, :, 2, 3, 4], torch.eye(3, dtype=torch.float64) + MATRIX)
    expected = torch.linalg.det(torch.eye(3, dtype=torch.float64) + MATRIX).expand(grid.shape)
    torch.testing.assert_close(jacobian_determinant(displacement, grid), expected)


def test_determinant_is_that_of_the_matrix_on_a_nonlinear_field() -> None:
    grid = grid_of()
    displacement = smooth_field(grid, 1.5, seed=3)
    expected = torch.linalg.det(jacobian_matrix(displacement, grid).permute(2, 3, 4, 0, 1))
    assert expected.std() > 0.05
    torch.testing.assert_close(jacobian_determinant(displacement, grid), expected)


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of()
    displacement = smooth_field(grid, 1.5, seed=4)
    whole = jacobian_determinant(displacement, grid)
    monkeypatch.setattr(derivatives, "_SLAB_VOXELS", 2 * 9 * 11)
    assert torch.equal(jacobian_determinant(displacement, grid), whole)
    asked = displacement.clone().requires_grad_()
    assert torch.equal(jacobian_determinant(asked, grid).detach(), whole)


def test_gradcheck() -> None:
    grid = sheared_grid((3, 4, 5))
    displacement = smooth_field(grid, 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: jacobian_determinant(u, grid), displacement)
    assert torch.autograd.gradcheck(lambda u: spatial_gradient(u, grid), displacement)


def test_wrong_shapes_are_named() -> None:
    grid = grid_of()
    with pytest.raises(InputError, match=r"\(C, 7, 9, 11\).*found \(1, 7, 9, 10\)"):
        spatial_gradient(torch.zeros(1, 7, 9, 10), grid)
    with pytest.raises(InputError, match=r"\(3, D, H, W\), found \(2, 7, 9, 11\)"):
        jacobian_matrix(torch.zeros(2, 7, 9, 11), grid)
    with pytest.raises(InputError, match="displacement"):
        jacobian_determinant(torch.zeros(3, 9, 7, 11), grid)
