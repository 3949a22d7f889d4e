"""A finished job's folder in the scene, and what the toggles show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import app, views

app.start()

import scenes  # noqa: E402
import slicer  # noqa: E402
from regsuite.errors import InputError  # noqa: E402
from regsuite.geometry import Grid, Image  # noqa: E402
from regsuite.io import write_image, write_transform  # noqa: E402
from regsuite.pipeline.apply import apply  # noqa: E402
from regsuite.pipeline.verdict import judge  # noqa: E402
from regsuite.transforms import DisplacementField  # noqa: E402
from regsuite_slicer import arrays, world  # noqa: E402
from regsuite_slicer import views as toggles  # noqa: E402
from regsuite_slicer.nodes import INTERPOLATION_ATTRIBUTE  # noqa: E402
from regsuite_slicer.results import RequestNodes, apply_result, jacobian_colours, round_up, verdict_columns  # noqa: E402


def field() -> DisplacementField:
    affine = scenes.oblique_affine((6.0, 5.0, 9.0), (55.0, 38.0, -112.0))
    k, j, i = np.mgrid[:9, :14, :18]
    bump = np.exp(-((i - 9) ** 2 / 22 + (j - 6) ** 2 / 16 + (k - 4) ** 2 / 8))
    return DisplacementField(
        torch.tensor(9 * np.stack([bump, -0.6 * bump, 0.3 * bump]), dtype=torch.float32), Grid((9, 14, 18), affine)
    )


METRICS: dict[str, Any] = {
    "before": {"similarity": {"ncc": 0.70, "mutual_information": 0.5}, "dice_mean": 0.71},
    "after": {
        "similarity": {"ncc": 0.95, "mutual_information": 0.9},
        "dice_mean": 0.92,
        "folding_percent": 0.0,
        "jacobian": {"min": 0.5, "p01": 0.7, "p99": 1.4, "max": 1.8},
        "displacement_mm": {"mean": 3.0, "p95": 8.0, "max": 10.3},
        "covered_percent": 99.0,
    },
}


def write_folder(folder: Path, maps: bool = False) -> DisplacementField:
    """A result folder as the worker leaves it."""
    folder.mkdir()
    transform = field()
    grid = Grid(scenes.SHAPE_KJI, scenes.oblique_affine())
    moving = slicer.util.arrayFromVolume(slicer.util.getNode("Moving CT"))
    write_transform(transform, folder / "transform.h5")
    write_image(
        apply(
            transform,
            Image(torch.tensor(moving[None].astype(np.float32)), grid),
            Image(torch.zeros(1, *grid.shape), grid),
        ),
        folder / "moved.nrrd",
    )
    if maps:
        u = transform.displacement(grid)
        write_image(Image(u.norm(dim=0, keepdim=True), grid), folder / "displacement.nrrd")
        write_image(Image(1 + 0.1 * u[:1], grid), folder / "jacobian.nrrd")
    report = {
        "method": "lung-convex",
        "files": {"fixed": "f.nrrd", "moving": "m.nrrd"},
        "status": "reached_limit",
        "status_message": "Stopped at the limit.",
        "warnings": ["A mask lay on another grid."],
        "metrics": METRICS,
        "verdict": judge(METRICS["before"], METRICS["after"]),
    }
    (folder / "report.json").write_text(json.dumps(report))
    return transform


def add_pair() -> tuple[Any, Any]:
    fixed, moving = scenes.add_volume("Fixed CT"), scenes.add_volume("Moving CT", (33.0, 19.0, 10.0))
    values = slicer.util.arrayFromVolume(moving).copy()
    slicer.util.updateVolumeFromArray(moving, values.astype(np.int16))
    for node in (fixed, moving):
        node.CreateDefaultDisplayNodes()
    moving.GetDisplayNode().SetAutoWindowLevel(False)
    moving.GetDisplayNode().SetWindowLevel(140, 75)
    return fixed, moving


def ids() -> set[str]:
    return {slicer.mrmlScene.GetNthNode(n).GetID() for n in range(slicer.mrmlScene.GetNumberOfNodes())}


def test_new_nodes(scene: Any, tmp_path: Path) -> None:
    fixed, moving = add_pair()
    before = [fixed.GetMTime(), moving.GetMTime(), slicer.util.arrayFromVolume(moving).tobytes()]
    transform = write_folder(tmp_path / "out")
    result = apply_result(RequestNodes(fixed, moving, want_volume=True), tmp_path / "out")
    assert result.transform.GetName() == "Moving CT to Fixed CT"
    assert result.volume.GetName() == "Moving CT registered"
    assert result.table.GetName() == "Moving CT to Fixed CT verdict"
    assert result.jacobian is None and result.displacement is None and result.warnings == ()
    assert result.transform.GetNodeReference("spatialRegistrationFixed") is fixed
    assert result.transform.GetNodeReference("spatialRegistrationMoving") is moving
    assert result.transform.GetAttribute(INTERPOLATION_ATTRIBUTE) == "linear"
    points = scenes.points_inside(50)
    expected = transform.map_points(torch.tensor(points)).numpy()
    assert np.linalg.norm(expected - points, axis=1).max() > 3
    np.testing.assert_allclose(scenes.map_from_parent(result.transform, points), expected, atol=0.01)
    assert result.volume.GetDisplayNode().GetWindow() == 140 and result.volume.GetDisplayNode().GetLevel() == 75
    assert slicer.util.arrayFromVolume(result.volume).dtype == np.int16
    display = result.transform.GetDisplayNode()
    assert not display.GetVisibility() and not display.GetVisibility2D() and display.GetRegionNode() is fixed
    assert [fixed.GetMTime(), moving.GetMTime(), slicer.util.arrayFromVolume(moving).tobytes()] == before
    again = apply_result(RequestNodes(fixed, moving), tmp_path / "out")
    assert again.transform.GetName() == "Moving CT to Fixed CT_1" and again.volume is None


def test_preview_equals_the_resampled_volume(scene: Any, tmp_path: Path) -> None:
    """The moving volume under the transform, and moved.nrrd of the backend, are the same picture on the fixed grid."""
    fixed, moving = add_pair()
    write_folder(tmp_path / "out")
    result = apply_result(RequestNodes(fixed, moving, want_volume=True), tmp_path / "out")
    world.start_preview(moving, result.transform, fixed)
    previewed = arrays.values_on_grid_of(moving, fixed).astype(float)
    moved = slicer.util.arrayFromVolume(result.volume).astype(float)
    inner = (slice(2, -2),) * 3
    assert np.abs(previewed - moved)[inner].max() <= 1.5  # both rounded to whole numbers
    unmoved = slicer.util.arrayFromVolume(moving).astype(float)
    assert np.abs(unmoved - moved)[inner].mean() > 5


def test_chosen_nodes_are_filled(scene: Any, tmp_path: Path) -> None:
    fixed, moving = add_pair()
    write_folder(tmp_path / "out")
    transform, volume, table = scenes.add_grid_transform("Mine"), scenes.add_volume("Out"), scenes.add_table("Text")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    known = ids()
    result = apply_result(RequestNodes(fixed, moving, transform, volume, table), tmp_path / "out")
    assert (result.transform, result.volume, result.table) == (transform, volume, table)
    new = [slicer.mrmlScene.GetNodeByID(i).GetClassName() for i in ids() - known]
    assert new == ["vtkMRMLTransformDisplayNode"]
    assert transform.GetName() == "Mine" and volume.GetParentTransformNode() is None
    apply_result(RequestNodes(fixed, moving, transform, volume, table), tmp_path / "out")
    assert len(ids() - known) == 1  # a second run leaves no more nodes


def test_maps_have_colours_a_fixed_window_and_a_legend(scene: Any, tmp_path: Path, photo_dir: Path) -> None:
    view = views.SliceView("Red", (500, 500))
    fixed, moving = add_pair()
    write_folder(tmp_path / "out", maps=True)
    result = apply_result(RequestNodes(fixed, moving), tmp_path / "out")
    for node, low, high in ((result.jacobian, 0.0, 2.0), (result.displacement, 0.0, 20.0)):
        display = node.GetDisplayNode()
        assert slicer.util.arrayFromVolume(node).dtype == np.float32
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (low, high)
        assert not display.GetAutoWindowLevel()
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node)
        assert legend.GetVisibility() and legend.GetTitleText() in ("Jacobian", "mm")
    colours = jacobian_colours()
    assert result.jacobian.GetDisplayNode().GetColorNode() is colours is jacobian_colours()
    found = np.zeros(4)
    for index, expected in ((0, (0, 0, 0)), (127, (1, 1, 1)), (255, (0.45, 0.0, 0.05))):
        colours.GetColor(index, found)
        np.testing.assert_allclose(found[:3], expected, atol=0.02)
    assert result.displacement.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.2)
    plain = view.show(fixed).render()
    for name in ("jacobian", "displacement"):
        shown = view.show(fixed, getattr(result, name), 0.6).render()
        assert np.any(shown != plain, axis=-1).mean() > 0.05
        views.save_png(shown, photo_dir / f"map-{name}.png")
    legend.Modified()  # the headless view does not notice by itself that the layers changed
    labelled = view.render()
    views.save_png(labelled, photo_dir / "map-legend.png")
    white = [(picture[:, 400:].min(axis=-1) > 230).sum() for picture in (plain, labelled)]
    assert white[0] < 50 < 1000 < white[1]


def test_verdict_table(scene: Any, tmp_path: Path) -> None:
    fixed, moving = add_pair()
    write_folder(tmp_path / "out")
    table = apply_result(RequestNodes(fixed, moving), tmp_path / "out").table
    rows = [[table.GetCellText(r, c) for c in range(4)] for r in range(table.GetNumberOfRows())]
    assert [table.GetColumnName(c) for c in range(4)] == ["What", "Before", "After", "Assessment"]
    assert rows[0][0] == "Verdict" and rows[0][3].startswith("Good")
    assert ["Correlation", "0.700", "0.950", ""] in rows
    assert ["Dice, mean", "0.710", "0.920", ""] in rows
    assert ["Displacement, largest (mm)", "", "10.3", ""] in rows
    assert ["Warning", "", "", "A mask lay on another grid."] in rows
    assert ["Status", "", "", "Stopped at the limit."] in rows
    assert not any(row[0].startswith("Landmark") for row in rows)
    broken = {
        "metrics": {"before": None, "after": {"folding_percent": None}},
        "verdict": {"headline": "H", "reasons": []},
    }
    assert verdict_columns(broken) == {"What": ["Verdict"], "Before": [""], "After": [""], "Assessment": ["H"]}


def test_place_in_the_subject_hierarchy(scene: Any, tmp_path: Path) -> None:
    fixed, moving = add_pair()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study of today")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(fixed), study)
    write_folder(tmp_path / "out")
    mine = scenes.add_grid_transform("Mine")
    result = apply_result(RequestNodes(fixed, moving, mine, want_volume=True), tmp_path / "out")
    for node in (result.volume, result.table):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert (
        hierarchy.GetItemParent(hierarchy.GetItemByDataNode(mine)) == hierarchy.GetSceneItemID()
    )  # the user put it there


@pytest.mark.parametrize("damage", ["no transform", "no report", "other report", "no moved", "half a volume"])
def test_a_damaged_folder_leaves_the_scene_as_it_was(scene: Any, tmp_path: Path, damage: str) -> None:
    fixed, moving = add_pair()
    out = tmp_path / "out"
    write_folder(out)
    if damage == "other report":
        (out / "report.json").write_text("[1, 2]")
    elif damage == "half a volume":
        data = (out / "moved.nrrd").read_bytes()
        (out / "moved.nrrd").write_bytes(data[:200])
    else:
        (out / {"no transform": "transform.h5", "no report": "report.json", "no moved": "moved.nrrd"}[damage]).unlink()
    mine = scenes.add_grid_transform("Mine")
    known, stamp = ids(), mine.GetMTime()
    with pytest.raises(InputError, match="Cannot read"):
        apply_result(RequestNodes(fixed, moving, mine, want_volume=True), out)
    assert ids() == known and mine.GetMTime() == stamp


def test_a_failure_half_way_removes_new_nodes(scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, moving = add_pair()
    write_folder(tmp_path / "out")
    known = {slicer.mrmlScene.GetNodeByID(i) for i in ids()}

    def fail(*_: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr("regsuite_slicer.nodes.fill_table", fail)
    with pytest.raises(ValueError, match="no"):
        apply_result(RequestNodes(fixed, moving, want_volume=True), tmp_path / "out")
    assert {slicer.mrmlScene.GetNodeByID(i) for i in ids()} == known


def test_nodes_deleted_during_the_run(scene: Any, tmp_path: Path) -> None:
    fixed, moving = add_pair()
    write_folder(tmp_path / "out")
    mine = scenes.add_grid_transform("Mine")
    request = RequestNodes(fixed, moving, mine)
    for node in (moving, mine):
        scene.RemoveNode(node)
    result = apply_result(request, tmp_path / "out")
    assert result.warnings == ("Deleted during the run: the moving, transform node; a new node holds the result.",)
    assert result.transform is not mine and result.transform.GetName() == "Moving CT to Fixed CT"
    assert result.transform.GetNodeReference("spatialRegistrationFixed") is fixed
    assert result.transform.GetNodeReference("spatialRegistrationMoving") is None


def test_overlay_flicker_and_checkerboard(scene: Any, tmp_path: Path, photo_dir: Path) -> None:
    fixed, moving = add_pair()
    view = views.SliceView("Red", (500, 500))
    toggles.show_overlay(fixed, moving, 0.4)
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {(c.GetBackgroundVolumeID(), c.GetForegroundVolumeID(), c.GetForegroundOpacity()) for c in composites} == {
        (fixed.GetID(), moving.GetID(), 0.4)
    }
    pictures = {"overlay": view.render()}
    assert toggles.flicker() is True
    pictures["moving"] = view.render()
    assert toggles.flicker() is False
    pictures["fixed"] = view.render()
    toggles.set_opacity(0.4)
    known, fixed_bytes = ids(), slicer.util.arrayFromVolume(fixed).tobytes()
    board = toggles.show_checkerboard(fixed, moving)
    pictures["checkerboard"] = view.render()
    for name, picture in pictures.items():
        views.save_png(picture, photo_dir / f"toggle-{name}.png")
    names = list(pictures)
    for n, name in enumerate(names):
        for other in names[n + 1 :]:
            assert np.any(pictures[name] != pictures[other], axis=-1).mean() > 0.002, (name, other)
    values = slicer.util.arrayFromVolume(board)
    is_fixed = values == slicer.util.arrayFromVolume(fixed)
    assert 0.3 < is_fixed.mean() < 1.0 and is_fixed[0, 0, 0]
    assert not board.GetSaveWithScene() and board.GetHideFromEditors()
    toggles.show_checkerboard(fixed, moving)
    toggles.hide_checkerboard()
    toggles.hide_checkerboard()
    assert ids() == known and slicer.util.arrayFromVolume(fixed).tobytes() == fixed_bytes
    assert {(c.GetBackgroundVolumeID(), c.GetForegroundOpacity()) for c in composites} == {(fixed.GetID(), 0.4)}
    np.testing.assert_array_equal(view.render(), pictures["overlay"])


def test_checkerboard_squares_are_cubes_in_mm(scene: Any) -> None:
    """60 x 40 x 20 voxels of 1.5 x 1.25 x 3 mm: 9 squares along the longest side (90 mm) are 10 mm, the first 7, 8 and 4 voxels."""
    ones, twos = (
        slicer.util.addVolumeFromArray(np.full((20, 40, 60), v, np.float32), scenes.oblique_affine()) for v in (1, 2)
    )
    for node in (ones, twos):
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(0, 10)
    values = slicer.util.arrayFromVolume(toggles.show_checkerboard(ones, twos, 9))
    assert [int(np.argmax(line != 1)) for line in (values[0, 0], values[0, :, 0], values[:, 0, 0])] == [7, 8, 4]
    toggles.hide_checkerboard()


def test_grid_and_glyphs_take_turns(scene: Any, tmp_path: Path, photo_dir: Path) -> None:
    fixed, moving = add_pair()
    write_folder(tmp_path / "out")
    node = apply_result(RequestNodes(fixed, moving), tmp_path / "out").transform
    view = views.SliceView("Red", (500, 500))
    plain = view.show(fixed).render()
    toggles.show_grid(node)
    grid = view.render()
    toggles.show_glyphs(node)
    toggles.show_grid(node, False)  # the grid's toggle jumps back while the glyphs are shown
    glyphs = view.render()
    views.save_png(grid, photo_dir / "toggle-grid.png")
    views.save_png(glyphs, photo_dir / "toggle-glyphs.png")
    for first, second in ((plain, grid), (plain, glyphs), (grid, glyphs)):
        assert np.any(first != second, axis=-1).mean() > 0.002
    toggles.show_glyphs(node, False)
    np.testing.assert_array_equal(view.render(), plain)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (1.01, 2.0), (10.3, 20.0), (49.0, 50.0), (50.1, 100.0)]
)
def test_round_up(value: float, expected: float) -> None:
    assert round_up(value) == pytest.approx(expected)
