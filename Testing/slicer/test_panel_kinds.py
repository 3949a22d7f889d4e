"""What a panel may have besides a fixed and a moving volume: lists, values, transforms; a job without a method."""
from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import app

app.start()

import lung_case  # noqa: E402,F401 - puts the packages on the path
import SimpleITK as sitk  # noqa: E402
import slicer  # noqa: E402
from regsuite_slicer import install  # noqa: E402
from regsuite_slicer.job import JobError, JobState, Progress  # noqa: E402
from regsuite_slicer.logic_base import Input, Listeners, PanelSpec, RegistrationLogic  # noqa: E402


class EchoPool:
    """Keeps the request and ends the job as a worker would."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = {}

    def submit(self, request: dict[str, Any], *, on_finished: Any, **_: Any) -> Any:
        self.request = dict(request)
        self.shapes = [sitk.ReadImage(path).GetSize() for path in request["images"]]
        self.shift = sitk.ReadTransform(request["transform"]).TransformPoint((0.0, 0.0, 0.0))
        folder = Path(request["out"])
        folder.mkdir()
        (folder / "answer.txt").write_text("42")
        on_finished({"out": str(folder)})


class ListLogic(RegistrationLogic):
    """Several volumes with a number each, and a transform."""

    PARAMETERS = None
    SPEC = PanelSpec(
        methods={},
        inputs=(
            Input("volumes", "images", "volumes", "time points", required=True),
            Input("ages", "ages", "value", "ages"),
            Input("start", "transform", "transform", "start"),
        ),
        command="longitudinal",
    )

    def deliver(self, outputs: Any, folder: Path) -> str:
        return f"{outputs}{(folder / 'answer.txt').read_text()}"


def volume(name: str, shape: tuple[int, int, int]) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.zeros(shape, dtype=np.int16))
    return node


@pytest.fixture()
def logic(monkeypatch: pytest.MonkeyPatch) -> ListLogic:
    app.reset_scene()
    monkeypatch.setattr(install, "ensure_torch", lambda **_: install.Outcome(install.State.INSTALLED, ""))
    return ListLogic(EchoPool())  # type: ignore[arg-type]


def test_lists_values_and_transforms_reach_the_worker(logic: ListLogic) -> None:
    volumes = [volume("a", (3, 4, 5)), volume("b", (6, 5, 4))]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "start")
    matrix = np.eye(4)
    matrix[:3, 3] = (1.0, 2.0, 3.0)
    transform.SetMatrixTransformFromParent(slicer.util.vtkMatrixFromArray(matrix))
    heard: list[Any] = []
    inputs = {"volumes": volumes, "ages": [2.0, 5.5], "start": transform}
    run = logic.begin(inputs, "answer ", listeners=Listeners(finished=heard.append))
    assert run.wait(20) == "answer 42" and run.state is JobState.FINISHED and heard == ["answer 42"]
    assert logic.pool.request["command"] == "longitudinal" and logic.pool.request["ages"] == [2.0, 5.5]
    assert logic.pool.shapes == [(5, 4, 3), (4, 5, 6)], "in the order given"
    assert logic.pool.shift == (-1.0, -2.0, 3.0), "in the file points are LPS"
    assert "method" not in logic.pool.request and not run.folder.exists()


class ComplainingPool:
    """Ends the job with a message about its files, or with a report that holds one."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def submit(self, request: dict[str, Any], *, on_progress: Any, on_finished: Any, on_failed: Any, **_: Any) -> Any:
        first, second = (Path(path) for path in request["images"])
        said = f"'{second.name}' is flat; compare {first} and '{request['transform']}'. images_02.nrrdx, my.images_02.nrrd stay."
        on_progress(Progress(0.5, "Preparing", second.name))
        if self.fails:
            on_failed(JobError(said, "input"))
            return
        folder = Path(request["out"])
        for part in (folder, folder / "dose"):
            part.mkdir()
            (part / "report.json").write_text(json.dumps({"files": {"a": second.name}, "warnings": [said], "number": 0.1}))
        (folder / "answer.txt").write_text("42")
        on_finished({"out": str(folder)})


@pytest.mark.parametrize("fails", [True, False], ids=["message", "report"])
def test_what_is_said_of_files_is_said_of_the_nodes(logic: ListLogic, fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "my start")
    inputs = {"volumes": [volume("Child 2", (3, 4, 5)), volume('Child \\1 "old"', (3, 4, 5))], "start": transform}
    expected = "'Child \\1 \"old\"' is flat; compare Child 2 and 'my start'. images_02.nrrdx, my.images_02.nrrd stay."
    logic.pool = ComplainingPool(fails)  # type: ignore[assignment]
    reports: list[dict[str, Any]] = []

    def keep(_self: Any, _outputs: Any, folder: Path) -> str:
        reports.extend(json.loads((part / "report.json").read_text()) for part in (folder, folder / "dose"))
        return "kept"

    monkeypatch.setattr(ListLogic, "deliver", keep)
    heard: list[str] = []
    run = logic.begin(inputs, None, listeners=Listeners(progress=lambda progress: heard.append(progress.detail)))
    if fails:
        with pytest.raises(JobError) as told:
            run.wait(20)
        assert str(told.value) == expected and told.value.kind == "input"
    else:
        run.wait(20)
        assert reports == 2 * [{"files": {"a": "images_02.nrrd"}, "warnings": [expected], "number": 0.1}]
    assert 'Child \\1 "old"' in heard


def test_an_empty_list_and_an_empty_volume_are_named(logic: ListLogic) -> None:
    with pytest.raises(JobError, match="Select the time points"):
        logic.begin({"volumes": []}, None)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(JobError, match="time points 'nothing' is empty"):
        logic.begin({"volumes": [volume("a", (3, 4, 5)), empty]}, None)


def test_an_input_that_changes_while_it_is_read_is_told(logic: ListLogic, monkeypatch: pytest.MonkeyPatch) -> None:
    from regsuite_slicer import arrays

    monkeypatch.setattr(arrays, "_SLAB_BYTES", 100)
    node = volume("a", (50, 4, 5))

    def edited(progress: Any) -> None:
        node.GetImageData().Modified()

    run = logic.begin({"volumes": [node]}, None, listeners=Listeners(progress=edited))
    began = time.monotonic()
    while not run.ended and time.monotonic() - began < 20:
        slicer.app.processEvents()
        node.GetImageData().Modified()
    assert run.error is not None and "was changed while it was read" in str(run.error)
