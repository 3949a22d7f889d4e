"""The command line: `regsuite ...` or `python -m regsuite.cli ...`. Torch is only imported when a command works."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from regsuite.errors import Cancelled, RegSuiteError

EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 1, 130, 143


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: run and leave with the exit code of `run`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its idle threads would spin, at twice the processor time
    raise SystemExit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 only with a result; 2 bad input (one line on stderr); 130 interrupted; 143 terminated; 1 an error that is ours.
    """
    from regsuite.cli.app import app
    from regsuite.cli.usage import ClickException, usage_line
    from regsuite.cli.variadic import spread

    arguments = spread(sys.argv[1:] if argv is None else argv)
    _clean_up_on_terminate()
    try:
        code = app(arguments, prog_name="regsuite", standalone_mode=False)
    except Cancelled as error:
        return _fail(str(error), EXIT_INTERRUPTED)
    except RegSuiteError as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except ClickException as error:
        return _fail(usage_line(error), EXIT_BAD_INPUT)
    except BrokenPipeError:  # `regsuite methods | head`
        sys.stderr.close()
        return EXIT_BUG
    except Exception as error:
        if {"-v", "--verbose"} & set(arguments):
            raise
        memory = isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)
        text = "Not enough memory for this job." if memory else f"Unexpected {type(error).__name__}: {str(error).rstrip('.')}."
        return _fail(f"{text} Run with -v for the traceback.", EXIT_BUG)
    if code == EXIT_INTERRUPTED:
        return _fail("Interrupted; nothing was written.", EXIT_INTERRUPTED)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print("regsuite:", " ".join(message.split()), file=sys.stderr)
    return code


def _clean_up_on_terminate() -> None:
    """A batch system stops jobs with SIGTERM: leave through the same clean-up as any other exit."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(EXIT_TERMINATED)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)
