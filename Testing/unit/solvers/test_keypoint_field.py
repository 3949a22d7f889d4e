"""Matched keypoints of a pair: the world's points, two parts that move apart, and an image on itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.ops.filters import gaussian_smooth
from regsuite.progress import Progress
from regsuite.solvers.keypoint_field import FieldSettings, match_pair
from scipy.spatial.transform import Rotation

SETTINGS = FieldSettings(keypoints=150, range_mm=12.0)


def oblique(shape: tuple[int, int, int]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.1, -0.15, 0.2]).as_matrix() @ np.diag([3.0, 3.2, 2.8])
    affine[:3, 3] = (-40.0, 25.0, 10.0)
    return Grid(shape, affine)


def textured() -> Image:
    noise = torch.randn(1, 34, 36, 38, generator=torch.Generator().manual_seed(3))
    smooth = gaussian_smooth(noise, (1.2, 1.2, 1.2))
    return Image(((smooth - smooth.min()) / (smooth.max() - smooth.min())), oblique((34, 36, 38)))


def test_matches_are_points_of_the_world_under_the_linear_start() -> None:
    fixed, start, shift = textured(), np.eye(4), np.array([5.0, -4.0, 6.0])
    start[:3, :3] = Rotation.from_rotvec([0.0, 0.0, 0.3]).as_matrix()
    start[:3, 3] = (10.0, 0.0, -20.0)
    moved = start @ fixed.grid.affine
    moved[:3, 3] += shift
    u, matches = match_pair(fixed, Image(fixed.data, Grid(fixed.grid.shape, moved)), start, None, None, SETTINGS, Progress())
    expected = matches.fixed.numpy() @ start[:3, :3].T + start[:3, 3] + shift
    error = np.linalg.norm(matches.moving.numpy() - expected, axis=1)
    assert np.median(error) < 0.4
    assert float((matches.confidence > 0.5).float().mean()) > 0.8
    along = fixed.grid.direction.T @ start[:3, :3].T @ shift
    middle = u[:, 4:-4, 4:-4, 4:-4].flatten(1).median(dim=1).values.numpy()
    assert np.allclose(middle, along, atol=0.4)


def test_a_region_and_what_lies_beside_it_move_apart() -> None:
    fixed = textured()
    region = torch.zeros_like(fixed.data)
    region[..., 20:] = 1.0
    moving = torch.where(region > 0, fixed.data.roll(2, dims=1), fixed.data)  # two voxels of 2.8 mm along k
    u, matches = match_pair(fixed, fixed.with_data(moving), np.eye(4), fixed.with_data(region), None, SETTINGS, Progress())
    along = (matches.moving - matches.fixed).numpy() @ fixed.grid.direction
    inside = matches.inside.numpy()
    assert np.allclose(np.median(along[inside], axis=0), (0.0, 0.0, 5.6), atol=0.4)
    assert np.allclose(np.median(along[~inside], axis=0), 0.0, atol=0.4)
    wide = u.shape[3]
    assert float(u[2, 4:-4, 4:-4, wide * 3 // 4].median()) == pytest.approx(5.6, abs=0.5)
    assert float(u[2, 4:-4, 4:-4, wide // 4].median()) == pytest.approx(0.0, abs=0.5)


def test_nothing_distinct_is_refused() -> None:
    plain = textured()
    with pytest.raises(InputError, match="at least 12 keypoints"):
        match_pair(plain.with_data(torch.zeros_like(plain.data)), plain, np.eye(4), None, None, SETTINGS, Progress())
