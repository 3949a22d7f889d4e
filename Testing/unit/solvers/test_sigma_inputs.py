"""What the network of uncertainty looks at: a lattice along the world's axes, and the same picture however the file is stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.solvers.sigma_inputs import judged, world_lattice
from regsuite.transforms import AffineTransform

from Testing.unit.training import scans


def test_the_lattice_covers_the_box_along_the_worlds_axes() -> None:
    grid = Grid((10, 20, 30), np.array([[0.0, -2.0, 0.0, 5.0], [3.0, 0.0, 0.0, -7.0], [0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 1.0]]))
    lattice = world_lattice(grid, 6.0)  # 20 voxels of 2 mm along -x, 30 of 3 mm along y, 10 of 1 mm along z
    assert lattice.size == (7, 15, 2)
    assert lattice.centre == pytest.approx([5.0 - 2.0 * 9.5, -7.0 + 3.0 * 14.5, 2.0 + 4.5])
    assert np.array_equal(lattice.affine[:3, :3], np.diag([6.0, 6.0, 6.0]))


def test_the_lattice_of_a_turned_grid_reaches_its_corners() -> None:
    angle = np.deg2rad(30.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [2.0, 3.0, 4.0]
    grid = Grid((12, 16, 20), affine)
    corners = torch.tensor(grid.corners())
    assert bool(world_lattice(grid, 5.0).contains(corners).all())


def test_the_five_channels_do_not_depend_on_how_the_image_is_stored() -> None:
    image = Image(scans.image(3, (24, 28, 26)).data.clamp(0, 1), Grid((24, 28, 26), np.diag([4.0, 4.0, 4.0, 1.0])))
    flip = np.diag([-4.0, 4.0, 4.0, 1.0])
    flip[0, 3] = 4.0 * 25
    stored = Image(image.data.flip(3), Grid(image.grid.shape, flip))
    shift = AffineTransform.translation([8.0, 0.0, 0.0])
    lattice = world_lattice(image.grid)
    one, other = (judged(i, i, shift, lattice) for i in (image, stored))
    assert one.shape == (5, *lattice.shape)
    assert torch.allclose(one, other, atol=2e-4)
    assert float(one[2:].abs().max()) < 1e-5  # a shift as a whole is no displacement to be judged


def test_the_displacement_is_in_the_worlds_axes_and_tens_of_millimetres() -> None:
    grid = Grid((12, 14, 16), np.diag([6.0, 6.0, 6.0, 1.0]))
    image = Image(torch.rand(1, *grid.shape, generator=torch.Generator().manual_seed(0)), grid)
    matrix = np.eye(4)
    matrix[0, 0] = 1.1  # x grows by a tenth: 0.6 mm from voxel to voxel
    channels = judged(image, image, AffineTransform(matrix), world_lattice(grid))
    assert float(channels[2, 5, 5, 8] - channels[2, 5, 5, 7]) == pytest.approx(0.06, abs=1e-5)
    assert float(channels[3:].abs().max()) < 1e-5
