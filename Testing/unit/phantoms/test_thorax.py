"""The thorax phantom: its truth is true, its lungs slide, its anatomy is where it says, and a seed fixes every byte."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.ops.sampling import resample, sample_world
from regsuite.phantoms import PHANTOMS, Phantom, make_phantom
from scipy import ndimage

SMALL = (40, 32, 30)


@pytest.fixture(scope="module")
def clean() -> Phantom:
    return make_phantom("thorax", seed=3, size=(92, 70, 62), noise_hu=0.0)


@pytest.fixture(scope="module")
def oblique() -> Phantom:
    return make_phantom("thorax", seed=3, size=(84, 78, 70), noise_hu=0.0, oblique=True)


def mask(image: Image) -> np.ndarray:
    return image.data[0].numpy() > 0


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.double().numpy(), b.double().numpy())[0, 1])


def jacobian(phantom: Phantom, points: torch.Tensor) -> torch.Tensor:
    """det dT/dx by central differences of 0.2 mm."""
    steps = 0.1 * torch.eye(3, dtype=torch.float64)
    map_points = phantom.transform.map_points
    columns = [(map_points(points + s) - map_points(points - s)) / 0.2 for s in steps]
    return torch.linalg.det(torch.stack(columns, dim=2))


def inner_lung(phantom: Phantom) -> torch.Tensor:
    """(V,) bool: fixed lung voxels at least two voxels from the lung's border."""
    return torch.from_numpy(ndimage.binary_erosion(mask(phantom.fixed_mask), iterations=2).ravel())


def test_moving_image_pulled_through_the_truth_is_the_fixed_image(clean: Phantom) -> None:
    moved = resample(clean.moving, clean.fixed.grid, clean.transform, "cubic")
    plain = resample(clean.moving, clean.fixed.grid, None, "cubic")
    lung = inner_lung(clean)
    fixed = clean.fixed.data.view(-1)
    assert correlation(moved.data.view(-1), fixed) > 0.985
    assert correlation(moved.data.view(-1)[lung], fixed[lung]) > 0.85
    assert correlation(plain.data.view(-1)[lung], fixed[lung]) < 0.4


def test_lung_tissue_keeps_its_mass(clean: Phantom) -> None:
    lung = inner_lung(clean)
    points = clean.fixed.grid.world_points(torch.float64).view(-1, 3)[lung]
    fixed = clean.fixed.data.view(-1)[lung] + 1000.0
    moved = sample_world(clean.moving, clean.transform.map_points(points).float(), "cubic")[0] + 1000.0
    volume_change = jacobian(clean, points)
    both = (fixed * moved / volume_change).clamp(min=0.0).sqrt()
    tissue = both < both.quantile(0.15)  # leave vessels out (blood is not compressed), by a choice fair to both images
    assert float(volume_change[tissue].median()) > 1.12
    assert float((fixed / moved / volume_change)[tissue].median()) == pytest.approx(1.0, abs=0.03)


def test_landmarks_are_vessel_branchings_in_both_lungs_and_exact(clean: Phantom) -> None:
    fixed, moving = clean.fixed_landmarks, clean.moving_landmarks
    assert len(fixed) == len(moving) == 200
    assert torch.allclose(clean.transform.map_points(fixed), moving, atol=1e-9)
    assert torch.allclose(clean.transform.inverse().map_points(moving), fixed, atol=1e-5)
    for image, lungs, points in ((clean.fixed, clean.fixed_mask, fixed), (clean.moving, clean.moving_mask, moving)):
        assert int((points[:, 0] > 0).sum()) >= 50
        assert int((points[:, 0] < 0).sum()) >= 50
        assert float(points[:, 2].max() - points[:, 2].min()) > 120.0
        assert bool((sample_world(lungs.with_data(lungs.data.float()), points.float()) > 0.5).all())
        around = torch.randn(len(points), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        beside = points + 8.0 * around / around.norm(dim=1, keepdim=True)
        here = sample_world(image, points.float(), "cubic")[0]
        there = sample_world(image, beside.float(), "cubic")[0]
        assert float(here.mean() - there.mean()) > 80.0
        assert float((here > image.data[lungs.data > 0].float().median()).double().mean()) > 0.85


@pytest.mark.parametrize("number", [1, 2, 3, 4, 6, 7])
def test_labels_move_with_the_truth(clean: Phantom, number: int) -> None:
    inside = ndimage.binary_erosion(clean.fixed_labels.data[0].numpy() == number)
    points = clean.fixed.grid.world_points(torch.float64)[torch.from_numpy(inside)]
    there = clean.transform.map_points(points)
    there_index = clean.moving.grid.contains(there)
    found = sample_world(clean.moving_labels.with_data(clean.moving_labels.data.float()), there.float(), "nearest")[0]
    assert int(there_index.sum()) > 50
    assert float((found == number)[there_index].float().mean()) > 0.97


def test_tumour_lies_in_a_lung_and_moves_with_it(clean: Phantom) -> None:
    centres = []
    for labels in (clean.fixed_labels, clean.moving_labels):
        where = labels.data[0] == 5
        centres.append(labels.grid.world_points(torch.float64)[where].mean(dim=0))
        size_mm = 2.0 * (float(where.sum()) * labels.grid.voxel_volume * 3 / (4 * np.pi)) ** (1 / 3)
        assert 8.0 < size_mm < 28.0
    assert float((clean.transform.map_points(centres[0][None])[0] - centres[1]).norm()) < 1.5


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("y", [-45.0, -15.0, 10.0])
def test_lungs_slide_along_the_wall_near_the_base(clean: Phantom, side: float, y: float) -> None:
    """Walk outwards along a ray: the displacement jumps once, along the wall and not across it."""
    ray = torch.zeros(8001, 3, dtype=torch.float64)
    ray[:, 0] = side * torch.linspace(60.0, 140.0, 8001)
    ray[:, 1], ray[:, 2] = y, -40.0
    moved = clean.transform.map_points(ray) - ray
    steps = (moved[1:] - moved[:-1]).norm(dim=1)
    at = int(steps.argmax())
    assert int((steps > 0.5).sum()) == 1
    jump = moved[at + 1] - moved[at]
    normal = wall_normal(clean, ray[at])
    across = float(jump @ normal)
    assert abs(across) < 1.0
    assert float((jump - across * normal).norm()) > 5.0


def wall_normal(phantom: Phantom, point: torch.Tensor) -> torch.Tensor:
    """Unit normal of the surface at which the displacement jumps, from where nearby rays along x meet it."""
    hits = []
    for dy, dz in ((0.0, 0.0), (4.0, 0.0), (0.0, 4.0)):
        ray = point.repeat(4001, 1)
        ray[:, 0] += torch.linspace(-10.0, 10.0, 4001)
        ray[:, 1] += dy
        ray[:, 2] += dz
        moved = phantom.transform.map_points(ray) - ray
        hits.append(ray[int((moved[1:] - moved[:-1]).norm(dim=1).argmax())])
    normal = torch.linalg.cross(hits[1] - hits[0], hits[2] - hits[0])
    return normal / normal.norm()


def test_nothing_crosses_the_wall_and_the_map_can_be_undone(clean: Phantom) -> None:
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(20000, 3, generator=generator, dtype=torch.float64) - 0.5) * torch.tensor([320.0, 240.0, 280.0])
    there = clean.transform.map_points(points)
    assert bool(((clean.transform.exhale.distance(points) < 0) == (clean.transform.inhale.distance(there) < 0)).all())
    assert torch.allclose(clean.transform.inverse().map_points(there), points, atol=1e-5)
    assert clean.transform.inverse().inverse() is clean.transform


def test_spine_hardly_moves_and_the_skin_rises(clean: Phantom) -> None:
    bones = clean.fixed_labels.data[0] == 6
    points = clean.fixed.grid.world_points(torch.float64)
    spine = points[bones & (points[..., 0].abs() < 12) & (points[..., 1] < -50)]
    skin = points[(clean.fixed_labels.data[0] == 7) & (points[..., 1] > 80)]
    assert float((clean.transform.map_points(spine) - spine).norm(dim=1).max()) < 2.0
    rise = (clean.transform.map_points(skin) - skin)[:, 1]
    assert float(rise.min()) > 1.0
    assert 3.0 < float(rise.mean()) < 12.0


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_breathes_deeply_without_folding(seed: int) -> None:
    phantom = make_phantom("thorax", seed=seed, size=SMALL)
    points = phantom.fixed.grid.world_points(torch.float64)[phantom.fixed_mask.data[0] > 0]
    moved = (phantom.transform.map_points(points) - points).norm(dim=1)
    assert float(moved.mean()) >= 12.0
    assert 20.0 < float(moved.quantile(0.95)) < 32.0
    assert float(moved.quantile(0.05)) < 5.0
    inside = phantom.transform.exhale.distance(points) < -0.5
    volume_change = jacobian(phantom, points[inside])
    assert float(volume_change.min()) > 0.5
    assert float(volume_change.max()) < 2.5
    assert len(phantom.fixed_landmarks) >= 100
    assert set(phantom.fixed_labels.data.unique().tolist()) <= set(range(8))


def test_motion_is_what_was_asked_for_and_threads_are_given_back() -> None:
    threads = torch.get_num_threads()
    phantom = make_phantom("thorax", seed=11, size=SMALL, motion_mm=17.0)
    assert torch.get_num_threads() == threads
    points = phantom.fixed.grid.world_points(torch.float64)[phantom.fixed_mask.data[0] > 0]
    mean = float((phantom.transform.map_points(points) - points).norm(dim=1).mean())
    assert mean == pytest.approx(17.0, rel=0.04)


def test_a_seed_fixes_every_byte_and_another_changes_the_chest() -> None:
    first, again, other = (make_phantom("thorax", seed=s, size=SMALL, oblique=True) for s in (7, 7, 8))
    for field in dataclasses.fields(Phantom):
        a, b = getattr(first, field.name), getattr(again, field.name)
        if isinstance(a, Image):
            assert a.data.numpy().tobytes() == b.data.numpy().tobytes()
            assert np.array_equal(a.grid.affine, b.grid.affine)
        if isinstance(a, torch.Tensor):
            assert a.numpy().tobytes() == b.numpy().tobytes()
    assert correlation(first.fixed.data.view(-1), other.fixed.data.view(-1)) < 0.98
    assert not torch.equal(first.fixed_landmarks, other.fixed_landmarks)


def test_oblique_grids_show_the_same_chest(clean: Phantom, oblique: Phantom) -> None:
    fixed, moving = oblique.fixed.grid, oblique.moving.grid
    assert fixed.size == (84, 78, 70)
    for grid in (fixed, moving):
        assert np.abs(grid.direction).min() > 0.02
    assert fixed.shape != moving.shape
    assert np.abs(fixed.direction - moving.direction).max() > 0.05
    assert np.abs(fixed.spacing - moving.spacing).min() > 0.05
    assert np.abs(fixed.affine[:3, 3] - moving.affine[:3, 3]).max() > 1.0
    assert torch.equal(clean.fixed_landmarks, oblique.fixed_landmarks)
    for straight, tilted in ((clean.fixed, oblique.fixed), (clean.moving, oblique.moving)):
        again = resample(tilted, straight.grid, None, "cubic")
        points = straight.grid.world_points(torch.float64).view(-1, 3)
        both = tilted.grid.contains(points)
        assert float(both.double().mean()) > 0.8
        assert correlation(again.data.view(-1)[both], straight.data.view(-1)[both]) > 0.985


def test_straight_grids_cover_the_stated_field_of_view(clean: Phantom) -> None:
    assert clean.fixed.grid.size == (92, 70, 62)
    assert np.allclose(clean.fixed.grid.spacing * clean.fixed.grid.size, (340.0, 260.0, 300.0))
    assert np.array_equal(np.sign(np.diag(clean.fixed.grid.affine)), [-1, -1, 1, 1])
    assert clean.fixed.grid == clean.moving.grid


def test_tissues_have_the_values_of_ct(clean: Phantom) -> None:
    for image, labels, low, high in (
        (clean.fixed, clean.fixed_labels, -830, -690),
        (clean.moving, clean.moving_labels, -860, -740),
    ):
        value = {n: float(image.data[labels.data == n].median()) for n in (0, 1, 2, 3, 4, 6)}
        assert value[0] == -1000.0
        assert low < value[1] < high
        assert low < value[2] < high
        assert 30 < value[3] < 55
        assert 45 < value[4] < 70
        assert 150 < value[6] < 700
    assert {1, 2, 5} == set(clean.fixed_labels.data[clean.fixed_mask.data > 0].unique().tolist())
    assert clean.label_names[4] == "liver"
    assert 2.0e6 < float(clean.fixed_mask.data.sum()) * clean.fixed.grid.voxel_volume < 5.0e6


def test_noise_has_the_strength_asked_for_and_differs_between_images(clean: Phantom) -> None:
    noisy = make_phantom("thorax", seed=3, size=(92, 70, 62), noise_hu=30.0)
    body = (clean.fixed_labels.data == 7) & (clean.moving_labels.data == 7)
    fixed, moving = noisy.fixed.data - clean.fixed.data, noisy.moving.data - clean.moving.data
    assert float(fixed[body].std()) == pytest.approx(30.0, rel=0.05)
    assert abs(correlation(fixed[body], moving[body])) < 0.03
    pair = body[..., 1:] & body[..., :-1]
    assert correlation(fixed[..., 1:][pair], fixed[..., :-1][pair]) > 0.2
    assert torch.equal(noisy.fixed_labels.data, clean.fixed_labels.data)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"size": (40, 32)}, "size"),
        ({"size": (40, 32, 1)}, "24 to 512"),
        ({"size": (40, 32, 30.5)}, "whole numbers"),
        ({"size": "40x32x30"}, "size"),
        ({"size": (40, 32, 100000)}, "512"),
        ({"noise_hu": -1.0}, "noise_hu"),
        ({"noise_hu": float("nan")}, "noise_hu"),
        ({"motion_mm": 60.0}, "motion_mm"),
        ({"motion_mm": "much"}, "motion_mm"),
        ({"oblique": "yes"}, "oblique"),
        ({"colour": 1}, "colour"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
    ],
)
def test_bad_options_are_named(options: dict, part: str) -> None:
    with pytest.raises(InputError, match=part):
        make_phantom("thorax", **options)


def test_unknown_phantom_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match="thorax"):
        make_phantom("elephant")
    assert "thorax" in PHANTOMS
