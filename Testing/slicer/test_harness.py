"""The headless Slicer's widgets and panels: strict attributes, no lost exception, a module from .ui to photograph."""
from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Optional, Union

import numpy as np
import pytest
from harness import app, errors, panel, views
from harness.qt import dialogs

app.start()

import ctk  # noqa: E402
import qt  # noqa: E402
import scenes  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from harness.parameter_node import WithinRange, parameterNodeWrapper, parameterPack  # noqa: E402
from harness.qt.uiloader import UiError  # noqa: E402
from PIL import Image  # noqa: E402

EXAMPLE = Path(__file__).parent / "example" / "HarnessExample.py"


@pytest.fixture
def example(scene: Any) -> Iterator[panel.Panel]:
    opened = panel.load_module(EXAMPLE)
    yield opened
    opened.close()


# ---- PythonQt's rules

@pytest.mark.parametrize("make", [lambda: qt.QPushButton("a"), lambda: ctk.ctkSliderWidget(),
                                  lambda: slicer.qMRMLNodeComboBox(), lambda: qt.QTimer(), lambda: qt.QProcess()])
def test_misspelled_names_are_rejected(make: Any) -> None:
    widget = make()
    with pytest.raises(AttributeError):
        widget.enabledd = True
    with pytest.raises(AttributeError):
        widget.enabledd  # noqa: B018
    with pytest.raises(AttributeError):
        widget.setObjectName = "a method"
    with pytest.raises(AttributeError):
        widget.connect("clickeed(bool)", print)


def test_objects_made_by_qt_itself_are_strict_too() -> None:
    box = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok)
    button = box.findChildren(qt.QPushButton)[0]
    with pytest.raises(AttributeError):
        button.txt = "x"
    heard: list[bool] = []
    button.connect("clicked(bool)", heard.append)
    button.click()
    assert heard == [False]


def test_properties_are_attributes_and_typed() -> None:
    label, slider, bar = qt.QLabel(), ctk.ctkSliderWidget(), qt.QProgressBar()
    label.text, label.enabled, label.name = "abc", False, "label"
    assert (label.text, label.enabled, label.objectName) == ("abc", False, "label")
    slider.minimum, slider.maximum, slider.decimals = 1, 5, 1
    slider.value = 9
    assert slider.value == 5.0
    faulty = ((label, "text", 3), (label, "enabled", "yes"), (slider, "value", "3"), (bar, "value", 3.5))
    for widget, name, value in faulty:
        with pytest.raises(TypeError, match=name):
            setattr(widget, name, value)


def test_classes_derived_in_python_may_hold_attributes() -> None:
    class Own(qt.QWidget):
        pass

    own = Own()
    own.anything = 3
    assert own.anything == 3


def test_connect_passes_what_the_signature_and_the_slot_take() -> None:
    check, heard = qt.QCheckBox(), []
    check.connect("toggled(bool)", lambda on: heard.append(("on", on)))
    check.connect("toggled(bool)", lambda: heard.append("none"))
    check.checked = True
    assert heard == [("on", True), "none"]
    slot = heard.append
    check.connect("toggled(bool)", slot)
    assert check.disconnect("toggled(bool)", slot)
    assert not check.disconnect("toggled(bool)", slot)
    check.checked = False
    assert len(heard) == 4


def test_exceptions_in_slots_timers_paint_events_and_observers_are_not_lost(capsys: Any) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("lost?")

    class Painter(qt.QWidget):
        def paintEvent(self, event: Any) -> None:
            fail()

    button, painter = qt.QPushButton(), Painter()
    button.connect("clicked()", fail)
    button.click()
    button.clicked.connect(fail)
    button.click()
    with pytest.raises(KeyError, match="lost"):
        painter.grab()
    observed = vtk.vtkObject()
    observed.AddObserver("ModifiedEvent", fail)
    observed.Modified()
    with pytest.raises(app.SlotError, match=r"4 exception\(s\)(?s:.*)lost\?"):
        app.raise_slot_errors()
    qt.QTimer.singleShot(0, fail)
    with pytest.raises(app.SlotError):
        panel.spin(0.05)
    app.raise_slot_errors()


# ---- node selectors

def test_node_selector_follows_the_scene(scene: Any) -> None:
    box, heard = slicer.qMRMLNodeComboBox(), []
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append(node and node.GetName()))
    box.setMRMLScene(scene)
    first, second = scenes.add_volume("First"), scenes.add_volume("Second")
    assert box.currentNode() is first and heard == ["First"]
    box.setCurrentNode(second)
    scene.RemoveNode(second)
    assert box.currentNode() is first and heard == ["First", "Second", "First"]
    box.noneEnabled = True
    scene.Clear()
    assert box.currentNode() is None and heard[-1] is None
    created = box.addNode()
    assert created.GetName() == "ScalarVolume" and box.currentNodeID == created.GetID()


def test_node_selector_filters(scene: Any) -> None:
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.setMRMLScene(scene)
    scenes.add_volume("Shown")
    hidden = scenes.add_volume("Hidden")
    label = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Label")
    assert box.nodeCount() == 3
    hidden.SetHideFromEditors(True)
    box.showChildNodeTypes = False
    assert box.nodeCount() == 1
    box.showChildNodeTypes = True
    box.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "mask")
    label.SetAttribute("Kind", "mask")
    assert box.nodeCount() == 1 and box.nodeFromIndex(0) is label


def test_checkable_selector_and_segment_selector(scene: Any) -> None:
    volume = scenes.add_volume()
    scenes.add_volume("Other")
    checkable, heard = slicer.qMRMLCheckableNodeComboBox(), []
    checkable.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    checkable.setMRMLScene(scene)
    checkable.connect("checkedNodesChanged()", lambda: heard.append(len(checkable.checkedNodes())))
    checkable.setCheckState(volume, qt.Qt.Checked)
    scene.RemoveNode(volume)
    assert heard == [1, 0]
    segments = slicer.qMRMLSegmentSelectorWidget()
    segments.setMRMLScene(scene)
    segmentation = scenes.add_segmentation(scenes.add_volume("Third"))
    assert segments.currentNode() is segmentation
    segments.setCurrentSegmentID("Core")
    assert segments.currentSegmentID() == "Core"


# ---- dialogs, processes, settings, the event loop

def test_dialogs_do_not_wait(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    dialogs.reset()
    caplog.set_level(logging.INFO)
    slicer.util.confirmOkCancelDisplay("Install torch?")
    assert "Install torch?" in caplog.text and dialogs.shown == []
    monkeypatch.setattr(slicer.app, "testing", False)
    dialogs.answers.append(qt.QMessageBox.Cancel)
    assert not slicer.util.confirmOkCancelDisplay("Install torch?")
    assert slicer.util.confirmOkCancelDisplay("Really?")
    assert [shown.text for shown in dialogs.shown] == ["Install torch?", "Really?"]


def test_process_and_settings() -> None:
    process, lines, ends = qt.QProcess(), [], []
    process.connect("readyReadStandardOutput()",
                    lambda: lines.append(process.readAllStandardOutput().data().decode()))
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, status)))
    process.start("PythonSlicer", ["-c", "import sys; print('hello'); sys.exit(3)"])
    panel.wait_until(lambda: bool(ends), 20, "the process to end")
    assert "".join(lines).split() == ["hello"] and ends == [(3, qt.QProcess.NormalExit)]
    settings = qt.QSettings()
    settings.setValue("RegistrationSuite/keepWarm", 1)
    assert slicer.util.settingsValue("RegistrationSuite/keepWarm", False, converter=slicer.util.toBool) is True
    assert str(settings.fileName()).startswith(slicer.app.temporaryPath)


def test_the_longest_block_of_the_event_loop_is_measured() -> None:
    qt.QTimer.singleShot(30, lambda: time.sleep(0.25))
    blocked = panel.spin(0.5)
    assert 200 <= blocked.max_gap_ms <= 2000
    with pytest.raises(TimeoutError, match="never"):
        panel.wait_until(lambda: False, 0.05, "what never happens")


# ---- parameter nodes

@parameterPack
class Limits:
    low: Annotated[float, WithinRange(0, 1)] = 0.25
    count: int = 3


@parameterNodeWrapper
class Wrapped:
    volume: slicer.vtkMRMLScalarVolumeNode
    mask: Optional[slicer.vtkMRMLLabelMapVolumeNode]  # noqa: UP045 - Slicer does not know A | None
    structure: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLModelNode, None]  # noqa: UP007
    limits: Limits
    title: str = "untitled"


def test_parameter_node_types_and_storage(scene: Any) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    wrapped = Wrapped(node)
    assert (wrapped.volume, wrapped.mask, wrapped.structure, wrapped.limits.low) == (None, None, None, 0.25)
    wrapped.volume, wrapped.title, wrapped.limits.count = scenes.add_volume(), "Lung", 7
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    wrapped.structure = segmentation
    assert node.GetParameter("title") == "Lung" and node.GetParameter("limits.count") == "7"
    assert node.GetNodeReferenceID("volume") == wrapped.volume.GetID()
    again = Wrapped(node)
    assert again.limits.count == 7 and again.structure is segmentation and again.getValue("limits.low") == 0.25
    with pytest.raises(ValueError, match="within"):
        again.limits.low = 2.0
    with pytest.raises(TypeError):
        again.volume = segmentation
    with pytest.raises(AttributeError):
        again.limits.lowest = 0.1
    with pytest.raises(ValueError, match="no parameter 'lowest'"):
        again.getValue("limits.lowest")
    scene.RemoveNode(segmentation)
    assert again.structure is None


def test_parameter_node_refuses_what_slicer_refuses(scene: Any) -> None:
    with pytest.raises(ValueError, match="within"):
        parameterPack(type("Bad", (), {"__annotations__": {"low": Annotated[float, WithinRange(1, 2)]}}))
    with pytest.raises(TypeError, match="cannot store"):
        parameterNodeWrapper(type("Bad", (), {"__annotations__": {"low": complex}}))
    wrapped = Wrapped(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        wrapped.connectParametersToGui({"title": ctk.ctkComboBox()})
    with pytest.raises(ValueError, match="no parameter 'titel'"):
        wrapped.connectParametersToGui({"titel": qt.QLineEdit()})


# ---- a module, from its .ui to its photograph

def test_module_is_known_to_slicer(example: panel.Panel) -> None:
    assert slicer.util.getModuleLogic("HarnessExample") is example.logic
    assert slicer.util.getModuleWidget("HarnessExample") is example.widget
    assert slicer.modules.harnessexample.title == "Harness example"
    assert slicer.util.modulePath("HarnessExample") == str(EXAMPLE)
    slicer.selfTests["HarnessExample"]()


def test_apply_runs_the_job(example: panel.Panel, photo_dir: Path) -> None:
    assert example.ui.applyButton.toolTip == "Select an input volume"
    with pytest.raises(AssertionError, match="Select an input volume"):
        panel.click(example.ui.applyButton)
    volume = scenes.add_volume()
    example.ui.inputSelector.setCurrentNode(volume)
    example.ui.gainSlider.value = 3.5
    example.ui.invertCheckBox.checked = True
    panel.click(example.ui.applyButton)
    parameters = example.widget.parameters
    panel.wait_until(lambda: parameters.outputVolume is not None, 20, "the job to finish")
    assert example.ui.progressBar.value == 100
    np.testing.assert_allclose(slicer.util.arrayFromVolume(parameters.outputVolume),
                               -3.5 * slicer.util.arrayFromVolume(volume))
    assert example.ui.outputSelector.currentNode() is parameters.outputVolume
    photo = np.asarray(Image.open(panel.photograph(example, photo_dir / "example.png")).convert("RGB"))
    assert photo.shape[1] == panel.PANEL_WIDTH_PX and photo.shape[0] > 400
    assert len(np.unique(photo.reshape(-1, 3), axis=0)) > 50 and photo.std() > 15
    images = [views.SliceView(name, (300, 300)).show(volume).render() for name in ("Red", "Green", "Yellow")]
    combined = np.asarray(Image.open(panel.photograph_with_views(example, images, photo_dir / "example-views.png")))
    assert combined.shape[1] == panel.PANEL_WIDTH_PX + 600


def test_collapsing_a_section_shortens_the_panel(example: panel.Panel, photo_dir: Path) -> None:
    full = Image.open(panel.photograph(example, photo_dir / "example-open.png")).height
    example.ui.advancedButton.collapsed = True
    assert not example.ui.gainSlider.visible
    assert Image.open(panel.photograph(example, photo_dir / "example-collapsed.png")).height < full - 80
    panel.click(example.ui.advancedButton)
    assert example.ui.gainSlider.visible


def test_parameters_persist_over_save_close_and_load(example: panel.Panel, tmp_path: Path) -> None:
    example.ui.inputSelector.setCurrentNode(scenes.add_volume())
    example.ui.gainSlider.value = 4.5
    example.ui.passesSpinBox.value = 4
    example.ui.modeComboBox.currentIndex = 0
    example.ui.reportPath.currentPath = "out/report.json"
    assert slicer.util.saveScene(str(tmp_path / "panel.mrb"))
    app.reset_scene()
    assert example.ui.inputSelector.currentNode() is None and example.ui.gainSlider.value == 2.0
    slicer.util.loadScene(str(tmp_path / "panel.mrb"))
    parameters = example.logic.getParameterNode()
    assert parameters.inputVolume.GetName() == "Bump" and parameters.settings.gain == 4.5
    assert (parameters.settings.passes, parameters.mode.name, str(parameters.report)) == (4, "FAST", "out/report.json")
    assert example.ui.gainSlider.value == 4.5 and example.ui.inputSelector.currentNode().GetName() == "Bump"


def test_closing_the_panel_calls_cleanup(scene: Any) -> None:
    opened = panel.load_module(EXAMPLE)
    assert opened.widget.Observations
    opened.close()
    assert not opened.widget.Observations
    assert not hasattr(slicer.modules, "HarnessExampleWidget")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("noneEnabled", "noneEnable", "no property 'noneEnable'"),
    ('class="QSpinBox"', 'class="QSpinBoks"', "no widget class 'QSpinBoks'"),
    ("mrmlSceneChanged(", "mrmlSceneChange(", "no signal"),
    ("<slot>setMRMLScene(", "<slot>setMrmlScene(", "no slot"),
    ("<receiver>tableView", "<receiver>tabelView", "no object 'tabelView'"),
])
def test_faulty_ui_files_are_refused(scene: Any, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (EXAMPLE.parent / "Resources/UI/HarnessExample.ui").read_text()
    assert old in text
    (tmp_path / "faulty.ui").write_text(text.replace(old, new))
    with pytest.raises(UiError, match=message):
        slicer.util.loadUI(str(tmp_path / "faulty.ui"))


def test_an_error_in_a_panel_fails_the_test_that_caused_it(example: panel.Panel, capsys: Any) -> None:
    example.widget.logic = None
    example.ui.inputSelector.setCurrentNode(scenes.add_volume())
    panel.click(example.ui.applyButton)
    with pytest.raises(app.SlotError, match="'NoneType' object has no attribute 'scale'"):
        panel.wait_until(lambda: False, 20)
    assert errors.take() == []


def test_plot_view_draws_its_chart(scene: Any) -> None:
    view, node = slicer.qMRMLPlotView(), scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    view.setMRMLScene(scene)
    view.setMRMLPlotViewNode(node)
    assert view.pixmap.isNull()
    chart = slicer.util.plot(np.column_stack([np.arange(5), np.arange(5) ** 2]), xColumnIndex=0, show=False)
    node.SetPlotChartNodeID(chart.GetID())
    assert (view.pixmap.width(), view.pixmap.height()) >= (360, 240)


def test_sample_data_button_runs_the_module_s_own_generator() -> None:
    import SampleData
    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    register(category="Harness", sampleName="Made", uris="generated:", fileNames="made.nrrd", nodeNames="Made",
             customDownloader=lambda source: source.nodeNames)
    assert SampleData.press("Made") == ["Made"]
    with pytest.raises(ValueError, match="uris"):
        register(sampleName="Faulty", customDownloader=print)
    with pytest.raises(FileNotFoundError):
        register(sampleName="Faulty", uris="generated:", fileNames="a", thumbnailFileName="no-such.png")
