"""The lung panel, clicked to the end: from an empty scene to a result, cancelled, killed, saved, loaded, twice at once."""
from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import app, panel, views
from harness.qt import dialogs

app.start()

import lung_case  # noqa: E402
import slicer  # noqa: E402
from lung_case import alive, choose, control, correlation, leftovers, scene_state  # noqa: E402
from PIL import Image  # noqa: E402
from regsuite_slicer import advanced  # noqa: E402
from regsuite_slicer.job import JobCancelled, JobError, JobState  # noqa: E402
from regsuite_slicer.jobs import WorkerPool, shared_pool  # noqa: E402

HERE = Path(__file__).parent
SLICES = ("Red", "Green", "Yellow")


@pytest.fixture(scope="module", autouse=True)
def workers_end() -> Iterator[None]:
    yield
    lung_case.close_shared_pool()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lung_case.make_phantom_files(tmp_path_factory.mktemp("thorax") / "data")


@pytest.fixture
def lung(scene: Any) -> Iterator[panel.Panel]:
    dialogs.reset()
    opened = lung_case.open_panel()
    yield opened
    opened.close()
    assert leftovers() == []


@pytest.fixture
def case(lung: panel.Panel, files: Path) -> dict[str, Any]:
    return lung_case.load_case(files)


@pytest.fixture
def slow(lung: panel.Panel) -> Iterator[WorkerPool]:
    """The panel's jobs are done by a worker that reports for ever and leaves files behind when it is killed."""
    pool = lung.logic.pool
    lung.logic.pool = WorkerPool([sys.executable, str(HERE / "fake_worker.py"), "slow"])
    yield lung.logic.pool
    lung.logic.pool.close()
    lung.logic.pool = pool


def apply_and_wait(lung: panel.Panel, timeout_s: float = 180) -> panel.Wait:
    panel.click(lung.ui.applyButton)
    return panel.wait_until(lambda: lung.widget.run is None, timeout_s, "the job to end")


def view_pixels(orientation_of: dict[str, Any] | None = None) -> list[np.ndarray]:
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
    assert not ui.methodComboBox.visible
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
    for photo in (photo_dir / "lung-panel-result.png",):
        panel.photograph(lung, photo)
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
    apply_and_wait(lung)
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
    assert lung.widget.results._report["inputs"] and lung.widget.results._report["files"]["fixed_mask"] == "fixed_mask.nrrd"


# ---- jobs that do not reach their end

def test_cancel(lung: panel.Panel, case: dict[str, Any], photo_dir: Path, capsys: Any) -> None:
    choose(lung, case, settings={"finest_mm": 2.0})
    before = scene_state()
    panel.click(lung.ui.applyButton)
    panel.wait_until(lambda: lung.ui.progressBar.value > 120, 120)
    pid = lung.widget.run.job.worker_pid
    assert alive(pid) and leftovers()
    panel.click(lung.ui.cancelButton)
    waited = panel.wait_until(lambda: lung.widget.run is None, 20)
    with capsys.disabled():
        print(f"\nCancel to everything gone (real worker): {waited.elapsed_s:.2f} s")
    assert waited.elapsed_s < 3
    assert not alive(pid) and leftovers() == [] and scene_state() == before
    assert lung.ui.statusLabel.text == "Cancelled; nothing was changed." and lung.ui.applyButton.enabled
    panel.photograph(lung, photo_dir / "lung-panel-cancelled.png")


def test_killed_at_random_moments(lung: panel.Panel, case: dict[str, Any], slow: WorkerPool) -> None:
    choose(lung, case)
    before, moments = scene_state(), random.Random(7)
    for _ in range(20):
        lung.ui.statusLabel.text = ""
        panel.click(lung.ui.applyButton)
        panel.wait_until(lambda: bool(slow.workers), 20)
        panel.spin(moments.uniform(0.0, 0.3))
        os.kill(slow.workers[0].process.processId(), signal.SIGKILL)
        panel.wait_until(lambda: lung.widget.run is None, 20)
        assert "memory ran out" in lung.ui.statusLabel.text
        assert scene_state() == before and leftovers() == [] and slow.workers == ()
        assert lung.ui.applyButton.enabled and not lung.ui.progressBar.visible


def test_killed_while_the_real_worker_works(lung: panel.Panel, case: dict[str, Any], caplog: Any) -> None:
    choose(lung, case, settings={"finest_mm": 2.0})
    before, moments = scene_state(), random.Random(2)
    for _ in range(int(os.environ.get("REGSUITE_REAL_KILLS", "2"))):
        panel.click(lung.ui.applyButton)
        panel.wait_until(lambda: lung.widget.run.job is not None, 20)
        panel.spin(moments.uniform(0.3, 4.0))
        os.kill(lung.widget.run.job.worker_pid, signal.SIGKILL)
        panel.wait_until(lambda: lung.widget.run is None, 20)
        panel.spin(0.1)
        assert [r.levelname for r in caplog.records if "memory ran out" in r.getMessage()] == ["ERROR"]
        caplog.clear()
        assert scene_state() == before and leftovers() == []


def test_an_error_of_the_worker_is_told(lung: panel.Panel, case: dict[str, Any]) -> None:
    few = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Few")
    few.AddControlPoint(0.0, 0.0, 0.0)
    choose(lung, case)
    lung.ui.movingLandmarksSelector.setCurrentNode(few)
    before = scene_state()
    apply_and_wait(lung)
    assert "200 and 1" in lung.ui.statusLabel.text and scene_state() == before
    lung.ui.logButton.checked = True
    assert lung.ui.logText.visible and lung.ui.logText.toPlainText()


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_deleting_an_input_during_a_run_is_survived(lung: panel.Panel, case: dict[str, Any], role: str) -> None:
    choose(lung, case, landmarks=False)
    panel.click(lung.ui.applyButton)
    panel.wait_until(lambda: lung.ui.progressBar.value > 150, 120)
    slicer.mrmlScene.RemoveNode(case[role])
    panel.wait_until(lambda: lung.widget.run is None, 120)
    assert lung.widget.parameters.outputTransform is not None
    assert f"Deleted during the run: the {role} node" in lung.ui.statusLabel.text
    assert not lung.ui.applyButton.enabled and not lung.ui.overlayButton.enabled


def test_deleting_an_input_before_it_was_written(lung: panel.Panel, case: dict[str, Any], slow: WorkerPool) -> None:
    choose(lung, case)
    panel.click(lung.ui.applyButton)
    slicer.mrmlScene.RemoveNode(case["moving"])
    panel.wait_until(lambda: lung.widget.run is None, 20)
    assert lung.ui.statusLabel.text == "The moving volume was removed before it could be read."
    assert slow.workers == ()


def test_closing_the_scene_during_a_run_cancels_it(lung: panel.Panel, case: dict[str, Any], slow: WorkerPool) -> None:
    choose(lung, case)
    panel.click(lung.ui.applyButton)
    panel.wait_until(lambda: lung.ui.progressBar.value > 0, 20)
    app.reset_scene()
    empty = slicer.mrmlScene.GetNumberOfNodes()
    panel.wait_until(lambda: lung.widget.run is None, 20)
    assert slicer.mrmlScene.GetNumberOfNodes() == empty and leftovers() == [] and slow.workers == ()
    assert lung.ui.applyButton.toolTip == "Select the fixed volume."


# ---- scenes

def test_save_close_and_load_with_the_panel_open(lung: panel.Panel, case: dict[str, Any], tmp_path: Path) -> None:
    choose(lung, case)
    apply_and_wait(lung)
    verdict, after = lung.ui.verdictLabel.text, correlation(case["fixed"], case["moving"])
    control(lung, "smoothness").value = 4.25
    assert slicer.util.saveScene(str(tmp_path / "lung.mrb"))
    counts = []
    for _ in range(2):
        app.reset_scene()
        counts.append(slicer.mrmlScene.GetNumberOfNodes())
        assert lung.ui.fixedVolumeSelector.currentNode() is None and lung.ui.verdictLabel.text == "No result yet."
        assert control(lung, "smoothness").value == 3.0
        slicer.util.loadScene(str(tmp_path / "lung.mrb"))
        parameters = lung.widget.parameters
        assert (parameters.fixedVolume.GetName(), parameters.movingVolume.GetName()) == ("Exhale", "Inhale")
        assert lung.ui.movingLandmarksSelector.currentNode().GetName() == "Moving landmarks"
        assert parameters.lungConvex.smoothness == control(lung, "smoothness").value == 4.25
        assert lung.ui.applyButton.enabled and lung.ui.verdictLabel.text == verdict
        assert lung.ui.previewButton.checked and lung.ui.overlayButton.enabled and not lung.ui.exportButton.enabled
        assert correlation(parameters.fixedVolume, parameters.movingVolume) == pytest.approx(after, abs=0.002)
    assert counts[0] == counts[1], "nodes are left over each time a scene is closed"
    panel.click(lung.ui.checkerboardButton)
    panel.click(lung.ui.checkerboardButton)


def test_the_panel_can_be_left_and_entered_again(lung: panel.Panel, case: dict[str, Any], slow: WorkerPool) -> None:
    choose(lung, case)
    panel.click(lung.ui.applyButton)
    panel.wait_until(lambda: lung.ui.progressBar.value > 0, 20)
    lung.widget.exit()
    assert lung.widget.run is not None
    lung.widget.enter()
    assert lung.ui.cancelButton.enabled
    panel.click(lung.ui.cancelButton)
    panel.wait_until(lambda: lung.widget.run is None, 20)
    lung.widget.exit()
    assert lung.widget.parameters is None and not lung.ui.applyButton.enabled
    lung.widget.enter()
    assert lung.ui.applyButton.enabled and lung.ui.fixedVolumeSelector.currentNode() is case["fixed"]


# ---- more than one panel, and none

def second_module(folder: Path) -> Path:
    """Another panel made from the parts: the module, its .ui, and nothing else."""
    source = lung_case.MODULE.parent
    target = folder / "SecondRegistration"
    (target / "Resources" / "UI").mkdir(parents=True)
    for name in ("LungRegistration.py", "Resources/UI/LungRegistration.ui"):
        text = (source / name).read_text(encoding="utf-8").replace("LungRegistration", "SecondRegistration")
        (target / name.replace("LungRegistration", "SecondRegistration")).write_text(text, encoding="utf-8")
    return target / "SecondRegistration.py"


def test_two_panels_at_once(lung: panel.Panel, case: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    second = lung_case.open_panel(second_module(tmp_path_factory.mktemp("second")))
    try:
        choose(lung, case, landmarks=False)
        choose(second, {"fixed": case["moving"], "moving": case["fixed"]}, landmarks=False)
        panel.click(lung.ui.applyButton)
        panel.click(second.ui.applyButton)
        panel.wait_until(lambda: min(lung.ui.progressBar.value, second.ui.progressBar.value) > 50, 120)
        pids = {opened.widget.run.job.worker_pid for opened in (lung, second)}
        assert len(pids) == 2
        panel.click(second.ui.cancelButton)
        panel.wait_until(lambda: second.widget.run is None, 20)
        panel.wait_until(lambda: lung.widget.run is None, 180)
        assert second.ui.statusLabel.text.startswith("Cancelled") and lung.ui.statusLabel.text.startswith("Finished")
        assert second.widget.parameters.outputTransform is None
        assert lung.widget.parameters.outputTransform.GetName() == "Inhale to Exhale"
    finally:
        second.close()


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
    for options, words in (({"preset": "Fastest"}, "Fastest"), ({"settings": {"smothness": 1.0}}, "smothness"), ({"method": "lung"}, "lung")):
        with pytest.raises((JobError, ValueError), match=words):
            lung.logic.register(case["fixed"], case["moving"], **options)
    with pytest.raises(JobError, match="Select the moving volume"):
        lung.logic.register(case["fixed"], None)
    assert leftovers() == []


def console_example() -> str:
    """The example of the tutorial, word for word."""
    text = (HERE.parents[1] / "Documentation" / "Tutorial.md").read_text(encoding="utf-8")
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
        exec({console_example()!r})
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


def test_nothing_waits_for_torch(lung: panel.Panel, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from regsuite_slicer import install

    outcome = install.Outcome(install.State.DECLINED, "PyTorch was not installed because you declined.")
    monkeypatch.setattr(install, "ensure_torch", lambda repair=False: outcome)
    choose(lung, case)
    before = scene_state()
    panel.click(lung.ui.applyButton)
    panel.spin(0.05)
    assert lung.widget.run is None and "declined" in lung.ui.statusLabel.text and scene_state() == before
    began = time.perf_counter()
    lung_case.open_panel()
    assert time.perf_counter() - began < 5
