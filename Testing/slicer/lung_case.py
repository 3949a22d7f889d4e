"""What the tests of the lung panel share: an oblique phantom chest as files, nodes of it, and the opened panel."""
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from harness import panel
from regsuite_slicer import arrays
from regsuite_slicer.jobs import shared_pool

SUITE = Path(__file__).resolve().parents[2] / "RegistrationSuite"
BACKEND = SUITE / "RegSuiteBackend"
MODULE = SUITE / "LungRegistration" / "LungRegistration.py"
FAST = {"range_mm": 32.0, "cell_mm": 14.0, "finest_mm": 4.0, "levels": 2, "coarse_iterations": 8, "fine_iterations": 4}
"""Settings for a phantom of 48 voxels: a job of seconds that still finds a motion of 25 mm."""
_MAKE = (
    "import sys; from pathlib import Path; from regsuite.phantoms import make_phantom; "
    "from regsuite.pipeline.phantom import write_phantom; out = Path(sys.argv[1]); out.mkdir(); "
    "write_phantom(make_phantom('thorax', 0, size=(64, 52, 44), oblique=True), out)"
)


def make_phantom_files(folder: Path) -> Path:
    """The phantom, on two different oblique grids, made by a process of its own (this one never imports torch)."""
    environment = {**os.environ, "PYTHONPATH": str(BACKEND)}
    subprocess.run([sys.executable, "-c", _MAKE, str(folder)], check=True, env=environment, timeout=300)
    return folder


def load_case(folder: Path) -> dict[str, Any]:
    """Nodes of the phantom: fixed, moving, fixed_landmarks, moving_landmarks, fixed_mask (a label map)."""
    loaded = {side: slicer.util.loadVolume(str(folder / f"{side}.nrrd"), {"show": False}) for side in ("fixed", "moving")}
    for node, name in ((loaded["fixed"], "Exhale"), (loaded["moving"], "Inhale")):
        node.SetName(name)
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(-1000, 400)
    for side in ("fixed", "moving"):
        marks = slicer.util.loadMarkups(str(folder / f"{side}_landmarks.mrk.json"))
        marks.SetName(f"{side.capitalize()} landmarks")
        marks.GetDisplayNode().SetVisibility(False)
        loaded[f"{side}_landmarks"] = marks
    loaded["fixed_mask"] = slicer.util.loadLabelVolume(str(folder / "fixed_mask.nrrd"), {"show": False})
    return loaded


def open_panel(path: Path = MODULE) -> panel.Panel:
    """The hidden backend module and the panel of a module."""
    panel.register_module(BACKEND / "RegSuiteBackend.py")
    return panel.load_module(path)


def choose(opened: panel.Panel, case: dict[str, Any], settings: dict[str, Any] | None = None, landmarks: bool = True) -> None:
    """Select the inputs in the panel, and change settings with its controls."""
    ui = opened.ui
    ui.fixedVolumeSelector.setCurrentNode(case["fixed"])
    ui.movingVolumeSelector.setCurrentNode(case["moving"])
    if landmarks:
        ui.fixedLandmarksSelector.setCurrentNode(case["fixed_landmarks"])
        ui.movingLandmarksSelector.setCurrentNode(case["moving_landmarks"])
    for name, value in (FAST if settings is None else settings).items():
        control(opened, name).value = value


def apply_and_wait(lung: panel.Panel, timeout_s: float = 180) -> panel.Wait:
    """Press Apply and wait until the job has ended, whichever way."""
    panel.click(lung.ui.applyButton)
    return panel.wait_until(lambda: lung.widget.run is None, timeout_s, "the job to end")


def control(opened: panel.Panel, setting: str) -> Any:
    """The Advanced control of a setting."""
    return opened.widget._controls["lung-convex"].widgets[f"lungConvex.{setting}"]


def correlation(fixed: Any, moving: Any, mask: Any = None) -> float:
    """Correlation of the fixed volume and the moving one where it appears in the scene, under its transforms; in the mask."""
    inside = slicer.util.arrayFromVolume(mask) > 0 if mask is not None else slice(None)
    a = slicer.util.arrayFromVolume(fixed)[inside].ravel().astype(float)
    b = arrays.values_on_grid_of(moving, fixed)[inside].ravel().astype(float)
    return float(np.corrcoef(a, b)[0, 1])


def leftovers() -> list[str]:
    """Job folders that still are in the application's temporary folder."""
    return sorted(p.name for p in Path(slicer.app.temporaryPath).glob("regsuite-*"))


def scene_state() -> tuple[int, list[str]]:
    """Number of nodes, and the names of the data nodes, parameter nodes aside."""
    kinds = ("vtkMRMLDisplayableNode", "vtkMRMLTableNode", "vtkMRMLTextNode")
    names = sorted(node.GetName() for kind in kinds for node in slicer.util.getNodesByClass(kind))
    return slicer.mrmlScene.GetNumberOfNodes(), names


def alive(pid: int | None) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def close_shared_pool() -> None:
    """End the workers of the panels and wait until they are gone."""
    pids = [worker.pid for worker in shared_pool().workers]
    shared_pool().close()
    ends = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)
