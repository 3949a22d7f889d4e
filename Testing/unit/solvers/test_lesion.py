"""Lesions: the growing mask, the start that leaves the lesion out, grey values, and what is said about the mass effect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.ops.intensity import match_quantiles
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers import growth, lesion_case, lesion_report, linear
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation

Triple = tuple[float, float, float]


def balls(shape: tuple[int, int, int], spacing: Triple, *parts: tuple[tuple[float, ...], float]) -> torch.Tensor:
    """(1, D, H, W), 1 inside any ball (centre mm along D, H, W; radius mm)."""
    axes = [torch.arange(n) * h for n, h in zip(shape, spacing, strict=True)]
    mesh = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    inside = [(mesh - torch.tensor(c).view(3, 1, 1, 1)).norm(dim=0) < radius for c, radius in parts]
    return torch.stack(inside).any(dim=0).float()[None]


@pytest.mark.parametrize(
    ("shape", "spacing", "parts"),
    [
        ((1, 70, 60), (5.0, 1.0, 1.2), [((0.0, 36.0, 33.0), 22.0)]),
        ((20, 30, 36), (3.0, 2.0, 2.0), [((30.0, 30.0, 34.0), 18.0)]),
        ((16, 20, 40), (3.0, 3.0, 3.0), [((24.0, 30.0, 28.0), 14.0), ((24.0, 30.0, 90.0), 14.0)]),
    ],
)
def test_the_mask_grows_from_a_seed_to_the_lesion(shape, spacing, parts) -> None:
    lesion = balls(shape, spacing, *parts)
    masks = growth.grow(lesion, spacing, 8).masks(lesion, spacing)
    sizes = masks.sum(dim=(1, 2, 3)) / lesion.sum()
    assert masks.shape == (9, *shape)
    assert torch.equal(masks[-1], lesion[0])
    assert bool((masks[:, lesion[0] == 0.0] == 0.0).all())
    assert 0.0 < float(sizes[0]) < 0.25
    assert bool((sizes.diff() > 0.0).all())
    assert float(sizes.diff().max()) < 0.35  # no jump
    seeds = growth.seeds(lesion[0], spacing)
    assert len(seeds) == len(parts)
    for seed, (centre, _) in zip(seeds, parts, strict=True):
        assert np.linalg.norm(np.subtract(seed.centre, centre)) < 2.0 * max(h for h, n in zip(spacing, shape, strict=True) if n > 1)


def test_a_slice_is_aligned_in_its_own_plane() -> None:
    """An oblique slice: scale, shear, turn and shift within it are found, and nothing leaves the plane."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.42, 0.0, 0.56]).as_matrix() @ np.diag([1.0, 1.0, 5.0])
    affine[:3, 3] = 10.0, -5.0, 20.0
    grid = Grid((1, 90, 80), affine)
    generator = torch.Generator().manual_seed(3)
    spots = [((0.0, *(torch.rand(2, generator=generator) * 60 + 12).tolist()), 6.0 + n) for n in range(4)]
    moving = Image(sum(0.3 * n * balls(grid.shape, (1.0, 1.0, 1.0), spot) for n, spot in enumerate(spots, start=1)), grid)
    plane, normal = grid.direction[:, :2], grid.direction[:, 2]
    small = np.array([[1.06, 0.08], [-0.05, 0.96]])
    true = np.eye(4)
    true[:3, :3] = plane @ small @ plane.T + np.outer(normal, normal)
    true[:3, 3] = grid.centre - true[:3, :3] @ grid.centre + plane @ (3.0, -2.0)
    fixed = resample(moving, grid, AffineTransform(true), fill=0.0)
    settings = linear.LinearSettings(finest_mm=1.0, levels=3)
    found = linear.align(fixed, moving, kind="affine", metric="ncc", settings=settings)
    points = grid.world_points(torch.float64).reshape(-1, 3)
    mapped, expected = AffineTransform(found.matrix).map_points(points), AffineTransform(true).map_points(points)
    assert float(((mapped - points) @ torch.from_numpy(normal.copy())).abs().max()) < 1e-9
    assert float((mapped - expected).norm(dim=1).mean()) < 0.3
    assert float((points - expected).norm(dim=1).mean()) > 2.5


def test_the_start_finds_a_template_that_lies_elsewhere_without_the_lesion() -> None:
    """Headers that disagree by centimetres; a bright lesion in the patient must not draw the template."""
    line = [torch.linspace(-1.0, 1.0, n) for n in (28, 36, 32)]
    z, y, x = torch.meshgrid(*line, indexing="ij")
    brain = torch.sigmoid(25.0 * (0.75 - torch.sqrt(x**2 + (0.8 * y) ** 2 + (1.1 * z) ** 2)))
    data = (brain * (1.0 - 0.7 * torch.exp(-30.0 * ((x - 0.1) ** 2 + (y - 0.2) ** 2 + z**2))))[None]
    grid = Grid((28, 36, 32), np.diag([3.0, 3.0, 3.0, 1.0]))
    far = np.diag([3.0, 3.0, 3.0, 1.0])
    far[:3, 3] = 40.0, -30.0, 20.0
    lesion = balls((28, 36, 32), (3.0, 3.0, 3.0), ((40.0, 80.0, 30.0), 10.0))
    patient = Image(torch.where(lesion > 0, 3.0, data), grid)
    settings = lesion_case.Preparation(3.0, "rigid", match=True, margin_mm=8.0)
    case = lesion_case.prepare(
        patient, Image(data, Grid((28, 36, 32), far)), Image(lesion, grid), None, settings, torch.device("cpu"), Progress(None)
    )
    assert np.abs(case.start - AffineTransform.translation((40.0, -30.0, 20.0)).matrix).max() < 0.3
    outside = case.lesion.data < 0.01
    assert float((case.fixed.data - case.template.data)[outside].abs().mean()) < 0.02


def test_grey_values_are_matched_by_rank() -> None:
    values = torch.rand(20_000, generator=torch.Generator().manual_seed(1))
    mapping = match_quantiles(values, 0.2 + 0.6 * values**2)
    middle = torch.linspace(0.1, 0.9, 9)
    assert torch.allclose(mapping(middle), 0.2 + 0.6 * middle**2, atol=0.02)


def test_one_grey_value_in_many_voxels_keeps_its_partner() -> None:
    """Two tones; a few dark voxels in the other image must not pull the common tone down."""
    moving = torch.cat([torch.full((900,), 0.35), torch.full((100,), 0.7)])
    fixed = torch.cat([torch.zeros(60), torch.full((840,), 0.5), torch.full((100,), 0.9)])
    assert torch.allclose(match_quantiles(moving, fixed)(torch.tensor([0.35, 0.7])), torch.tensor([0.5, 0.9]), atol=1e-6)


def test_the_mass_effect_of_a_known_push() -> None:
    """Tissue pushed outward by 4 exp(-distance / 10) mm around a ball: each shell says how far, and that it went outward."""
    shape, h = (40, 40, 40), 2.0
    grid = Grid(shape, np.diag([h, h, h, 1.0]))
    lesion = Image(balls(shape, (h, h, h), ((40.0, 40.0, 40.0), 12.0)), grid)
    points = grid.world_points(torch.float64).reshape(*shape, 3).movedim(-1, 0) - 40.0
    radius = points.norm(dim=0).clamp(min=1e-6)
    length = 4.0 * torch.exp(-(radius - 12.0).clamp(min=0.0) / 10.0)
    rows = lesion_report.mass_effect((-points / radius * length).float(), torch.full(shape, 2.0), lesion)
    for row in rows[:4]:
        middle = 0.5 * (row["from_mm"] + row["to_mm"])
        assert row["displacement_mean_mm"] == pytest.approx(4.0 * np.exp(-middle / 10.0), rel=0.12)
        assert row["outward_mean_mm"] == pytest.approx(row["displacement_mean_mm"], rel=0.06)
        assert row["volume_factor_mean"] == pytest.approx(0.5)
    assert [row["from_mm"] for row in rows[:3]] == [0.0, 5.0, 10.0]
