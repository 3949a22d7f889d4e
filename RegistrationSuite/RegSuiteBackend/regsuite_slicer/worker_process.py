"""One worker process: requests go in, answers come out, and every way to die becomes one message."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import qt

from regsuite_slicer.install import explain_import_error
from regsuite_slicer.job import LOG_LINES, Job, JobCancelled, JobError, Progress

CANCEL_GRACE_S = 0.6
"""A cancelled job may stop by itself this long; then its worker is killed."""
IDLE_S = 600.0
"""A warm worker without a job leaves after this time, so that it does not hold memory for ever."""
_LONGEST_LINE = 1 << 24
_SIGKILL = 9
_BACKEND = Path(__file__).resolve().parents[1]
_OUT_OF_MEMORY = (
    "The registration process was ended by the system, most likely because memory ran out. "
    "Close other programs, or choose the Preview preset or smaller images."
)
_UNREADABLE = "The registration process sent an answer that cannot be read, and was ended; see the log. Nothing was changed."


class Owner(Protocol):
    """Who is told about a worker."""

    def free(self, worker: Worker) -> None:
        """Its job has ended."""

    def forget(self, worker: Worker) -> None:
        """It is gone."""


class Worker:
    """One worker process; it does one job at a time and tells its owner when it is free or gone."""

    def __init__(self, command: Sequence[str], owner: Owner) -> None:
        self.pid: int | None = None
        self.job: Job | None = None
        self._owner, self._number = owner, 0
        self._buffer, self._errors = b"", b""
        self._tail: deque[str] = deque(maxlen=LOG_LINES)
        self._failure: JobError | None = None
        self._ready = False
        self.process = qt.QProcess()
        self.process.setProcessEnvironment(environment())
        self.process.setWorkingDirectory(str(_BACKEND))
        self.process.connect("readyReadStandardOutput()", self._read)
        self.process.connect("readyReadStandardError()", self._read_errors)
        self.process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self.process.connect("errorOccurred(QProcess::ProcessError)", self._error)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self.kill)
        self.process.start(command[0], list(command[1:]))

    @property
    def alive(self) -> bool:
        """Whether the process runs; a death that nobody has heard of yet is noticed here."""
        return self.process.state() != qt.QProcess.NotRunning and not self.process.waitForFinished(0)

    def run(self, job: Job) -> None:
        """Send the job's request; a worker that still starts reads it when it is ready."""
        self._timer.stop()
        self._number += 1
        self.job, job._worker = job, self
        job.log.extend(self._tail)
        self._tail.clear()
        if self.process.state() == qt.QProcess.NotRunning:  # Windows tells of a failed start within start()
            qt.QTimer.singleShot(0, lambda: self._gone(self._failure or _death(0, True, self._ready, job.log)))
            return
        self._send({**job.request, "job": self._number})

    def stop_job(self) -> None:
        """Cancel: ask, and kill when that does not help. The worker leaves in any case, with all that it holds."""
        self._send({"command": "cancel", "job": self._number})
        self._timer.start(int(1000 * CANCEL_GRACE_S))

    def rest(self) -> None:
        """Stay warm for a while."""
        self.job = None
        self._timer.start(int(1000 * IDLE_S))

    def close(self, patience_s: float = 0.0) -> None:
        """End the process: let it leave by itself for `patience_s`, then kill it, and wait until it is gone."""
        if self.process.state() == qt.QProcess.NotRunning:
            return
        self.process.closeWriteChannel()
        if not (patience_s and self.process.waitForFinished(int(1000 * patience_s))):
            self.kill()
            self.process.waitForFinished(2000)

    def kill(self) -> None:
        """End the process at once."""
        if self.pid is not None and self.process.state() != qt.QProcess.NotRunning:
            try:
                os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            except OSError:
                self.pid = None  # gone already
        self.process.kill()

    def _send(self, message: Mapping[str, Any]) -> None:
        self.process.write((json.dumps(message) + "\n").encode("utf-8"))

    def _read(self) -> None:
        self._buffer += read_bytes(self.process.readAllStandardOutput())
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > _LONGEST_LINE:
            lines.append(self._buffer)
        failures = []
        for line in lines:
            try:
                self._hear(line)
            except Exception as error:  # a listener's; the lines behind must be heard all the same
                failures.append(error)
        if failures:
            raise failures[0]

    def _hear(self, line: bytes) -> None:
        if self._failure is not None or not line.strip():
            return
        try:
            kind, number, content = _parse(line)
        except (ValueError, TypeError, KeyError) as error:
            self._note(f"unreadable answer ({error!r}): {line[:200]!r}")
            self._fail(JobError(_UNREADABLE, "protocol"))
            return
        if kind == "hello":
            self.pid = content
        elif kind == "ready":
            self._ready = True
        elif self.job is not None and number in (self._number, None):
            if kind == "progress":
                self.job.progress(content)
            else:
                self._answer(self.job, content)

    def _answer(self, job: Job, outcome: dict[str, Any] | JobError) -> None:
        """A result frees the worker; so does an error that leaves it healthy. After cancelling it goes, see _finished."""
        if job.cancelling:
            self.kill()
        elif isinstance(outcome, JobError) and outcome.kind not in ("input", "cancelled"):
            # After running out of memory a process may hold on to much of it, and on the GPU everything is uncertain.
            self._fail(outcome)
        else:
            self._owner.free(self)
            job.end(outcome)

    def _fail(self, error: JobError) -> None:
        """End the process; its job gets `error` once it is gone."""
        self._failure = error
        self.kill()

    def _read_errors(self) -> None:
        self._errors += read_bytes(self.process.readAllStandardError())
        *lines, self._errors = self._errors[-_LONGEST_LINE:].split(b"\n")
        for line in lines:
            self._note(line.decode("utf-8", "replace").rstrip())

    def _note(self, text: str) -> None:
        (self._tail if self.job is None else self.job.log).append(text)

    def _error(self, error: Any) -> None:
        if error == qt.QProcess.FailedToStart:
            self._failure = JobError(f"The registration process could not be started: {self.process.errorString()}.", "start")
            self._gone(self._failure)

    def _finished(self, code: int, status: Any) -> None:
        try:
            self._read_errors()
            self._read()
        finally:  # a listener that fails must not leave a job that never ends
            crashed = status != qt.QProcess.NormalExit
            self._gone(self._failure or _death(code, crashed, self._ready, self.job.log if self.job else ()))

    def _gone(self, error: JobError) -> None:
        self._timer.stop()
        self._owner.forget(self)
        job, self.job = self.job, None
        if job is not None:
            job.end(JobCancelled() if job.cancelling else error)


def _parse(line: bytes) -> tuple[str, Any, Any]:
    """(type, job number, content) of a line of the worker; raises ValueError, TypeError or KeyError for anything else.

    content: process id of hello, Progress of progress, the whole of result, JobError of error.
    """
    message = json.loads(line)
    kind = message["type"]
    if kind == "hello":
        return kind, None, int(message["pid"])
    if kind == "ready":
        return kind, None, None
    number = message["job"]
    if kind == "progress":
        left = message.get("seconds_left")
        left = None if left is None else float(left)
        return kind, number, Progress(float(message["fraction"]), str(message["stage"]), str(message["detail"]), left)
    if kind == "result":
        return kind, number, dict(message)
    if kind == "error":
        return kind, number, JobError(str(message["message"]), str(message["kind"]))
    raise ValueError(f"unknown type {kind!r}")


def _death(code: int, crashed: bool, ready: bool, log: Iterable[str]) -> JobError:
    """What to tell about a process that ended before its answer; `ready`: torch was imported."""
    lines = [line.strip() for line in log if line.strip()]
    if (crashed and code == _SIGKILL) or code in (128 + _SIGKILL, -_SIGKILL):
        return JobError(_OUT_OF_MEMORY, "memory")
    if not ready and not crashed:
        return JobError(explain_import_error("\n".join(lines), code).message, "torch")
    how = f"crashed (signal {code})" if crashed else f"ended with code {code}"
    reason = f"Its last words: {lines[-1][:300]}" if lines else "Perhaps memory ran out."
    return JobError(f"The registration process {how} before it had a result; nothing was changed. {reason}", "crash")


def python_program() -> str:
    """The interpreter of this application for programs without a window."""
    return shutil.which("PythonSlicer") or sys.executable


def environment() -> Any:
    """Slicer's own environment with both packages on the path."""
    variables = qt.QProcessEnvironment.systemEnvironment()
    others = [entry for entry in variables.value("PYTHONPATH", "").split(os.pathsep) if entry]
    variables.insert("PYTHONPATH", os.pathsep.join([str(_BACKEND), *others]))
    variables.insert("PYTHONUNBUFFERED", "1")
    variables.insert("PYTHONIOENCODING", "utf-8")
    variables.insert("MPLBACKEND", "Agg")
    if not variables.contains("OMP_WAIT_POLICY"):
        variables.insert("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the processor to Slicer
    return variables


def read_bytes(array: Any) -> bytes:
    """Contents of a QByteArray, whichever type this Qt binding gives."""
    data = array.data()
    return data if isinstance(data, bytes) else bytes(data, "latin-1") if isinstance(data, str) else bytes(data)
