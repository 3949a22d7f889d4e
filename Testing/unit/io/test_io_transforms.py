"""Transforms through every file: points before and after, order of parts, what is refused."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid
from regsuite.io import read_transform, write_image, write_transform
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, StationaryVelocityField

from Testing.unit.io import samples

ITK_FILES = ("t.h5", "t.hdf5", "t.tfm", "t.txt")
VOLUMES = ("t.nrrd", "t.nii.gz", "t.nii", "t.mha", "t.mhd")


@pytest.mark.parametrize("name", ITK_FILES)
@pytest.mark.parametrize("make", [samples.affine, samples.field, samples.composite])
def test_round_trip_keeps_every_point(tmp_path, name, make):
    transform, points = make(), samples.points()
    write_transform(transform, tmp_path / name)
    back = read_transform(tmp_path / name)
    assert type(back) is type(transform)
    torch.testing.assert_close(back.map_points(points), transform.map_points(points), rtol=0, atol=1e-4)


def test_the_same_transform_gives_the_same_bytes_at_another_time(tmp_path):
    for name in ("first.h5", "second.h5"):
        write_transform(samples.composite(), tmp_path / name)
        time.sleep(1.1)  # HDF5's times count seconds
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.h5", "second.h5"]


@pytest.mark.parametrize("name", VOLUMES)
def test_displacement_volume_keeps_every_point(tmp_path, name):
    transform, points = samples.field(), samples.points()
    write_transform(transform, tmp_path / name)
    back = read_transform(tmp_path / name)
    assert isinstance(back, DisplacementField)
    torch.testing.assert_close(back.map_points(points), transform.map_points(points), rtol=0, atol=1e-3)


def test_literal_affine_is_lps_in_the_file(tmp_path):
    # RAS: x' = 2 y + 5, y' = -x + 6, z' = z + 7. In LPS x = -X: X' = 2 Y - 5, Y' = -X - 6, Z' = Z + 7.
    matrix = [[0, 2, 0, 5], [-1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]]
    write_transform(AffineTransform(np.array(matrix, float)), tmp_path / "a.tfm")
    assert "Parameters: 0 2 0 -1 0 0 0 0 1 -5 -6 7\n" in (tmp_path / "a.tfm").read_text()
    np.testing.assert_array_equal(read_transform(tmp_path / "a.tfm").matrix, matrix)


def test_composite_applies_its_last_part_first(tmp_path):
    double = AffineTransform(np.diag([2.0, 2.0, 2.0, 1.0]))
    shift = AffineTransform.translation([1.0, 10.0, 100.0])
    write_transform(CompositeTransform((double, shift, samples.field())), tmp_path / "c.h5")
    itk = sitk.ReadTransform(str(tmp_path / "c.h5"))
    far = (500.0, 600.0, 700.0)  # outside the field: only 2 (x + shift) acts; LPS shift is (-1, -10, 100)
    np.testing.assert_allclose(itk.TransformPoint(far), (998.0, 1180.0, 1600.0), atol=1e-9)
    ours = read_transform(tmp_path / "c.h5").map_points(torch.tensor([[-500.0, -600.0, 700.0]], dtype=torch.float64))
    np.testing.assert_allclose(ours[0], (-998.0, -1180.0, 1600.0), atol=1e-9)


def test_nested_composites_are_written_flat_and_map_the_same(tmp_path):
    nested = CompositeTransform((CompositeTransform((samples.affine(), samples.field())), AffineTransform.translation([1, 2, 3])))
    write_transform(nested, tmp_path / "n.h5")
    points = samples.points()
    torch.testing.assert_close(read_transform(tmp_path / "n.h5").map_points(points), nested.map_points(points), rtol=0, atol=1e-4)


def test_velocity_field_is_written_as_its_exponential(tmp_path):
    velocity = StationaryVelocityField(0.3 * samples.field().field, samples.grid())
    points = samples.points()
    for name in ("v.h5", "v.nrrd"):
        write_transform(velocity, tmp_path / name)
        back = read_transform(tmp_path / name)
        assert isinstance(back, DisplacementField)
        torch.testing.assert_close(back.map_points(points), velocity.map_points(points), rtol=0, atol=1e-4)


def test_affine_volume_needs_a_grid_and_is_exact_on_it(tmp_path):
    with pytest.raises(InputError, match="needs the grid"):
        write_transform(samples.affine(), tmp_path / "a.nrrd")
    write_transform(samples.affine(), tmp_path / "a.nrrd", grid=samples.grid())
    points = samples.points()
    torch.testing.assert_close(
        read_transform(tmp_path / "a.nrrd").map_points(points), samples.affine().map_points(points), rtol=0, atol=1e-4
    )


def test_field_on_another_grid_is_resampled(tmp_path):
    grid = Grid((3, 4, 5), samples.AFFINE)
    write_transform(samples.composite(), tmp_path / "c.mha", grid=grid)
    back = read_transform(tmp_path / "c.mha")
    assert back.grid == grid
    torch.testing.assert_close(back.field, samples.composite().displacement(grid), rtol=0, atol=1e-4)


def _itk_linear() -> list[sitk.Transform]:
    centre, angles, shift = (10.0, -20.0, 30.0), (0.1, -0.2, 0.3), (4.0, 5.0, -6.0)
    euler = sitk.Euler3DTransform(centre, *angles, shift)
    versor = sitk.VersorRigid3DTransform((1.0, 2.0, -1.0), 0.4, shift, centre)
    similarity = sitk.Similarity3DTransform(1.2, (1.0, 0.0, 2.0), -0.3, shift, centre)
    translation = sitk.TranslationTransform(3, shift)
    scale = sitk.ScaleTransform(3, (1.1, 0.9, 1.3))
    affine = sitk.AffineTransform([1, 0.1, 0, -0.2, 1.1, 0.3, 0, 0.05, 0.9], shift, centre)
    both = sitk.CompositeTransform([euler, affine])
    return [euler, versor, similarity, translation, scale, affine, both, sitk.Transform(3, sitk.sitkIdentity)]


# ITK writes no composite to .mat.
LINEAR = [(n, e) for n in range(8) for e in ("tfm", "h5", "mat") if (n, e) != (6, "mat")]


@pytest.mark.parametrize(("number", "extension"), LINEAR)
def test_every_linear_itk_class_becomes_one_affine(tmp_path, number, extension):
    itk = _itk_linear()[number]
    sitk.WriteTransform(itk, str(tmp_path / f"t.{extension}"))
    back = read_transform(tmp_path / f"t.{extension}")
    assert isinstance(back, AffineTransform)
    for x, y, z in samples.points(10).tolist():
        a, b, c = itk.TransformPoint((-x, -y, z))
        got = back.map_points(torch.tensor([[x, y, z]], dtype=torch.float64))[0]
        np.testing.assert_allclose(got, (-a, -b, c), atol=1e-9)


def _bspline() -> sitk.BSplineTransform:
    spline = sitk.BSplineTransform(3, 3)
    spline.SetTransformDomainOrigin((-20.0, 5.0, -10.0))
    spline.SetTransformDomainPhysicalDimensions((60.0, 80.0, 50.0))
    spline.SetTransformDomainDirection((samples.AFFINE[:3, :3] / (1.5, 3.0, 4.5)).ravel().tolist())
    spline.SetTransformDomainMeshSize((3, 4, 2))
    count = len(spline.GetParameters())
    spline.SetParameters(np.random.default_rng(2).normal(scale=3.0, size=count).tolist())
    return spline


def test_bspline_is_read_to_its_tolerance(tmp_path):
    spline = _bspline()
    sitk.WriteTransform(spline, str(tmp_path / "b.tfm"))
    back = read_transform(tmp_path / "b.tfm")
    fractions = np.random.default_rng(4).uniform(0.001, 0.999, (400, 3))
    direction = np.reshape(spline.GetTransformDomainDirection(), (3, 3))
    lps = spline.GetTransformDomainOrigin() + (fractions * (60.0, 80.0, 50.0)) @ direction.T
    expected = np.array([spline.TransformPoint(p) for p in lps.tolist()]) * (-1, -1, 1)
    assert np.linalg.norm(expected - lps * (-1, -1, 1), axis=1).max() > 2.0  # the spline does move the points
    got = back.map_points(torch.from_numpy(lps * (-1, -1, 1))).numpy()
    assert np.linalg.norm(got - expected, axis=1).max() < 0.02


def test_bspline_after_affine_in_a_composite(tmp_path):
    composite = sitk.CompositeTransform([_bspline(), sitk.TranslationTransform(3, (1.0, 2.0, 3.0))])
    sitk.WriteTransform(composite, str(tmp_path / "c.h5"))
    back = read_transform(tmp_path / "c.h5")
    start = np.array([5.0, 30.0, 10.0])
    y = composite.TransformPoint(start.tolist())
    assert math.dist(y, start + np.array([1.0, 2.0, 3.0])) > 0.1  # the shifted point lies inside the spline's domain
    got = back.map_points(torch.tensor([[-5.0, -30.0, 10.0]], dtype=torch.float64))[0]
    np.testing.assert_allclose(got, (-y[0], -y[1], y[2]), atol=0.02)


def test_nifti_vectors_with_both_intents_mean_the_same(tmp_path):
    """1006 (displacement) holds RAS components, 1007 (plain vector, as ANTs writes) LPS ones."""
    field = samples.field()
    write_transform(field, tmp_path / "f1006.nii")
    write_transform(field, tmp_path / "f.mha")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "f.mha")), str(tmp_path / "f1007.nii"))
    raw = {name: (tmp_path / name).read_bytes() for name in ("f1006.nii", "f1007.nii")}
    assert [int.from_bytes(b[68:70], "little") for b in raw.values()] == [1006, 1007]
    first = [np.frombuffer(b[352:], "<f4")[0] for b in raw.values()]
    assert first == [float(field.field[0, 0, 0, 0]), -float(field.field[0, 0, 0, 0])]
    for name in raw:
        torch.testing.assert_close(read_transform(tmp_path / name).field, field.field, rtol=0, atol=0)


def test_2d_transform_is_refused(tmp_path):
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "t.tfm"))
    with pytest.raises(InputError, match="expected a 3D transform, found a 2D one"):
        read_transform(tmp_path / "t.tfm")


def test_two_separate_transforms_are_refused(tmp_path):
    one = "Transform: TranslationTransform_double_3_3\nParameters: 1 2 3\nFixedParameters:\n"
    (tmp_path / "t.tfm").write_text(f"#Insight Transform File V1.0\n#Transform 0\n{one}#Transform 1\n{one}")
    with pytest.raises(InputError, match="found 2 separate transforms"):
        read_transform(tmp_path / "t.tfm")
    (tmp_path / "t.tfm").write_text(f"#Insight Transform File V1.0\n#Transform 0\n{one}")
    np.testing.assert_array_equal(read_transform(tmp_path / "t.tfm").matrix[:3, 3], (-1, -2, 3))


def test_singular_and_non_finite_transforms_are_refused(tmp_path):
    kind = "AffineTransform_double_3_3"
    form = f"#Insight Transform File V1.0\n#Transform 0\nTransform: {kind}\nParameters: {{}}\nFixedParameters: 0 0 0\n"
    for numbers in ("1 0 0 2 0 0 0 0 1 0 0 0", "nan 0 0 0 1 0 0 0 1 0 0 0"):
        (tmp_path / "t.tfm").write_text(form.format(numbers))
        with pytest.raises(InputError, match=r"t\.tfm"):
            read_transform(tmp_path / "t.tfm")


def test_scalar_volume_is_no_displacement(tmp_path):
    write_image(samples.image(), tmp_path / "i.nrrd")
    with pytest.raises(InputError, match="expected 3 values per voxel, found 1"):
        read_transform(tmp_path / "i.nrrd")


@pytest.mark.parametrize("name", ["t.xyz", "t.mat"])
def test_unknown_extension_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="expected an extension of"):
        write_transform(samples.affine(), tmp_path / name)
    assert not list(tmp_path.iterdir())
