"""Sample data that is made, not downloaded: phantoms of regsuite, drawn by a process of their own."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from regsuite_slicer import install, nodes, slice_results, views
from regsuite_slicer.job import JobError, wait_for
from regsuite_slicer.worker_process import environment, python_program, read_bytes

_MAKE = (
    "import json, sys; from pathlib import Path; from regsuite.pipeline.phantom import run_phantom; "
    "wanted = json.loads(sys.argv[1]); size = wanted['size'] and tuple(wanted['size']); "
    "run_phantom(wanted['name'], Path(wanted['out']), seed=wanted['seed'], size=size)"
)


def load_phantom(name: str, names: dict[str, str], seed: int = 0, size: tuple[int, int, int] | None = None) -> dict[str, Any]:
    """Make a phantom and put it into the scene; the window repaints meanwhile, for some seconds.

    names: which of "fixed", "moving", "fixed_landmarks", "moving_landmarks", "lesion_mask" to load -> the nodes' names; size:
    voxels (i, j, k). Returns the nodes under the same keys. Raises JobError with one sentence when it cannot be made.
    """
    outcome = install.ensure_torch()
    if not outcome.ready:
        raise JobError(outcome.message, "torch")
    folder = Path(tempfile.mkdtemp(prefix="regsuite-phantom-", dir=slicer.app.temporaryPath))
    try:
        wanted = {"name": name, "out": str(folder / "data"), "seed": seed, "size": size}
        run_python(_MAKE, json.dumps(wanted), _("The sample data could not be made"))
        return {key: _load(folder / "data", key, title) for key, title in names.items()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load_pair(name: str, fixed: str, moving: str) -> list[Any]:
    """A phantom's two volumes under these names, each with its landmarks; the fixed one is shown."""
    names = {"fixed": fixed, "moving": moving, "fixed_landmarks": f"{fixed}Landmarks", "moving_landmarks": f"{moving}Landmarks"}
    loaded = list(load_phantom(name, names).values())
    slicer.util.setSliceViewerLayers(background=loaded[0], fit=True)
    return loaded


def run_python(code: str, argument: str, failure: str) -> None:
    """Run a piece of Python beside regsuite and wait for it, the window repainting; JobError "FAILURE: last line" when it fails."""
    process = qt.QProcess()
    process.setProcessEnvironment(environment())
    process.start(python_program(), ["-c", code, argument])
    wait_for(lambda: process.state() == qt.QProcess.NotRunning, None, process.kill)
    if process.exitStatus() != qt.QProcess.NormalExit or process.exitCode() != 0:
        said = read_bytes(process.readAllStandardError()).decode("utf-8", "replace").strip().splitlines()
        raise JobError(f"{failure}: {said[-1] if said else process.errorString()}")


def _load(folder: Path, key: str, title: str) -> Any:
    if key.endswith("mask"):
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", slicer.mrmlScene.GenerateUniqueName(title))
        return nodes.set_volume(labels, nodes.read_volume(folder / f"{key}.nrrd"))
    if not key.endswith("landmarks"):
        node = nodes.import_volume(folder / f"{key}.nrrd", name=title)
        low, high = slicer.util.arrayFromVolume(node).min(), slicer.util.arrayFromVolume(node).max()
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevelMinMax(*((-1000.0, 400.0) if low < -500.0 else (0.0, float(high))))  # CT, or MR
        return node
    with nodes.private_scene() as scene:
        read = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "import")
        storage = slicer.vtkMRMLMarkupsJsonStorageNode()
        storage.SetFileName(str(folder / f"{key}.mrk.json"))
        if not storage.ReadData(read):
            raise JobError(f"The sample landmarks '{key}' cannot be read.")
        points = slicer.util.arrayFromMarkupsControlPoints(read)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", slicer.mrmlScene.GenerateUniqueName(title))
    slicer.util.updateMarkupsControlPointsFromArray(node, points)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(False)  # two hundred points would hide the images
    return node


def _load_regions(path: Path, title: str, names: list[str]) -> Any:
    """A label image as a segmentation; the n-th label that occurs gets the n-th name."""
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "import")
    nodes.set_volume(labels, nodes.read_volume(path))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", slicer.mrmlScene.GenerateUniqueName(title))
    node.CreateDefaultDisplayNodes()
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node)
    views.remove_node(labels)
    for n, name in enumerate(names[: node.GetSegmentation().GetNumberOfSegments()]):
        node.GetSegmentation().GetNthSegment(n).SetName(name)
    node.GetDisplayNode().SetVisibility(False)  # it would hide the scan
    return node


def load_growth_phantom(
    scan_name: str, regions_name: str, seed: int = 0, size: tuple[int, int, int] | None = None
) -> tuple[list[Any], list[float], Any]:
    """Make the phantom `growth` and put it into the scene: scans from young to old, their ages (years), the first one's regions
    as a segmentation with their names."""
    outcome = install.ensure_torch()
    if not outcome.ready:
        raise JobError(outcome.message, "torch")
    folder = Path(tempfile.mkdtemp(prefix="regsuite-phantom-", dir=slicer.app.temporaryPath))
    try:
        wanted = {"name": "growth", "out": str(folder / "data"), "seed": seed, "size": size}
        run_python(_MAKE, json.dumps(wanted), _("The sample data could not be made"))
        facts = json.loads((folder / "data" / "phantom.json").read_text(encoding="utf-8"))
        ages = [float(age) for age in facts["ages_years"]]
        scans = [_load(folder / "data", f"time_{n:02d}", f"{scan_name} {age:g} y") for n, age in enumerate(ages, start=1)]
        return scans, ages, _load_regions(folder / "data" / "time_01_labels.nrrd", regions_name, list(facts["labels"].values()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _labels(path: Path, title: str) -> Any:
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", slicer.mrmlScene.GenerateUniqueName(title))
    return nodes.set_volume(labels, nodes.read_volume(path))


def load_slice_phantom(
    name: str, volume_name: str, slice_name: str, seed: int = 0, size: tuple[int, int, int] | None = None, bones: bool = False
) -> list[Any]:
    """Make a phantom of a volume and slices and put it into the scene: the volume first, then the slices in their order.

    bones: also the bone labels of the slices, set as theirs, and of the volume ("VOLUME_bones"), and its regions
    ("VOLUME_regions", a segmentation); they are not in the list.
    """
    outcome = install.ensure_torch()
    if not outcome.ready:
        raise JobError(outcome.message, "torch")
    folder = Path(tempfile.mkdtemp(prefix="regsuite-phantom-", dir=slicer.app.temporaryPath))
    try:
        wanted = {"name": name, "out": str(folder / "data"), "seed": seed, "size": size}
        run_python(_MAKE, json.dumps(wanted), _("The sample data could not be made"))
        data = folder / "data"
        slices = sorted(path for path in data.glob("slice_*.nrrd") if path.stem[6:].isdigit())
        loaded = [nodes.import_volume(data / "volume.nrrd", name=volume_name)]
        loaded += [nodes.import_volume(path, name=f"{slice_name}_{path.stem[6:]}") for path in slices]
        if bones:
            _labels(data / "volume_mask.nrrd", f"{volume_name}_bones")
            names = json.loads((data / "phantom.json").read_text(encoding="utf-8"))["labels"]
            _load_regions(data / "volume_labels.nrrd", f"{volume_name}_regions", list(names.values()))
            for path, node in zip(slices, loaded[1:], strict=True):
                labels = _labels(data / f"{path.stem}_mask.nrrd", f"{node.GetName()}_bones")
                node.SetNodeReferenceID(slice_results.BONE_ROLE, labels.GetID())
        return loaded
    finally:
        shutil.rmtree(folder, ignore_errors=True)
