"""DICOM RT objects made with pydicom: registrations against SimpleITK, RTDOSE in odd forms, RTSTRUCT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from pydicom.dataset import Dataset
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_transform
from regsuite.io.rt_dose import RT_STRUCTURES, read_dose, write_rt_dose
from regsuite.io.rt_registration import DEFORMABLE, SPATIAL
from regsuite.io.rt_structures import read_structure_set
from regsuite.ops.sampling import sample_world

from Testing.unit.dose import rt_files, shapes

RNG = np.random.default_rng(5)
PRE = np.array([[0.98, -0.1, 0.05, 4.0], [0.11, 1.02, -0.02, -7.0], [0.0, 0.04, 1.0, 2.5], [0, 0, 0, 1.0]])
POST = np.array([[1.0, 0.03, 0.0, -1.5], [-0.03, 1.0, 0.06, 3.0], [0.01, -0.06, 0.97, 6.0], [0, 0, 0, 1.0]])
SIZE, SPACING, ORIGIN = (9, 7, 6), (6.0, 7.0, 8.0), (-31.0, 12.0, -40.0)
DIRECTION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
"""Of the deformation grid, LPS, columns i, j, k."""


def matrices(*values: np.ndarray) -> list[Dataset]:
    found = []
    for value in values:
        item = Dataset()
        item.FrameOfReferenceTransformationMatrixType = "AFFINE"
        item.FrameOfReferenceTransformationMatrix = [f"{v:.10g}" for v in value.ravel()]
        found.append(item)
    return found


def save(path: Path, data: Dataset) -> Path:
    data.save_as(path, enforce_file_format=True)
    return path


def deformable(path: Path, offsets: np.ndarray, before: np.ndarray | None, after: np.ndarray | None) -> Path:
    """offsets (k, j, i, 3), LPS mm."""
    data = rt_files.dicom_object(DEFORMABLE, "REG", rt_files.FRAME)
    still, moves, grid = Dataset(), Dataset(), Dataset()
    still.SourceFrameOfReferenceUID, moves.SourceFrameOfReferenceUID = rt_files.FRAME, "1.2.3.4"
    still.PreDeformationMatrixRegistrationSequence = matrices(np.eye(4))
    if before is not None:
        moves.PreDeformationMatrixRegistrationSequence = matrices(before)
    if after is not None:
        moves.PostDeformationMatrixRegistrationSequence = matrices(after)
    grid.ImagePositionPatient = [str(v) for v in ORIGIN]
    grid.ImageOrientationPatient = [f"{v:.10g}" for v in (*DIRECTION[:, 0], *DIRECTION[:, 1])]
    grid.GridDimensions, grid.GridResolution = list(SIZE), list(SPACING)
    grid.VectorGridData = offsets.astype("<f4").tobytes()
    moves.DeformableRegistrationGridSequence = [grid]
    data.DeformableRegistrationSequence = [still, moves]
    return save(path, data)


def spatial(path: Path, *chains: Sequence[np.ndarray]) -> Path:
    data = rt_files.dicom_object(SPATIAL, "REG", rt_files.FRAME)
    data.RegistrationSequence = []
    for chain in chains:
        item, registration = Dataset(), Dataset()
        registration.MatrixSequence = matrices(*chain)
        item.FrameOfReferenceUID, item.MatrixRegistrationSequence = "1.2.3.4", [registration]
        data.RegistrationSequence.append(item)
    return save(path, data)


def random_offsets() -> np.ndarray:
    return RNG.normal(0.0, 5.0, (*SIZE[::-1], 3)).astype(np.float32)


def points_inside(count: int = 40) -> np.ndarray:
    """LPS mm, within the outermost voxel centres of the deformation grid."""
    index = RNG.uniform(0.02, 0.98, (count, 3)) * (np.array(SIZE) - 1)
    return np.array(ORIGIN) + (index * SPACING) @ DIRECTION.T


def by_itk(offsets: np.ndarray, before: np.ndarray, after: np.ndarray, points: np.ndarray) -> np.ndarray:
    """M_post (M_pre x + d(x)) with SimpleITK's own interpolation of d, all in LPS."""
    image = sitk.GetImageFromArray(offsets.astype(np.float64), isVector=True)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(DIRECTION.ravel().tolist())
    field = sitk.DisplacementFieldTransform(image)
    first, last = (affine(m) for m in (before, after))
    out = []
    for x in points.tolist():
        shift = np.array(field.TransformPoint(x)) - x
        out.append(last.TransformPoint((np.array(first.TransformPoint(x)) + shift).tolist()))
    return np.array(out)


def affine(matrix: np.ndarray) -> sitk.AffineTransform:
    return sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())


def mapped(path: Path, points: np.ndarray) -> np.ndarray:
    """Points LPS through read_transform, which speaks RAS."""
    return read_transform(path).map_points(torch.from_numpy(points * rt_files.LPS)).numpy() * rt_files.LPS


@pytest.mark.parametrize(("before", "after"), [(None, None), (PRE, None), (None, POST), (PRE, POST)])
def test_a_deformable_registration_is_what_itk_composes(
    tmp_path: Path, before: np.ndarray | None, after: np.ndarray | None
) -> None:
    offsets, points = random_offsets(), points_inside()
    path = deformable(tmp_path / "reg.dcm", offsets, before, after)
    eye = np.eye(4)
    expected = by_itk(offsets, eye if before is None else before, eye if after is None else after, points)
    assert np.abs(mapped(path, points) - expected).max() < 1e-4


def test_beyond_its_grid_only_the_matrices_are_left(tmp_path: Path) -> None:
    path = deformable(tmp_path / "reg.dcm", random_offsets(), PRE, POST)
    far = np.array([[400.0, -300.0, 250.0]])
    expected = affine(POST).TransformPoint(affine(PRE).TransformPoint(far[0].tolist()))
    assert np.abs(mapped(path, far)[0] - expected).max() < 1e-4


def test_a_spatial_registration_maps_from_registered_to_source(tmp_path: Path) -> None:
    path = spatial(tmp_path / "reg.dcm", [np.eye(4)], [PRE, POST])  # source -> registered: PRE first
    points = points_inside()
    there = np.array([affine(POST).TransformPoint(affine(PRE).TransformPoint(x)) for x in points.tolist()])
    assert np.abs(mapped(path, there) - points).max() < 1e-6


def test_registrations_that_are_not_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one registration that moves something, found 2"):
        read_transform(spatial(tmp_path / "two.dcm", [PRE], [POST]))
    undefined = random_offsets()
    undefined[2, 3, 4] = np.nan
    with pytest.raises(InputError, match="1 of its 378 offsets is undefined"):
        read_transform(deformable(tmp_path / "nan.dcm", undefined, None, None))
    with pytest.raises(InputError, match="expected 1134 offsets"):
        read_transform(deformable(tmp_path / "short.dcm", random_offsets()[:-1], None, None))
    with pytest.raises(InputError, match="RTSTRUCT"):
        read_transform(rt_files.structure_set(tmp_path / "rs.dcm", {"a": shapes.sphere_contours()[:3]}))


def test_a_dose_comes_back_and_itk_sees_the_same(tmp_path: Path) -> None:
    dose = shapes.linear_dose()
    dose = dose.with_data(dose.data.clamp(min=0.0))
    path = rt_files.dose_file(tmp_path / "dose.dcm", dose)
    back = read_dose(path)
    assert torch.allclose(back.image.data, dose.data, atol=1e-5) and back.frame_of_reference == rt_files.FRAME
    seen = sitk.ReadImage(str(path))
    scaled = sitk.GetArrayFromImage(seen).astype(np.float64) * float(pydicom.dcmread(path).DoseGridScaling)
    for i, j, k in ((3, 5, 7), (30, 11, 20)):
        centre = dose.grid.index_to_world(torch.tensor([[i, j, k]], dtype=torch.float64)).numpy()[0] * rt_files.LPS
        x, y, z = seen.TransformPhysicalPointToIndex(centre.tolist())
        assert scaled[z, y, x] == pytest.approx(float(dose.data[0, k, j, i]), abs=1e-4)


def test_frames_in_any_order_and_the_old_form_of_offsets(tmp_path: Path) -> None:
    dose = axial_dose()
    path = rt_files.dose_file(tmp_path / "dose.dcm", dose)
    data = pydicom.dcmread(path)
    pixels, offsets = data.pixel_array, [float(v) for v in data.GridFrameOffsetVector]
    z = float(data.ImagePositionPatient[2])
    downwards = reversed_frames(tmp_path / "down.dcm", data, pixels, offsets)
    data = pydicom.dcmread(path)
    data.GridFrameOffsetVector = [z + v for v in offsets]
    old = save(tmp_path / "old.dcm", data)
    place = torch.tensor([[11.0, -8.0, 3.0]], dtype=torch.float64)
    for other in (path, downwards, old):
        image = read_dose(other).image
        assert float(sample_world(image, place)[0]) == pytest.approx(float(sample_world(dose, place)[0]), abs=1e-3), other.name


def axial_dose() -> Image:
    dose = shapes.linear_dose()
    affine = np.diag([-2.5, -2.4, 2.6, 1.0])
    affine[:3, 3] = (60.0, 30.0, -40.0)
    return Image(dose.data[0], Grid(dose.grid.shape, affine))


def reversed_frames(path: Path, data: Dataset, pixels: np.ndarray, offsets: list[float]) -> Path:
    position = [float(v) for v in data.ImagePositionPatient]
    data.ImagePositionPatient = [*position[:2], position[2] + offsets[-1]]
    data.GridFrameOffsetVector = [-v for v in offsets]
    data.PixelData = np.ascontiguousarray(pixels[::-1]).tobytes()
    return save(path, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"DoseUnits": "RELATIVE"}, "Dose Units GY"),
        ({"DoseUnits": ""}, "no dose units"),
        ({"DoseGridScaling": None}, "Dose Grid Scaling"),
        ({"GridFrameOffsetVector": [0.0, 2.6, 9.0]}, "36 frame offsets"),
        ({"Modality": "CT", "SOPClassUID": RT_STRUCTURES}, "a DICOM RTDOSE"),
        ({"PixelData": None}, "no readable pixels"),
    ],
)
def test_a_dose_that_says_too_little_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = rt_files.dose_file(tmp_path / "dose.dcm", shapes.linear_dose())
    data = pydicom.dcmread(path)
    for name, value in change.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    with pytest.raises(InputError, match=message):
        read_dose(save(tmp_path / "bad.dcm", data))


def test_uneven_planes_are_refused(tmp_path: Path) -> None:
    path = rt_files.dose_file(tmp_path / "dose.dcm", shapes.linear_dose())
    data = pydicom.dcmread(path)
    data.GridFrameOffsetVector = [*[2.6 * k for k in range(35)], 99.0]
    with pytest.raises(InputError, match="evenly spaced dose planes"):
        read_dose(save(tmp_path / "bad.dcm", data))


def test_a_dose_needs_a_study_and_right_angles(tmp_path: Path) -> None:
    dose, nowhere = shapes.linear_dose(), rt_files.study()
    del nowhere.FrameOfReferenceUID
    with pytest.raises(InputError, match="no Frame of Reference UID"):
        write_rt_dose(dose, tmp_path / "d.dcm", nowhere)
    sheared = dose.grid.affine.copy()
    sheared[:3, 2] += 0.2 * sheared[:3, 0]
    with pytest.raises(InputError, match="right angles"):
        write_rt_dose(Image(dose.data[0], Grid(dose.grid.shape, sheared)), tmp_path / "d.dcm", rt_files.study())
    assert not (tmp_path / "d.dcm").exists()


def test_structure_sets(tmp_path: Path) -> None:
    contours = shapes.sphere_contours(4.0)
    content = read_structure_set(rt_files.structure_set(tmp_path / "rs.dcm", {"Ball": contours, "Line": contours[:1]}))
    assert [r.name for r in content.regions] == ["Ball", "Line"] and content.frame_of_reference == rt_files.FRAME
    assert np.abs(content.regions[0].contours[2] - contours[2]).max() < 1e-5
    assert content.regions[0].colour == pytest.approx((10 / 255, 200 / 255, 30 / 255))
    with pytest.raises(InputError, match="a DICOM RTSTRUCT"):
        read_structure_set(rt_files.dose_file(tmp_path / "dose.dcm", shapes.linear_dose()))
    with pytest.raises(InputError, match="no DICOM file or a damaged one"):
        (tmp_path / "x.dcm").write_bytes(b"nothing")
        read_structure_set(tmp_path / "x.dcm")


@pytest.mark.parametrize(("numbers", "found"), [(["1", "2", "3", "4"], "found 4"), (["1", "nan", "3"], "found 3")])
def test_a_damaged_contour_is_named(tmp_path: Path, numbers: list[str], found: str) -> None:
    path = rt_files.structure_set(tmp_path / "rs.dcm", {"Ball": shapes.sphere_contours(9.0)})
    data = pydicom.dcmread(path)
    data.ROIContourSequence[0].ContourSequence[1][0x3006, 0x0050]._value = numbers
    with pytest.raises(InputError, match=f"damaged contour in 'Ball'.*{found}"):
        read_structure_set(save(tmp_path / "bad.dcm", data))
