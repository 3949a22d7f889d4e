"""The same numbers as SimpleITK: mapped points, resampled values, Jacobians, surface distances."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite.geometry import Grid, Image, frames
from regsuite.metrics import dice, jacobian_determinant, jacobian_statistics, mean_surface_distance
from regsuite.ops import derivatives
from regsuite.ops.filters import gaussian_smooth
from regsuite.ops.sampling import resample
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, Transform, compose

from Testing.unit.lattices import grid_of, rotation, smooth_field

FIXED = grid_of((9, 12, 15), (1.5, 2.0, 2.5), turn=rotation((2, 1, -1), 20.0), origin=(-8.0, 5.0, 11.0))
MOVING = grid_of((11, 14, 13), (1.9, 1.4, 2.2), turn=rotation((1, -1, 3), -35.0), origin=(-12.0, 9.0, 3.0))


def itk_image(image: Image) -> sitk.Image:
    """(1, D, H, W) -> scalar, (3, D, H, W) -> vector image, in ITK's LPS frame."""
    data = image.data[0] if image.channels == 1 else image.data.permute(1, 2, 3, 0)
    out = sitk.GetImageFromArray(data.contiguous().numpy(), isVector=image.channels > 1)
    origin, spacing, direction = frames.affine_to_itk(image.grid.affine)
    out.SetOrigin(origin)
    out.SetSpacing(spacing)
    out.SetDirection(direction)
    return out


def itk_transform(transform: Transform) -> sitk.Transform:
    if isinstance(transform, DisplacementField):
        return sitk.DisplacementFieldTransform(itk_image(Image(frames.flip_vector_field(transform.field.double()), transform.grid)))
    if isinstance(transform, CompositeTransform):
        return sitk.CompositeTransform([itk_transform(part) for part in transform.parts])
    assert isinstance(transform, AffineTransform)
    matrix = frames.flip_world_affine(transform.matrix)
    out = sitk.AffineTransform(3)
    out.SetMatrix(matrix[:3, :3].ravel().tolist())
    out.SetTranslation(matrix[:3, 3].tolist())
    return out


def affine() -> AffineTransform:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((1, 1, 2), 12.0) @ np.diag([1.05, 0.93, 1.1])
    matrix[:3, 3] = (2.0, -3.0, 1.5)
    return AffineTransform(matrix)


def field() -> DisplacementField:
    rough = gaussian_smooth(
        torch.randn(3, *FIXED.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64), (1.5,) * 3
    )
    return DisplacementField(rough * (4.0 / rough.norm(dim=0).max()), FIXED)  # does not vanish at its border


TRANSFORMS = {
    "affine": affine(),
    "field": field(),
    "field_of_affine": compose(field(), affine()),
    "affine_of_field": compose(affine(), field()),
    "three": compose(affine(), compose(field(), affine().inverse())),
}
each_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())


@each_transform
def test_mapped_points_inside_at_the_rim_and_far_outside(transform: Transform) -> None:
    share = torch.rand(400, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    index = share * (torch.tensor(FIXED.size) + 8.0) - 4.5  # up to four voxels outside
    points = torch.cat([FIXED.index_to_world(index), torch.tensor([[900.0, -900.0, 900.0]], dtype=torch.float64)])
    reference = itk_transform(transform)
    flipped = frames.flip_points(points).tolist()
    expected = frames.flip_points(torch.tensor([reference.TransformPoint(p) for p in flipped], dtype=torch.float64))
    inside = FIXED.contains(points)
    assert 50 < int(inside.sum()) < 350
    torch.testing.assert_close(transform.map_points(points), expected, atol=1e-5, rtol=0)


def picture(dtype: type = np.float32) -> Image:
    smooth = gaussian_smooth(torch.randn(1, *MOVING.shape, generator=torch.Generator().manual_seed(2)), (1.0,) * 3) * 500.0
    return Image(torch.as_tensor(smooth.numpy().astype(dtype)), MOVING)


@each_transform
@pytest.mark.parametrize(("name", "itk_name"), [("linear", sitk.sitkLinear), ("nearest", sitk.sitkNearestNeighbor)])
def test_resampled_values(transform: Transform, name: str, itk_name: int) -> None:
    moving = picture()
    found = resample(moving, FIXED, transform, name, fill=-77.0)
    reference = sitk.Resample(
        itk_image(moving), itk_image(Image(torch.zeros(FIXED.shape), FIXED)), itk_transform(transform), itk_name, -77.0
    )
    expected = torch.as_tensor(sitk.GetArrayFromImage(reference))[None]
    outside = expected == -77.0
    assert 0.05 < float(outside.double().mean()) < 0.95
    assert torch.equal(found.data == -77.0, outside)
    difference = (found.data - expected).abs()
    if name == "nearest":
        assert float((difference > 1e-3).double().mean()) <= 0.001  # ties to rounding
    else:
        assert float(difference.max()) < 0.02  # of values up to 300


def test_cubic_is_itks_bspline_between_the_voxel_centres() -> None:
    moving = picture(np.float64)
    found = resample(moving, FIXED, affine(), "cubic", fill=0.0).data[0]
    reference = sitk.Resample(
        itk_image(moving),
        itk_image(Image(torch.zeros(FIXED.shape).double(), FIXED)),
        itk_transform(affine()),
        sitk.sitkBSpline,
        0.0,
    )
    index = MOVING.world_to_index(affine().map_points(FIXED.world_points(torch.float64).view(-1, 3)))
    limit = torch.tensor(MOVING.size) - 1.0
    inner = ((index > 0) & (index < limit)).all(dim=1).view(FIXED.shape)
    assert int(inner.sum()) > 200
    expected = torch.as_tensor(sitk.GetArrayFromImage(reference))
    assert float((found - expected)[inner].abs().max()) < 1e-3
    assert float(expected[inner].std()) > 30.0


def test_integer_labels_survive_nearest_resampling() -> None:
    labels = Image((picture().data > 20.0).to(torch.int16) * 3, MOVING)
    found = resample(labels, FIXED, None, "nearest", fill=0)
    reference = sitk.Resample(
        itk_image(labels), itk_image(Image(torch.zeros(FIXED.shape), FIXED)), sitk.Transform(), sitk.sitkNearestNeighbor, 0
    )
    assert found.data.dtype == torch.int16
    assert set(found.data.unique().tolist()) == {0, 3}
    assert (found.data[0].numpy() == sitk.GetArrayFromImage(reference)).mean() > 0.999


def test_itks_half_voxel_ties_in_nearest() -> None:
    line = Grid((1, 1, 6), np.diag([1.0, 1.0, 1.0, 1.0]))
    shifted = line.affine.copy()
    shifted[0, 3] = 0.5
    image = Image(torch.arange(6.0).view(1, 1, 6), line)
    found = resample(image, Grid((1, 1, 5), shifted), None, "nearest")
    # mirrored by LPS, so the reference is built along z, where the frames agree
    tall = sitk.GetImageFromArray(np.arange(6.0).reshape(6, 1, 1))
    target = sitk.Image(1, 1, 5, sitk.sitkFloat64)
    target.SetOrigin((0.0, 0.0, 0.5))
    expected = sitk.GetArrayFromImage(sitk.Resample(tall, target, sitk.Transform(), sitk.sitkNearestNeighbor)).ravel()
    assert found.data.flatten().tolist() == expected.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_jacobian_determinant_inside_an_axis_aligned_grid() -> None:
    """ITK's filter ignores the direction matrix: compared where that does not matter (LPS identity, so -1, -1, 1 in RAS)."""
    grid = Grid((9, 12, 15), np.array([[-1.5, 0, 0, 3], [0, -2.0, 0, 4], [0, 0, 2.5, 5], [0, 0, 0, 1.0]]))
    u = smooth_field(grid, 5.0, seed=3, sigma=1.5)
    reference = sitk.DisplacementFieldJacobianDeterminant(itk_image(Image(frames.flip_vector_field(u), grid)))
    expected = torch.as_tensor(sitk.GetArrayFromImage(reference)).double()[1:-1, 1:-1, 1:-1]
    assert float(expected.std()) > 0.2
    found = derivatives.jacobian_determinant(u, grid)[1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    mapped = jacobian_determinant(DisplacementField(u, grid), grid)[1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(mapped.double(), expected, atol=1e-5, rtol=1e-5)
    assert jacobian_statistics(found)["folding_count"] == int((expected <= 0).sum())


def test_jacobian_determinant_on_an_oblique_grid_is_that_of_the_turned_problem() -> None:
    """Our law where ITK's filter cannot judge: turning grid and vectors together leaves the determinant as it is."""
    u = smooth_field(FIXED, 5.0, seed=3, sigma=1.5)
    turn = np.eye(4)
    turn[:3, :3] = FIXED.direction.T
    straight = Grid(FIXED.shape, turn @ FIXED.affine)
    np.testing.assert_allclose(straight.direction, np.eye(3), atol=1e-12)
    turned = torch.einsum("ab,b...->a...", torch.as_tensor(turn[:3, :3]), u)
    expected = derivatives.jacobian_determinant(turned, straight)
    assert float(expected.std()) > 0.2
    torch.testing.assert_close(derivatives.jacobian_determinant(u, FIXED), expected)


def test_dice_and_mean_surface_distance() -> None:
    points = MOVING.world_points(torch.float64) - torch.tensor(MOVING.centre)
    a = Image((points.norm(dim=3) < 7.0).to(torch.uint8), MOVING)
    b = Image(((points - torch.tensor([1.5, -1.0, 2.0])).norm(dim=3) < 6.0).to(torch.uint8), MOVING)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(itk_image(a), itk_image(b))
    assert dice(a, b)[1] == pytest.approx(overlap.GetDiceCoefficient(1))
    contours = [sitk.LabelContour(itk_image(x), fullyConnected=False) for x in (a, b)]  # face neighbours, as ours
    maps = [sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(c, squaredDistance=False, useImageSpacing=True)) for c in contours]
    rims = [sitk.GetArrayFromImage(c) > 0 for c in contours]
    values = np.concatenate([np.abs(maps[1])[rims[0]], np.abs(maps[0])[rims[1]]])
    assert mean_surface_distance(a, b)[1] == pytest.approx(float(values.mean()), rel=1e-5)
