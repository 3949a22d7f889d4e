"""The headless Slicer's scene: files, the subject hierarchy and pictures of views."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from harness import app, views

app.start()

import scenes  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402

LPS = np.array([-1.0, -1.0, 1.0])


def affine_of(volume: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


@pytest.mark.parametrize("extension", ["nrrd", "nii.gz", "mha"])
def test_volume_round_trip(scene: Any, tmp_path: Path, extension: str) -> None:
    volume = scenes.add_volume()
    values = slicer.util.arrayFromVolume(volume).copy()
    assert slicer.util.saveNode(volume, str(tmp_path / f"bump.{extension}"))
    scene.Clear()
    loaded = slicer.util.loadVolume(str(tmp_path / f"bump.{extension}"))
    assert loaded.GetName() == "bump"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(loaded), values)
    np.testing.assert_allclose(affine_of(loaded), scenes.oblique_affine(), atol=1e-4)
    read = sitk.ReadImage(str(tmp_path / f"bump.{extension}"))
    index = (7, 3, 11)
    expected = scenes.oblique_affine()[:3] @ [*index, 1]
    np.testing.assert_allclose(np.array(read.TransformIndexToPhysicalPoint(index)) * LPS, expected, atol=1e-3)


def test_relative_paths_and_missing_files(scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert slicer.util.saveNode(scenes.add_volume(), "here.nrrd")
    assert (tmp_path / "here.nrrd").is_file()
    with pytest.raises(RuntimeError, match=r"there\.nrrd"):
        slicer.util.loadVolume("there.nrrd")


@pytest.mark.parametrize("extension", ["h5", "nrrd", "nii.gz"])
def test_grid_transform_round_trip(scene: Any, tmp_path: Path, extension: str) -> None:
    path = str(tmp_path / f"grid.{extension}")
    points = scenes.points_inside()
    node = scenes.add_grid_transform()
    expected = scenes.map_from_parent(node, points)
    assert np.linalg.norm(expected - points, axis=1).max() > 3
    assert slicer.util.saveNode(node, path)
    scene.Clear()
    loaded = slicer.util.loadTransform(path)
    np.testing.assert_allclose(scenes.map_from_parent(loaded, points), expected, atol=1e-3)
    if extension == "h5":       # an ITK transform maps fixed to moving points in LPS, which is "from parent" in MRML
        itk, nodes = sitk.ReadTransform(path), scenes.grid_nodes()     # at nodes, as ITK interpolates linearly
        mapped = np.array([itk.TransformPoint((p * LPS).tolist()) for p in nodes]) * LPS
        assert np.linalg.norm(mapped - nodes, axis=1).min() > 3
        np.testing.assert_allclose(mapped, scenes.map_from_parent(loaded, nodes), atol=1e-3)


def test_segmentation_round_trip(scene: Any, tmp_path: Path) -> None:
    volume = scenes.add_volume()
    segmentation = scenes.add_segmentation(volume)
    core = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "Core", volume)
    assert 50 < core.sum() < 0.2 * core.size
    assert slicer.util.saveNode(segmentation, str(tmp_path / "structures.seg.nrrd"))
    scene.RemoveNode(segmentation)
    loaded = slicer.util.loadSegmentation(str(tmp_path / "structures.seg.nrrd"))
    assert list(loaded.GetSegmentation().GetSegmentIDs()) == ["Body", "Core"]
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(loaded, "Core", volume), core)


def test_table_and_markups_round_trip(scene: Any, tmp_path: Path) -> None:
    table, markups = scenes.add_table(), scenes.add_markups()
    column = slicer.util.arrayFromTableColumn(table, "volume_percent").copy()
    assert slicer.util.saveNode(table, str(tmp_path / "t.csv"))
    assert slicer.util.saveNode(markups, str(tmp_path / "m.mrk.json"))
    scene.Clear()
    loaded = slicer.util.loadTable(str(tmp_path / "t.csv"))
    read = slicer.util.arrayFromTableColumn(loaded, "volume_percent").astype(float)
    np.testing.assert_allclose(read, column, rtol=1e-5)
    points = slicer.util.arrayFromMarkupsControlPoints(slicer.util.loadMarkups(str(tmp_path / "m.mrk.json")))
    np.testing.assert_allclose(points, scenes.points_inside(3, seed=7), atol=1e-3)


def test_scene_bundle_round_trip(scene: Any, tmp_path: Path) -> None:
    volume, grid = scenes.add_volume(), scenes.add_grid_transform()
    scenes.add_segmentation(volume)
    scenes.add_table()
    scenes.add_markups()
    volume.SetAndObserveTransformNodeID(grid.GetID())
    points = scenes.points_inside()
    expected = scenes.map_from_parent(grid, points)
    assert slicer.util.saveScene(str(tmp_path / "all.mrb"))
    app.reset_scene()
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    slicer.util.loadScene(str(tmp_path / "all.mrb"))
    volume = slicer.util.getNode("Bump")
    assert volume.GetParentTransformNode().GetName() == "Grid"
    np.testing.assert_allclose(scenes.map_from_parent(volume.GetParentTransformNode(), points), expected, atol=1e-3)
    assert slicer.util.getNode("Structures").GetSegmentation().GetNumberOfSegments() == 2
    assert slicer.util.getNode("Verdict").GetNumberOfRows() == 36
    assert slicer.util.getNode("Landmarks").GetNumberOfControlPoints() == 3


def test_reset_scene_leaks_no_nodes(scene: Any) -> None:
    before = sorted(slicer.util.getNodes("*", useLists=True))
    scenes.add_segmentation(scenes.add_volume())
    assert scene.GetNumberOfNodes() > len(before)
    app.reset_scene()
    assert sorted(slicer.util.getNodes("*", useLists=True)) == before


def test_data_nodes_are_in_the_subject_hierarchy(scene: Any) -> None:
    volume, transform = scenes.add_volume(), scenes.add_grid_transform()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    for node in (volume, transform):
        assert hierarchy.GetItemName(hierarchy.GetItemByDataNode(node)) == node.GetName()
    scene.RemoveNode(volume)
    assert hierarchy.GetNumberOfItems() == 1


def test_module_logics_are_real(scene: Any) -> None:
    volume = scenes.add_volume()
    clone = slicer.modules.volumes.logic().CloneVolume(scene, volume, "Clone")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(clone), slicer.util.arrayFromVolume(volume))
    assert "Volumes" in slicer.util.moduleNames()
    with pytest.raises(RuntimeError, match="NoSuchModule"):
        slicer.util.getModule("NoSuchModule")


def test_slice_view_shows_what_lies_in_the_slice(scene: Any, photo_dir: Path) -> None:
    volume = scenes.add_volume()
    view = views.SliceView("Red", (400, 400))
    empty = view.show(None).render()
    assert len(np.unique(empty.reshape(-1, 3), axis=0)) < 10
    filled = view.show(volume).render()
    assert filled.shape == (400, 400, 3)
    assert filled.std() > 20
    outside = view.show(volume, offset_mm=scenes.oblique_affine()[2, 3] - 500).render()
    assert outside.std() < 0.5 * filled.std()


def test_overlay_outline_and_grid_change_the_picture(scene: Any, photo_dir: Path) -> None:
    fixed, moving = scenes.add_volume("Fixed"), scenes.add_volume("Moving", (36.0, 17.0, 10.0))
    view = views.SliceView("Red", (500, 500))
    plain = view.show(fixed).render()
    moving.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeWarm1")
    moving.GetDisplayNode().SetLowerThreshold(1.0)
    moving.GetDisplayNode().ApplyThresholdOn()
    overlaid = view.show(fixed, moving, 0.5).render()
    segmentation = scenes.add_segmentation(fixed)
    segmentation.GetDisplayNode().SetOpacity2DFill(0.0)
    outlined = view.render()
    grid = scenes.add_grid_transform()
    grid.CreateDefaultDisplayNodes()
    display = grid.GetDisplayNode()
    display.SetVisibility(True)
    display.SetVisibility2D(True)
    display.SetAndObserveRegionNode(fixed)
    display.SetVisualizationMode(display.VIS_MODE_GRID)
    display.SetGridSpacingMm(10)
    gridded = view.render()
    display.SetVisualizationMode(display.VIS_MODE_GLYPH)
    display.SetGlyphSpacingMm(8)
    glyphs = view.render()
    views.save_png(gridded, photo_dir / "slice-grid.png")
    views.save_png(glyphs, photo_dir / "slice-glyphs.png")
    for before, after in ((plain, overlaid), (overlaid, outlined), (outlined, gridded), (gridded, glyphs)):
        assert np.any(before != after, axis=-1).mean() > 0.002


def test_three_d_view_shows_surfaces_and_landmarks(scene: Any, photo_dir: Path) -> None:
    view = views.ThreeDView(size=(500, 400))
    view.fit()
    empty = view.render()
    segmentation = scenes.add_segmentation(scenes.add_volume())
    segmentation.CreateClosedSurfaceRepresentation()
    segmentation.GetDisplayNode().SetSegmentOpacity3D("Body", 0.4)
    scenes.add_markups()
    view.fit()
    assert np.any(view.render() != empty, axis=-1).mean() > 0.1
    assert view.png(photo_dir / "three-d.png").stat().st_size > 2000


def test_chart_is_drawn(scene: Any, photo_dir: Path) -> None:
    table = scenes.add_table()
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "DVH")
    chart.SetTitle("DVH")
    chart.SetXAxisTitle("Dose [Gy]")
    chart.SetYAxisTitle("Volume [%]")
    blank = views.chart_image(chart)
    series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "Lung")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("dose_gy")
    series.SetYColumnName("volume_percent")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetMarkerStyle(series.MarkerStyleNone)
    series.SetLineWidth(3)
    series.SetColor(0.9, 0.1, 0.1)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    drawn = views.chart_image(chart)
    red = (drawn[..., 0] > 180) & (drawn[..., 1] < 80)
    assert red.sum() > 300 and not ((blank[..., 0] > 180) & (blank[..., 1] < 80)).any()
    assert views.chart_png(chart, photo_dir / "chart.png").is_file()


def test_layout_manager(scene: Any) -> None:
    volume = scenes.add_volume()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    manager = slicer.app.layoutManager()
    assert manager.sliceWidget("Green").mrmlSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    slicer.util.resetSliceViews()
    slicer.util.resetThreeDViews()
