"""Jobs in worker processes: reuse, cancelling, every way to die, and nothing left behind."""
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

import pytest
from harness import app, panel

app.start()

import qt  # noqa: E402
from regsuite_slicer.job import Job, JobCancelled, JobError, JobState, Progress  # noqa: E402
from regsuite_slicer.jobs import WorkerPool  # noqa: E402
from regsuite_slicer.worker_process import Worker  # noqa: E402

HERE = Path(__file__).parent
BACKEND = HERE.parents[1] / "RegistrationSuite" / "RegSuiteBackend"
FAKE = HERE / "fake_worker.py"


class Heard:
    """Records the callbacks of a job."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.times: list[float] = []
        self.ends: list[tuple[str, Any]] = []
        self.began = time.perf_counter()

    def callbacks(self) -> dict[str, Any]:
        def step(progress: Progress) -> None:
            self.progress.append(progress)
            self.times.append(time.perf_counter() - self.began)

        ends = {f"on_{name}": lambda got, name=name: self.ends.append((name, got)) for name in ("finished", "failed", "cancelled")}
        return {"on_progress": step, **ends}


@pytest.fixture
def pools() -> Iterator[Any]:
    """Makes pools of misbehaving workers; they are closed at the end and no process may remain."""
    made: list[WorkerPool] = []

    def make(behaviour: str, **options: Any) -> WorkerPool:
        made.append(WorkerPool([sys.executable, str(FAKE), behaviour], **options))
        return made[-1]

    yield make
    for pool in made:
        pids = [worker.pid for worker in pool.workers]
        pool.close()
        assert not any(alive(pid) for pid in pids)


def alive(pid: int | None) -> bool:
    """Whether a process exists (and is no zombie)."""
    if pid is None:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def run(pool: WorkerPool, timeout_s: float = 30, **request: Any) -> tuple[Any, Heard]:
    heard = Heard()
    job = pool.submit({"command": "register", **request}, **heard.callbacks())
    panel.wait_until(lambda: job.ended, timeout_s, "the job to end")
    return job, heard


def started(pool: WorkerPool) -> tuple[Any, Heard]:
    """A job that has reported something."""
    heard = Heard()
    job = pool.submit({"command": "register"}, **heard.callbacks())
    panel.wait_until(lambda: len(heard.progress) > 2, 30, "progress")
    return job, heard


def test_progress_then_one_result(pools: Any) -> None:
    job, heard = run(pools("good"), steps=4)
    assert job.state is JobState.FINISHED and job.error is None
    assert [p.detail for p in heard.progress] == ["step 0", "step 1", "step 2", "step 3"]
    assert heard.progress[0].stage == "working" and heard.progress[0].time_left == "about 10 s left"
    assert [name for name, _ in heard.ends] == ["finished"]
    assert heard.ends[0][1] is job.result


@pytest.mark.parametrize(("seconds", "text"), [
    (None, ""), (2.0, "a few seconds left"), (17.0, "about 15 s left"), (200.0, "about 3 min left"),
])
def test_time_left_in_words(seconds: float | None, text: str) -> None:
    assert Progress(0.5, "x", seconds_left=seconds).time_left == text


def test_the_warm_worker_is_used_again(pools: Any) -> None:
    pool = pools("good")
    first, second = (run(pool)[0] for _ in range(2))
    assert first.result["pid"] == second.result["pid"]
    assert len(pool.workers) == 1


def test_two_jobs_at_once_do_not_disturb_each_other(pools: Any) -> None:
    pool = pools("good")
    heard = [Heard(), Heard()]
    jobs = [pool.submit({"command": "register", "steps": 60}, **h.callbacks()) for h in heard]
    panel.wait_until(lambda: all(len(h.progress) > 2 for h in heard), 30)
    assert jobs[0].worker_pid != jobs[1].worker_pid
    os.kill(jobs[0].worker_pid, signal.SIGKILL)
    panel.wait_until(lambda: all(job.ended for job in jobs), 30)
    assert [job.state for job in jobs] == [JobState.FAILED, JobState.FINISHED]
    assert len(heard[1].progress) == 60


def test_only_one_idle_worker_is_kept(pools: Any) -> None:
    pool = pools("good")
    jobs = [pool.submit({"command": "register"}) for _ in range(3)]
    panel.wait_until(lambda: all(job.ended for job in jobs) and len(pool.workers) == 1, 30)


@pytest.mark.parametrize("behaviour", ["slow", "deaf"])
def test_cancel_ends_the_worker(pools: Any, behaviour: str, capsys: Any) -> None:
    pool = pools(behaviour)
    job, heard = started(pool)
    pid = job.worker_pid
    reported = len(heard.progress)
    job.cancel()
    job.cancel()
    wait = panel.wait_until(lambda: job.ended, 10)
    with capsys.disabled():
        print(f"\ncancel ({behaviour}): {wait.elapsed_s:.2f} s")
    assert wait.elapsed_s < 3
    assert not alive(pid)
    (fresh,) = pool.workers
    assert fresh.job is None and fresh.process.processId() != pid, "a fresh worker warms up for the next job"
    assert job.state is JobState.CANCELLED and isinstance(job.error, JobCancelled)
    assert [name for name, _ in heard.ends] == ["cancelled"] and len(heard.progress) == reported
    job.cancel()


@pytest.mark.parametrize(("behaviour", "kind", "words"), [
    ("exit", "crash", "ended with code 3 .*something broke"),
    ("segv", "crash", "crashed .signal 11"),
    ("kill", "memory", "memory ran out"),
    ("quiet", "crash", "ended with code 0"),
    ("cut", "crash", "ended with code 0"),
    ("garbage", "protocol", "cannot be read"),
    ("memory", "memory", "An error of kind memory"),
    ("internal", "internal", "An error of kind internal"),
    ("input", "input", "An error of kind input"),
    ("no-torch", "torch", "not installed: torch"),
])
def test_every_end_becomes_one_message(pools: Any, behaviour: str, kind: str, words: str) -> None:
    pool = pools(behaviour)
    job, heard = run(pool)
    assert job.state is JobState.FAILED and job.error.kind == kind
    with pytest.raises(JobError, match=words):
        job.wait()
    assert [name for name, _ in heard.ends] == ["failed"]
    assert len(pool.workers) == (1 if behaviour == "input" else 0)


def test_a_program_that_is_not_there_is_a_message() -> None:
    pool = WorkerPool(["no-such-program-anywhere"])
    job, heard = run(pool)
    assert job.error.kind == "start" and "could not be started" in str(job.error)
    assert len(heard.ends) == 1 and pool.workers == ()


class Nobody:
    """An owner of workers that does nothing."""

    def free(self, worker: Worker) -> None: ...

    def forget(self, worker: Worker) -> None: ...


def test_a_start_that_fails_at_once_is_a_message_too() -> None:
    """As on Windows, where the failure is told before the worker has a job."""
    worker = Worker(["no-such-program-anywhere"], Nobody())
    panel.wait_until(lambda: worker._failure is not None, 10)
    heard = Heard()
    job = Job({"command": "register"}, heard.callbacks())
    worker.run(job)
    assert not job.ended, "the listeners are called from the event loop"
    panel.wait_until(lambda: job.ended, 10)
    assert job.error.kind == "start" and len(heard.ends) == 1


def test_last_words_that_a_listener_cannot_bear_still_end_the_job() -> None:
    def fail(_: Any) -> None:
        raise KeyError("listener")

    worker, ends = Worker(["no-such-program-anywhere"], Nobody()), []
    job = Job({"command": "register"}, {"on_progress": fail, "on_failed": ends.append})
    panel.wait_until(lambda: worker._failure is not None, 10)
    worker.job, job._worker, worker._number, worker._failure = job, worker, 1, None
    worker._buffer = b'{"type": "progress", "job": 1, "fraction": 0.5, "stage": "a", "detail": ""}\n'
    with pytest.raises(KeyError):
        worker._finished(3, qt.QProcess.NormalExit)
    assert job.ended and len(ends) == 1


def test_killed_at_a_random_moment_there_is_always_a_message(pools: Any) -> None:
    pool, moments = pools("slow"), random.Random(4)
    for _ in range(20):
        heard = Heard()
        job = pool.submit({"command": "register"}, **heard.callbacks())
        panel.spin(moments.uniform(0.0, 0.25))
        os.kill(pool.workers[0].process.processId(), signal.SIGKILL)
        panel.wait_until(lambda job=job: job.ended, 10)
        assert [name for name, _ in heard.ends] == ["failed"] and job.error.kind == "memory"
        assert pool.workers == ()


def test_an_idle_worker_that_died_is_not_used(pools: Any) -> None:
    pool = pools("good")
    first, _ = run(pool)
    os.kill(first.result["pid"], signal.SIGKILL)
    time.sleep(0.2)  # no event loop: nobody has told the pool
    second, _ = run(pool)
    assert second.result["pid"] != first.result["pid"]


def test_the_log_is_kept_and_bounded(pools: Any) -> None:
    job, _ = run(pools("chatty"))
    assert list(job.log)[-1] == "line 2999" and len(job.log) == 500


def test_waiting_in_a_script(pools: Any) -> None:
    pool = pools("good")
    assert pool.submit({"command": "register"}).wait()["type"] == "result"
    slow = pools("slow")
    job = slow.submit({"command": "register"})
    with pytest.raises(TimeoutError, match=r"0.4 s"):
        job.wait(timeout_s=0.4)
    assert job.state is JobState.CANCELLED and [worker.job for worker in slow.workers] == [None]


def test_a_listener_that_fails_spoils_nothing(pools: Any) -> None:
    pool = pools("good")

    def fail(_: Any) -> None:
        raise KeyError("listener")

    job = pool.submit({"command": "register"}, on_finished=fail)
    with pytest.raises(app.SlotError, match="listener"):
        panel.wait_until(lambda: job.ended and panel.pending(), 20)
    assert run(pool)[0].state is JobState.FINISHED


def test_closing_the_pool_cancels_and_it_can_be_used_again(pools: Any) -> None:
    pool = pools("slow")
    job, heard = started(pool)
    pool.close()
    assert job.state is JobState.CANCELLED and [name for name, _ in heard.ends] == ["cancelled"]
    assert pool.workers == (), "no fresh worker when the application leaves"
    again, _ = started(pool)
    again.cancel()
    panel.wait_until(lambda: again.ended, 10)


# ---- the real worker

def test_time_to_the_first_word_cold_and_warm(capsys: Any) -> None:
    pool = WorkerPool()
    figures = []
    for _ in range(2):  # a job that fails at once: its first progress counts
        job, heard = run(pool, 120, method="lung-convex", fixed="missing.nrrd", moving="missing.nrrd", out="nowhere/at-all")
        assert job.error.kind == "input" and "missing.nrrd" in str(job.error)
        figures.append(heard.times[0])
    pid = pool.workers[0].pid
    pool.close()
    with capsys.disabled():
        print(f"\nApply to first progress: {figures[0]:.2f} s cold, {figures[1]:.2f} s warm")
    assert figures[1] < 2 and figures[1] < figures[0]
    assert not alive(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="needs /proc")
def test_the_worker_leaves_when_the_application_dies() -> None:
    script = textwrap.dedent(f"""
        import os, sys
        sys.path[:0] = [{str(HERE)!r}, {str(BACKEND)!r}]
        from harness import app, panel
        app.start()
        from regsuite_slicer.jobs import WorkerPool
        pool = WorkerPool()
        pool.submit({{"command": "register"}})
        panel.wait_until(lambda: pool.workers[0].pid is not None, 60)
        print(pool.workers[0].pid, flush=True)
        os._exit(9)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    pid = int(done.stdout.split()[-1])
    ends = time.monotonic() + 120
    while alive(pid) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not alive(pid)
