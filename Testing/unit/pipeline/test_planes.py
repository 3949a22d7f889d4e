"""Cuts are true anatomical planes in radiological convention, however the grid lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.pipeline import planes
from regsuite.transforms import AffineTransform

from Testing.unit.lattices import grid_of, rotation

CENTRE = np.array([12.0, -20.0, 35.0])


def lattice(turn: np.ndarray) -> Grid:
    shape, spacing = (40, 50, 44), np.array([2.2, 2.0, 2.4])
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return Grid(shape, affine)


def marker(grid: Grid, offset: tuple[float, float, float]) -> Image:
    """A ball of radius 6 mm at CENTRE + offset (RAS mm)."""
    distance = (grid.world_points(torch.float64) - torch.as_tensor(CENTRE + offset)).norm(dim=-1)
    return Image((distance < 6.0).float(), grid)


TURNS = {
    "axis-aligned": np.eye(3),
    "LPS": np.diag([-1.0, -1, 1]),
    "oblique": rotation((1, 2, 3), 25.0),
    "sagittal": np.eye(3)[[2, 0, 1]],
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize(
    ("name", "offset", "side"),
    [
        ("Axial", (25, 0, 0), "left"),  # the patient's right is on the left of the picture
        ("Axial", (0, 25, 0), "top"),
        ("Coronal", (-25, 0, 0), "right"),
        ("Coronal", (0, 0, 25), "top"),
        ("Sagittal", (0, 25, 0), "left"),
        ("Sagittal", (0, 0, -25), "bottom"),
    ],
)
def test_a_marker_appears_on_the_right_side(turn, name, offset, side):
    grid = lattice(turn)
    everything = torch.ones(grid.shape, dtype=torch.bool)
    plane = next(p for p in planes.planes_through(grid, everything, everything) if p.name == name)
    picture = np.nan_to_num(planes.cut(marker(grid, offset), plane))
    assert picture.max() > 0.9
    rows, columns = np.nonzero(picture > 0.5)
    x = columns.mean() / picture.shape[1] - 0.5
    y = rows.mean() / picture.shape[0] - 0.5
    across, along = {"left": (-x, y), "right": (x, y), "top": (-y, x), "bottom": (y, x)}[side]
    assert across > 0.1
    assert abs(along) < 0.06
    letters = dict(zip(("left", "right", "top", "bottom"), plane.letters, strict=True))
    towards = {(25, 0, 0): "R", (-25, 0, 0): "L", (0, 25, 0): "A", (0, 0, 25): "S", (0, 0, -25): "I"}
    assert letters[side] == towards[offset]


def test_pixels_are_square_so_a_ball_stays_round():
    grid = grid_of((20, 60, 50), spacing=(1.0, 1.3, 4.0), turn=np.eye(3))
    distance = (grid.world_points(torch.float64) - torch.as_tensor(grid.centre.copy())).norm(dim=-1)
    everything = torch.ones(grid.shape, dtype=torch.bool)
    for plane in planes.planes_through(grid, everything, everything):
        picture = planes.cut(Image(distance.float(), grid), plane) < 15.0
        height, width = np.any(picture, axis=1).sum(), np.any(picture, axis=0).sum()
        assert abs(height - width) <= 2
        np.testing.assert_allclose(plane.grid.spacing[0], plane.grid.spacing[1])


def test_the_cut_of_a_field_is_its_determinant_and_length():
    grid = lattice(TURNS["oblique"])
    everything = torch.ones(grid.shape, dtype=torch.bool)
    matrix = np.diag([1.25, 0.9, 1.1, 1.0])
    plane = planes.planes_through(grid, everything, everything)[1]
    determinant, length = planes.cut_field(AffineTransform(matrix), plane)
    np.testing.assert_allclose(determinant, 1.25 * 0.9 * 1.1, rtol=1e-3)
    points = plane.grid.world_points(torch.float64)[0].numpy()
    np.testing.assert_allclose(length, np.linalg.norm(points * [0.25, -0.1, 0.1], axis=-1), rtol=1e-3, atol=1e-3)


def test_windows_follow_the_kind_of_image():
    grid = lattice(TURNS["LPS"])
    body = torch.zeros(grid.shape, dtype=torch.bool)
    body[4:-4, 5:-5, 6:-6] = True
    chest = torch.where(body, 40.0, -1000.0)
    chest[10:30, 12:35, 10:20] = -820.0
    assert planes.display_window(Image(chest, grid), body) == planes.LUNG_WINDOW
    abdomen = torch.where(body, 40.0, -1000.0)
    assert planes.display_window(Image(abdomen, grid), body) == planes.SOFT_TISSUE_WINDOW
    magnetic = torch.where(body, torch.rand(grid.shape) * 900, 0.0)
    low, high = planes.display_window(Image(magnetic, grid), body)
    assert 0 < low < 30
    assert 880 < high < 900


def test_overlay_is_grey_where_images_agree_and_coloured_where_not():
    fixed, moving = np.array([[0.5, 1.0, 0.0]]), np.array([[0.5, 0.0, 1.0]])
    np.testing.assert_array_equal(planes.overlay(fixed, moving)[0], [[0.5, 0.5, 0.5], [1, 0, 1], [0, 1, 0]])
