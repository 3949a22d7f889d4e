"""The lung panel, clicked to the end, from an empty scene to a result; and its logic in a console."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import app, panel, views
from harness.qt import dialogs

app.start()

import lung_case  # noqa: E402
import slicer  # noqa: E402
from lung_case import apply_and_wait, choose, control, correlation, leftovers, scene_state  # noqa: E402
from PIL import Image  # noqa: E402
from regsuite_slicer import advanced  # noqa: E402
from regsuite_slicer.job import JobCancelled, JobError, JobState  # noqa: E402
from regsuite_slicer.jobs import shared_pool  # noqa: E402
from regsuite_slicer.results import REPORT_ATTRIBUTE  # noqa: E402

pytest_plugins = ["lung_fixtures"]
HERE = Path(__file__).parent
SLICES = ("Red", "Green", "Yellow")


def view_pixels() -> list[np.ndarray]:
    """Pictures of the three slice views, fitted to what they show."""
    pictures = []
    for name in SLICES:
        view = views.SliceView(name, (360, 360))
        view.fit()
        pictures.append(view.render())
    return pictures


# ---- before a job


def test_an_empty_panel_says_what_is_missing(lung: panel.Panel, photo_dir: Path) -> None:
    ui = lung.ui
    assert not ui.applyButton.enabled and ui.applyButton.toolTip == "Select the fixed volume."
    assert not ui.cancelButton.enabled and not ui.overlayButton.enabled and not ui.exportButton.enabled
    assert ui.presetComboBox.currentText == "Default" and ui.advancedCollapsibleButton.collapsed
    assert ui.methodComboBox.visible and ui.methodComboBox.count == 4
    assert ui.methodSaysLabel.text == advanced.method("lung-convex")["summary"]
    assert ui.verdictLabel.text == "No result yet."
    panel.photograph(lung, photo_dir / "lung-panel-empty.png")


def test_the_reason_follows_the_inputs(lung: panel.Panel, case: dict[str, Any]) -> None:
    ui = lung.ui
    ui.fixedVolumeSelector.setCurrentNode(case["fixed"])
    assert ui.applyButton.toolTip == "Select the moving volume."
    ui.movingVolumeSelector.setCurrentNode(case["fixed"])
    assert "the same" in ui.applyButton.toolTip
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    ui.movingVolumeSelector.setCurrentNode(empty)
    assert ui.applyButton.toolTip == "The moving volume 'Nothing' is empty; select one with voxels."
    ui.movingVolumeSelector.setCurrentNode(case["moving"])
    assert ui.applyButton.enabled
    ui.movingLandmarksSelector.setCurrentNode(case["moving_landmarks"])
    assert not ui.applyButton.enabled
    assert ui.applyButton.toolTip == "Select the fixed landmarks as well, or no moving landmarks."
    ui.fixedLandmarksSelector.setCurrentNode(case["fixed_landmarks"])
    assert ui.applyButton.enabled
    ui.outputVolumeSelector.setCurrentNode(case["fixed"])
    assert "is an input" in ui.applyButton.toolTip
    slicer.mrmlScene.RemoveNode(case["moving"])
    assert ui.applyButton.toolTip == "Select the moving volume."


def test_presets_fill_the_settings(lung: panel.Panel, photo_dir: Path) -> None:
    ui, parameters = lung.ui, lung.widget.parameters
    best, default = (advanced.preset_values("lung-convex", name) for name in ("Best", "Default"))
    assert best["finest_mm"] != default["finest_mm"] == parameters.lungConvex.finest_mm
    assert ui.changedLabel.text == "As in the preset." and not ui.resetButton.enabled
    ui.presetComboBox.setCurrentIndex(ui.presetComboBox.findText("Best"))
    assert parameters.preset == "Best"
    assert parameters.lungConvex.finest_mm == control(lung, "finest_mm").value == best["finest_mm"]
    control(lung, "levels").value = 1
    control(lung, "lungs").checked = False
    assert ui.changedLabel.text == "2 changed from the preset."
    assert lung.widget._changed() == {"levels": 1, "lungs": False}
    ui.advancedCollapsibleButton.collapsed = False
    panel.photograph(lung, photo_dir / "lung-panel-advanced.png")
    panel.click(ui.resetButton)
    assert parameters.lungConvex.levels == best["levels"] != 1 and lung.widget._changed() == {}
    ui.presetComboBox.setCurrentIndex(ui.presetComboBox.findText("Default"))
    assert parameters.lungConvex.finest_mm == default["finest_mm"] and not ui.resetButton.enabled


def test_the_node_s_defaults_are_the_method_s_config(lung: panel.Panel) -> None:
    from regsuite.methods.registry import config_for

    for preset in advanced.PRESETS:
        pack = type(lung.widget.parameters.lungConvex)()
        advanced.apply_preset("lung-convex", preset, pack)
        config = dataclasses.asdict(config_for("lung-convex", preset))
        assert {name: pack.getValue(name) for name in pack.allParameters} == config
        if preset == "Default":
            assert {name: lung.widget.parameters.lungConvex.getValue(name) for name in config} == config
        assert {name: type(pack.getValue(name)) for name in config} == {name: type(value) for name, value in config.items()}


def test_the_network_says_what_it_is_and_brings_its_settings(lung: panel.Panel, photo_dir: Path) -> None:
    ui, parameters = lung.ui, lung.widget.parameters
    ui.advancedCollapsibleButton.collapsed = False
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findText("lung-mlvirnet"))
    assert parameters.method == "lung-mlvirnet"
    assert "trained on made chests only" in ui.methodSaysLabel.text
    pages = {key: controls.page.visible for key, controls in lung.widget._controls.items()}
    assert [key for key, visible in pages.items() if visible] == ["lung-mlvirnet"]
    assert set(pages) == {"lung-convex", "lung-mlvirnet", "lung-vxmpp", "lung-keypoints"}
    assert lung.widget._changed() == {}
    panel.photograph(lung, photo_dir / "lung-panel-network.png")
    for key, words in (("lung-vxmpp", "on made chests only"), ("lung-keypoints", "training-free")):
        ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findText(key))
        assert parameters.method == key and words in ui.methodSaysLabel.text
        assert [name for name, controls in lung.widget._controls.items() if controls.page.visible] == [key]
        panel.photograph(lung, photo_dir / f"lung-panel-{key}.png")
    ui.methodComboBox.setCurrentIndex(ui.methodComboBox.findText("lung-convex"))
    ui.advancedCollapsibleButton.collapsed = True
    assert parameters.method == "lung-convex"


def test_controls_keep_the_limits_of_the_config(lung: panel.Panel) -> None:
    box = control(lung, "range_mm")
    box.value = 1000.0
    assert box.value == 96.0 == lung.widget.parameters.lungConvex.range_mm
    assert box.suffix == " mm" and "From 4 to 96." in box.toolTip
    control(lung, "noise").value = 0.003
    assert lung.widget.parameters.lungConvex.noise == 0.003  # not rounded away


# ---- a job to its end


def test_click_through_to_the_result(lung: panel.Panel, case: dict[str, Any], photo_dir: Path, capsys: Any) -> None:
    choose(lung, case)
    lung.ui.fixedMaskSelector.setCurrentNode(case["fixed_mask"])
    slicer.util.setSliceViewerLayers(background=case["fixed"], foreground=case["moving"], foregroundOpacity=0.5, fit=True)
    before, pictures_before = correlation(case["fixed"], case["moving"], case["fixed_mask"]), view_pixels()
    voxels = slicer.util.arrayFromVolume(case["moving"]).copy()
    panel.photograph(lung, photo_dir / "lung-panel-ready.png")

    panel.click(lung.ui.applyButton)
    assert lung.ui.cancelButton.enabled and not lung.ui.applyButton.enabled
    assert lung.ui.applyButton.toolTip == "Running; press Cancel to stop."
    first = panel.wait_until(lambda: lung.ui.progressBar.value > 100, 120)
    running = panel.wait_until(lambda: lung.ui.progressBar.value > 300, 120)
    panel.photograph(lung, photo_dir / "lung-panel-running.png")
    last = panel.wait_until(lambda: lung.widget.run is None, 120)
    gap = max(first.max_gap_ms, running.max_gap_ms, last.max_gap_ms)
    with capsys.disabled():
        print(f"\nlongest block of the event loop during the job: {gap:.0f} ms")
    assert gap < 1000

    parameters = lung.widget.parameters
    transform = parameters.outputTransform
    assert transform.GetName() == "Inhale to Exhale"
    assert transform.GetNodeReference(transform.GetFixedNodeReferenceRole()) is case["fixed"]
    assert transform.GetNodeReference(transform.GetMovingNodeReferenceRole()) is case["moving"]
    assert case["moving"].GetParentTransformNode() is transform and lung.ui.previewButton.checked
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(case["moving"]), voxels)
    after = correlation(case["fixed"], case["moving"], case["fixed_mask"])
    assert after > before + 0.2 and after > 0.8, (before, after)
    assert lung.ui.overlayButton.checked and "Finished" in lung.ui.statusLabel.text
    assert case["fixed"].GetParentTransformNode() is None

    shown = [lung.ui.metricsTable.item(row, 0).text() for row in range(lung.ui.metricsTable.rowCount)]
    assert "Landmark distance, mean (mm)" in shown and "Correlation" in shown
    row = shown.index("Landmark distance, mean (mm)")
    distances = [float(lung.ui.metricsTable.item(row, column).text()) for column in (1, 2)]
    assert distances[1] < distances[0] / 3
    panel.photograph(lung, photo_dir / "lung-panel-result.png")
    pictures_after = view_pixels()
    save_pairs(pictures_before, pictures_after, photo_dir / "lung-before-after.png")
    panel.photograph_with_views(lung, pictures_after, photo_dir / "lung-panel-with-views.png")


def save_pairs(before: list[np.ndarray], after: list[np.ndarray], path: Path) -> None:
    """Upper row before, lower row after."""
    rows = [np.concatenate(pictures, axis=1) for pictures in (before, after)]
    views.save_png(np.concatenate(rows, axis=0), path)


def test_toggles_and_export(lung: panel.Panel, case: dict[str, Any], photo_dir: Path, tmp_path: Path) -> None:
    choose(lung, case, landmarks=False)
    ui = lung.ui
    panel.click(ui.mapsCheckBox)
    apply_and_wait(lung)
    for name in ("Jacobian", "displacement mm"):
        node = slicer.util.getNode(f"Inhale to Exhale {name}")
        assert node.GetImageData().GetDimensions() == case["fixed"].GetImageData().GetDimensions()
        assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node) is not None
    plain = view_pixels()
    for name in ("checkerboard", "grid", "glyph"):
        button = getattr(ui, f"{name}Button")
        panel.click(button)
        pixels = view_pixels()
        assert any(np.abs(a.astype(int) - b).mean() > 0.5 for a, b in zip(pixels, plain, strict=True)), name
        views.save_png(np.concatenate(pixels, axis=1), photo_dir / f"lung-{name}.png")
        if name == "grid":
            assert ui.checkerboardButton.checked
            panel.click(ui.overlayButton)
            assert not ui.checkerboardButton.checked
    assert not ui.gridButton.checked, "grid and arrows take turns"
    panel.click(ui.glyphButton)
    panel.click(ui.flickerButton)
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    seen: set[float] = set()
    panel.wait_until(lambda: seen.add(composite.GetForegroundOpacity()) or {0.0, 1.0} <= seen, 10)
    panel.click(ui.flickerButton)
    panel.click(ui.previewButton)
    assert case["moving"].GetParentTransformNode() is None
    dialogs.answers.append(str(tmp_path))
    panel.click(ui.exportButton)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["Inhale to Exhale overview.png", "Inhale to Exhale report.json"]
    assert Image.open(tmp_path / names[0]).width > 500
    assert '"finest_mm": 4.0' in (tmp_path / names[1]).read_text()


def test_a_second_run_goes_into_the_same_nodes_and_starts_at_once(lung: panel.Panel, case: dict[str, Any], capsys: Any) -> None:
    choose(lung, case)
    apply_and_wait(lung)
    transform, table = lung.widget.parameters.outputTransform, lung.widget.parameters.verdictTable
    pid = shared_pool().workers[0].pid
    first, nodes = correlation(case["fixed"], case["moving"]), scene_state()
    lung.ui.outputVolumeSelector.addNode()
    moved = lung.ui.outputVolumeSelector.currentNode()
    panel.click(lung.ui.applyButton)
    waited = panel.wait_until(lambda: lung.widget.run.job is not None and lung.widget.run.job.heard, 30)
    with capsys.disabled():
        print(f"\nApply to the worker's first word, warm, export included: {waited.elapsed_s:.2f} s")
    panel.wait_until(lambda: lung.widget.run is None, 180)
    assert shared_pool().workers[0].pid == pid
    assert lung.widget.parameters.outputTransform is transform and lung.widget.parameters.verdictTable is table
    assert correlation(case["fixed"], case["moving"]) == pytest.approx(first, abs=1e-3), "the preview was counted as motion"
    a, b = (slicer.util.arrayFromVolume(node).ravel() for node in (case["fixed"], moved))
    assert np.corrcoef(a, b)[0, 1] > 0.95
    assert set(scene_state()[1]) - set(nodes[1]) == {moved.GetName()}


def test_the_mask_of_a_segmentation_is_used(lung: panel.Panel, case: dict[str, Any]) -> None:
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lungs")
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(case["fixed_mask"], segmentation)
    choose(lung, case)
    lung.ui.fixedMaskSelector.setCurrentNode(segmentation)
    assert lung.widget.parameters.fixedMask is segmentation
    apply_and_wait(lung)
    report = json.loads(lung.widget.parameters.verdictTable.GetAttribute(REPORT_ATTRIBUTE))
    assert report["inputs"] and report["files"]["fixed_mask"] == "fixed_mask.nrrd"


# ---- the logic, without a panel


def test_the_logic_without_blocking(lung: panel.Panel, case: dict[str, Any]) -> None:
    from regsuite_slicer.logic_base import Listeners

    heard: list[str] = []
    listeners = Listeners(finished=lambda result: heard.append("finished"), cancelled=lambda error: heard.append("cancelled"))
    run = lung.logic.register(case["fixed"], case["moving"], settings=lung_case.FAST, blocking=False, listeners=listeners)
    panel.wait_until(lambda: run.job is not None and run.job.worker_pid is not None, 60)
    run.cancel()
    with pytest.raises(JobCancelled):
        run.wait()
    assert heard == ["cancelled"] and run.state is JobState.CANCELLED
    assert case["moving"].GetParentTransformNode() is None


def test_the_logic_refuses_nonsense(lung: panel.Panel, case: dict[str, Any]) -> None:
    faulty = (({"preset": "Fastest"}, "Fastest"), ({"settings": {"smothness": 1.0}}, "smothness"), ({"method": "lung"}, "'lung'"))
    for options, words in faulty:
        with pytest.raises((JobError, ValueError), match=words):
            lung.logic.register(case["fixed"], case["moving"], **options)
    with pytest.raises(JobError, match="Select the moving volume"):
        lung.logic.register(case["fixed"], None)
    assert leftovers() == []


def console_example(page: str) -> str:
    """The example of the README or of the tutorial, word for word."""
    text = (HERE.parents[1] / page).read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    return next(block for block in blocks if "getModuleLogic" in block)


def test_the_console_example_runs_and_torch_stays_out(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(HERE)!r}, {str(lung_case.BACKEND)!r}]
        from harness import app, panel
        app.start()
        import slicer
        panel.register_module({str(lung_case.BACKEND / "RegSuiteBackend.py")!r})
        panel.register_module({str(lung_case.MODULE)!r})
        import LungRegistration
        whole = LungRegistration.load_phantom
        LungRegistration.load_phantom = lambda name, names, size=(48, 40, 36): whole(name, names, size=size)  # small, to be quick
        exec({console_example("Documentation/Tutorial.md")!r})
        slicer.mrmlScene.Clear()
        exec({console_example("README.md")!r})
        assert result.transform.GetClassName() == "vtkMRMLTransformNode"
        assert "torch" not in sys.modules, "torch was imported into the application's process"
        slicer.selfTests["LungRegistration"]()
        assert "torch" not in sys.modules
        app.raise_slot_errors()
        from regsuite_slicer.jobs import shared_pool
        shared_pool().close()
        print("all is well")
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0 and "all is well" in done.stdout, done.stdout + done.stderr
