"""How long the window stands still during a job on full-size volumes: python Testing/slicer/event_loop.py [I,J,K]

The panel is driven in the headless Slicer, from Apply to the result. Printed: the longest time between two turns of the event loop
(wall), and the longest processor time of the GUI's thread in one turn, which other programs on the machine do not inflate.
"""
from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "RegistrationSuite" / "RegSuiteBackend")]

from harness import app  # noqa: E402

app.start()

import lung_case  # noqa: E402
import numpy as np  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from scipy import ndimage  # noqa: E402

SETTINGS = {"cell_mm": 20.0, "finest_mm": 6.0, "levels": 1, "fine_iterations": 2}  # a short job: the window's part is the same


def enlarge(node: object, size: tuple[int, int, int]) -> None:
    """Give a volume node more voxels (i, j, k) over the same box, as int16."""
    values = slicer.util.arrayFromVolume(node)
    zoom = [n / m for n, m in zip(reversed(size), values.shape, strict=True)]
    matrix = slicer.util.arrayFromVTKMatrix(lung_case.arrays.array_to_matrix(lung_case.arrays.ijk_to_ras(node)))
    matrix[:3, :3] /= np.array(zoom[::-1])
    slicer.util.updateVolumeFromArray(node, ndimage.zoom(values, zoom, order=0).astype(np.int16))
    node.SetIJKToRASMatrix(lung_case.arrays.array_to_matrix(matrix))


def main() -> None:
    """One job; prints the two figures."""
    size = tuple(int(n) for n in (sys.argv[1] if len(sys.argv) > 1 else "256,256,128").split(","))
    with tempfile.TemporaryDirectory() as folder:
        case = lung_case.load_case(lung_case.make_phantom_files(Path(folder) / "phantom"))
    for side in ("fixed", "moving"):
        enlarge(case[side], size)
    opened = lung_case.open_panel()
    lung_case.choose(opened, case, SETTINGS)
    last, turns = [time.thread_time()], [0.0]

    def beat() -> None:
        now = time.thread_time()
        turns.append(1000 * (now - last[0]))
        last[0] = now

    timer = qt.QTimer()
    timer.setInterval(5)
    timer.connect("timeout()", beat)
    timer.start()
    waited = lung_case.apply_and_wait(opened, 1200)
    timer.stop()
    text = f"{size[0]} x {size[1]} x {size[2]}: longest gap {waited.max_gap_ms:.0f} ms"
    print(f"{text}; most processor time between two turns {max(turns[1:]):.0f} ms. {opened.ui.statusLabel.text}", flush=True)
    lung_case.shared_pool().close()
    os._exit(0)  # without the application Qt's objects go in any order


if __name__ == "__main__":
    main()
