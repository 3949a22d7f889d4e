"""What the tests and pictures of doses in the uncertainty panel share: the phantom `dose` as nodes, with overlapping structures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lung_case
import numpy as np
import slicer

MODULE = lung_case.SUITE / "RegistrationUncertainty" / "RegistrationUncertainty.py"
STRUCTURES = {"Right lung": (1, (0.3, 0.6, 0.9)), "Left lung": (2, (0.2, 0.8, 0.7)), "Heart": (3, (0.9, 0.4, 0.4))}
TARGET = ("Target=PTV", (1.0, 0.8, 0.1))
"""A name with a sign that command lines give a meaning; it overlaps the lung."""
_MAKE = (
    "import sys; from pathlib import Path; from regsuite.phantoms import make_phantom; "
    "from regsuite.pipeline.phantom import write_phantom; from regsuite.io import write_transform; "
    "from regsuite.transforms import DisplacementField; out = Path(sys.argv[1]); "
    "size = tuple(map(int, sys.argv[2].split(','))); out.mkdir(); "
    "phantom = make_phantom('dose', 0, size=size, fractions=1); write_phantom(phantom, out); "
    "grid = phantom.fixed.grid; "
    "write_transform(DisplacementField(phantom.transform.displacement(grid), grid), out / 'transform.h5')"
)


def make_files(folder: Path, size: tuple[int, int, int] = (56, 44, 40)) -> Path:
    """The phantom, made by a process of its own (this one never imports torch)."""
    call = [sys.executable, "-c", _MAKE, str(folder), ",".join(map(str, size))]
    subprocess.run(call, check=True, env={**os.environ, "PYTHONPATH": str(lung_case.BACKEND)}, timeout=300)
    return folder


def load(folder: Path) -> dict[str, Any]:
    """Nodes: fixed, moving, dose, transform, structures."""
    nodes = {}
    for key, stem, name in (("fixed", "fixed", "Planning CT"), ("moving", "moving", "Repeat CT"), ("dose", "plan_dose", "Plan")):
        nodes[key] = slicer.util.loadVolume(str(folder / f"{stem}.nrrd"), {"show": False})
        nodes[key].SetName(name)
        if key != "dose":
            nodes[key].GetDisplayNode().SetAutoWindowLevel(False)
            nodes[key].GetDisplayNode().SetWindowLevelMinMax(-1000, 300)
    nodes["transform"] = slicer.util.loadTransform(str(folder / "transform.h5"))
    nodes["transform"].SetName("Repeat CT to Planning CT")
    nodes["structures"] = structures(folder, nodes["fixed"])
    return nodes


def structures(folder: Path, fixed: Any, labels_file: str = "fixed_labels") -> Any:
    """A segmentation of organs and the planned target, which overlaps one of them."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "RT structures")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(fixed)
    labels = slicer.util.arrayFromVolume(slicer.util.loadVolume(str(folder / f"{labels_file}.nrrd"), {"show": False}))
    target = slicer.util.arrayFromVolume(slicer.util.loadVolume(str(folder / "planned_target.nrrd"), {"show": False}))
    masks = {name: (labels == number, colour) for name, (number, colour) in STRUCTURES.items()}
    masks[TARGET[0]] = (target > 0, TARGET[1])
    for number, (name, (inside, colour)) in enumerate(masks.items()):
        identifier = node.GetSegmentation().AddEmptySegment(f"Segment_{number + 1}", name, colour)
        slicer.util.updateSegmentBinaryLabelmapFromArray(inside.astype(np.uint8), node, identifier, fixed)
    return node
