"""Registration in a process of its own, spoken to in JSON lines. The GUI starts it, listens, and kills it to cancel.

    python -m regsuite.worker job.json     one job
    python -m regsuite.worker --serve      a warm worker: one request per line on stdin, until stdin closes

Request: {"job": id, "command": "register" | "apply" | ... (COMMANDS), ...fields of the command's request};
{"command": "cancel", "job": id} stops it (without an id: whichever runs). Answers on stdout, one object per line:

    {"type": "ready", "versions": {...}}                       --serve only, once, torch already imported
    {"type": "progress", "job", "fraction", "stage", "detail", "seconds_left"}
    {"type": "result", "job", "command", "out", ...}           register: files, status, warnings, metrics, verdict
    {"type": "error", "job", "kind", "message"}                kind: input | cancelled | memory | internal

Progress comes at most ten times and at least once a second. Nothing but the protocol goes to stdout. The worker leaves when
stdin closes (--serve) or its parent dies, cleaning up what it had begun.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any

from regsuite.errors import Cancelled, InputError, RegSuiteError

_SHORTEST_S, _LONGEST_S, _POLL_S = 0.1, 0.8, 0.05
_GRACE_S = 5.0
"""After its parent is gone a job gets this long to stop in an orderly way."""


class Channel:
    """Writes one JSON object per line; safe to use from several threads."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def send(self, **message: Any) -> None:
        """Write and flush; a listener that is gone is no error (the worker is about to leave)."""
        line = json.dumps(message, allow_nan=False)
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                return


class Reporter:
    """The progress callback of one job: keeps the latest state and sends it at a steady rate from a thread of its own."""

    def __init__(self, channel: Channel, job: object, cancelled: threading.Event) -> None:
        self._channel, self._job, self._cancelled = channel, job, cancelled
        self._state = (0.0, "Starting", "")
        self._fresh = True
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def __call__(self, fraction: float, stage: str, detail: str) -> bool:
        """progress(fraction, stage, detail); False asks the work to stop."""
        self._state, self._fresh = (fraction, stage or self._state[1], detail), True
        return not self._cancelled.is_set()

    def _beat(self) -> None:
        sent = -_LONGEST_S
        while not self._stop.is_set():
            now = time.monotonic()
            if now - sent >= (_SHORTEST_S if self._fresh else _LONGEST_S):
                self._fresh, sent = False, now
                self._send()
            self._stop.wait(_POLL_S)

    def _send(self) -> None:
        fraction, stage, detail = self._state
        elapsed = time.monotonic() - self._began
        left = round(elapsed * (1.0 - fraction) / fraction, 1) if fraction >= 0.05 else None
        self._channel.send(
            type="progress", job=self._job, fraction=round(fraction, 4), stage=stage, detail=detail, seconds_left=left
        )


def _register(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.register import REPORT, run_registration
    from regsuite.pipeline.request import RegistrationRequest

    out = run_registration(RegistrationRequest.from_dict(fields), progress)
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    files = {path.name: str(path) for path in sorted(out.iterdir()) if path.is_file()}
    kept = ("status", "status_message", "warnings", "metrics", "findings", "verdict", "timings_s", "device")
    return {"out": str(out), "files": files, **{name: report[name] for name in kept}}


def _apply(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.apply import ApplyRequest, run_apply
    from regsuite.pipeline.request import from_mapping

    return {"out": str(run_apply(from_mapping(ApplyRequest, fields), progress))}


def _evaluate(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.evaluate import EvaluationRequest, run_evaluation
    from regsuite.pipeline.request import from_mapping

    request = from_mapping(EvaluationRequest, fields)
    report = run_evaluation(request, progress)
    return {"out": request.out, "metrics": report["metrics"], "verdict": report["verdict"]}


def _slices(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.slices import REPORT, run_slices
    from regsuite.pipeline.slices_inputs import SlicesRequest

    out = run_slices(SlicesRequest.from_dict(dict(fields)), progress)
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    kept = ("status", "status_message", "warnings", "slices", "regions", "verdict", "timings_s", "device")
    files = {path.name: str(path) for path in sorted(out.iterdir())}
    return {"out": str(out), "files": files, **{name: report[name] for name in kept}}


def _uncertainty(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.request import from_mapping
    from regsuite.pipeline.uncertainty import REPORT, UncertaintyRequest, run_uncertainty

    out = run_uncertainty(from_mapping(UncertaintyRequest, fields), progress)
    report = json.loads((out / REPORT).read_text(encoding="utf-8"))
    files = {path.name: str(path) for path in sorted(out.iterdir()) if path.is_file()}
    kept = ("status", "warnings", "sigma_mm", "correlation_mm", "folding_of_samples", "calibration", "timings_s", "device")
    return {"out": str(out), "files": files, **{name: report[name] for name in kept}}


def _uncertain_dose(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.request import from_mapping
    from regsuite.pipeline.uncertain_dose import UncertainDoseRequest, run_uncertain_dose

    return {"out": str(run_uncertain_dose(from_mapping(UncertainDoseRequest, fields), progress))}


def _dose(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.dose import DoseRequest, run_dose
    from regsuite.pipeline.request import from_mapping

    return _evaluated(run_dose(from_mapping(DoseRequest, fields), progress))


def _dvh(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.dvh import DvhRequest, run_dvh
    from regsuite.pipeline.request import from_mapping

    return _evaluated(run_dvh(from_mapping(DvhRequest, fields), progress))


def _evaluated(out: Path) -> dict[str, Any]:
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    files = {path.name: str(path) for path in sorted(out.iterdir()) if path.is_file()}
    return {"out": str(out), "files": files, **{name: report[name] for name in ("warnings", "structures", "timings_s")}}


def _longitudinal(fields: Mapping[str, Any], progress: Reporter) -> dict[str, Any]:
    from regsuite.pipeline.longitudinal import LongitudinalRequest, run_longitudinal

    return {"out": str(run_longitudinal(LongitudinalRequest.from_dict(fields), progress))}


COMMANDS: dict[str, Callable[[Mapping[str, Any], Reporter], dict[str, Any]]] = {
    "register": _register,
    "apply": _apply,
    "evaluate": _evaluate,
    "slices": _slices,
    "uncertainty": _uncertainty,
    "uncertain_dose": _uncertain_dose,
    "dose": _dose,
    "dvh": _dvh,
    "longitudinal": _longitudinal,
}


def run_job(request: object, channel: Channel, cancelled: threading.Event) -> bool:
    """Do one job; sends progress and then exactly one result or error. True when there is a result."""
    job = request.get("job") if isinstance(request, dict) else None
    try:
        with Reporter(channel, job, cancelled) as reporter:
            command, fields = _split(request)
            answer = COMMANDS[command](fields, reporter)
    except Cancelled as error:
        kind, message = "cancelled", str(error)
    except RegSuiteError as error:
        kind, message = "input", str(error)
    except Exception as error:  # whatever a method does wrong, the listener gets a message and the next job its turn
        traceback.print_exc()
        kind, message = describe(error)
    else:
        channel.send(type="result", job=job, command=command, **answer)
        return True
    channel.send(type="error", job=job, kind=kind, message=message)
    return False


def describe(error: Exception) -> tuple[str, str]:
    """(kind, one sentence) for an error that is not deliberate: memory or internal."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        return "memory", "Not enough memory for this job; close other programs, or choose the Preview preset or smaller images."
    return "internal", f"Unexpected {type(error).__name__}: {text or 'no further description'}."


def _split(request: object) -> tuple[str, dict[str, Any]]:
    from regsuite.pipeline.request import unknown

    if not isinstance(request, dict):
        raise InputError(f"A job must be a JSON object, found {type(request).__name__}.")
    fields = {name: value for name, value in request.items() if name not in ("job", "command")}
    command = request.get("command", "register")
    if command not in COMMANDS:
        raise InputError(f"Unknown command {unknown(str(command), COMMANDS)}.")
    return command, fields


def parse(text: str) -> object:
    """The JSON value of a line or file; raises InputError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"The job is not valid JSON: {error}.") from None


class Server:
    """Answers requests one after the other until its input ends; reads on while a job runs, so that it can be cancelled."""

    def __init__(self, channel: Channel, lines: IO[str]) -> None:
        self._channel, self._lines = channel, lines
        self._jobs: queue.Queue[object] = queue.Queue()
        self._lock = threading.Lock()
        self._running: threading.Event | None = None  # setting it cancels the job that runs now
        self._job: object = None
        self._closed = False

    def run(self) -> int:
        """Import torch, say ready, work; returns the exit code."""
        import torch  # noqa: F401  warm: the first job starts at once

        from regsuite.pipeline import register  # noqa: F401
        from regsuite.pipeline.report import versions

        self._channel.send(type="ready", versions=versions())
        threading.Thread(target=self._listen, daemon=True).start()
        while (request := self._jobs.get()) is not _END:
            with self._lock:
                if self._closed:
                    break
                self._running, self._job = threading.Event(), request.get("job") if isinstance(request, dict) else None
            run_job(request, self._channel, self._running)
            with self._lock:
                self._running = None
        return 0

    def _listen(self) -> None:
        for line in self._lines:
            if not line.strip():
                continue
            try:
                request = parse(line)
            except InputError as error:
                self._channel.send(type="error", job=None, kind="input", message=str(error))
                continue
            if isinstance(request, dict) and request.get("command") == "cancel":
                self._cancel(request.get("job"))
            else:
                self._jobs.put(request)
        with self._lock:
            self._closed = True
        self._cancel(None)
        self._jobs.put(_END)
        _leave_soon()

    def _cancel(self, job: object) -> None:
        """Stop the running job; a job id that is not the running one's is ignored (that job has just ended)."""
        with self._lock:
            if self._running is not None and job in (None, self._job):
                self._running.set()


_END = object()


def _leave_soon() -> None:
    """A job that does not stop within the grace time after the parent is gone is ended by force."""
    watchdog = threading.Timer(_GRACE_S, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()


def _watch_parent(cancelled: threading.Event) -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        cancelled.set()
        _leave_soon()

    threading.Thread(target=watch, daemon=True).start()


def _protocol_stream() -> IO[str]:
    """The real stdout for the protocol; whatever else is printed, from Python or C, goes to stderr."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return stream


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(143)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when there is a result (or stdin closed in --serve), 2 for bad input, 130 cancelled, 1 otherwise."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("regsuite: usage: python -m regsuite.worker (JOB.json | --serve)", file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads would spin beside a busy machine
    signal.signal(signal.SIGTERM, _leave)
    channel = Channel(_protocol_stream())
    cancelled = threading.Event()
    _watch_parent(cancelled)
    if arguments[0] == "--serve":
        return Server(channel, sys.stdin).run()
    try:
        request = parse(Path(arguments[0]).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        channel.send(type="error", job=None, kind="input", message=f"Cannot read the job '{arguments[0]}': {error}")
        return 2
    return 0 if run_job(request, channel, cancelled) else 1


if __name__ == "__main__":
    sys.exit(main())
