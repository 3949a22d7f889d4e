"""Our files in other readers' hands: SimpleITK and the real MRML of Slicer map the same points as we do."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_landmarks, read_transform, write_image, write_landmarks, write_transform
from regsuite.ops.sampling import resample
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, StationaryVelocityField

from Testing.unit.io import samples

LPS = np.array([-1.0, -1.0, 1.0])
needs_slicer = pytest.mark.skipif(importlib.util.find_spec("slicer") is None, reason="slicer-core is not installed")


def _inside_and_outside() -> torch.Tensor:
    """Points in the field's box and far from it."""
    return torch.cat([samples.points(60), samples.points(20, seed=9) + 300.0])


def _itk_map(transform: sitk.Transform, points: torch.Tensor) -> np.ndarray:
    return np.array([transform.TransformPoint(p) for p in (points.numpy() * LPS).tolist()]) * LPS


def _smooth() -> CompositeTransform:
    velocity = StationaryVelocityField(0.4 * samples.field(8).field, samples.grid())
    return CompositeTransform((AffineTransform.translation([1.5, -2.5, 0.5]), samples.affine(), samples.field(), velocity))


@pytest.mark.parametrize("name", ["t.h5", "t.tfm"])
@pytest.mark.parametrize("make", [samples.affine, samples.field, samples.composite, _smooth])
def test_simpleitk_maps_the_same_points(tmp_path, name, make):
    transform, points = make(), _inside_and_outside()
    write_transform(transform, tmp_path / name)
    got = _itk_map(sitk.ReadTransform(str(tmp_path / name)), points)
    np.testing.assert_allclose(got, transform.map_points(points), atol=1e-3)


@pytest.mark.parametrize("name", ["t.nrrd", "t.nii.gz", "t.mha"])
def test_simpleitk_maps_the_same_points_by_a_displacement_volume(tmp_path, name):
    transform, points = samples.field(), _inside_and_outside()
    write_transform(transform, tmp_path / name)
    volume = sitk.Cast(sitk.ReadImage(str(tmp_path / name)), sitk.sitkVectorFloat64)
    got = _itk_map(sitk.DisplacementFieldTransform(volume), points)
    np.testing.assert_allclose(got, transform.map_points(points), atol=1e-3)


def test_composite_order_is_itks(tmp_path):
    """ITK applies the transform that was added last first; so do our parts."""
    field = sitk.DisplacementFieldTransform(sitk.Cast(_itk_field(), sitk.sitkVectorFloat64))
    itk = sitk.CompositeTransform(3)
    itk.AddTransform(sitk.AffineTransform([1, 0.3, 0, -0.2, 1.2, 0, 0.1, 0, 0.8], (5.0, -3.0, 2.0), (1.0, 2.0, 3.0)))
    itk.AddTransform(field)
    sitk.WriteTransform(itk, str(tmp_path / "c.h5"))
    ours = read_transform(tmp_path / "c.h5")
    assert isinstance(ours, CompositeTransform)
    assert [type(part) for part in ours.parts] == [AffineTransform, DisplacementField]
    points = _inside_and_outside()
    np.testing.assert_allclose(ours.map_points(points), _itk_map(itk, points), atol=1e-3)


def _itk_field() -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(6).normal(scale=2.0, size=(*samples.SHAPE, 3)), isVector=True)
    image.SetSpacing((1.5, 3.0, 4.5))
    image.SetOrigin((10.5, -20.25, 7.0))
    image.SetDirection((np.diag(LPS) @ samples.AFFINE[:3, :3] / (1.5, 3.0, 4.5)).ravel().tolist())
    return image


def test_moved_image_equals_simpleitks(tmp_path):
    """The whole chain: image and transform from files, resampled by us and by SimpleITK with the transform file."""
    moving = samples.image(shape=(9, 10, 11))
    write_image(moving, tmp_path / "moving.nrrd")
    fixed = Grid(samples.SHAPE, samples.AFFINE)
    write_image(Image(torch.zeros(samples.SHAPE), fixed), tmp_path / "fixed.nii.gz")
    shift = AffineTransform.translation([2.0, 4.0, 5.0])
    write_transform(CompositeTransform((shift, samples.field())), tmp_path / "t.h5")
    reference = sitk.ReadImage(str(tmp_path / "fixed.nii.gz"))
    transform = sitk.ReadTransform(str(tmp_path / "t.h5"))
    expected = sitk.Resample(sitk.ReadImage(str(tmp_path / "moving.nrrd")), reference, transform, sitk.sitkLinear, -999.0)
    grid = read_image(tmp_path / "fixed.nii.gz").grid
    moved = resample(read_image(tmp_path / "moving.nrrd"), grid, read_transform(tmp_path / "t.h5"), fill=-999.0)
    expected_array = sitk.GetArrayFromImage(expected)
    inside = (expected_array != -999.0) & (moved.data[0].numpy() != -999.0)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(moved.data[0].numpy()[inside], expected_array[inside], atol=0.05)


def _slicer_transform(path):
    import slicer

    scene = slicer.vtkMRMLScene()
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    scene.AddNode(storage)
    node = slicer.vtkMRMLTransformNode()
    scene.AddNode(node)
    assert storage.ReadData(node)
    return scene, node


@needs_slicer
@pytest.mark.parametrize("name", ["t.h5", "t.tfm", "t.nrrd", "t.nii.gz", "t.mha"])
def test_slicer_maps_the_same_points(tmp_path, name):
    """From parent = fixed to moving. At voxel centres: between them Slicer interpolates cubically, ITK and we linearly."""
    volume = not name.endswith((".h5", ".tfm"))
    transform = samples.field() if volume else samples.composite()
    write_transform(transform, tmp_path / name)
    points = samples.grid().world_points(torch.float64)[1:-1, 1:-1, 1:-1].reshape(-1, 3)
    scene, node = _slicer_transform(tmp_path / name)
    mapping = node.GetTransformFromParent()
    got = np.array([mapping.TransformPoint(p) for p in points.tolist()])
    np.testing.assert_allclose(got, transform.map_points(points), atol=2e-3)
    assert scene.GetNumberOfNodesByClass("vtkMRMLTransformNode") == 1


@needs_slicer
@pytest.mark.parametrize("name", ["v.nrrd", "v.nii.gz", "v.mha"])
def test_slicer_sees_the_voxel_at_its_ras_place(tmp_path, name):
    import slicer
    import vtk

    write_image(samples.image(), tmp_path / name)
    scene = slicer.vtkMRMLScene()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(tmp_path / name))
    scene.AddNode(storage)
    node = slicer.vtkMRMLScalarVolumeNode()
    scene.AddNode(node)
    assert storage.ReadData(node)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(matrix.MultiplyPoint((*samples.VOXEL_IJK, 1))[:3], samples.VOXEL_RAS, atol=1e-5)
    assert node.GetImageData().GetScalarComponentAsDouble(*samples.VOXEL_IJK, 0) == 125.0


@needs_slicer
@pytest.mark.parametrize("name", ["p.mrk.json", "p.fcsv"])
def test_slicer_reads_our_landmarks_and_we_read_slicers(tmp_path, name):
    import slicer

    points = samples.points(4)
    write_landmarks(points, tmp_path / name, labels=["a", "b", "c", "d"])
    scene = slicer.vtkMRMLScene()
    kind = slicer.vtkMRMLMarkupsJsonStorageNode if name.endswith("json") else slicer.vtkMRMLMarkupsFiducialStorageNode
    storage = kind()
    storage.SetFileName(str(tmp_path / name))
    scene.AddNode(storage)
    scene.RegisterNodeClass(slicer.vtkMRMLMarkupsFiducialNode())
    node = slicer.vtkMRMLMarkupsFiducialNode()
    scene.AddNode(node)
    assert storage.ReadData(node)
    got = [node.GetNthControlPointPosition(n) for n in range(node.GetNumberOfControlPoints())]
    np.testing.assert_allclose(got, points, atol=1e-9)
    assert [node.GetNthControlPointLabel(n) for n in range(4)] == ["a", "b", "c", "d"]
    storage.SetFileName(str(tmp_path / f"back_{name}"))
    assert storage.WriteData(node)
    np.testing.assert_allclose(read_landmarks(tmp_path / f"back_{name}"), points, atol=1e-3)
