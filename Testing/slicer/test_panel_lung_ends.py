"""The lung panel when things go otherwise: cancelled, killed, inputs deleted, scenes closed and loaded, two panels at once."""
from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from harness import app, panel
from harness.qt import dialogs

app.start()

import lung_case  # noqa: E402
import slicer  # noqa: E402
from lung_case import alive, apply_and_wait, choose, control, correlation, leftovers, scene_state  # noqa: E402
from regsuite_slicer.jobs import WorkerPool  # noqa: E402

pytest_plugins = ["lung_fixtures"]


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
    assert slicer.mrmlScene.GetNumberOfNodes() == empty and leftovers() == []
    assert [worker.job for worker in slow.workers] == [None], "only a fresh worker for the next job"
    assert lung.ui.applyButton.toolTip == "Select the fixed volume."


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


# ---- scenes

def test_save_close_and_load_with_the_panel_open(lung: panel.Panel, case: dict[str, Any], tmp_path: Path) -> None:
    choose(lung, case)
    apply_and_wait(lung)
    verdict, after = lung.ui.verdictLabel.text, correlation(case["fixed"], case["moving"])
    default = control(lung, "smoothness").value
    control(lung, "smoothness").value = 4.25
    assert slicer.util.saveScene(str(tmp_path / "lung.mrb"))
    counts = []
    for _ in range(2):
        app.reset_scene()
        counts.append(slicer.mrmlScene.GetNumberOfNodes())
        assert lung.ui.fixedVolumeSelector.currentNode() is None and lung.ui.verdictLabel.text == "No result yet."
        assert control(lung, "smoothness").value == default
        slicer.util.loadScene(str(tmp_path / "lung.mrb"))
        parameters = lung.widget.parameters
        assert (parameters.fixedVolume.GetName(), parameters.movingVolume.GetName()) == ("Exhale", "Inhale")
        assert lung.ui.movingLandmarksSelector.currentNode().GetName() == "Moving landmarks"
        assert parameters.lungConvex.smoothness == control(lung, "smoothness").value == 4.25
        assert lung.ui.applyButton.enabled and lung.ui.verdictLabel.text == verdict
        assert lung.ui.previewButton.checked and lung.ui.overlayButton.enabled and lung.ui.exportButton.enabled
        assert correlation(parameters.fixedVolume, parameters.movingVolume) == pytest.approx(after, abs=0.002)
    assert counts[0] == counts[1], "nodes are left over each time a scene is closed"
    folder = tmp_path / "exported"
    folder.mkdir()
    dialogs.answers.append(str(folder))
    panel.click(lung.ui.exportButton)
    assert [path.name for path in folder.iterdir()] == ["Inhale to Exhale report.json"], "the report comes back with the scene"
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
        pids: set[int] = set()

        def both_work() -> bool:
            jobs = [opened.widget.run.job if opened.widget.run is not None else None for opened in (lung, second)]
            pids.update(job.worker_pid for job in jobs if job is not None and job.worker_pid is not None)
            return len(pids) == 2

        panel.wait_until(both_work, 120)
        panel.click(second.ui.cancelButton)
        panel.wait_until(lambda: second.widget.run is None, 20)
        panel.wait_until(lambda: lung.widget.run is None, 180)
        assert second.ui.statusLabel.text.startswith("Cancelled") and lung.ui.statusLabel.text.startswith("Finished")
        assert second.widget.parameters.outputTransform is None
        assert lung.widget.parameters.outputTransform.GetName() == "Inhale to Exhale"
    finally:
        second.close()
