"""Frames, grids and images: literal positions, and laws on random oblique grids."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image, frames
from regsuite.geometry.grid import affine_lattice, apply_affine

from Testing.unit.lattices import grid_of, grids, sheared_grid


def test_flips_change_x_and_y_only() -> None:
    points = torch.tensor([[1.0, -2.0, 3.0]])
    assert frames.flip_points(points).tolist() == [[-1.0, 2.0, 3.0]]
    field = torch.arange(6.0).view(3, 1, 1, 2)
    assert frames.flip_vector_field(field).tolist() == [[[[0.0, -1.0]]], [[[-2.0, -3.0]]], [[[4.0, 5.0]]]]
    assert frames.shape_from_size((4, 5, 6)) == (6, 5, 4)


def test_affine_from_itk_literal() -> None:
    direction = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # columns: i -> +y (LPS), j -> -x, k -> +z
    affine = frames.affine_from_itk((10.0, 20.0, 30.0), (2.0, 3.0, 4.0), direction)
    expected = [[0.0, 3.0, 0.0, -10.0], [-2.0, 0.0, 0.0, -20.0], [0.0, 0.0, 4.0, 30.0], [0.0, 0.0, 0.0, 1.0]]
    assert affine.tolist() == expected


@settings(max_examples=25, deadline=None)
@given(grids())
def test_itk_geometry_round_trip(grid: Grid) -> None:
    again = frames.affine_from_itk(*frames.affine_to_itk(grid.affine))
    np.testing.assert_allclose(again, grid.affine, atol=1e-9)


def test_flipping_a_world_map_twice_is_nothing() -> None:
    matrix = sheared_grid().affine
    np.testing.assert_array_equal(frames.flip_world_affine(frames.flip_world_affine(matrix)), matrix)
    point = torch.tensor([[3.0, 4.0, 5.0]], dtype=torch.float64)
    there = apply_affine(frames.flip_world_affine(matrix), frames.flip_points(point))
    torch.testing.assert_close(there, frames.flip_points(apply_affine(matrix, point)))


@settings(max_examples=25, deadline=None)
@given(grids())
def test_index_and_world_are_inverse_of_each_other(grid: Grid) -> None:
    index = torch.rand(5, 3, dtype=torch.float64) * 20 - 5
    torch.testing.assert_close(grid.world_to_index(grid.index_to_world(index)), index, atol=1e-9, rtol=0)


@settings(max_examples=25, deadline=None)
@given(grids())
def test_world_points_are_the_indices_mapped(grid: Grid) -> None:
    k, j, i = (n - 1 for n in grid.shape)
    points = grid.world_points(torch.float64)
    expected = grid.index_to_world(torch.tensor([[0.0, 0, 0], [i, 0, 0], [0, j, 0], [i, j, k]], dtype=torch.float64))
    found = torch.stack([points[0, 0, 0], points[0, 0, i], points[0, j, 0], points[k, j, i]])
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


@settings(max_examples=25, deadline=None)
@given(grids())
def test_resized_fills_the_same_box(grid: Grid) -> None:
    other = grid.resized((5, 3, 4))
    for low_or_high in (-0.5, 1.0):
        ends = [torch.tensor([[low_or_high * 1.0] * 3], dtype=torch.float64) for _ in range(2)]
        if low_or_high > 0:
            ends = [torch.tensor([g.size], dtype=torch.float64) - 0.5 for g in (grid, other)]
        torch.testing.assert_close(grid.index_to_world(ends[0]), other.index_to_world(ends[1]), atol=1e-8, rtol=0)
    np.testing.assert_allclose(other.centre, grid.centre, atol=1e-8)
    assert other.voxel_volume * other.voxels == pytest.approx(grid.voxel_volume * grid.voxels)
    assert grid.resized(grid.shape) == grid


def test_cropped_keeps_the_voxels_where_they_are() -> None:
    grid = grid_of((7, 9, 11))
    part = grid.cropped((2, 3, 4), (3, 2, 5))
    torch.testing.assert_close(part.world_points(torch.float64), grid.world_points(torch.float64)[2:5, 3:5, 4:9])
    assert grid.cropped((-1, -2, -3), (9, 13, 17)).cropped((1, 2, 3), (7, 9, 11)) == grid


def test_grid_facts() -> None:
    grid = grid_of((7, 9, 11), (1.25, 0.8, 2.5))
    assert grid.size == (11, 9, 7)
    assert grid.voxels == 693
    np.testing.assert_allclose(grid.spacing, [1.25, 0.8, 2.5])
    np.testing.assert_allclose(grid.direction.T @ grid.direction, np.eye(3), atol=1e-12)
    assert grid.voxel_volume == pytest.approx(2.5)
    assert sheared_grid().voxel_volume == pytest.approx(2.5)  # a shear keeps volume, a mirror its sign aside
    np.testing.assert_allclose(grid.corners().mean(axis=0), grid.centre, atol=1e-12)


def test_contains_reaches_half_a_voxel() -> None:
    grid = grid_of((7, 9, 11))
    index = torch.tensor([[-0.49, 8.49, 3], [-0.51, 0, 0], [0, 8.51, 0], [10.49, 0, 6.49], [0, 0, 6.51]], dtype=torch.float64)
    assert grid.contains(grid.index_to_world(index)).tolist() == [True, False, False, True, False]


def test_a_grid_is_a_value() -> None:
    matrix = grid_of().affine.copy()
    grid = Grid((7, 9, 11), matrix)
    matrix[0, 3] += 5.0
    assert grid == grid_of()
    assert hash(grid) == hash(grid_of())
    assert grid != Grid((7, 9, 11), matrix)
    assert grid != Grid((7, 9, 10), grid.affine)
    assert grid != "grid"
    assert grid == Grid((7, 9, 11), grid.affine + np.pad([[1e-7]], ((0, 3), (3, 0))))
    for array in (grid.affine, grid.spacing, grid.direction, grid.centre):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((0, 2, 2), np.eye(4), "at least 1 voxel"),
        ((2, 2), np.eye(4), "three sizes"),
        ((2, 2, 2), np.eye(3), "4x4"),
        ((2, 2, 2), np.diag([1.0, 1.0, 0.0, 1.0]), "singular"),
        ((2, 2, 2), np.diag([1.0, 1.0, math.nan, 1.0]), "finite"),
        ((2, 2, 2), np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, ...], affine: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(shape, affine)  # type: ignore[arg-type]


def test_small_voxels_are_not_singular() -> None:
    assert Grid((2, 2, 2), np.diag([1e-4, 2e-4, 3e-4, 1.0])).voxel_volume == pytest.approx(6e-12)


def test_affine_lattice_in_double_and_float() -> None:
    matrix = sheared_grid().affine
    lattice = affine_lattice((2, 3, 4), matrix, torch.float64)
    expected = matrix[:3, :3] @ [3, 2, 1] + matrix[:3, 3]
    np.testing.assert_allclose(lattice[1, 2, 3].numpy(), expected, atol=1e-12)
    torch.testing.assert_close(affine_lattice((2, 3, 4), matrix), lattice.float())


def test_image_wraps_a_tensor() -> None:
    grid = grid_of((2, 3, 4))
    image = Image(torch.zeros(2, 3, 4), grid)
    assert (tuple(image.data.shape), image.channels) == ((1, 2, 3, 4), 1)
    assert image.with_data(torch.ones(5, 2, 3, 4)).channels == 5
    assert image.to("cpu").grid is grid
    for shape in ((2, 3, 5), (4, 3, 2), (3, 4)):
        with pytest.raises(InputError, match=r"\(2, 3, 4\)"):
            Image(torch.zeros(shape), grid)
