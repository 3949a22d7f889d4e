"""All translations at once give what a direct sum gives; turned fields and lattices agree with sampled ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.ops.orientation import direction_tensor, gradient_field, sample_tensor, tensor_rotation
from regsuite.solvers import rotation_search
from regsuite.solvers.cross_similarity import CrossSimilarity, best_shift, scores, shift_range
from regsuite.solvers.rotations import angle_degrees, cube_rotations, matrices, near_identity, super_fibonacci

GENERATOR = torch.Generator().manual_seed(3)


def random_field(*shape: int, centred: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions n (3, ...) of length up to 1 and their tensor with a random mask, (K + 1, ...), float64."""
    normal = torch.randn(3, *shape, generator=GENERATOR, dtype=torch.float64)
    normal = normal / (normal.norm(dim=0) + 0.3)
    mask = (torch.rand(shape, generator=GENERATOR) > 0.3).double()
    return normal * mask, torch.cat([direction_tensor(normal, centred) * mask, mask[None]])


@pytest.mark.parametrize("shapes", [((3, 4, 5), (4, 3, 2)), ((3, 3, 3), (4, 4, 4)), ((1, 7, 4), (1, 4, 7))])
@pytest.mark.parametrize("centred", [False, True])
def test_every_shift_equals_the_direct_sum(shapes: tuple[tuple[int, ...], tuple[int, ...]], centred: bool) -> None:
    """sum over x of (n(x) . m(x + t))^2, minus |n|^2 |m|^2 / 3 where centred, and the number of voxels that overlap."""
    (n, a), (m, b) = (random_field(*shape, centred=centred) for shape in shapes)
    cross = CrossSimilarity(a[None], shapes[1])
    total, overlap = cross.maps(b)
    seen = 0
    for place in np.ndindex(*cross.range.shape):
        shift = np.array(place) + cross.range.low
        expected = count = 0.0
        for x in np.ndindex(*shapes[0]):
            y = tuple(np.array(x) + shift)
            if min(y) >= 0 and all(p < q for p, q in zip(y, shapes[1], strict=True)):
                u, v = n[(slice(None), *x)], m[(slice(None), *y)]
                expected += float((u @ v) ** 2 - (u @ u) * (v @ v) / 3.0 * centred)
                count += float(a[(-1, *x)] * b[(-1, *y)])
        assert float(total[(0, *place)]) == pytest.approx(expected, abs=1e-10)
        assert float(overlap[(0, *place)]) == pytest.approx(count, abs=1e-10)
        seen += 1
    assert seen == np.prod([p + q - 1 for p, q in zip(*shapes, strict=True)])


def test_short_transforms_hold_the_wanted_shifts_unwrapped() -> None:
    """With a least overlap the transforms are shorter; every shift left equals the one of the long transforms."""
    _, a = random_field(9, 8, 7, centred=True)
    _, b = random_field(7, 9, 10, centred=True)
    long, short = CrossSimilarity(a[None], (7, 9, 10)), CrossSimilarity(a[None], (7, 9, 10), 0.5)
    assert np.prod(short.range.transform) < np.prod(long.range.transform)
    cut = tuple(slice(s - low, s - low + n) for s, low, n in zip(short.range.low, long.range.low, short.range.shape, strict=True))
    for some, every in zip(short.maps(b), long.maps(b), strict=True):
        torch.testing.assert_close(some[0], every[0][cut], atol=1e-10, rtol=0.0)


def test_shift_range_is_what_the_overlap_allows() -> None:
    found = shift_range((10, 20, 5), (10, 10, 5), 0.5)
    assert found.low == (-5, -15, -2)
    assert found.high == (5, 5, 2)
    assert all(n >= need for n, need in zip(found.transform, (15, 25, 7), strict=True))


def test_a_known_shift_is_found_at_odd_and_even_sizes() -> None:
    for size in (8, 9):
        _, b = random_field(size + 4, size + 4, size + 4, centred=True)
        a = b[:, 3 : 3 + size, 1 : 1 + size, 2 : 2 + size]
        cross = CrossSimilarity(a[None], b.shape[1:], 0.5)
        value, shift = best_shift(scores(*cross.maps(b), 50.0, 0.5), cross.range.low)
        assert shift.tolist() == [[3, 1, 2]]
        assert np.isfinite(value).all()


def test_scores_leave_out_small_overlaps() -> None:
    total, overlap = torch.tensor([8.0, 8.0, 1.0]), torch.tensor([4.0, 16.0, 64.0])
    assert scores(total, overlap, 5.0, 1.0).tolist() == [-torch.inf, 0.5, 1.0 / 64.0]
    assert scores(total, overlap, 4.0, 0.5).tolist() == [4.0, 2.0, 0.125]


@pytest.mark.parametrize("centred", [False, True])
def test_tensors_turn_with_their_directions(centred: bool) -> None:
    rotation = matrices(super_fibonacci(11))[4]
    normal = torch.randn(3, 5, generator=GENERATOR, dtype=torch.float64)
    turned = direction_tensor(torch.from_numpy(rotation) @ normal, centred)
    by_matrix = torch.from_numpy(tensor_rotation(rotation, centred)) @ direction_tensor(normal, centred)
    torch.testing.assert_close(by_matrix, turned)


def test_turning_the_lattice_is_a_permutation() -> None:
    """The 24 variants of the fixed field are what sampling it on turned lattices gives, sizes odd."""
    _, field = random_field(9, 9, 9, centred=True)
    grid = Grid((9, 9, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    for turn, variant in zip(cube_rotations(), rotation_search._turned(field, cube_rotations()), strict=True):
        lattice = rotation_search._lattice(np.full(3, 8.0), 8.0, 2.0, turn.T)
        sampled = sample_tensor(field, grid, lattice, turn.T)
        torch.testing.assert_close(sampled[:, 1:-1, 1:-1, 1:-1], variant[:, 1:-1, 1:-1, 1:-1])


def test_rotations_are_rotations_and_cover_evenly() -> None:
    turns = matrices(super_fibonacci(600))
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1.0)
    every = np.einsum("nij,cjk->ncik", near_identity(4608), cube_rotations()).reshape(-1, 3, 3)
    assert 4400 < len(every) < 4800
    probes = matrices(np.random.default_rng(0).normal(size=(200, 4)) @ np.eye(4))
    probes = np.stack([np.linalg.qr(p)[0] * np.sign(np.linalg.det(np.linalg.qr(p)[0])) for p in probes])
    nearest = np.array([angle_degrees(every, probe).min() for probe in probes])
    assert nearest.max() < 14.0
    assert nearest.mean() < 8.0


def test_gradients_ignore_the_edge_of_the_mask_and_of_the_image() -> None:
    """A ramp along x with a black box cut out by the mask: where the field counts, it points along x, everywhere."""
    grid = Grid((20, 22, 24), np.diag([1.0, 1.0, 1.5, 1.0]))
    ramp = grid.world_points()[..., 0] / 30.0 + 0.5
    mask = torch.ones(1, *grid.shape)
    mask[:, 5:15, 6:16, 8:14] = 0.0
    field = gradient_field(Image(ramp * mask[0], grid), mask, 2.0, 2.0, 1e-4)
    inside = field.mask[0] > 0
    assert 0.5 < float(inside.float().mean()) < 1.0
    directions = field.normal[:, inside]
    assert float(directions[0].abs().min()) > 0.9
    assert float(field.normal[:, ~inside].abs().max()) == 0.0


def test_gradients_live_in_the_world() -> None:
    """The same ramp on an oblique, anisotropic, mirrored grid points the same way."""
    rotation = matrices(super_fibonacci(11))[7]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-1.0, 2.0, 0.7])
    grid = Grid((24, 20, 26), affine)
    direction = torch.tensor([0.6, 0.0, 0.8])
    field = gradient_field(Image(grid.world_points() @ direction, grid), None, 1.0, 0.7, 1e-6)
    expected = direction.view(3, 1, 1, 1).expand_as(field.normal)
    torch.testing.assert_close(field.normal[:, 6:-6, 6:-6, 6:-6], expected[:, 6:-6, 6:-6, 6:-6], atol=1e-3, rtol=0.0)


def test_a_few_rotations_suffice_to_see_the_whole_cube() -> None:
    pairs = itertools.combinations(cube_rotations(), 2)
    assert min(float(angle_degrees(a, b)) for a, b in pairs) == pytest.approx(90.0)
