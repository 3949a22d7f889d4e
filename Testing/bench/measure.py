"""Run a command in a process of its own and say what it really used.

`python measure.py LOG COMMAND...` is the launcher that waits for it. The launcher must be small: on Linux the peak
memory of a child starts at that of the process it was forked from, and the benchmark's own process is large.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

# Threads that spin in OpenMP barriers would be counted as work on a busy machine: waiting threads sleep.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def measure(command: list[str], log: Path, extra_path: Path | None = None) -> dict[str, Any]:
    """Wall seconds, CPU seconds (user + system, children included), peak resident GiB, exit status.

    The whole process is measured: start, imports, reading and writing are part of what a user waits for.
    `extra_path` is put in front of PYTHONPATH. Output goes to `log`.
    """
    environment = os.environ | ENVIRONMENT
    if extra_path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(extra_path), os.environ.get("PYTHONPATH")]))
    launcher = [sys.executable, "-S", __file__, str(log), *command]
    done = subprocess.run(launcher, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Start the command, wait for it, print its figures as JSON."""
    begin = time.perf_counter()
    with open(sys.argv[1], "w") as stream:
        process = subprocess.Popen(sys.argv[2:], stdout=stream, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    figures = {
        "returncode": process.returncode,
        "wall_s": time.perf_counter() - begin,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_gib": used.ru_maxrss / 2**20,  # Linux counts KiB
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
