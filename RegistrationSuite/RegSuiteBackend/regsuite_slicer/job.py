"""What a job is and how it ends; jobs.py starts them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import qt
import slicer

LOG_LINES = 500
_PAUSE_S = 0.005


class JobError(RuntimeError):
    """A job has no result; its text is one message for the user.

    kind: input | memory | crash | protocol | start | torch | cancelled | internal.
    """

    def __init__(self, message: str, kind: str = "internal") -> None:
        super().__init__(message)
        self.kind = kind


class JobCancelled(JobError):
    """The user cancelled the job."""

    def __init__(self, message: str = "Cancelled.") -> None:
        super().__init__(message, "cancelled")


class JobState(Enum):
    """Where a job is; all but RUNNING are final."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Progress:
    """fraction 0..1, stage in words, detail (may be empty), estimated seconds left (None while unknown)."""

    fraction: float
    stage: str
    detail: str = ""
    seconds_left: float | None = None

    @property
    def time_left(self) -> str:
        """ "about 20 s left", or "" while unknown."""
        if self.seconds_left is None:
            return ""
        seconds = self.seconds_left
        if seconds < 5:
            return "a few seconds left"
        if seconds < 90:
            return f"about {5 * round(seconds / 5):.0f} s left"
        return f"about {seconds / 60:.0f} min left"


class JobWorker(Protocol):
    """What a job needs of the process that does it."""

    pid: int | None

    def stop_job(self) -> None: ...


class Job:
    """One request on its way. `result` is the worker's answer, `error` why there is none; see WorkerPool.submit."""

    def __init__(self, request: Mapping[str, Any], callbacks: Mapping[str, Callable[[Any], None] | None]) -> None:
        self.request = dict(request)
        self.state = JobState.RUNNING
        self.result: dict[str, Any] | None = None
        self.error: JobError | None = None
        self.cancelling = False
        self.heard = False  # whether the worker has said anything about this job
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._callbacks = callbacks
        self._worker: JobWorker | None = None

    @property
    def ended(self) -> bool:
        """Whether one of the final callbacks has been or is being called."""
        return self.state is not JobState.RUNNING

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker while the job runs, once it is known."""
        return self._worker.pid if self._worker is not None else None

    def cancel(self) -> None:
        """Stop within a second: the worker is asked first, then killed. Nothing happens to a job that has ended."""
        if self._worker is not None and not self.ended and not self.cancelling:
            self.cancelling = True
            self._worker.stop_job()

    def wait(self, timeout_s: float | None = None) -> dict[str, Any]:
        """For scripts: return the answer, letting the application repaint meanwhile.

        Raises JobError (JobCancelled when cancelled); TimeoutError, with the job cancelled, after `timeout_s`.
        """
        wait_for(lambda: self.ended, timeout_s, self.cancel)
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def progress(self, progress: Progress) -> None:
        """Tell the listener how far the job is; silent once it is being cancelled."""
        self.heard = True
        if not self.ended and not self.cancelling:
            self._call("on_progress", progress)

    def end(self, outcome: dict[str, Any] | JobError) -> None:
        """Settle the job; only the first call counts."""
        if self.ended:
            return
        self._worker = None
        if isinstance(outcome, JobError):
            self.error = outcome
            self.state = JobState.CANCELLED if isinstance(outcome, JobCancelled) else JobState.FAILED
            self._call("on_cancelled" if self.state is JobState.CANCELLED else "on_failed", outcome)
        else:
            self.result, self.state = outcome, JobState.FINISHED
            self._call("on_finished", outcome)

    def _call(self, name: str, argument: Any) -> None:
        callback = self._callbacks.get(name)
        if callback is not None:
            callback(argument)


def wait_for(done: Callable[[], bool], timeout_s: float | None, give_up: Callable[[], None]) -> None:
    """Return when done() holds. The window repaints meanwhile but takes no input: nothing else can start in between.

    Raises TimeoutError when it took longer than `timeout_s`; give_up() is called then, and must lead to done().
    """
    ends = None if timeout_s is None else time.monotonic() + timeout_s
    late = False
    while not done():
        slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents)
        if not done():
            time.sleep(_PAUSE_S)
        if ends is not None and not late and time.monotonic() > ends:
            late = True
            give_up()
    if late:
        raise TimeoutError(f"The job did not end within {timeout_s:g} s and was cancelled.")
