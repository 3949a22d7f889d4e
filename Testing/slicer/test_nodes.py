"""Nodes <-> files: geometry, parent transforms, labels, points, transforms; and what stays untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from harness import app

app.start()

import scenes  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from parents import STRETCH, TURN, add_matrix, put_under, state_of_inputs  # noqa: E402
from regsuite.errors import InputError  # noqa: E402
from regsuite.io import read_image, read_landmarks  # noqa: E402
from regsuite_slicer import arrays, nodes  # noqa: E402


def test_export_has_literal_geometry(scene: Any, tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 7
    volume = slicer.util.addVolumeFromArray(values, np.diag([2.0, 3.0, 4.0, 1.0]), "V")
    move = np.eye(4)
    move[:3, 3] = [10, 20, 30]
    put_under(volume, add_matrix(move))
    nodes.export_volume(volume, tmp_path / "v.nrrd")
    image = sitk.ReadImage(str(tmp_path / "v.nrrd"))
    assert image.GetPixelIDTypeAsString() == "16-bit signed integer"
    assert image.GetSize() == (4, 3, 2)
    assert image.GetOrigin() == (-10.0, -20.0, 30.0)
    assert image.GetSpacing() == (2.0, 3.0, 4.0)
    assert image.GetDirection() == (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values)


def test_linear_parents_go_into_the_matrix_in_order(scene: Any, tmp_path: Path) -> None:
    volume = put_under(scenes.add_volume(), add_matrix(TURN, under=add_matrix(STRETCH)))
    written = nodes.export_volume(volume, tmp_path / "v.nrrd")
    assert written.warnings == ()
    image = read_image(tmp_path / "v.nrrd")
    np.testing.assert_allclose(image.grid.affine, STRETCH @ TURN @ scenes.oblique_affine(), atol=1e-10)
    np.testing.assert_array_equal(image.data[0].numpy(), slicer.util.arrayFromVolume(volume))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_every_voxel_type(scene: Any, tmp_path: Path, dtype: type) -> None:
    values = np.arange(60).reshape(3, 4, 5).astype(dtype)
    nodes.export_volume(slicer.util.addVolumeFromArray(values, scenes.oblique_affine()), tmp_path / "v.nrrd")
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "v.nrrd")))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


def test_non_linear_parent_is_hardened_on_a_copy(scene: Any, tmp_path: Path) -> None:
    """A ramp along world R, under a grid transform and then far away: the exported image is the ramp at the unwarped points."""
    affine = scenes.oblique_affine()
    k, j, i = np.mgrid[:20, :40, :60]
    ramp = (np.stack([i, j, k, np.ones_like(i)], axis=-1) @ affine[0]).astype(np.float32)
    volume = slicer.util.addVolumeFromArray(ramp, affine, "Ramp")
    far = np.eye(4)
    far[:3, 3] = [400, -300, 200]
    bend = put_under(scenes.add_grid_transform("Bend"), add_matrix(far, "Far"))
    put_under(volume, bend)
    before = state_of_inputs([volume, bend])
    written = nodes.export_volume(volume, tmp_path / "v.nrrd")
    assert state_of_inputs([volume, bend]) == before
    assert len(written.warnings) == 1 and "'Ramp' lies under a non-linear transform" in written.warnings[0]
    image = read_image(tmp_path / "v.nrrd")
    points = scenes.points_inside(50) + far[:3, 3]
    expected = scenes.map_from_parent(bend, points - far[:3, 3])
    assert np.abs(expected[:, 0] - points[:, 0] + 400).max() > 2
    index = np.column_stack([points, np.ones(50)]) @ np.linalg.inv(image.grid.affine)[:3].T
    from scipy.ndimage import map_coordinates

    found = map_coordinates(image.data[0].numpy(), index[:, ::-1].T, order=1)
    np.testing.assert_allclose(found, expected[:, 0], atol=0.15)  # linear interpolation of a bent ramp
    assert np.prod(image.grid.size) < 2 * ramp.size


def test_what_cannot_be_exported(scene: Any, tmp_path: Path) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    with pytest.raises(InputError, match="'Empty': expected a volume with voxels"):
        nodes.export_volume(empty, tmp_path / "v.nrrd")
    colour = slicer.util.addVolumeFromArray(
        np.zeros((2, 3, 4, 3), np.uint8), np.eye(4), "RGB", "vtkMRMLVectorVolumeNode"
    )
    with pytest.raises(InputError, match=r"'RGB'.*found 3 \(colour or vectors\)"):
        nodes.export_volume(colour, tmp_path / "v.nrrd")
    flat = put_under(scenes.add_volume(), add_matrix(np.diag([1.0, 1.0, 0.0, 1.0])))
    with pytest.raises(InputError, match="singular geometry"):
        nodes.export_volume(flat, tmp_path / "v.nrrd")


def test_segmentation_on_the_reference_grid(scene: Any, tmp_path: Path) -> None:
    volume = scenes.add_volume()
    segmentation = scenes.add_segmentation(volume)
    turned = add_matrix(TURN)
    put_under(volume, turned)
    put_under(segmentation, turned)
    before = state_of_inputs([volume, segmentation, turned])
    written = nodes.export_labels(segmentation, volume, tmp_path / "s.nrrd")
    assert state_of_inputs([volume, segmentation, turned]) == before
    values = slicer.util.arrayFromVolume(volume)
    labels = read_image(tmp_path / "s.nrrd")
    np.testing.assert_allclose(labels.grid.affine, TURN @ scenes.oblique_affine(), atol=1e-9)
    expected = np.where(values > 120, 2, np.where(values > 1, 1, 0))
    np.testing.assert_array_equal(labels.data[0].numpy(), expected)
    core = int((values > 120).sum())
    assert written.warnings == (
        f"Segments of 'Structures' overlap in {core} voxels; there the later one in the list counts.",
    )
    alone = nodes.export_labels(segmentation, volume, tmp_path / "core.nrrd", ["Core"])
    assert alone.warnings == () and int(alone.values.sum()) == core
    segmentation.SetAndObserveTransformNodeID(None)  # now it lies elsewhere in the world than the volume
    moved = nodes.export_labels(segmentation, volume, tmp_path / "moved.nrrd", ["Body"]).values
    assert 0 < moved.sum() < 0.8 * (values > 1).sum()
    with pytest.raises(InputError, match="no segment Liver; expected one of: Body, Core"):
        nodes.export_labels(segmentation, volume, tmp_path / "x.nrrd", ["Liver"])
    with pytest.raises(InputError, match="no segment at all"):
        nodes.export_labels(scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "E"), volume, tmp_path / "x.nrrd")
    with pytest.raises(InputError, match="expected a segmentation or a label map"):
        nodes.export_labels(volume, volume, tmp_path / "x.nrrd")


def test_closed_surface_is_converted_on_a_copy(scene: Any, tmp_path: Path) -> None:
    """A ball of radius 15 mm that has no label map, as from RT structures."""
    volume = scenes.add_volume()
    centre = scenes.oblique_affine()[:3] @ [30, 20, 10, 1]
    ball = vtk.vtkSphereSource()
    ball.SetCenter(*centre)
    ball.SetRadius(15)
    ball.SetThetaResolution(48)
    ball.SetPhiResolution(48)
    ball.Update()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "RT")
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "Ball", [1, 0, 0])
    before = node.GetSegmentation().GetMTime()
    labels = nodes.export_labels(node, volume, tmp_path / "b.nrrd")
    assert node.GetSegmentation().GetMTime() == before
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")
    found = labels.values.sum() * 1.5 * 1.25 * 3.0
    assert found == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.04)
    index = np.argwhere(labels.values)[:, ::-1].mean(axis=0)
    np.testing.assert_allclose(index, [30, 20, 10], atol=0.35)


def test_label_map_and_matching_segments(scene: Any, tmp_path: Path) -> None:
    values = (np.arange(60).reshape(3, 4, 5) % 4).astype(np.uint8)
    labels = slicer.util.addVolumeFromArray(values, scenes.oblique_affine(), "L", "vtkMRMLLabelMapVolumeNode")
    put_under(labels, add_matrix(STRETCH))
    written = nodes.export_labels(labels, None, tmp_path / "l.nrrd")
    np.testing.assert_array_equal(written.values, values)
    np.testing.assert_allclose(written.affine, STRETCH @ scenes.oblique_affine(), atol=1e-12)
    put_under(labels, scenes.add_grid_transform())
    assert set(np.unique(nodes.export_labels(labels, None, tmp_path / "l.nrrd").values)) == {
        0,
        1,
        2,
        3,
    }  # never in between
    first, second = (
        scenes.add_segmentation(scenes.add_volume()),
        scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S"),
    )
    for name in ("Heart", "Core", "Body"):
        second.GetSegmentation().AddEmptySegment(f"{name}_id", name)
    assert nodes.common_segments(first, second) == (["Body", "Core"], ["Body_id", "Core_id"])


def test_points_in_the_world(scene: Any, tmp_path: Path) -> None:
    markups = put_under(scenes.add_markups(), add_matrix(TURN))
    markups.SetNthControlPointLabel(1, 'carina, "left"')
    markups.AddControlPoint([1.0, 2.0, 3.0])
    markups.UnsetNthControlPointPosition(3)
    assert nodes.export_points(markups, tmp_path / "p.csv") == 3
    expected = scenes.points_inside(3, seed=7) @ TURN[:3, :3].T + TURN[:3, 3]
    np.testing.assert_allclose(read_landmarks(tmp_path / "p.csv").numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(markups, world=True)[:3], expected, atol=1e-9)
    with pytest.raises(InputError, match="no control point"):
        nodes.export_points(scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "None"), tmp_path / "n.csv")


def test_import_volume_and_table(scene: Any, tmp_path: Path) -> None:
    original = put_under(scenes.add_volume(), add_matrix(TURN))
    nodes.export_volume(original, tmp_path / "v.nrrd")
    node = nodes.import_volume(tmp_path / "v.nrrd", None, "Back")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(original))
    np.testing.assert_allclose(arrays.ijk_to_ras(node), TURN @ scenes.oblique_affine(), atol=1e-9)
    used = put_under(scenes.add_volume("Used"), add_matrix(STRETCH))
    assert nodes.import_volume(tmp_path / "v.nrrd", used) is used
    assert used.GetParentTransformNode() is None and used.GetDisplayNode() is not None
    with pytest.raises(InputError, match="expected an image file"):
        nodes.import_volume(tmp_path / "none.nrrd", used)
    table = nodes.fill_table(scenes.add_table(), {"What": ["a", "b"], "After": ["1", ""]})
    assert table.GetNumberOfColumns() == 2 and table.GetNumberOfRows() == 2 and table.GetCellText(1, 0) == "b"


def test_no_node_is_left_behind(scene: Any, tmp_path: Path) -> None:
    volume = scenes.add_volume()
    segmentation, markups, grid = scenes.add_segmentation(volume), scenes.add_markups(), scenes.add_grid_transform()
    for node in (volume, segmentation, markups):
        put_under(node, grid)
    before = state_of_inputs([volume, segmentation, markups, grid])
    nodes.export_volume(volume, tmp_path / "v.nrrd")
    nodes.export_labels(segmentation, volume, tmp_path / "s.nrrd")
    nodes.export_points(markups, tmp_path / "p.csv")
    nodes.export_transform(grid, tmp_path / "t.h5")
    nodes.read_volume(tmp_path / "v.nrrd")
    nodes.read_transform(tmp_path / "t.h5")
    assert state_of_inputs([volume, segmentation, markups, grid]) == before
