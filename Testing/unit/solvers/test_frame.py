"""The solvers' frame: what a lattice displacement means inside is what the public transform says outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Image
from regsuite.ops.sampling import normalise_matrix
from regsuite.solvers.frame import Level, lattice_shape, make_level, resize_displacement, to_transform
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField

from Testing.unit.lattices import grid_of, rotation


def affine_start() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((2, -1, 1), 12.0) @ np.diag([1.05, 0.97, 1.1])
    matrix[:3, 3] = (4.0, -7.0, 2.5)
    return matrix


@pytest.mark.parametrize("start", [np.eye(4), affine_start()], ids=["none", "affine"])
def test_coordinates_and_public_transform_are_the_same_map(start: np.ndarray) -> None:
    fixed = grid_of((9, 8, 11), (2.0, 1.5, 3.0))
    moving = grid_of((7, 10, 9), (1.8, 2.2, 2.7), rotation((3, 1, -1), 40.0), (-25.0, 9.0, 3.0))
    generator = torch.Generator().manual_seed(1)
    u = 5.0 * torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    image = Image(torch.rand(1, *fixed.shape, generator=generator, dtype=torch.float64), fixed)
    other = Image(torch.rand(1, *moving.shape, generator=generator, dtype=torch.float64), moving)
    inside = Level(image, other, start, (4, 5, 6)).coordinates(u)
    transform = to_transform(u, fixed, start)
    assert isinstance(transform, DisplacementField if np.array_equal(start, np.eye(4)) else CompositeTransform)
    mapped = moving.world_to_index(transform.map_points(fixed.world_points(torch.float64).view(-1, 3)))
    matrix = torch.from_numpy(normalise_matrix(moving.shape))
    expected = (mapped @ matrix[:3, :3].T + matrix[:3, 3]).T.view(3, *fixed.shape)
    assert torch.allclose(inside, expected, atol=1e-5)


def test_pool_keeps_constants_and_is_the_adjoint_of_the_interpolation() -> None:
    grid = grid_of((9, 8, 11))
    image = Image(torch.rand(1, *grid.shape, dtype=torch.float64), grid)
    level = Level(image, image, np.eye(4), (4, 3, 5))
    assert torch.allclose(level.pool(torch.full_like(image.data, 3.0)), torch.tensor(3.0, dtype=torch.float64))
    coarse = torch.rand(1, 4, 3, 5, dtype=torch.float64)
    fine = resize_displacement(coarse.expand(3, -1, -1, -1).contiguous(), grid.shape)[:1]
    ones = torch.ones(3, *grid.shape, dtype=torch.float64)
    counts = torch.ones(4, 3, 5, dtype=torch.float64)
    for axis, matrix in enumerate(level.up):
        assert matrix is not None
        counts = counts * matrix.sum(dim=0).view([-1 if a == axis else 1 for a in range(3)])
    assert float((fine * image.data).sum()) == pytest.approx(float((coarse * level.pool(image.data) * counts).sum()))
    assert torch.allclose(resize_displacement(4.0 * ones, (4, 3, 5)), torch.tensor(4.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("shape", "spacing", "wanted", "lattice"),
    [
        ((40, 30, 20), (1.0, 2.0, 4.0), 4.0, (40, 15, 5)),
        ((40, 30, 20), (1.0, 2.0, 4.0), 0.5, (40, 30, 20)),  # never finer than the voxels
        ((40, 30, 20), (1.0, 2.0, 4.0), 500.0, (2, 2, 2)),
        ((1, 30, 20), (1.0, 2.0, 4.0), 8.0, (1, 8, 3)),
    ],
)
def test_lattice_shape(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], wanted: float, lattice: tuple[int, int, int]
) -> None:
    assert lattice_shape(grid_of(shape, spacing), wanted) == lattice


def test_make_level_keeps_the_box_of_space_and_brings_the_weights_along() -> None:
    fixed, moving = grid_of((12, 20, 16), (1.0, 1.0, 2.0)), grid_of((10, 10, 14), (2.0, 3.0, 1.5))
    weight = torch.zeros(1, *fixed.shape)
    weight[..., 8:] = 1.0
    image, other = Image(torch.rand(1, *fixed.shape), fixed), Image(torch.rand(1, *moving.shape), moving)
    level = make_level(image, other, np.eye(4), 2.0, 4.0, image.with_data(weight), other.with_data(torch.ones_like(other.data)))
    assert level.fixed.grid.shape == (12, 10, 8)
    assert level.weight is not None
    assert level.moving_weight is not None
    assert level.weight.shape == level.fixed.data.shape
    assert level.moving_weight.shape == level.moving.data.shape
    assert np.allclose(level.fixed.grid.resized(fixed.shape).affine, fixed.affine)
    assert np.allclose(level.lattice_grid.resized(fixed.shape).affine, fixed.affine)
    assert level.spacing == pytest.approx((2.0, 2.0, 2.0))


def test_to_transform_adds_the_start_after_the_field() -> None:
    grid = grid_of((5, 6, 7))
    start = affine_start()
    point = torch.from_numpy(grid.centre.copy())[None]
    u = torch.zeros(3, 5, 6, 7)
    u[2] = 2.0  # 2 mm along the grid's own k axis
    expected = AffineTransform(start).map_points(point + 2.0 * torch.from_numpy(grid.direction[:, 2].copy()))
    assert torch.allclose(to_transform(u, grid, start).map_points(point), expected, atol=1e-5)
