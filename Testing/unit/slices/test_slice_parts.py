"""The parts that place slices: hull, order, mutual information, scattering, silhouettes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.losses.image import mutual_information
from regsuite.ops import silhouette
from regsuite.ops.padding import has_data
from regsuite.ops.regions import label_shares, region_rows
from regsuite.ops.scatter import emulated_slice, scatter
from regsuite.solvers import hull, slice_match, slice_search, slice_stack
from scipy.spatial.transform import Rotation


def pose(turn_deg: tuple[float, float, float], shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.deg2rad(turn_deg)).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def flat_grid(at: np.ndarray, pixels: int = 64, spacing: float = 1.0, thickness: float = 3.0) -> Grid:
    affine = at @ np.diag([spacing, spacing, thickness, 1.0])
    affine[:3, 3] = at[:3, 3] - affine[:3, :2] @ np.full(2, (pixels - 1) / 2)
    return Grid((1, pixels, pixels), affine)


def fan(count: int = 6) -> list[Grid]:
    return [flat_grid(pose((0.0, 180.0 * n / count, 0.0))) for n in range(count)]


def box_grid(size: int = 40, spacing: float = 2.0, turn: tuple[float, float, float] = (7.0, -4.0, 11.0)) -> Grid:
    affine = pose(turn) @ np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, (size - 1) / 2)
    return Grid((size, size, size), affine)


def waves(grid: Grid) -> Image:
    x, y, z = grid.world_points(torch.float64).unbind(dim=-1)
    return Image((torch.sin(x / 9) + torch.cos(y / 7 + x / 15) + torch.sin(z / 8 - y / 11)).float()[None], grid)


# ---- the set of slices


def test_a_fan_has_an_axis_and_parallel_or_orthogonal_slices_have_none() -> None:
    found = slice_stack.common_axis(fan())
    assert found is not None
    point, direction = found
    assert abs(abs(direction[1]) - 1.0) < 1e-9
    assert np.linalg.norm(point) < 1e-9
    assert slice_stack.common_axis([flat_grid(pose((0, 0, 0), (0, 0, 5.0 * n))) for n in range(4)]) is None
    assert slice_stack.common_axis([flat_grid(pose(t)) for t in ((0, 0, 0), (90, 0, 0), (0, 90, 0))]) is None
    assert slice_stack.common_axis(fan()[:2]) is None


def test_variants_put_a_slice_into_another_slot() -> None:
    grids = fan()
    stack = slice_stack.describe(grids, "auto")
    assert stack.kind == "radial"
    assert stack.variants is not None
    for m, n, side in itertools.product(range(6), range(6), range(2)):
        moved = stack.variants[m, n, side] @ grids[m].affine
        normal = moved[:3, 2] / np.linalg.norm(moved[:3, 2])
        np.testing.assert_allclose(normal, (1 - 2 * side) * grids[n].direction[:, 2], atol=1e-9)
    assert slice_stack.describe(grids, "given").variants is None


def test_assignment_finds_order_and_side() -> None:
    scores = np.zeros((3, 3, 2))
    scores[0, 2, 1] = scores[1, 0, 0] = scores[2, 1, 1] = 1.0
    slots, sides, score = slice_stack.assign(scores)
    assert slots.tolist() == [2, 0, 1]
    assert sides.tolist() == [1, 0, 1]
    assert score == 1.0


def test_shared_move_undoes_the_variants() -> None:
    grids, move = fan(), pose((10, -20, 5), (3, -4, 9))
    stack = slice_stack.describe(grids, "auto")
    assert stack.variants is not None
    slots, sides = np.array([3, 1, 0, 2, 5, 4]), np.array([0, 1, 1, 0, 0, 1])
    poses = np.stack([move @ stack.variants[m, slots[m], sides[m]] for m in range(6)])
    np.testing.assert_allclose(slice_stack.shared_move(stack, grids, poses, slots, sides), move, atol=1e-9)


def test_the_lattice_reaches_every_start_within_half_a_step() -> None:
    stack = slice_stack.describe([flat_grid(np.eye(4))], "auto")
    moves = slice_search.lattice(stack, 25.0, 20.0, 12.5, 8.0)
    shifts = np.unique(moves[:, :3, 3].round(6), axis=0)
    random = np.random.default_rng(0)
    for _ in range(50):
        shift = random.normal(size=3)
        shift *= random.uniform(0, 20) / np.linalg.norm(shift)
        assert np.linalg.norm(shifts - shift, axis=1).min() <= 8.0 * 3**0.5 / 2 + 1e-6


# ---- mutual information and motion


def level_of_waves(spacing: float = 3.0) -> tuple[slice_match.SliceLevel, torch.Tensor]:
    volume = waves(box_grid())
    grids = [flat_grid(pose((0, 60.0 * n, 20.0)), pixels=40, spacing=1.6) for n in range(3)]
    truth = pose((4.0, -6.0, 5.0), (3.0, -2.0, 4.0))
    slices = [emulated_slice(volume, grid, truth) for grid in grids]
    scaled = [image.with_data(1.0 - (image.data + 3) / 6) for image in slices]
    level = slice_match.make_level(volume.with_data((volume.data + 3) / 6), scaled, spacing, 20)
    return level, torch.from_numpy(np.repeat(truth[None], 3, axis=0))[None]


def test_information_equals_the_loss_of_the_same_windows() -> None:
    level, truth = level_of_waves()
    values, inside = slice_match.emulate(level, truth)
    assert float(inside.min()) == 1.0
    centres = torch.arange(20, dtype=torch.float32)
    real = ((level.windows * centres).sum(dim=2) - 1.0) / 17.0  # a cubic B-spline's windows hold its position as their mean
    ours = slice_match.information(level, truth)[0]
    for n in range(3):
        keep = level.weights[n] > 0
        a, b = real[n][keep].view(1, 1, 1, -1), values[0, n][keep].view(1, 1, 1, -1)
        theirs = -mutual_information(a, b, 20, fixed_range=(0.0, 1.0), moving_range=(0.0, 1.0))
        assert abs(float(ours[n]) - float(theirs)) < 2e-3


def test_rigid_and_its_inverse() -> None:
    generator = torch.Generator().manual_seed(3)
    parameters = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64) * 8
    centre = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64) * 30
    base = slice_match.rigid(torch.randn(2, 3, 6, generator=generator, dtype=torch.float64) * 5, centre)
    moved = slice_match.rigid(parameters, centre) @ base
    assert torch.allclose(slice_match.parameters_of(moved, base, centre), parameters, atol=1e-9)
    turn = slice_match.rigid(
        torch.tensor([0, 0, 0, 0, 0, 60.0 * np.pi / 2], dtype=torch.float64), torch.tensor([1.0, 0, 0]).double()
    )
    assert torch.allclose(turn @ torch.tensor([2.0, 0, 0, 1]).double(), torch.tensor([1.0, 1, 0, 1]).double(), atol=1e-9)


@pytest.mark.parametrize("apart", [False, True])
def test_climbing_finds_the_truth_in_an_inverted_contrast(apart: bool) -> None:
    level, truth = level_of_waves()
    off = slice_match.rigid(torch.tensor([2.0, -1.5, 1.0, 3.0, 2.0, -2.0], dtype=torch.float64), torch.zeros(3).double())
    settings = slice_match.Climb(40, 1.0, 0.05, (10.0, 10.0) if apart else None, 1e-4)
    found, value = slice_match.climb(level, off @ truth, settings, lambda fraction: None)
    corner = torch.tensor([20.0, 20.0, 0.0, 1.0]).double()
    assert float(((found - truth) @ corner).norm(dim=-1).max()) < (1.2 if apart else 0.8)
    assert float(value.mean()) > float(slice_match.information(level, off @ truth).mean())


def test_motion_is_bounded() -> None:
    level, truth = level_of_waves()
    off = slice_match.rigid(torch.tensor([4.0, 0, 0, 0, 0, 0], dtype=torch.float64), torch.zeros(3).double())
    found, _ = slice_match.climb(level, off @ truth, slice_match.Climb(30, 1.0, 0.1, (0.1, 0.1), 1e-4), lambda fraction: None)
    centre = (off @ truth @ level.centres)[..., :3, 3]
    assert float(slice_match.parameters_of(found, off @ truth, centre).abs().max()) <= 0.3 * 60 * np.pi / 180 + 1e-6


# ---- padding


def test_padding_is_what_is_constant_up_to_the_border() -> None:
    picture = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32))
    assert bool(has_data(picture).all())
    truth = torch.ones(40, 50, dtype=torch.bool)
    truth[:, :7], truth[30:, 20:30] = False, False
    padded = torch.where(truth, picture, 0.0)
    padded[10:20, 15:30] = 0.0  # a hole inside is a measurement
    assert torch.equal(has_data(padded), truth)
    padded[39, 49] = padded[38, 49] = padded[39, 48] = 7.0  # too few to be an area
    assert torch.equal(has_data(padded), truth)


def test_padding_has_no_weight_and_leaks_into_no_neighbour() -> None:
    volume, grid = waves(box_grid()), flat_grid(pose((0, 30, 20)), pixels=40, spacing=1.6)
    whole = emulated_slice(volume, grid, np.eye(4))
    held = torch.ones_like(whole.data)
    held[..., :11] = 0.0
    padded = whole.with_data(torch.where(held > 0, (whole.data + 3) / 6, -50.0))
    plain = slice_match.make_level(volume, [whole.with_data((whole.data + 3) / 6)], 4.0, 20)
    level = slice_match.make_level(volume, [padded], 4.0, 20, [whole.with_data(held)])
    centres = torch.arange(20, dtype=torch.float32)
    real, seen = ((item.windows * centres).sum(dim=2)[0].view(16, 16) for item in (plain, level))
    weight = level.weights[0].view(16, 16)
    assert float(weight[:, :4].sum()) == 0.0
    assert float(weight.sum()) == pytest.approx(1.0)
    assert float((real - seen)[:, 5:].abs().max()) < 0.9  # of 17 bins; the padding lies 850 below
    assert float((real - seen)[:, 7:].abs().max()) < 0.05


# ---- hull


def test_the_hull_of_a_ball_is_a_little_more_than_the_ball() -> None:
    masks = []
    for grid in fan():
        points = grid.world_points()
        masks.append(Image((points.norm(dim=-1) < 20.0).to(torch.uint8)[None], grid))
    inside, grid = hull.visual_hull(masks, np.repeat(np.eye(4)[None], 6, axis=0), 1.0)
    radius = grid.world_points().norm(dim=-1)
    assert bool(inside[0][radius < 19.0].all())
    assert not bool(inside[0][radius > 23.0].any())
    volume = float(inside.sum()) * grid.voxel_volume / (4 / 3 * np.pi * 20.0**3)
    assert 0.98 < volume < 1.1


def test_a_cut_silhouette_goes_on_as_a_prism() -> None:
    grid = flat_grid(np.eye(4), pixels=32)
    mask = Image(torch.zeros(1, *grid.shape, dtype=torch.uint8), grid)
    mask.data[..., 10:20, 0:20] = 1
    other = Image(torch.ones(1, 1, 32, 32, dtype=torch.uint8), flat_grid(pose((0, 90, 0)), pixels=32))
    inside, lattice = hull.visual_hull([mask, other], np.repeat(np.eye(4)[None], 2, axis=0), 1.0)
    assert float(lattice.world_points()[..., 0][inside[0]].min()) <= -15.5


def test_the_order_of_silhouettes_is_found_up_to_its_sense() -> None:
    """A screw: only neighbours look alike."""
    grids, random = fan(), np.random.default_rng(1)
    order, sides = random.permutation(6), random.integers(0, 2, 6)
    masks = []
    for n in range(6):
        seen = grids[order[n]].affine @ (np.diag([-1.0, 1.0, -1.0, 1.0]) if sides[n] else np.eye(4))
        seen[:3, 3] = grids[order[n]].affine[:3, 3] if not sides[n] else seen[:3, 3] + grids[order[n]].affine[:3, 0] * 63
        x, y, z = Grid(grids[0].shape, seen).world_points(torch.float64).unbind(dim=-1)
        angle = torch.atan2(z, x)
        radius = torch.hypot(x, z)
        body = radius < (14.0 + 7.0 * torch.cos(angle - y / 9)) * torch.sqrt((1 - (y / 28) ** 2).clamp(min=0))
        masks.append(Image(body.to(torch.uint8)[None], grids[n]))
    stack = slice_stack.describe(grids, "auto")
    best = hull.orders(masks, stack, 2)

    beyond = stack.angles >= 180.0
    place = np.argsort(np.argsort(stack.angles % 180.0))

    def ring(slots: np.ndarray, flips: np.ndarray) -> list[tuple[int, int]]:
        walk = sorted(range(6), key=lambda m: place[slots[m]])
        near = [(m, int(flips[m]) ^ int(beyond[slots[m]])) for m in walk]
        halves = near + [(m, 1 - half) for m, half in near]
        start = halves.index((0, 0))
        turned = halves[start:] + halves[:start]
        return turned if turned[1][0] < turned[-1][0] else [turned[0], *turned[:0:-1]]

    assert ring(*best[0]) == ring(order, sides)


# ---- in and out of the volume


def test_scatter_puts_values_where_slices_pass_and_nowhere_else() -> None:
    volume = waves(box_grid(spacing=1.5))
    truth = pose((5.0, 9.0, -3.0), (1.0, 2.0, -1.5))
    grids = [flat_grid(pose((0, 60.0 * n, 0)), pixels=44, thickness=2.0) for n in range(3)]
    slices = [emulated_slice(volume, grid, truth) for grid in grids]
    values, weights = scatter(slices, [truth] * 3, volume.grid)
    core = weights.data[0] > 0.9
    assert core.sum() > 500
    assert float((values.data[0][core] - volume.data[0][core]).abs().median()) < 0.06
    assert float(values.data[0][weights.data[0] == 0].abs().max()) == 0.0
    points = volume.grid.world_points(torch.float64)[weights.data[0] > 0].numpy()
    depth = np.stack([np.abs((np.c_[points, np.ones(len(points))] @ np.linalg.inv(truth @ grid.affine).T)[:, 2]) for grid in grids])
    assert depth.min(axis=0).max() * 2.0 <= 1.0 + 1.5 * 3**0.5 / 2 + 1e-6


def test_region_rows_are_weighted_and_name_labels() -> None:
    grid = box_grid(8)
    labels = Image(torch.zeros(1, 8, 8, 8, dtype=torch.int32), grid)
    labels.data[0, :2], labels.data[0, 2:4] = 1, 2
    values = Image(torch.full((1, 8, 8, 8), 3.0), grid)
    weights = Image(torch.zeros(1, 8, 8, 8), grid)
    weights.data[0, 0], weights.data[0, 1] = 1.0, 0.5
    values.data[0, 1] = 9.0
    (row,) = region_rows(values, weights, labels, {1: "femur"})
    assert row["name"] == "femur"
    assert row["voxels"] == 128
    assert row["mean"] == pytest.approx(5.0)
    assert row["std"] == pytest.approx(8.0**0.5)


def test_the_pure_mean_of_a_thin_region_is_free_of_its_neighbours() -> None:
    """A shell of 3 mm between an inside and an outside of other values, seen by oblique slices of 4 mm."""
    grid = box_grid(60, 1.0)
    radius = grid.world_points().norm(dim=-1)
    labels = Image(torch.where(radius < 16, 2, torch.where(radius < 19, 1, 5))[None].to(torch.int16), grid)
    truth = {1: 40.0, 2: 90.0, 5: 25.0}
    values = Image(sum(value * (labels.data == label).float() for label, value in truth.items()), grid)
    poses = [pose((4.0, 9.0, -3.0), (1.0, 2.0, -1.5))] * 3
    slices = [emulated_slice(values, flat_grid(pose((0, 60.0 * n, 0)), pixels=50, thickness=4.0), poses[0]) for n in range(3)]
    spread, weights = scatter(slices, poses, grid)
    shares = label_shares(labels, weights, slices, poses)
    assert torch.allclose(shares.shares.sum(dim=1), torch.ones(len(shares.voxels)), atol=1e-5)
    rows = {row["label"]: row for row in region_rows(spread, weights, labels, shares=shares)}
    assert abs(float(rows[1]["mean"]) / 40.0 - 1.0) > 0.04
    for label, value in truth.items():
        assert abs(float(rows[label]["pure_mean"]) / value - 1.0) < 0.02, label
        assert 2 <= int(rows[label]["pure_voxels"]) < int(rows[label]["voxels"])


def test_scatter_takes_no_value_from_padding() -> None:
    grid = flat_grid(np.eye(4), pixels=20)
    picture = Image(torch.full((1, 1, 20, 20), 5.0), grid)
    held = torch.ones_like(picture.data)
    held[..., :8] = 0.0
    picture.data[..., :8] = -1000.0
    values, weights = scatter([picture], [np.eye(4)], box_grid(20, 1.0, (0.0, 0.0, 0.0)), data=[picture.with_data(held)])
    assert values.data[weights.data > 0].unique().tolist() == [5.0]
    assert int((weights.data > 0).any(dim=1).sum()) == 12 * 20


# ---- silhouettes


def test_a_bone_with_a_dark_rim_is_found_and_noise_is_called_unsure() -> None:
    y, x = np.mgrid[:120, :120]
    radius = np.hypot((x - 60) / 1.3, y - 58)
    picture = np.where(radius < 23, 60.0, np.where(radius < 25, 8.0, 40.0)) + np.random.default_rng(0).normal(0, 1.5, (120, 120))
    found = silhouette.automatic(picture, (1.0, 1.0))
    truth = radius < 25
    assert found.sure
    assert 2 * (found.mask & truth).sum() / (found.mask.sum() + truth.sum()) > 0.95
    assert not silhouette.automatic(np.random.default_rng(1).normal(size=(120, 120)), (1.0, 1.0)).sure


def test_border_share() -> None:
    mask = np.zeros((10, 10), bool)
    assert silhouette.border_share(mask) == 0.0
    mask[0] = True
    assert silhouette.border_share(mask) == pytest.approx(10 / 36)
