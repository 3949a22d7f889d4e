"""lung-convex: capture range, independence of how files store their axes, sliding, and the published code's defects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.methods.lung import _sliding
from regsuite.methods.lung import convex as method
from regsuite.ops.mind import mind_ssc
from regsuite.ops.sampling import resample
from regsuite.phantoms.base import Phantom
from regsuite.solvers.folding import corner_determinants
from regsuite.transforms import CompositeTransform, DisplacementField, Transform, compose

PREVIEW = method.PRESETS["Preview"]


def field_of(transform: Transform) -> DisplacementField:
    part = transform.parts[-1] if isinstance(transform, CompositeTransform) else transform
    assert isinstance(part, DisplacementField)
    return part


def mean_gap(a: Transform, b: Transform, grid: Grid, mask: torch.Tensor) -> float:
    return float((a.displacement(grid) - b.displacement(grid)).norm(dim=0)[mask].mean())


@pytest.fixture(scope="module")
def result(chest: Phantom) -> Transform:
    return method.register(chest.fixed, chest.moving, PREVIEW).transform


def body(chest: Phantom) -> torch.Tensor:
    return chest.fixed_labels.data[0] > 0


def test_a_header_30_mm_off_is_recovered(chest: Phantom, result: Transform) -> None:
    affine = chest.moving.grid.affine.copy()
    affine[:3, 3] += (17.0, -17.0, 18.0)
    shifted = method.register(chest.fixed, Image(chest.moving.data, Grid(chest.moving.grid.shape, affine)), PREVIEW).transform
    error = shifted.map_points(chest.fixed_landmarks) - torch.tensor([17.0, -17.0, 18.0]) - chest.moving_landmarks
    plain = result.map_points(chest.fixed_landmarks) - chest.moving_landmarks
    assert float(error.norm(dim=1).mean()) < float(plain.norm(dim=1).mean()) + 1.0


@pytest.mark.parametrize(("axes", "flips"), [((2, 0, 1), (0, 1, 0)), ((1, 0, 2), (1, 1, 1))])
def test_stored_axes_do_not_matter(chest: Phantom, result: Transform, axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    def turned(image: Image) -> Image:
        affine = image.grid.affine[:, [*axes, 3]].copy()
        data = image.data.permute(0, *(3 - axes[w] for w in (2, 1, 0)))
        for axis in range(3):
            if flips[axis]:
                affine[:3, 3] += affine[:3, axis] * (data.shape[3 - axis] - 1)
                affine[:3, axis] *= -1
                data = data.flip(3 - axis)
        return Image(data.contiguous(), Grid((int(data.shape[1]), int(data.shape[2]), int(data.shape[3])), affine))

    other = method.register(turned(chest.fixed), turned(chest.moving), PREVIEW).transform
    assert mean_gap(result, other, chest.fixed.grid, body(chest)) < 0.1


def test_the_transform_can_be_inverted(chest: Phantom, result: Transform) -> None:
    round_trip = compose(result, result.inverse()).displacement(chest.moving.grid)
    inside = chest.moving_labels.data[0] > 0
    assert float(round_trip.norm(dim=0)[inside].mean()) < 0.5


def test_nothing_folds(chest: Phantom, result: Transform) -> None:
    field = field_of(result)
    local = torch.tensordot(torch.from_numpy(field.grid.direction.copy()).float().T, field.field, dims=1)
    i, j, k = (float(h) for h in field.grid.spacing)
    folded = corner_determinants(local, (k, j, i)) <= 0
    assert float(folded.float().mean()) < 1e-4


def test_intensity_scale_and_offset_do_not_matter(chest: Phantom, result: Transform) -> None:
    config = PREVIEW.replaced(lungs=False)
    other = method.register(chest.fixed.with_data(chest.fixed.data * 0.01 + 20.0), chest.moving, config).transform
    same = method.register(chest.fixed, chest.moving, config).transform
    assert mean_gap(same, other, chest.fixed.grid, body(chest)) < 0.1


def test_sliding_regions_follow_a_wall_better(chest: Phantom) -> None:
    truth = chest.transform.displacement(chest.fixed.grid)
    lungs = chest.fixed_mask.data[0] > 0
    errors = []
    for sliding in (True, False):
        config = PREVIEW.replaced(sliding=sliding)
        found = method.register(chest.fixed, chest.moving, config, fixed_mask=chest.fixed_mask).transform
        errors.append(float((found.displacement(chest.fixed.grid) - truth).norm(dim=0)[lungs].mean()))
    assert errors[0] < errors[1]


def test_lungs_are_found(chest: Phantom) -> None:
    pair = _sliding._load(chest.fixed, chest.moving, None, None, PREVIEW, torch.device("cpu"))
    assert pair.region is not None
    found = resample(pair.region, chest.fixed.grid, None, "nearest", 0.0).data[0] > 0
    truth = chest.fixed_mask.data[0] > 0
    assert 2.0 * float((found & truth).sum()) / float(found.sum() + truth.sum()) > 0.85


# The defects of the published code (design notes on ConvexAdam); each is absent here.


def test_defect_constant_image_gives_finite_features() -> None:
    assert torch.equal(mind_ssc(torch.full((1, 6, 7, 8), 3.0)), torch.ones(12, 6, 7, 8))


def test_defect_sizes_not_divisible_by_the_cell_are_neither_cropped_nor_stretched() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.nn.functional.interpolate(torch.rand(1, 1, 9, 8, 11, generator=generator), size=(37, 31, 43), mode="trilinear")[0]
    grid = Grid((37, 31, 43), np.diag([2.0, 2.0, 2.0, 1.0]))
    moved = grid.affine.copy()
    moved[:3, 3] = (6.0, -4.0, 4.0)
    config = PREVIEW.replaced(finest_mm=2.0)
    found = method.register(Image(data, grid), Image(data, Grid(grid.shape, moved)), config).transform.displacement(grid)
    error = (found - torch.tensor([6.0, -4.0, 4.0]).view(3, 1, 1, 1)).norm(dim=0)
    assert float(error[4:-4, 4:-4, 4:-4].mean()) < 0.1  # nor is the field pulled to 0 towards the border:
    assert float(error.mean()) < 0.3


def test_defect_displacements_are_float32_millimetres(chest: Phantom, result: Transform) -> None:
    field = field_of(result)
    assert field.field.dtype == torch.float32
    assert float((field.field - field.field.half().float()).abs().max()) > 0.0
