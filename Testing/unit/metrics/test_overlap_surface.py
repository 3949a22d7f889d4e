"""Dice and surface distances: literal values, other grids, labels that are missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.metrics import dice, dice_resampled, hd95, mean_surface_distance, surface_distances
from regsuite.metrics.surface import surface_points
from regsuite.transforms import AffineTransform

from Testing.unit.lattices import grid_of, rotation, sheared_grid

GRID = grid_of((7, 9, 11))


def box(grid: Grid, start: tuple[int, int, int], stop: tuple[int, int, int], label: int = 1) -> Image:
    data = torch.zeros(grid.shape, dtype=torch.int16)
    data[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = label
    return Image(data, grid)


def test_dice_literal_values_per_label() -> None:
    grid = Grid((1, 2, 4), np.eye(4))
    fixed = Image(torch.tensor([[[1, 1, 2, 0], [1, 0, 2, 7]]]), grid)
    moving = Image(torch.tensor([[[1, 2, 2, 0], [1, 1, 0, 0]]]), grid)
    assert dice(fixed, moving) == {1: 4 / 6, 2: 0.5, 7: 0.0}
    assert dice(moving, fixed) == {1: 4 / 6, 2: 0.5, 7: 0.0}
    chosen = dice(fixed, moving, labels=[2, 9])
    assert chosen[2] == 0.5
    assert math.isnan(chosen[9])
    assert dice(fixed, moving.with_data(moving.data.float()))[1] == 4 / 6


def test_dice_refuses_what_it_cannot_compare() -> None:
    labels = box(GRID, (1, 1, 1), (3, 4, 5))
    with pytest.raises(InputError, match="one grid"):
        dice(labels, Image(labels.data, sheared_grid()))
    with pytest.raises(InputError, match="empty"):
        dice(labels.with_data(labels.data * 0), labels.with_data(labels.data * 0))
    with pytest.raises(InputError, match="fractional"):
        dice(labels, labels.with_data(labels.data * 0.5))
    with pytest.raises(InputError, match="one channel, found 2"):
        dice(labels, labels.with_data(labels.data.expand(2, 7, 9, 11)))


def test_dice_resampled_undoes_a_known_shift_between_different_grids() -> None:
    fixed = box(GRID, (2, 2, 3), (6, 7, 8), label=3)
    other = Grid((9, 11, 13), GRID.cropped((-1, -1, -1), (9, 11, 13)).affine)
    moving = box(other, (3, 3, 4), (7, 8, 9), label=3)  # the same box of space
    assert dice_resampled(fixed, moving) == {3: 1.0}
    step = GRID.affine[:3, 0] * 2.0  # two voxels along i
    moved_away = box(other, (3, 3, 6), (7, 8, 11), label=3)
    assert dice_resampled(fixed, moved_away)[3] == pytest.approx(0.6)
    assert dice_resampled(fixed, moved_away, AffineTransform.translation(step)) == {3: 1.0}


def test_surface_of_a_box_is_its_shell() -> None:
    mask = box(GRID, (1, 2, 3), (5, 7, 9)).data[0].numpy() > 0
    points = surface_points(mask, GRID)
    assert len(points) == 4 * 5 * 6 - 2 * 3 * 4
    index = GRID.world_to_index(torch.as_tensor(points)).numpy()
    assert index.min(axis=0) == pytest.approx([3, 2, 1])
    assert index.max(axis=0) == pytest.approx([8, 6, 4])
    plane = Grid((1, 5, 6), np.eye(4))
    assert len(surface_points(np.ones((1, 5, 6), dtype=bool), plane)) == 5 * 6 - 3 * 4  # a rim, not the whole slice


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_distance_of_shifted_plates_is_the_spacing_along_the_normal(axis: int) -> None:
    shape = [7, 9, 11]
    start, stop = [0, 0, 0], list(shape)
    start[axis], stop[axis] = 1, 2
    fixed = box(GRID, tuple(start), tuple(stop))
    start[axis], stop[axis] = 4, 5
    moving = box(GRID, tuple(start), tuple(stop))
    expected = 3.0 * (2.5, 0.8, 1.25)[axis]
    assert hd95(fixed, moving)[1] == pytest.approx(expected)
    assert mean_surface_distance(fixed, moving)[1] == pytest.approx(expected)


def test_distances_on_a_sheared_grid_are_those_of_the_world() -> None:
    grid = sheared_grid()
    fixed, moving = box(grid, (1, 3, 5), (2, 4, 6)), box(grid, (4, 5, 5), (5, 6, 6))
    expected = float(np.linalg.norm(grid.affine[:3, :3] @ [0, 2, 3]))
    there, back = surface_distances(fixed, moving)
    assert there.tolist() == pytest.approx([expected])
    assert back.tolist() == pytest.approx([expected])


def test_directed_percentiles_are_taken_apart() -> None:
    grid = Grid((1, 1, 40), np.diag([0.5, 1, 1, 1]))
    fixed, moving = torch.zeros(1, 1, 40, dtype=torch.int64), torch.zeros(1, 1, 40, dtype=torch.int64)
    fixed[..., 3] = moving[..., 3] = 1
    moving[..., 33] = 1  # a speck 15 mm away, in moving only
    there, back = surface_distances(Image(fixed, grid), Image(moving, grid))
    assert there.tolist() == [0.0]
    assert sorted(back.tolist()) == [0.0, 15.0]
    assert hd95(Image(fixed, grid), Image(moving, grid))[1] == pytest.approx(0.95 * 15.0)
    assert mean_surface_distance(Image(fixed, grid), Image(moving, grid))[1] == pytest.approx(5.0)


def test_spheres_of_different_radius_differ_by_their_radii() -> None:
    grid = grid_of((26, 44, 32), (1.0, 0.7, 1.2), turn=rotation((3, 1, 2), 40.0))
    points = grid.world_points(torch.float64) - torch.tensor(grid.centre)
    radius = points.norm(dim=3)
    small, large = Image((radius < 8.0).int(), grid), Image((radius < 11.0).int(), grid)
    assert mean_surface_distance(small, large)[1] == pytest.approx(3.0, abs=0.2)
    assert hd95(small, large)[1] == pytest.approx(3.0, abs=0.6)


def test_labels_missing_on_one_side() -> None:
    fixed, moving = box(GRID, (1, 1, 1), (4, 4, 4), label=2), box(GRID, (1, 1, 1), (4, 4, 4), label=5)
    both = fixed.with_data(torch.where(moving.data.roll(4, dims=3) == 5, 5, fixed.data))
    result = hd95(both, moving)
    assert math.isnan(result[2])
    assert result[5] > 0
    assert set(hd95(both, moving, labels=[5])) == {5}
    with pytest.raises(InputError, match="moving label image has no voxel of label 2"):
        surface_distances(both, moving, label=2)
    with pytest.raises(InputError, match="empty"):
        hd95(fixed.with_data(fixed.data * 0), fixed.with_data(fixed.data * 0))
    with pytest.raises(InputError, match="one grid"):
        mean_surface_distance(fixed, Image(fixed.data, sheared_grid()))
