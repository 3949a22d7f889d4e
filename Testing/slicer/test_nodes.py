"""Nodes <-> files: geometry, parent transforms, labels, points, transforms; and what stays untouched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from harness import app, panel

app.start()

import scenes  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from regsuite.errors import InputError  # noqa: E402
from regsuite.geometry import Grid  # noqa: E402
from regsuite.io import read_image, read_landmarks, read_transform, write_transform  # noqa: E402
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, Transform  # noqa: E402
from regsuite_slicer import arrays, nodes, world  # noqa: E402

LPS = np.array([-1.0, -1.0, 1.0])
BACKEND = Path(nodes.__file__).parents[1] / "RegSuiteBackend.py"
TURN = np.array([[0.8, -0.6, 0.0, 10.0], [0.6, 0.8, 0.0, -20.0], [0.0, 0.0, 1.0, 30.0], [0.0, 0.0, 0.0, 1.0]])
STRETCH = np.array([[1.2, 0.1, 0.0, -5.0], [0.0, 0.9, 0.2, 4.0], [0.0, 0.0, 1.1, 7.0], [0.0, 0.0, 0.0, 1.0]])


def add_matrix(matrix: np.ndarray, name: str = "P", under: Any = None) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
    node.SetMatrixTransformToParent(arrays.array_to_matrix(matrix))
    if under is not None:
        node.SetAndObserveTransformNodeID(under.GetID())
    return node


def put_under(node: Any, parent: Any) -> Any:
    node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def smooth_field(amplitude_mm: float = 6.0) -> DisplacementField:
    """Oblique, anisotropic, smooth: 13 x 10 x 7 voxels (i, j, k) around the volumes of scenes.py."""
    affine = scenes.oblique_affine((9.0, 7.0, 13.0), (58.0, 40.0, -110.0))
    k, j, i = np.mgrid[:7, :10, :13]
    bump = np.exp(-((i - 6) ** 2 / 12 + (j - 4) ** 2 / 9 + (k - 3) ** 2 / 6))
    return DisplacementField(
        torch.tensor(amplitude_mm * np.stack([bump, -0.5 * bump, 0.25 * bump]), dtype=torch.float32), Grid((7, 10, 13), affine)
    )


def points_in_world(parent: np.ndarray, count: int = 50) -> np.ndarray:
    inside = np.random.default_rng(11).uniform([4, 4, 2], [55, 35, 17], (count, 3))
    affine = parent @ scenes.oblique_affine()
    return inside @ affine[:3, :3].T + affine[:3, 3]


def through_itk(path: Path, points: np.ndarray) -> np.ndarray:
    transform = sitk.ReadTransform(str(path))
    return np.array([transform.TransformPoint((p * LPS).tolist()) for p in points]) * LPS


def state_of_inputs(items: list[Any]) -> list[Any]:
    """Time stamps of nodes and their data, and the voxels' bytes, after VTK has settled: the first look updates lazy times."""
    _look_at(items)
    return _look_at(items)


def _look_at(items: list[Any]) -> list[Any]:
    state: list[Any] = [slicer.mrmlScene.GetNumberOfNodes()]
    for node in items:
        state += [node.GetMTime(), node.GetTransformNodeID()]
        if node.IsA("vtkMRMLVolumeNode"):
            state += [node.GetImageData().GetMTime(), slicer.util.arrayFromVolume(node).tobytes()]
        if node.IsA("vtkMRMLTransformNode"):
            state += [node.GetTransformToWorldMTime(), scenes.map_from_parent(node, np.eye(3) * 50).tolist()]
    return state


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
    """A ramp along world R, under a grid transform and then 400 mm away: the resampled image is that ramp at the unwarped points."""
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
    points = points_in_world(np.eye(4)) + far[:3, 3]
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
    colour = slicer.util.addVolumeFromArray(np.zeros((2, 3, 4, 3), np.uint8), np.eye(4), "RGB", "vtkMRMLVectorVolumeNode")
    with pytest.raises(InputError, match=r"'RGB'.*found 3 \(colour or vectors\)"):
        nodes.export_volume(colour, tmp_path / "v.nrrd")
    flat = put_under(scenes.add_volume(), add_matrix(np.diag([1.0, 1.0, 0.0, 1.0])))
    with pytest.raises(InputError, match="singular geometry"):
        nodes.export_volume(flat, tmp_path / "v.nrrd")


def composite() -> Transform:
    start = np.eye(4)
    start[:3, :3] = [[0.995, -0.0998, 0.0], [0.0998, 0.995, 0.0], [0.0, 0.0, 1.02]]
    start[:3, 3] = [4, -6, 9]
    return CompositeTransform((AffineTransform(start), smooth_field()))


KINDS: dict[str, Callable[[], Transform]] = {
    "field": smooth_field,
    "affine": lambda: AffineTransform(STRETCH),
    "composite": composite,
}


@pytest.mark.parametrize("kind", KINDS)
def test_scene_backend_and_itk_agree(scene: Any, tmp_path: Path, kind: str) -> None:
    """50 points of the fixed volume in the world: node, backend, SimpleITK, a file saved from the scene, and that file read back."""
    fixed, moving = scenes.add_volume("F"), scenes.add_volume("M")
    put_under(fixed, add_matrix(np.linalg.inv(TURN) @ TURN, "identity"))
    put_under(moving, add_matrix(TURN, "P_m"))
    transform = KINDS[kind]()
    write_transform(transform, tmp_path / "t.h5")
    points = points_in_world(np.eye(4))
    expected = transform.map_points(torch.tensor(points)).numpy()
    assert np.linalg.norm(expected - points, axis=1).max() > 3
    node = nodes.import_transform(tmp_path / "t.h5", None, "T")
    assert node.GetName() == "T"
    np.testing.assert_allclose(scenes.map_from_parent(node, points), expected, atol=0.01)
    np.testing.assert_allclose(through_itk(tmp_path / "t.h5", points), expected, atol=0.01)

    assert slicer.util.saveNode(node, str(tmp_path / "saved.h5"))
    np.testing.assert_allclose(through_itk(tmp_path / "saved.h5", points), expected, atol=0.01)
    np.testing.assert_allclose(
        read_transform(tmp_path / "saved.h5").map_points(torch.tensor(points)).numpy(), expected, atol=0.01
    )
    again = nodes.import_transform(tmp_path / "saved.h5", None, "again")
    np.testing.assert_allclose(scenes.map_from_parent(again, points), expected, atol=0.01)
    if kind == "field":
        assert slicer.util.saveNode(node, str(tmp_path / "saved.nrrd"))
        np.testing.assert_allclose(
            read_transform(tmp_path / "saved.nrrd").map_points(torch.tensor(points)).numpy(), expected, atol=0.01
        )


def test_literal_direction_and_axis_order(scene: Any, tmp_path: Path) -> None:
    """u = (1, 2, 4) mm times (i + 1) on a 3 x 2 x 2 grid that starts at (10, 20, 30): T(x) at voxels, in RAS, from parent."""
    affine = np.diag([5.0, 6.0, 7.0, 1.0])
    affine[:3, 3] = [10, 20, 30]
    field = torch.zeros(3, 2, 2, 3)
    for axis, length in enumerate((1.0, 2.0, 4.0)):
        field[axis] = length * torch.arange(1.0, 4.0)
    write_transform(DisplacementField(field, Grid((2, 2, 3), affine)), tmp_path / "t.h5")
    node = nodes.import_transform(tmp_path / "t.h5")
    found = scenes.map_from_parent(node, np.array([[10.0, 20, 30], [20, 26, 37], [12.5, 20, 30]]))
    np.testing.assert_allclose(found, [[11, 22, 34], [23, 32, 49], [14.0, 23.0, 36.0]], atol=1e-4)
    same = nodes.grid_transform(np.moveaxis(field.numpy(), 0, -1), affine)
    np.testing.assert_allclose(world.map_points(same, np.array([[20.0, 26, 37]])), [[23, 32, 49]], atol=1e-4)


def test_import_into_a_used_node(scene: Any, tmp_path: Path) -> None:
    node = scenes.add_grid_transform()
    write_transform(AffineTransform(TURN), tmp_path / "t.h5")
    assert nodes.import_transform(tmp_path / "t.h5", node) is node
    np.testing.assert_allclose(scenes.map_from_parent(node, np.zeros((1, 3))), [[10, -20, 30]], atol=1e-9)
    assert node.IsLinear() and node.GetAttribute(nodes.INTERPOLATION_ATTRIBUTE) is None
    with pytest.raises(InputError, match="expected a transform file"):
        nodes.import_transform(tmp_path / "none.h5", node)
    (tmp_path / "bad.h5").write_text("no transform")
    with pytest.raises(InputError, match="expected a transform file"):
        nodes.import_transform(tmp_path / "bad.h5", node)
    np.testing.assert_allclose(scenes.map_from_parent(node, np.zeros((1, 3))), [[10, -20, 30]], atol=1e-9)


def test_scene_reload_keeps_linear_interpolation(scene: Any, tmp_path: Path) -> None:
    """Slicer's reader makes grids cubic; the hidden module sets ours back after a scene was loaded, and only ours."""
    field = smooth_field(20.0)
    write_transform(field, tmp_path / "t.h5")
    points = points_in_world(np.eye(4))
    expected = field.map_points(torch.tensor(points)).numpy()
    nodes.import_transform(tmp_path / "t.h5", None, "Ours")
    scenes.add_grid_transform("Other")
    assert slicer.util.saveScene(str(tmp_path / "all.mrb"))
    app.reset_scene()
    slicer.util.loadScene(str(tmp_path / "all.mrb"))
    ours = slicer.util.getNode("Ours")
    nodes.restore_interpolation(scene)
    np.testing.assert_allclose(scenes.map_from_parent(ours, points), expected, atol=0.01)
    assert nodes.restore_interpolation(scene) == 0
    assert slicer.util.getNode("Other").GetTransformFromParent().GetInterpolationModeAsString() == "Cubic"
    bare = slicer.util.loadTransform(str(tmp_path / "t.h5"))  # without the attribute: exact at the voxels, close between
    voxels = np.array([[5.0, 4, 3], [6, 4, 3], [7, 5, 2]]) @ field.grid.affine[:3, :3].T + field.grid.affine[:3, 3]
    np.testing.assert_allclose(scenes.map_from_parent(bare, voxels), field.map_points(torch.tensor(voxels)).numpy(), atol=0.01)
    bend = sum(np.abs(np.diff(field.field.numpy(), n=2, axis=axis)).max() for axis in (1, 2, 3)) / 8
    off = np.abs(scenes.map_from_parent(bare, points) - expected).max()
    assert 0.01 < off <= bend


def test_hidden_module(scene: Any, tmp_path: Path) -> None:
    write_transform(smooth_field(), tmp_path / "t.h5")
    panel.register_module(BACKEND)
    parent = slicer.modules.regsuitebackend
    assert parent.hidden and not parent.widgetRepresentationCreationEnabled and parent.icon is not None
    parent.self().runTest()
    nodes.import_transform(tmp_path / "t.h5", None, "Ours")
    assert slicer.util.saveScene(str(tmp_path / "s.mrb"))
    app.reset_scene()
    slicer.util.loadScene(str(tmp_path / "s.mrb"))
    assert slicer.util.getNode("Ours").GetTransformFromParent().GetInterpolationModeAsString() == "Linear"


def test_preview_shows_the_moving_volume_on_the_fixed_one(scene: Any, tmp_path: Path) -> None:
    """moving(world) = fixed(T^-1(world)): under the preview the moving volume's voxels equal the fixed one's."""
    fixed, moving = scenes.add_volume("F"), scenes.add_volume("M")
    shift = np.eye(4)
    shift[:3, 3] = [12, -7, 5]
    own = add_matrix(TURN, "P_m")
    moving.SetIJKToRASMatrix(arrays.array_to_matrix(np.linalg.inv(TURN) @ shift @ scenes.oblique_affine()))
    put_under(moving, own)
    write_transform(AffineTransform(shift), tmp_path / "t.h5")  # T: fixed -> moving points
    node = nodes.import_transform(tmp_path / "t.h5")
    assert not world.is_previewed(moving, node)
    apart = arrays.values_on_grid_of(moving, fixed)
    world.start_preview(moving, node, fixed)
    assert [p.GetName() for p in world.parents(moving)] == ["P_m", "Transform"]
    assert moving.GetParentTransformNode() is own
    on_fixed = arrays.values_on_grid_of(moving, fixed)
    inner = (slice(1, -1),) * 3  # interpolation at the border voxels may fall outside by rounding
    values = slicer.util.arrayFromVolume(fixed)
    np.testing.assert_allclose(on_fixed[inner], values[inner], atol=0.01)
    assert np.abs(apart - values).mean() > 5
    exported = nodes.export_volume(moving, tmp_path / "m.nrrd", ignore=node)  # a second run starts from the unmoved image
    np.testing.assert_allclose(exported.affine, shift @ scenes.oblique_affine(), atol=1e-9)
    world.end_preview(moving, node)
    assert not world.is_previewed(moving, node) and own.GetParentTransformNode() is None


def test_preview_without_parents_and_with_a_shared_one(scene: Any) -> None:
    fixed, moving, node = scenes.add_volume("F"), scenes.add_volume("M"), scenes.add_grid_transform("T")
    world.start_preview(moving, node, fixed)
    world.start_preview(moving, node, fixed)
    assert moving.GetParentTransformNode() is node
    world.end_preview(moving, node)
    world.end_preview(moving, node)
    assert moving.GetParentTransformNode() is None
    shared = add_matrix(TURN, "Table")
    put_under(fixed, shared)
    put_under(moving, shared)
    with pytest.raises(InputError, match="'Table' also holds the fixed 'F'"):
        world.start_preview(moving, node, fixed)
    assert shared.GetParentTransformNode() is None


def test_check_outputs(scene: Any) -> None:
    fixed, moving, node = scenes.add_volume("F"), scenes.add_volume("M"), scenes.add_grid_transform("T")
    put_under(moving, node)
    world.check_outputs(fixed, moving, node, scenes.add_volume("Out"))
    world.check_outputs(fixed, moving)
    with pytest.raises(InputError, match="output volume 'M' is an input"):
        world.check_outputs(fixed, moving, node, moving)
    with pytest.raises(InputError, match="expected a general Transform node"):
        world.check_outputs(fixed, moving, add_matrix(np.eye(4)))
    put_under(fixed, node)
    with pytest.raises(InputError, match="'F' lies under the output transform 'T'"):
        world.check_outputs(fixed, moving, node)
    fixed.SetAndObserveTransformNodeID(None)
    put_under(node, add_matrix(TURN, "Above"))
    with pytest.raises(InputError, match="'T' lies under 'Above'"):
        world.check_outputs(fixed, moving, node)


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
    assert written.warnings == (f"Segments of 'Structures' overlap in {core} voxels; there the later one in the list counts.",)
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
    assert set(np.unique(nodes.export_labels(labels, None, tmp_path / "l.nrrd").values)) == {0, 1, 2, 3}  # never in between
    first, second = scenes.add_segmentation(scenes.add_volume()), scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
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


@pytest.mark.parametrize("kind", ["linear", "grid", "chain"])
def test_export_transform_as_it_is(scene: Any, tmp_path: Path, kind: str) -> None:
    node = add_matrix(TURN, "L") if kind == "linear" else scenes.add_grid_transform("G")
    if kind != "linear":
        node.GetTransformFromParent().SetInterpolationModeToLinear()
    if kind == "chain":
        put_under(node, add_matrix(STRETCH, "Above"))
    assert nodes.export_transform(node, tmp_path / "t.h5") == ()
    general = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(general)
    points = scenes.points_inside()
    if kind == "chain":
        points = points @ STRETCH[:3, :3].T + STRETCH[:3, 3]
    expected = world.map_points(general, points)
    np.testing.assert_allclose(through_itk(tmp_path / "t.h5", points), expected, atol=0.01)
    np.testing.assert_allclose(read_transform(tmp_path / "t.h5").map_points(torch.tensor(points)).numpy(), expected, atol=0.01)


def test_export_of_a_to_parent_transform(scene: Any, tmp_path: Path) -> None:
    """ITK cannot hold the inverse of a grid: it is sampled over the fixed volume, and says so."""
    source = scenes.add_grid_transform()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "ToParent")
    node.SetAndObserveTransformToParent(source.GetTransformFromParent())
    with pytest.raises(InputError, match="'ToParent' as it is"):
        nodes.export_transform(node, tmp_path / "t.h5")
    warnings = nodes.export_transform(node, tmp_path / "t.h5", scenes.add_volume())
    assert len(warnings) == 1 and "'ToParent' was sampled every" in warnings[0]
    points = scenes.points_inside()
    expected = scenes.map_from_parent(node, points)
    assert np.linalg.norm(expected - points, axis=1).max() > 3
    np.testing.assert_allclose(through_itk(tmp_path / "t.h5", points), expected, atol=0.1)


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
