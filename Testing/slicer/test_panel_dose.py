"""The uncertainty panel with a dose: clicked from volumes, transform, dose and structures to maps, table and charts."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import app, panel, views

app.start()

import dose_case  # noqa: E402
import lung_case  # noqa: E402
import numpy as np  # noqa: E402
import slicer  # noqa: E402
from regsuite_slicer import dose_results, dvh_nodes, uncertainty_results  # noqa: E402
from regsuite_slicer.job import JobError  # noqa: E402

pytest_plugins = ["lung_fixtures"]
ROWS = [*dose_case.STRUCTURES, dose_case.TARGET[0]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dose_case.make_files(tmp_path_factory.mktemp("dose") / "data")


@pytest.fixture
def opened(scene: Any, workers_end: None) -> Iterator[panel.Panel]:
    uncertainty = lung_case.open_panel(dose_case.MODULE)
    yield uncertainty
    uncertainty.close()


def choose(opened: panel.Panel, nodes: dict[str, Any]) -> None:
    ui = opened.ui
    ui.fixedVolumeSelector.setCurrentNode(nodes["fixed"])
    ui.movingVolumeSelector.setCurrentNode(nodes["moving"])
    ui.transformSelector.setCurrentNode(nodes["transform"])
    ui.structuresSelector.setCurrentNode(nodes["structures"])
    assert ui.applyButton.toolTip == "Select the dose as well, or no structures."
    ui.doseVolumeSelector.setCurrentNode(nodes["dose"])
    ui.samplesSpinBox.value = 12
    ui.presetComboBox.setCurrentText("Preview")


def numbers(table: Any, column: str) -> np.ndarray:
    return slicer.util.arrayFromTableColumn(table, column)


def test_from_a_dose_to_bands(opened: panel.Panel, files: Path, photo_dir: Path) -> None:
    nodes, view = dose_case.load(files), views.SliceView("Red", (420, 420))
    assert not opened.ui.doseCollapsibleButton.visible
    choose(opened, nodes)
    lung_case.apply_and_wait(opened, 900)
    ui, parameters = opened.ui, opened.widget.parameters
    assert parameters.carriedDose is not None, ui.statusLabel.text
    check_volumes(nodes, parameters)
    table, chart = parameters.doseTable, parameters.doseChart
    assert [table.GetTable().GetColumnByName("Structure").GetValue(n) for n in range(4)] == ROWS
    assert "\u2013" in table.GetTable().GetColumnByName("Mean (Gy)").GetValue(3), "with its interval"
    assert chart.GetNumberOfPlotSeriesNodes() == 4 and chart.GetTitle() == "Dose-volume histograms, nominal"
    layout = slicer.util.getNodesByClass("vtkMRMLLayoutNode")[0]
    assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpPlotTableView
    assert slicer.app.applicationLogic().GetSelectionNode().GetActiveTableID() == table.GetID()
    everything = views.chart_image(chart, (620, 420))
    ui.doseTableWidget.cellClicked.emit(3, 0)
    assert [chart.GetNthPlotSeriesNode(n).GetYColumnName() for n in range(3)] == ["Nominal", "P05", "P95"]
    assert chart.GetTitle() == "Target=PTV: nominal and 5-95 % band"
    band = chart.GetNthPlotSeriesNode(0).GetTableNode()
    assert (numbers(band, "P05") <= numbers(band, "P95")).all() and numbers(band, "Nominal")[0] == pytest.approx(100.0)
    check_slicer_rt_layout(nodes)
    single = views.chart_image(chart, (620, 420))
    pictures = [slice_picture(view, nodes), slice_picture(view, nodes, ui), everything, single]
    pictures.append(views.table_image(table, (840, 170)))
    check_legend(view, parameters.carriedDose)
    panel.photograph_with_views(opened, pictures, photo_dir / "uncertainty-dose.png")
    panel.click(ui.allStructuresButton)
    assert chart.GetNumberOfPlotSeriesNodes() == 4


def check_legend(view: views.SliceView, volume: Any) -> None:
    """The legend is drawn: without it the picture differs, in one strip of the view."""
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(volume)
    drawn = view.render().astype(int)
    legend.SetVisibility(False)
    changed = np.abs(drawn - view.render()).max(axis=2) > 30
    legend.SetVisibility(True)
    columns = np.flatnonzero(changed.any(axis=0))
    assert 500 < changed.sum() < 0.2 * changed.size and np.ptp(columns) < 0.4 * changed.shape[1]


def slice_picture(view: views.SliceView, nodes: dict[str, Any], ui: Any = None) -> np.ndarray:
    if ui is not None:
        panel.click(ui.showDoseButton)
    view.fit()
    dose = slicer.util.arrayFromVolume(nodes["dose"])
    where = np.array([*np.unravel_index(int(dose.argmax()), dose.shape)[::-1], 1.0])
    view.logic.SetSliceOffset(float((slicer.util.arrayFromVTKMatrix(matrix_of(nodes["dose"])) @ where)[2]))
    return view.render()


def matrix_of(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def check_volumes(nodes: dict[str, Any], parameters: Any) -> None:
    """Doses are marked as SlicerRT expects, under a study that names the unit; spreads are not."""
    dose, spread = parameters.carriedDose, parameters.doseSpread
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = hierarchy.GetItemAncestorAtLevel(hierarchy.GetItemByDataNode(dose), "Study")
    assert dose.GetAttribute(dose_results.DOSE_ATTRIBUTE) == "1"
    assert hierarchy.GetItemAttribute(study, dose_results.UNIT_NAME) == "Gy"
    assert hierarchy.GetItemAttribute(study, dose_results.UNIT_VALUE) == "1.0"
    assert spread.GetAttribute(dose_results.DOSE_ATTRIBUTE) is None
    assert parameters.outputVolume.GetAttribute(dose_results.DOSE_ATTRIBUTE) is None
    values = slicer.util.arrayFromVolume(dose)
    assert values.dtype == np.float32 and values.min() >= 0 and 55 < values.max() < 75
    assert dose.GetImageData().GetDimensions() == nodes["fixed"].GetImageData().GetDimensions()
    assert 0 < slicer.util.arrayFromVolume(spread).max() < 40
    for node in (dose, spread, parameters.outputVolume):
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node)
        assert legend is not None and ("mm" if node is parameters.outputVolume else "Gy") in legend.GetTitleText()
    assert dose.GetDisplayNode().GetColorNode().GetName() == dose_results.COLOURS


def check_slicer_rt_layout(nodes: dict[str, Any]) -> None:
    """Tables as SlicerRT's module finds them; bands are not among them."""
    tables = [t for t in slicer.util.getNodesByClass("vtkMRMLTableNode") if t.GetAttribute("DoseVolumeHistogram.SegmentID")]
    assert [t.GetName() for t in tables] == [f"Segment_{n}_DvhTable" for n in (1, 2, 3, 4)]
    assert numbers(tables[3], "Dose")[:3] == pytest.approx([0.0, 0.1, 0.3]) and numbers(tables[3], "Volume")[0] == 100.0
    assert numbers(tables[3], "Volume")[-1] < 1.0
    assert tables[0].GetNodeReference("segmentationRef") is nodes["structures"]
    assert tables[0].GetNodeReference("dvhMetricsTableRef").GetTable().GetColumnByName("D2cc (Gy)") is not None


def test_saved_with_the_scene(opened: panel.Panel, files: Path, tmp_path: Path) -> None:
    nodes = dose_case.load(files)
    pair, rest = (nodes["fixed"], nodes["moving"], nodes["transform"]), {"dose": nodes["dose"], "structures": nodes["structures"]}
    drawn = dose_case.structures(files, nodes["moving"], "moving_labels")
    result = opened.logic.estimate(*pair, "Preview", **rest, movingStructures=drawn, samples=4)
    check_probability(result.dose.probabilities["Heart"], nodes)
    assert sorted(result.dose.volumes) == ["mean", "nominal", "p05", "p50", "p95", "sigma"]
    overlapping = float(result.dose.nominal_table.GetTable().GetColumnByName("Volume (cc)").GetValue(3))
    voxel = np.prod(nodes["fixed"].GetSpacing()) / 1000.0
    inside = slicer.util.arrayFromSegmentBinaryLabelmap(nodes["structures"], "Segment_4", nodes["fixed"])
    assert overlapping == pytest.approx(inside.sum() * voxel, rel=1e-3), "an overlap takes nothing away"
    name = result.dose.table.GetName()
    slicer.util.saveScene(str(tmp_path / "s.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "s.mrb"))
    table = slicer.util.getNode(name)
    chart = next(n for n in slicer.util.getNodesByClass("vtkMRMLPlotChartNode") if "bands" in n.GetName())
    dvh_nodes.show_band(table, chart, "Heart")
    assert chart.GetNumberOfPlotSeriesNodes() == 3


def check_probability(node: Any, nodes: dict[str, Any]) -> None:
    """The heart of the moving scan, carried over, is where it was drawn on the fixed one."""
    share = slicer.util.arrayFromVolume(node)
    assert share.min() >= 0.0 and share.max() == pytest.approx(1.0)
    drawn = slicer.util.arrayFromSegmentBinaryLabelmap(nodes["structures"], "Segment_3", nodes["fixed"]) > 0
    assert float(share[drawn].mean()) > 0.7 and float(share.sum()) == pytest.approx(drawn.sum(), rel=0.25)
    assert node.GetAttribute(dose_results.DOSE_ATTRIBUTE) is None
    assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node).GetTitleText() == "probability"


def test_the_logic_of_slicer_rt_is_used_when_it_is_there(opened: panel.Panel, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the calls of SlicerRT's logic; the real module was not there to be tried."""
    nodes, asked = dose_case.load(files), []
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "by SlicerRT")
    node = SimpleNamespace(GetMetricsTableNode=lambda: table, GetChartNode=lambda: None)
    node.SetAndObserveDoseVolumeNode = node.SetAndObserveSegmentationNode = asked.append
    logic = SimpleNamespace(ComputeDvh=lambda given: "" if given is node else "another node")
    module = SimpleNamespace(logic=lambda: logic)
    monkeypatch.setattr(slicer.modules, "dosevolumehistogram", module, raising=False)
    made = dvh_nodes.place_nominal([], nodes["dose"], nodes["structures"], lambda kind, title: node)
    assert made == (table, None, ()) and asked == [nodes["dose"], nodes["structures"]]


def test_nonsense_is_explained_and_changes_nothing(opened: panel.Panel, files: Path, tmp_path: Path) -> None:
    nodes = dose_case.load(files)
    arguments = (nodes["fixed"], nodes["moving"], nodes["transform"], "Preview")
    with pytest.raises(JobError, match="Select the dose as well, or no structures"):
        opened.logic.estimate(*arguments, structures=nodes["structures"])
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Nothing")
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(JobError, match="no segment at all"):
        opened.logic.estimate(*arguments, dose=nodes["dose"], structures=empty)
    empty.GetSegmentation().AddEmptySegment("a", "Empty")
    with pytest.raises(JobError, match=r"(?s)'Empty'.*no volume"):
        opened.logic.estimate(*arguments, dose=nodes["dose"], structures=empty, samples=2)
    (tmp_path / "dose").mkdir()
    with pytest.raises(Exception, match="expected the result of 'dose'"):
        uncertainty_results.apply_job(
            uncertainty_results.UncertaintyNodes(*arguments[:3], dose=nodes["dose"], structures=nodes["structures"]), tmp_path
        )
    assert slicer.mrmlScene.GetNumberOfNodes() == before
