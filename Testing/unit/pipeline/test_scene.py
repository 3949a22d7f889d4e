"""scene.mrb: its content, and the real MRML library reading it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from regsuite.io import read_transform
from regsuite.pipeline.register import run_registration
from regsuite.pipeline.request import RegistrationRequest

# Runs in a process of its own: slicer-core prints, and its classes live until the interpreter ends.
LOAD = """
import json, os, sys, tempfile
import slicer
scene = slicer.vtkMRMLScene()
logic = slicer.vtkMRMLColorLogic(); logic.SetMRMLScene(scene); logic.AddDefaultColorNodes()
cache = slicer.vtkCacheManager(); cache.SetRemoteCacheDirectory(tempfile.mkdtemp(dir=sys.argv[2])); cache.SetMRMLScene(scene)
manager = slicer.vtkDataIOManager(); manager.SetCacheManager(cache)
scene.SetCacheManager(cache); scene.SetDataIOManager(manager)
volumes = slicer.vtkSlicerVolumesLogic(); volumes.SetMRMLScene(scene)
ok = scene.ReadFromMRB(sys.argv[1], True)
transform = scene.GetNodeByID("vtkMRMLTransformNode1")
fixed, moving = (transform.GetNodeReference(f"spatialRegistration{side}") for side in ("Fixed", "Moving"))
mapped = []
for point in json.loads(sys.argv[3]):
    out = [0.0, 0.0, 0.0]; transform.GetTransformFromParent().TransformPoint(point, out); mapped.append(out)
slices = [scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}") for name in ("Red", "Yellow", "Green")]
layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
bounds = [0.0] * 6; fixed.GetRASBounds(bounds)
result = {
    "ok": bool(ok), "fixed": fixed.GetName(), "moving": moving.GetName(), "mapped": mapped,
    "parent": [bool(node.GetParentTransformNode()) for node in (fixed, moving)],
    "sizes": [list(node.GetImageData().GetDimensions()) for node in (fixed, moving)],
    "slices": [[s.GetBackgroundVolumeID() == fixed.GetID(), s.GetForegroundVolumeID() == moving.GetID(), s.GetForegroundOpacity()]
               for s in slices],
    "layout": layout.GetViewArrangement(), "bounds": bounds,
    "slice": [scene.GetNodeByID("vtkMRMLSliceNodeGreen").GetSliceToRAS().GetElement(row, 3) for row in range(3)],
    "window": fixed.GetDisplayNode().GetWindow(),
}
print("RESULT" + json.dumps(result))
"""


@pytest.fixture
def an_out(a_pair) -> Path:
    request = RegistrationRequest(
        "test-shift", a_pair.path("fixed.nrrd"), a_pair.path("moving.nrrd"), str(a_pair.folder.parent / "out"), scene=True
    )
    return run_registration(request)


def test_the_bundle_is_one_folder_with_a_scene_and_its_data(an_out):
    with zipfile.ZipFile(an_out / "scene.mrb") as bundle:
        assert bundle.testzip() is None
        names = bundle.namelist()
        root = ElementTree.fromstring(bundle.read("scene/scene.mrml"))
    assert sorted(names) == ["scene/Data/fixed.nrrd", "scene/Data/moving.nrrd", "scene/Data/transform.h5", "scene/scene.mrml"]
    files = {node.get("fileName") for node in root if node.get("fileName")}
    assert {f"scene/{name}" for name in files} == set(names) - {"scene/scene.mrml"}


@pytest.mark.skipif(find_spec("slicer") is None, reason="slicer-core is not installed")
def test_mrml_reads_it_with_roles_overlay_layout_and_the_same_map(an_out, a_pair, tmp_path):
    points = [[10.0, 20.0, -30.0], a_pair.fixed.grid.centre.tolist()]
    command = [sys.executable, "-c", LOAD, str(an_out / "scene.mrb"), str(tmp_path), json.dumps(points)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ})
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[6:])
    assert found["ok"]
    assert (found["fixed"], found["moving"]) == ("fixed", "moving")
    assert found["parent"] == [False, True]
    assert found["sizes"] == [[22, 18, 14], [30, 22, 20]]
    assert found["slices"] == [[True, True, 0.5]] * 3
    assert found["layout"] == 3
    expected = read_transform(an_out / "transform.h5").map_points(torch.tensor(points, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found["mapped"], expected, atol=1e-4)
    low, high = found["bounds"][::2], found["bounds"][1::2]
    assert all(a < value < b for a, value, b in zip(low, found["slice"], high, strict=True))
    assert 10.0 < found["window"] < 110.0
