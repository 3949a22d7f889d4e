"""scene.mrb: the registration as a scene for 3D Slicer 5, written without Slicer.

A bundle is a zip with one folder that holds an .mrml file (XML, RAS mm) and Data/. The moving volume lies under the
transform, so it appears on the fixed one; nothing is resampled. Slicer reads an ITK transform file as *from parent*.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import numpy as np

from regsuite.geometry import Grid
from regsuite.io import write_image, write_transform
from regsuite.pipeline import planes
from regsuite.pipeline.region import foreground, is_ct

if TYPE_CHECKING:
    from regsuite.pipeline.register import Outcome

_FOUR_UP = 3  # vtkMRMLLayoutNode::SlicerLayoutFourUpView
_VIEW_PIXELS = 512
_FIXED, _MOVING, _TRANSFORM = "vtkMRMLScalarVolumeNode1", "vtkMRMLScalarVolumeNode2", "vtkMRMLTransformNode1"

# Slicer's default slice views: name -> (orientation, screen right, screen up, towards the viewer) in RAS
_SLICES: dict[str, tuple[str, tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]] = {
    "Red": ("Axial", (-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "Yellow": ("Sagittal", (0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    "Green": ("Coronal", (-1, 0, 0), (0, 0, 1), (0, 1, 0)),
}


def write_scene(outcome: Outcome, path: Path) -> None:
    """Write the bundle: fixed, moving and transform nodes with their roles, slice views set to the overlay, 4-up layout."""
    inputs, files = outcome.inputs, outcome.report["files"]
    names = {"fixed": _stem(files.get("fixed", "fixed")), "moving": _stem(files.get("moving", "moving"))}
    body = foreground(inputs.fixed)
    window = planes.display_window(inputs.fixed, body)
    both_ct = is_ct(inputs.fixed) and is_ct(inputs.moving)
    moving_window = window if both_ct else planes.display_window(inputs.moving, foreground(inputs.moving))
    mrml = "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<MRML version="Slicer 5.0.0 0" userTags="">',
            *_views(inputs.fixed.grid),
            *_volume(1, names["fixed"], "Data/fixed.nrrd", window),
            *_volume(2, names["moving"], "Data/moving.nrrd", moving_window, transform=_TRANSFORM),
            *_transform(f"{names['moving']} to {names['fixed']}"),
            "</MRML>",
            "",
        ]
    )
    folder = PurePosixPath(path.stem)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, zipfile.ZipFile(path, "w") as bundle:
        data = Path(scratch)
        write_image(inputs.fixed, data / "fixed.nrrd")
        write_image(inputs.moving, data / "moving.nrrd")
        write_transform(outcome.result.transform.to("cpu"), data / "transform.h5")
        _add(bundle, folder / f"{path.stem}.mrml", mrml.encode("utf-8"))
        for item in sorted(data.iterdir()):  # already compressed: stored as they are
            with item.open("rb") as source, bundle.open(_entry(folder / "Data" / item.name), "w", force_zip64=True) as target:
                while block := source.read(1 << 22):
                    target.write(block)


def _add(bundle: zipfile.ZipFile, name: PurePosixPath, content: bytes) -> None:
    bundle.writestr(_entry(name, zipfile.ZIP_DEFLATED), content)


def _entry(name: PurePosixPath, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    """An entry with a fixed date, so that the same scene gives the same bytes."""
    entry = zipfile.ZipInfo(str(name))
    entry.compress_type = compression
    entry.external_attr = 0o644 << 16
    return entry


def _stem(name: str) -> str:
    return name.split(".")[0] or name


def _node(tag: str, identifier: str, name: str, **attributes: object) -> str:
    text = "".join(f" {key}={quoteattr(str(value))}" for key, value in attributes.items())
    return f" <{tag} id={quoteattr(identifier)} name={quoteattr(name)}{text}></{tag}>"


def _references(**nodes: str) -> str:
    return "".join(f"{role}:{identifier};" for role, identifier in nodes.items())


def _volume(number: int, name: str, file: str, window: tuple[float, float], transform: str | None = None) -> list[str]:
    display, storage = f"vtkMRMLScalarVolumeDisplayNode{number}", f"vtkMRMLVolumeArchetypeStorageNode{number}"
    roles = {"display": display, "storage": storage} | ({"transform": transform} if transform else {})
    low, high = window
    return [
        _node(
            "VolumeDisplay",
            display,
            "VolumeDisplay",
            colorNodeID="vtkMRMLColorTableNodeGrey",
            references="color:vtkMRMLColorTableNodeGrey;",
            window=f"{high - low:g}",
            level=f"{(high + low) / 2:g}",
            autoWindowLevel=0,
            interpolate=1,
        ),
        _node("VolumeArchetypeStorage", storage, "VolumeArchetypeStorage", fileName=file, useCompression=1),
        _node("Volume", f"vtkMRMLScalarVolumeNode{number}", name, references=_references(**roles)),
    ]


def _transform(name: str) -> list[str]:
    storage = "vtkMRMLTransformStorageNode1"
    roles = {"storage": storage, "spatialRegistrationFixed": _FIXED, "spatialRegistrationMoving": _MOVING}
    return [
        _node("TransformStorage", storage, "TransformStorage", fileName="Data/transform.h5", useCompression=1),
        _node("Transform", _TRANSFORM, name, references=_references(**roles), attributes="RegistrationSuite.Interpolation:linear"),
    ]


def _views(grid: Grid) -> list[str]:
    layout = _node(
        "Layout",
        "vtkMRMLLayoutNodevtkMRMLLayoutNode",
        "Layout",
        singletonTag="vtkMRMLLayoutNode",
        currentViewArrangement=_FOUR_UP,
    )
    chosen = _references(ActiveVolume=_FIXED, SecondaryVolume=_MOVING)
    selection = _node("Selection", "vtkMRMLSelectionNodeSingleton", "Selection", singletonTag="Singleton", references=chosen)
    return [layout, selection, *_slices(grid)]


def _slices(grid: Grid) -> list[str]:
    corners = grid.corners()
    extent, centre = np.ptp(corners, axis=0), (corners.min(axis=0) + corners.max(axis=0)) / 2
    nodes = []
    for colour, (orientation, right, up, normal) in _SLICES.items():
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = np.array([right, up, normal]).T, centre
        view = 1.05 * max(float(np.abs(right) @ extent), float(np.abs(up) @ extent))
        nodes.append(
            _node(
                "Slice",
                f"vtkMRMLSliceNode{colour}",
                colour,
                singletonTag=colour,
                layoutName=colour,
                layoutLabel=colour[0],
                orientation=orientation,
                orientationReference=orientation,
                sliceToRAS=" ".join(f"{value:.9g}" for value in matrix.ravel()),
                fieldOfView=f"{view:.6g} {view:.6g} {grid.spacing.min():.6g}",
                dimensions=f"{_VIEW_PIXELS} {_VIEW_PIXELS} 1",
            )
        )
        nodes.append(
            _node(
                "SliceComposite",
                f"vtkMRMLSliceCompositeNode{colour}",
                f"SliceComposite_{colour}",
                singletonTag=colour,
                layoutName=colour,
                references=_references(backgroundVolume=_FIXED, foregroundVolume=_MOVING),
                foregroundOpacity=0.5,
                linkedControl=1,
            )
        )
    return nodes
