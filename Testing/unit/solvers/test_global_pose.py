"""A head-like object is found from anywhere, any way up, in another contrast; strangers are called so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.ops.filters import gaussian_smooth
from regsuite.ops.orientation import gradient_field
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers.global_pose import LOW_CONFIDENCE, PoseSettings, coarse_spacing, distinct, global_pose, shortlist
from regsuite.solvers.pose_ascent import AscentSettings, ascend
from regsuite.solvers.rotation_search import Pose, SearchSettings, rigid, search
from regsuite.solvers.rotations import matrices, super_fibonacci
from regsuite.transforms import AffineTransform

QUICK = PoseSettings(across=14, rotations=600, keep=(12, 6, 3), iterations=16)


def blobs(seed: int, shape: tuple[int, int, int] = (40, 36, 44), spacing: float = 2.0) -> Image:
    """Smooth random tissue in a body of two ellipsoids, without symmetry."""
    rng = np.random.default_rng(seed)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    grid = Grid(shape, affine)
    points = grid.world_points(torch.float64) - torch.tensor(grid.centre.tolist(), dtype=torch.float64)
    radius = (points / torch.tensor([36.0, 30.0, 32.0])).norm(dim=-1)
    arm = ((points - torch.tensor([20.0, 22.0, -14.0])) / torch.tensor([14.0, 14.0, 22.0])).norm(dim=-1)
    value = torch.sigmoid((1.0 - torch.minimum(1.3 * radius, arm)) * 12.0)
    for _ in range(14):
        at = torch.as_tensor(rng.uniform(-18.0, 18.0, 3))
        value = value * (1.0 - rng.uniform(0.2, 0.8) * torch.exp(-((points - at).norm(dim=-1) / rng.uniform(5.0, 9.0)) ** 2))
    return Image(value.float(), grid)


def posed(image: Image, number: int, shift: tuple[float, float, float]) -> tuple[Image, np.ndarray]:
    """The image turned, shifted, in another contrast, on an oblique and coarser grid; and the true map into it."""
    turn = matrices(super_fibonacci(17))[number]
    truth = rigid(turn, image.grid.centre, image.grid.centre + np.array(shift))
    affine = np.eye(4)
    affine[:3, :3] = matrices(super_fibonacci(5))[2] @ np.diag([2.5, -2.5, 3.5])
    affine[:3, 3] = image.grid.centre + np.array(shift) - affine[:3, :3] @ np.array([20.0, 19.0, 14.0])
    seen = resample(image, Grid((29, 39, 41), affine), AffineTransform(np.linalg.inv(truth)), fill=0.0)
    return seen.with_data((1.2 - seen.data) ** 2), truth


def error_mm(matrix: np.ndarray, truth: np.ndarray, image: Image) -> float:
    corners = torch.as_tensor(image.grid.corners())
    return float((AffineTransform(matrix).map_points(corners) - AffineTransform(truth).map_points(corners)).norm(dim=1).max())


@pytest.mark.parametrize("number", [6, 12])
def test_any_pose_is_found(number: int) -> None:
    fixed = blobs(1)
    moving, truth = posed(fixed, number, (150.0, -80.0, 40.0))
    found = global_pose(fixed, moving, settings=QUICK)
    assert error_mm(found.matrix, truth, fixed) < 3.0
    assert found.confidence > 0.05
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    scores = [score for _, score in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) >= 2


def test_a_stranger_is_not_trusted_and_the_header_is_kept() -> None:
    fixed = blobs(1)
    noise = torch.rand(fixed.data.shape, generator=torch.Generator().manual_seed(0))
    found = global_pose(fixed, fixed.with_data(gaussian_smooth(noise, (3.0, 3.0, 3.0))), settings=QUICK)
    assert found.confidence < LOW_CONFIDENCE
    assert error_mm(found.matrix, np.eye(4), fixed) < 40.0


def test_masks_hide_what_misleads() -> None:
    """A bright wedge that exists in one image alone is masked; its edge does not matter."""
    fixed = blobs(1)
    moving, truth = posed(fixed, 6, (10.0, 0.0, 5.0))
    spoiled, mask = moving.data.clone(), torch.ones_like(moving.data)
    spoiled[:, :, :12], mask[:, :, :12] = 3.0, 0.0
    found = global_pose(fixed, moving.with_data(spoiled), moving_mask=moving.with_data(mask), settings=QUICK)
    assert error_mm(found.matrix, truth, fixed) < 3.0


def test_a_tiny_mask_is_explained() -> None:
    fixed = blobs(1)
    mask = torch.zeros_like(fixed.data)
    mask[:, 18:20, 18:20, 18:20] = 1.0
    with pytest.raises(InputError, match="fixed mask covers"):
        global_pose(fixed, fixed, fixed_mask=fixed.with_data(mask), settings=QUICK)
    with pytest.raises(InputError, match="constant"):
        global_pose(fixed, fixed.with_data(torch.zeros_like(fixed.data)), settings=QUICK)


def test_a_climb_never_falls() -> None:
    image = blobs(3)
    field = gradient_field(image, None, 4.0, 4.0, 1e-4)
    starts = [Pose(rigid(matrices(super_fibonacci(300))[n], image.grid.centre, image.grid.centre), 0.0) for n in (3, 9, 150)]
    still = {id(p): ascend(field, field, [p], AscentSettings(2000, 0, 2.0, 0.75), 0, Progress())[0].score for p in starts}
    for start in starts:
        end = ascend(field, field, [start], AscentSettings(2000, 10, 2.0, 0.75), 0, Progress())[0]
        assert end.score >= still[id(start)]
    exact = ascend(field, field, [Pose(np.eye(4), 0.0)], AscentSettings(2000, 10, 2.0, 0.75), 0, Progress())[0]
    np.testing.assert_allclose(exact.matrix, np.eye(4), atol=1e-3)


def test_the_search_lists_every_rotation_once_best_first() -> None:
    image = blobs(4)
    field = gradient_field(image, None, 5.0, 5.0, 1e-4)
    poses = search(field, field, SearchSettings(5.0, 600, 0.3, 0.75), Progress())
    assert 500 < len(poses) < 700
    scores = [pose.score for pose in poses]
    assert scores == sorted(scores, reverse=True)
    assert error_mm(poses[0].matrix, np.eye(4), image) < 25.0


def test_distinct_poses_differ_in_angle_or_place() -> None:
    turn = matrices(super_fibonacci(300))
    places = (np.zeros(3), np.array([1.0, 0.0, 0.0]), np.array([9.0, 0.0, 0.0]))
    poses = [Pose(rigid(rotation, np.zeros(3), place), 1.0) for rotation in turn[:2] for place in places]
    assert distinct(poses, 10, np.zeros(3), 5.0) == [poses[n] for n in (0, 2, 3, 5)]
    assert distinct(poses, 3, np.zeros(3), 5.0) == [poses[n] for n in (0, 2, 3)]


def test_the_rival_is_not_crowded_out() -> None:
    turns = [matrices(np.array([[np.sin(a), 0.0, 0.0, np.cos(a)]]))[0] for a in (0.0, 0.1, 0.2, 0.6)]
    poses = [Pose(rigid(turn, np.zeros(3), np.zeros(3)), 4.0 - n) for n, turn in enumerate(turns)]
    assert shortlist(poses, 2, np.zeros(3), 5.0) == [poses[0], poses[1], poses[3]]
    assert shortlist(poses, 4, np.zeros(3), 5.0) == poses
    assert shortlist(poses[:3], 2, np.zeros(3), 5.0) == poses[:2]


def test_the_rivals_kept_are_too_far_to_climb_to_the_winner() -> None:
    """33 and 40 degrees away they would join it; two that cannot go on besides the best eight."""
    angles = np.radians([0.0, 8.0, 16.0, 24.0, -8.0, -16.0, 33.0, -33.0, 40.0, 100.0, 170.0])
    turns = [matrices(np.array([[np.sin(a / 2), 0.0, 0.0, np.cos(a / 2)]]))[0] for a in angles]
    poses = [Pose(rigid(turn, np.zeros(3), np.zeros(3)), 20.0 - n) for n, turn in enumerate(turns)]
    assert shortlist(poses, 8, np.zeros(3), 5.0) == [*poses[:8], poses[9], poses[10]]


def test_a_huge_partner_coarsens_the_lattice() -> None:
    small, large = blobs(1), Image(torch.zeros(10, 10, 10), Grid((10, 10, 10), np.diag([100.0, 100.0, 100.0, 1.0])))
    assert coarse_spacing(small, small, 20) == pytest.approx(88.0 / 20)
    assert coarse_spacing(small, large, 20) == pytest.approx(1088.0 / 56)
