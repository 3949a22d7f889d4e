"""The laws every transform obeys: compose, inverse, Jacobian, what happens outside a field, exp of velocities."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from regsuite.errors import InputError, NotInvertibleError
from regsuite.geometry import Grid
from regsuite.metrics import jacobian_determinant
from regsuite.transforms import (
    AffineTransform,
    CompositeTransform,
    DisplacementField,
    StationaryVelocityField,
    Transform,
    compose,
    velocity,
)
from scipy.linalg import expm

from Testing.unit.lattices import grid_of, grids, rotation, sheared_grid, smooth_field, world

GRID = grid_of((10, 12, 14))
seeds = st.integers(0, 10_000)


def random_points(grid: Grid, count: int = 40, margin: float = 0.0, seed: int = 0) -> torch.Tensor:
    """(N, 3) float64 RAS mm inside the voxel centres, `margin` voxels away from the border."""
    share = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    size = torch.tensor(grid.size, dtype=torch.float64)
    return grid.index_to_world(margin + share * (size - 1 - 2 * margin))


def affine(seed: int = 0) -> AffineTransform:
    generator = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((1.0, *generator.uniform(-1, 1, 2)), generator.uniform(-90, 90)) @ (
        np.eye(3) + generator.uniform(-0.2, 0.2, (3, 3))
    )
    matrix[:3, 3] = generator.uniform(-20, 20, 3)
    return AffineTransform(matrix)


def transforms() -> dict[str, Transform]:
    field = DisplacementField(smooth_field(GRID, 2.0, seed=1), GRID)
    flow = StationaryVelocityField(smooth_field(sheared_grid((10, 12, 14)), 2.0, seed=2), sheared_grid((10, 12, 14)))
    return {"affine": affine(), "field": field, "velocity": flow, "composite": compose(affine(3), compose(field, flow))}


every_transform = pytest.mark.parametrize("transform", transforms().values(), ids=transforms().keys())


@every_transform
def test_compose_applies_the_inner_map_first(transform: Transform) -> None:
    points, other = random_points(GRID), affine(7)
    torch.testing.assert_close(compose(transform, other).map_points(points), transform.map_points(other.map_points(points)))
    torch.testing.assert_close(compose(other, transform).map_points(points), other.map_points(transform.map_points(points)))


@every_transform
def test_compose_is_associative_and_flat(transform: Transform) -> None:
    a, b, points = affine(1), DisplacementField(smooth_field(GRID, 1.0, seed=9), GRID), random_points(GRID)
    left, right = compose(compose(a, b), transform), compose(a, compose(b, transform))
    torch.testing.assert_close(left.map_points(points), right.map_points(points))
    assert isinstance(left, CompositeTransform)
    assert not any(isinstance(part, CompositeTransform) for part in left.parts)


@every_transform
def test_identity_is_neutral(transform: Transform) -> None:
    points, identity = random_points(GRID), AffineTransform.identity()
    expected = transform.map_points(points)
    torch.testing.assert_close(compose(identity, transform).map_points(points), expected)
    torch.testing.assert_close(compose(transform, identity).map_points(points), expected)


@every_transform
def test_inverse_points_reach_the_tolerance(transform: Transform) -> None:
    points = random_points(GRID, margin=3.0)
    back = transform.inverse_points(points, tolerance_mm=1e-4)
    assert float((transform.map_points(back) - points).norm(dim=1).max()) <= 1e-4


@every_transform
def test_inverse_undoes_the_map_in_both_orders(transform: Transform) -> None:
    points = random_points(GRID, margin=2.0)
    inverse = transform.inverse()
    for first, second in ((transform, inverse), (inverse, transform)):
        error = (second.map_points(first.map_points(points)) - points).norm(dim=1)
        assert float(error.mean()) < 0.1  # affine: exact; fields: linear between the 0.8 to 2.5 mm voxels of their lattice
        assert float(error.max()) < 0.5


@every_transform
def test_points_keep_their_type_and_shape(transform: Transform) -> None:
    for dtype in (torch.float32, torch.float64):
        mapped = transform.map_points(random_points(GRID).to(dtype))
        assert mapped.dtype == dtype
        assert mapped.shape == (40, 3)
    assert transform.map_points(torch.zeros(0, 3)).shape == (0, 3)


@every_transform
def test_displacement_on_a_grid_is_map_minus_identity(transform: Transform) -> None:
    grid = sheared_grid((4, 5, 6))
    expected = (transform.map_points(grid.world_points(torch.float64).view(-1, 3)) - grid.world_points(torch.float64).view(-1, 3)).T
    torch.testing.assert_close(transform.displacement(grid), expected.reshape(3, 4, 5, 6).float())


@every_transform
def test_to_a_device_is_the_same_map(transform: Transform) -> None:
    points = random_points(GRID)
    assert torch.equal(transform.to("cpu").map_points(points), transform.map_points(points))


@settings(max_examples=20, deadline=None)
@given(seeds, seeds)
def test_affine_group_laws(first: int, second: int) -> None:
    a, b, points = affine(first), affine(second), random_points(GRID)
    both = compose(a, b)
    assert isinstance(both, AffineTransform)
    assert both.determinant == pytest.approx(a.determinant * b.determinant)
    torch.testing.assert_close(both.map_points(points), a.map_points(b.map_points(points)))
    np.testing.assert_allclose(both.inverse().matrix, b.inverse().matrix @ a.inverse().matrix, atol=1e-10)
    torch.testing.assert_close(a.inverse().map_points(a.map_points(points)), points, atol=1e-9, rtol=0)
    torch.testing.assert_close(a.inverse_points(a.map_points(points)), points, atol=1e-9, rtol=0)
    assert jacobian_determinant(a, GRID).numpy() == pytest.approx(np.full(GRID.shape, a.determinant), rel=1e-5)


def test_affine_literal_values_and_refusals() -> None:
    shift = AffineTransform.translation([1.0, -2.0, 3.0])
    assert shift.map_points(torch.tensor([[10.0, 10.0, 10.0]])).tolist() == [[11.0, 8.0, 13.0]]
    with pytest.raises(InputError, match="singular"):
        AffineTransform(np.diag([1.0, 0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="read-only"):
        shift.matrix[0, 0] = 2.0
    with pytest.raises(InputError, match="at least one part"):
        CompositeTransform(())


@settings(max_examples=20, deadline=None)
@given(grids(smallest=2), seeds)
def test_field_is_its_samples_at_the_voxels_and_linear_between(grid: Grid, seed: int) -> None:
    u = torch.randn(3, *grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    transform = DisplacementField(u, grid)
    index = torch.tensor([[1.0, 1.0, 1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
    points = grid.index_to_world(index)
    expected = torch.stack([u[:, 1, 1, 1], 0.5 * (u[:, 0, 1, 0] + u[:, 0, 1, 1])])
    torch.testing.assert_close(transform.map_points(points) - points, expected, atol=1e-8, rtol=0)


@settings(max_examples=20, deadline=None)
@given(grids(smallest=2), st.sampled_from([0, 1, 2]), st.booleans())
def test_displacement_is_zero_more_than_half_a_voxel_outside(grid: Grid, axis: int, high: bool) -> None:
    for transform in (
        DisplacementField(torch.full((3, *grid.shape), 2.0), grid),
        compose(DisplacementField(torch.full((3, *grid.shape), 2.0), grid), AffineTransform.identity()),
    ):
        for beyond, expected in ((0.45, 2.0), (0.55, 0.0), (400.0, 0.0)):
            index = torch.zeros(1, 3, dtype=torch.float64)
            index[0, axis] = grid.size[axis] - 1 + beyond if high else -beyond
            point = grid.index_to_world(index)
            assert (transform.map_points(point) - point)[0].tolist() == pytest.approx([expected] * 3, abs=1e-5)


def test_inverse_of_a_field_that_does_not_vanish_at_its_border() -> None:
    """A shift that ends at the border of its grid: the inverse exists wherever the shift goes on, and is the opposite shift."""
    field = DisplacementField(torch.tensor([2.0, -1.0, 0.5]).view(3, 1, 1, 1).expand(3, *GRID.shape), GRID)
    inverse = field.inverse()
    torch.testing.assert_close(inverse.field, -field.field, atol=0.011, rtol=0)
    points = random_points(GRID, margin=3.0)
    torch.testing.assert_close(inverse.map_points(field.map_points(points)), points, atol=0.02, rtol=0)


def test_a_field_that_turns_space_over_has_no_inverse() -> None:
    """u = -2 (x - c) along x: det J = -1 everywhere, one fold. The search must not return something that is not there."""
    u = torch.zeros(3, *GRID.shape, dtype=torch.float64)
    u[0] = -2.0 * (world(GRID)[0] - float(GRID.centre[0]))
    with pytest.raises(NotInvertibleError, match=r"% of the points to 0.01 mm; it folds"):
        DisplacementField(u, GRID).inverse()
    assert issubclass(NotInvertibleError, ArithmeticError)


@pytest.mark.parametrize("kind", [DisplacementField, StationaryVelocityField])
def test_fields_refuse_wrong_shapes_and_nan(kind: type) -> None:
    with pytest.raises(InputError, match=r"\(3, D, H, W\), found \(3, 10, 12, 13\)"):
        kind(torch.zeros(3, 10, 12, 13), GRID)
    broken = torch.zeros(3, *GRID.shape)
    broken[1, 2, 3, 4] = math.nan
    with pytest.raises(InputError, match="1 NaN or infinite"):
        kind(broken, GRID)


def linear_velocity(grid: Grid, matrix: np.ndarray) -> torch.Tensor:
    """v(x) = M (x - centre): its exact flow is expm(M) about the centre, and linear interpolation keeps it exact."""
    offset = world(grid) - torch.tensor(grid.centre).view(3, 1, 1, 1)
    return torch.einsum("ab,b...->a...", torch.as_tensor(matrix), offset)


M = np.array([[0.10, -0.35, 0.05], [0.30, -0.05, 0.10], [-0.05, 0.10, 0.08]])


def exponential_error(grid: Grid) -> float:
    points = random_points(grid, margin=6.0)
    centre = torch.tensor(grid.centre)
    exact = (points - centre) @ torch.as_tensor(expm(M)).T + centre
    found = StationaryVelocityField(linear_velocity(grid, M), grid).map_points(points)
    return float((found - exact).norm(dim=1).max())


def test_exponential_of_a_linear_velocity_is_the_matrix_exponential() -> None:
    assert exponential_error(grid_of((20, 22, 24), (1.0, 1.2, 0.9))) < 0.05


def test_scaling_and_squaring_converges_with_order_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halving the first step (one more squaring) halves the error: the first step is u = v / 2^n."""
    grid = grid_of((20, 22, 24), (1.0, 1.2, 0.9))
    errors = []
    for step in (1.0, 0.5, 0.25, 0.125):
        monkeypatch.setattr(velocity, "_MAX_STEP_VOXELS", step)
        errors.append(exponential_error(grid))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert rates == pytest.approx([1.0, 1.0, 1.0], abs=0.15)


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_exp_v_and_exp_minus_v_undo_each_other(seed: int) -> None:
    grid = grid_of((14, 15, 16), (1.0, 1.3, 0.8))
    flow = StationaryVelocityField(smooth_field(grid, 3.0, seed=seed), grid)
    points = random_points(grid, 200, seed=seed)
    error = (flow.inverse().map_points(flow.map_points(points)) - points).norm(dim=1)
    assert float(error.mean()) < 0.05 * 0.8  # the documented 0.05 voxel
    assert float(jacobian_determinant(flow, grid).min()) > 0.0


def test_exp_of_half_a_velocity_twice_is_exp() -> None:
    grid = grid_of((14, 15, 16), (1.0, 1.3, 0.8))
    v = smooth_field(grid, 3.0, seed=5)
    half, whole, points = StationaryVelocityField(0.5 * v, grid), StationaryVelocityField(v, grid), random_points(grid, 200)
    error = (compose(half, half).map_points(points) - whole.map_points(points)).norm(dim=1)
    assert float(error.mean()) < 0.03
    zero = StationaryVelocityField(torch.zeros_like(v), grid)
    assert torch.equal(zero.map_points(points), points)


def test_jacobian_of_a_chain_is_the_product_along_the_path() -> None:
    outer, inner = transforms()["field"], affine(4)
    source = Grid(GRID.shape, inner.inverse().matrix @ GRID.affine)
    chain = jacobian_determinant(compose(outer, inner), source)
    torch.testing.assert_close(chain, inner.determinant * jacobian_determinant(outer, GRID), atol=1e-5, rtol=1e-5)
