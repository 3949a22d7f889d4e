"""Jobs in worker processes, spoken to in JSON lines (see regsuite.worker), without ever blocking Slicer's event loop.

    job = shared_pool().submit({"command": "register", ...}, on_progress=..., on_finished=..., on_failed=..., on_cancelled=...)
    job.cancel()             # or, in a script: answer = job.wait()

Exactly one of the last three callbacks is called. QProcess and no threads: while Qt waits for events Slicer's main thread keeps
Python's lock, and a Python thread that reads a pipe would stand still.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import slicer

from regsuite_slicer.job import Job, JobCancelled, JobError, JobState, Progress
from regsuite_slicer.worker_process import Worker, python_program

__all__ = ["Job", "JobCancelled", "JobError", "JobState", "Progress", "WorkerPool", "default_command", "shared_pool"]

# The process that PythonSlicer starts is not the one that Qt knows (a launcher lies between): it tells its own id.
_START = (
    "import os, sys; hasattr(os, 'nice') and os.nice(5); print('{\"type\": \"hello\", \"pid\": %d}' % os.getpid(), flush=True); "
    "from regsuite.worker import main; sys.exit(main(['--serve']))"
)


class WorkerPool:
    """Workers by need: an idle one is used again, else one more is started, so that panels do not wait for each other."""

    def __init__(self, command: Sequence[str] | None = None, max_idle: int = 1) -> None:
        """command: program and arguments that speak the worker's protocol; max_idle: warm workers kept after their jobs."""
        self._command, self._max_idle = command, max_idle
        self._workers: list[Worker] = []
        self._closing = False
        self._gone: deque[Worker] = deque(maxlen=8)  # a QProcess must outlive the slot in which it tells its end
        slicer.app.connect("aboutToQuit()", self.close)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All living workers, busy and idle."""
        return tuple(self._workers)

    def submit(
        self,
        request: Mapping[str, Any],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_finished: Callable[[dict[str, Any]], None] | None = None,
        on_failed: Callable[[JobError], None] | None = None,
        on_cancelled: Callable[[JobError], None] | None = None,
    ) -> Job:
        """Give a request of regsuite.worker to a worker; returns at once. The callbacks are called from the event loop."""
        callbacks = {
            "on_progress": on_progress,
            "on_finished": on_finished,
            "on_failed": on_failed,
            "on_cancelled": on_cancelled,
        }
        job = Job(request, callbacks)
        worker = next((w for w in self.workers if w.job is None and w.alive), None)
        (worker or self._start()).run(job)
        return job

    def _start(self) -> Worker:
        worker = Worker(self._command or default_command(), self)
        self._workers.append(worker)
        return worker

    def free(self, worker: Worker) -> None:
        """Called by a worker whose job has ended."""
        worker.rest()
        if sum(w.job is None for w in self._workers) > self._max_idle:
            worker.kill()

    def forget(self, worker: Worker) -> None:
        """Called by a worker that is gone. After a cancelled job a fresh one starts, so that the next job finds it warm."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        self._gone.append(worker)
        cancelled = worker.job is not None and worker.job.cancelling
        if cancelled and not self._closing and sum(w.job is None for w in self._workers) < self._max_idle:
            self._start().rest()

    def close(self) -> None:
        """End all workers; jobs that run are cancelled. The pool can be used again afterwards."""
        self._closing = True
        try:
            for worker in self.workers:
                if worker.job is not None:
                    worker.job.cancelling = True
                worker.close()
        finally:
            self._closing = False


@cache
def shared_pool() -> WorkerPool:
    """The pool of all panels of this application."""
    return WorkerPool()


def default_command() -> list[str]:
    """PythonSlicer of this application, running the worker of the package that lies beside this one."""
    return [python_program(), "-c", _START]
