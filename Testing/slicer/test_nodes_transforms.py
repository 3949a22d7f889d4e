"""Transforms between scene, backend and files; the preview; the hidden module."""

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
from parents import STRETCH, TURN, add_matrix, put_under  # noqa: E402
from regsuite.errors import InputError  # noqa: E402
from regsuite.geometry import Grid  # noqa: E402
from regsuite.io import read_transform, write_transform  # noqa: E402
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, Transform  # noqa: E402
from regsuite_slicer import arrays, nodes, world  # noqa: E402

LPS = np.array([-1.0, -1.0, 1.0])
BACKEND = Path(nodes.__file__).parents[1] / "RegSuiteBackend.py"


def smooth_field(amplitude_mm: float = 6.0) -> DisplacementField:
    """Oblique, anisotropic, smooth: 13 x 10 x 7 voxels (i, j, k) around the volumes of scenes.py."""
    affine = scenes.oblique_affine((9.0, 7.0, 13.0), (58.0, 40.0, -110.0))
    k, j, i = np.mgrid[:7, :10, :13]
    bump = np.exp(-((i - 6) ** 2 / 12 + (j - 4) ** 2 / 9 + (k - 3) ** 2 / 6))
    return DisplacementField(
        torch.tensor(amplitude_mm * np.stack([bump, -0.5 * bump, 0.25 * bump]), dtype=torch.float32),
        Grid((7, 10, 13), affine),
    )


def points_in_world(parent: np.ndarray, count: int = 50) -> np.ndarray:
    inside = np.random.default_rng(11).uniform([4, 4, 2], [55, 35, 17], (count, 3))
    affine = parent @ scenes.oblique_affine()
    return inside @ affine[:3, :3].T + affine[:3, 3]


def through_itk(path: Path, points: np.ndarray) -> np.ndarray:
    transform = sitk.ReadTransform(str(path))
    return np.array([transform.TransformPoint((p * LPS).tolist()) for p in points]) * LPS


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


def posed_pair() -> tuple[Any, Any, np.ndarray]:
    """(fixed, moving, world matrix of the fixed): different grids, under different parents, both near each other in the world."""
    fixed, moving = scenes.add_volume("F"), scenes.add_volume("M", (31.0, 19.0, 10.0))
    p_fixed, p_moving = np.eye(4), np.eye(4)
    p_fixed[:3, :3] = [[0.99, -0.141, 0.0], [0.141, 0.99, 0.0], [0.0, 0.0, 1.0]]
    p_fixed[:3, 3] = [4, -9, 3]
    p_moving[:3, :3] = [[1.0, 0.05, 0.0], [0.0, 0.97, 0.1], [0.0, -0.1, 0.98]]
    p_moving[:3, 3] = [-6, 2, -5]
    shifted = scenes.oblique_affine((1.4, 1.3, 2.9), (41.0, 26.0, -98.0))
    moving.SetIJKToRASMatrix(arrays.array_to_matrix(shifted))
    put_under(fixed, add_matrix(p_fixed, "P_f"))
    put_under(moving, add_matrix(p_moving, "P_m", under=add_matrix(np.diag([1.02, 1.0, 0.98, 1.0]), "P_top")))
    return fixed, moving, p_fixed


@pytest.mark.parametrize("kind", KINDS)
def test_scene_backend_and_itk_agree(scene: Any, tmp_path: Path, kind: str) -> None:
    """50 points of the fixed volume in the world: node, backend, SimpleITK, a file saved from the scene, and that file back."""
    _, _, p_fixed = posed_pair()
    transform = KINDS[kind]()
    write_transform(transform, tmp_path / "t.h5")
    points = points_in_world(p_fixed)
    expected = transform.map_points(torch.tensor(points)).numpy()
    assert np.linalg.norm(expected - points, axis=1).max() > 3
    node = nodes.import_transform(tmp_path / "t.h5", None, "T")
    assert node.GetName() == "T"
    np.testing.assert_allclose(scenes.map_from_parent(node, points), expected, atol=0.01)
    np.testing.assert_allclose(through_itk(tmp_path / "t.h5", points), expected, atol=0.01)
    for name in ("saved.h5", "saved.nrrd") if kind == "field" else ("saved.h5",):
        saved = tmp_path / name
        assert slicer.util.saveNode(node, str(saved))
        np.testing.assert_allclose(read_transform(saved).map_points(torch.tensor(points)).numpy(), expected, atol=0.01)
        if name.endswith(".h5"):
            np.testing.assert_allclose(through_itk(saved, points), expected, atol=0.01)
        again = nodes.import_transform(saved, None, "again")
        np.testing.assert_allclose(scenes.map_from_parent(again, points), expected, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_itk_resampling_of_the_exports_equals_the_preview(scene: Any, tmp_path: Path, kind: str) -> None:
    """SimpleITK resamples the exported moving on the exported fixed image: the picture that the preview shows in the scene."""
    fixed, moving, _ = posed_pair()
    write_transform(KINDS[kind](), tmp_path / "t.h5")
    for name, node in (("f", fixed), ("m", moving)):
        nodes.export_volume(node, tmp_path / f"{name}.nrrd")
    images = [sitk.ReadImage(str(tmp_path / f"{name}.nrrd")) for name in ("m", "f")]
    moved = sitk.GetArrayFromImage(
        sitk.Resample(*images, sitk.ReadTransform(str(tmp_path / "t.h5")), sitk.sitkLinear, -1.0)
    )
    before = arrays.values_on_grid_of(moving, fixed)
    node = nodes.import_transform(tmp_path / "t.h5")
    world.start_preview(moving, node, fixed)
    shown = arrays.values_on_grid_of(moving, fixed)
    inside = moved > -1.0
    inside[[0, -1]] = inside[:, [0, -1]] = inside[:, :, [0, -1]] = False
    if (
        kind != "affine"
    ):  # beyond its box a grid is zero in ITK, and keeps its border in Slicer: here the border is nearly zero
        assert inside.mean() > 0.4
    difference = np.abs(shown - moved)[inside]
    assert np.percentile(difference, 99.5) < 0.05 and np.abs(before - moved)[inside].mean() > 2


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
    bare = slicer.util.loadTransform(
        str(tmp_path / "t.h5")
    )  # without the attribute: exact at the voxels, close between
    voxels = np.array([[5.0, 4, 3], [6, 4, 3], [7, 5, 2]]) @ field.grid.affine[:3, :3].T + field.grid.affine[:3, 3]
    np.testing.assert_allclose(
        scenes.map_from_parent(bare, voxels), field.map_points(torch.tensor(voxels)).numpy(), atol=0.01
    )
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
    exported = nodes.export_volume(
        moving, tmp_path / "m.nrrd", ignore=node
    )  # a second run starts from the unmoved image
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
    np.testing.assert_allclose(
        read_transform(tmp_path / "t.h5").map_points(torch.tensor(points)).numpy(), expected, atol=0.01
    )


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
