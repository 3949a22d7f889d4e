"""The worker's protocol, spoken with a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
INSTALL = "from Testing.unit.pipeline.shift_method import install; install(); "
START = "import sys; from regsuite.worker import main; sys.exit(main())"


class Worker:
    """A worker process with the tests' method, and its answers line by line."""

    def __init__(self, *arguments: str, start: str = INSTALL + START) -> None:
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "RegistrationSuite" / "RegSuiteBackend")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", start, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.answers: list[dict[str, Any]] = []
        self.times: list[float] = []

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def ask(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def until(self, *kinds: str, job: object = None) -> dict[str, Any]:
        """Read answers until one of these kinds (of this job) comes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)  # anything but JSON on stdout fails here
            self.answers.append(answer)
            self.times.append(time.monotonic())
            if answer["type"] in kinds and (job is None or answer["job"] == job):
                return answer
        raise AssertionError(f"the worker ended: {self.process.stderr.read() if self.process.stderr else ''}")


@pytest.fixture(scope="module")
def a_warm_worker() -> Iterator[Worker]:
    """One process for most tests, as in use: it has to survive all of them."""
    worker = Worker("--serve")
    assert "torch" in worker.until("ready")["versions"]
    yield worker
    worker.close()


@pytest.fixture
def a_worker(a_warm_worker: Worker) -> Worker:
    a_warm_worker.answers.clear()
    a_warm_worker.times.clear()
    return a_warm_worker


def job(pair, number: int, **changes: Any) -> dict[str, Any]:
    values = {"method": "test-shift", "fixed": pair.path("fixed.nrrd"), "moving": pair.path("moving.nrrd")}
    return {"job": number, "command": "register", "out": str(pair.folder.parent / f"out{number}")} | values | changes


def left_behind(pair) -> list[str]:
    return sorted(path.name for path in pair.folder.parent.iterdir() if path.name != pair.folder.name)


def test_two_jobs_on_one_warm_worker(a_worker, a_pair):
    for number in (1, 2):
        a_worker.ask(**job(a_pair, number, settings={"chatty": True}))
        result = a_worker.until("result", "error")
        assert (result["type"], result["job"]) == ("result", number)
        assert set(result["files"]) == {"transform.h5", "moved.nrrd", "report.json", "overview.png"}
        assert all(Path(path).is_file() for path in result["files"].values())
        assert result["verdict"]["level"] == "good"
    progress = [answer for answer in a_worker.answers if answer["type"] == "progress"]
    assert {answer["job"] for answer in progress} == {1, 2}
    assert all(0.0 <= answer["fraction"] <= 1.0 and answer["stage"] for answer in progress)


def test_every_kind_of_error_is_one_answer_and_the_worker_goes_on(a_worker, a_pair):
    a_worker.ask(**job(a_pair, 1, moving=a_pair.path("absent.nrrd")))
    a_worker.ask(**job(a_pair, 2, settings={"fail": "memory"}))
    a_worker.ask(**job(a_pair, 3, settings={"fail": "bug"}))
    a_worker.ask(**job(a_pair, 4, sceen=True))
    a_worker.ask(job=5, command="dance")
    a_worker.process.stdin.write("{not json\n")
    a_worker.ask(**job(a_pair, 7))
    kinds, messages = {}, {}
    while 7 not in kinds:
        answer = a_worker.until("error", "result")
        kinds[answer["job"]], messages[answer["job"]] = answer.get("kind", "result"), answer.get("message", "")
    assert kinds == {1: "input", 2: "memory", 3: "internal", 4: "input", 5: "input", None: "input", 7: "result"}
    assert "absent.nrrd" in messages[1]
    assert "scene" in messages[4]
    assert "register" in messages[5]
    assert all("\n" not in message and "Traceback" not in message for message in messages.values())
    assert left_behind(a_pair) == ["out7"]


def test_a_job_is_cancelled_and_the_next_one_runs(a_worker, a_pair):
    a_worker.ask(**job(a_pair, 1, settings={"pauses": 2000, "pause_s": 0.02}))
    while a_worker.until("progress")["stage"] != "Centring":
        pass
    a_worker.ask(command="cancel", job=99)  # not the one that runs
    a_worker.until("progress")
    a_worker.ask(command="cancel", job=1)
    answer = a_worker.until("error", "result")
    assert (answer["job"], answer["kind"]) == (1, "cancelled")
    a_worker.ask(command="cancel")  # nothing runs: no effect on what follows
    a_worker.ask(**job(a_pair, 2))
    assert a_worker.until("error", "result")["type"] == "result"
    assert left_behind(a_pair) == ["out2"]


def test_progress_keeps_a_steady_rate(a_worker, a_pair):
    a_worker.ask(**job(a_pair, 1, settings={"pauses": 400, "pause_s": 0.005}))
    a_worker.ask(**job(a_pair, 2, settings={"pauses": 1, "pause_s": 2.5}))  # silent for 2.5 s
    a_worker.until("result", job=2)
    times: dict[int, list[float]] = {1: [], 2: []}
    for answer, when in zip(a_worker.answers, a_worker.times, strict=True):
        if answer["type"] == "progress":
            times[answer["job"]].append(when)
    busy = times[1][-1] - times[1][0]
    assert len(times[1]) <= 10 * busy + 2
    assert len(times[2]) >= 4


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_kill_leaves_the_results_as_they_were_and_terminate_cleans_up(a_pair):
    for how, leaves_partial in ((signal.SIGTERM, False), (signal.SIGKILL, True)):
        worker = Worker("--serve")
        worker.until("ready")
        worker.ask(**job(a_pair, 1, settings={"pauses": 2000, "pause_s": 0.02}))
        while worker.until("progress")["stage"] != "Centring":
            pass
        worker.process.send_signal(how)
        began = time.monotonic()
        worker.process.wait(10)
        assert time.monotonic() - began < 5
        worker.close()
        names = left_behind(a_pair)
        assert "out1" not in names
        assert all(name.startswith(".") for name in names)
        assert leaves_partial or names == []


def test_closing_stdin_stops_a_running_job_and_stray_prints_went_to_stderr(a_pair):
    worker = Worker("--serve")
    worker.ask(**job(a_pair, 1, settings={"pauses": 5000, "pause_s": 0.02, "chatty": True}))
    while worker.until("progress", "ready").get("stage") != "Centring":
        pass
    worker.process.stdin.close()
    assert worker.process.wait(10) == 0
    assert left_behind(a_pair) == []
    assert "a stray line" in worker.process.stderr.read()
    worker.close()


def test_one_job_from_a_file(a_pair):
    path = a_pair.folder / "job.json"
    path.write_text(json.dumps(job(a_pair, 3)), encoding="utf-8")
    worker = Worker(str(path))
    assert worker.until("result", "error")["type"] == "result"
    assert worker.process.wait(20) == 0
    assert worker.answers[0]["type"] == "progress"
    worker.close()


def test_apply_and_evaluate_are_jobs_too(a_worker, a_pair):
    a_worker.ask(**job(a_pair, 1))
    out = Path(a_worker.until("result", "error")["out"])
    a_worker.ask(job=2, command="apply", transform=str(out / "transform.h5"), image=a_pair.path("moving.nrrd"),
                 like=a_pair.path("fixed.nrrd"), out=str(out / "again.nrrd"))
    assert a_worker.until("result", "error")["type"] == "result"
    assert (out / "again.nrrd").read_bytes() == (out / "moved.nrrd").read_bytes()
    a_worker.ask(job=3, command="evaluate", transform=str(out / "transform.h5"), fixed=a_pair.path("fixed.nrrd"),
                 moving=a_pair.path("moving.nrrd"), out=str(out / "e.json"))
    report = json.loads((out / "report.json").read_text())
    assert a_worker.until("result", "error")["metrics"] == report["metrics"]


@pytest.mark.parametrize(("content", "words"), [("[1, 2]", "JSON object"), ("{", "valid JSON"), (None, "Cannot read")])
def test_a_bad_job_file_is_an_answer(tmp_path, content, words):
    path = tmp_path / "job.json"
    if content is not None:
        path.write_text(content)
    worker = Worker(str(path), start=START)
    answer = worker.until("error")
    assert answer["kind"] == "input"
    assert words in answer["message"]
    assert worker.process.wait(20) in (1, 2)
    worker.close()
