"""The segments of a segmentation node as files for the worker: every segment on its own, so that overlaps stay overlaps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from regsuite.errors import InputError

from regsuite_slicer.nodes import private_scene
from regsuite_slicer.world import to_world

_VOXELS, _SURFACE = "Binary labelmap", "Closed surface"


def export_structures(node: Any, folder: Path, stem: str = "structures", ignore: Any = None) -> list[str]:
    """Write a segmentation in the world (RAS mm) and return the paths: one .seg.nrrd (its own voxels, names, colours, as many
    layers as it needs), or, when it comes from contours or surfaces, a .vtp per segment, which loses nothing to voxels.

    stem: how the files' names begin; `ignore`: as in nodes. The node is not changed. Raises InputError when there is no segment,
    or one that has no shape.
    """
    import slicer

    segmentation = node.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0:
        raise InputError(f"'{node.GetName()}' has no segment at all; expected at least one structure.")
    with private_scene() as scene:
        copy = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "export")
        copy.GetSegmentation().DeepCopy(segmentation)
        if segmentation.GetSourceRepresentationName() == _VOXELS:
            copy.ApplyTransform(to_world(node, ignore))
            storage = slicer.vtkMRMLSegmentationStorageNode()
            path = folder / f"{stem}.seg.nrrd"
            storage.SetFileName(os.path.abspath(path))
            if not storage.WriteData(copy):
                raise InputError(f"Cannot write the segmentation '{node.GetName()}' to '{path}'.")
            return [str(path)]
        if not copy.GetSegmentation().CreateRepresentation(_SURFACE):
            raise InputError(f"'{node.GetName()}' cannot be turned into surfaces; expected segments with contours or voxels.")
        identifiers = copy.GetSegmentation().GetSegmentIDs()
        paths = [folder / f"{stem}_{number + 1:03d}.vtp" for number in range(len(identifiers))]
        for path, identifier in zip(paths, identifiers, strict=True):
            _write_surface(copy.GetSegmentation().GetSegment(identifier), to_world(node, ignore), path)
        return [str(path) for path in paths]


def _write_surface(segment: Any, world: Any, path: Path) -> None:
    """The closed surface of a segment with its name and colour, as Slicer itself writes it."""
    import vtk

    surface = segment.GetRepresentation(_SURFACE)
    if surface is None or surface.GetNumberOfCells() == 0:
        raise InputError(f"The structure '{segment.GetName()}' has no volume: nothing is marked.")
    move = vtk.vtkTransformPolyDataFilter()
    move.SetInputData(surface)
    move.SetTransform(world)
    move.Update()
    bare = vtk.vtkPolyData()
    bare.SetPoints(move.GetOutput().GetPoints())
    bare.SetPolys(move.GetOutput().GetPolys())
    bare.SetStrips(move.GetOutput().GetStrips())
    for name, value in (("SPACE", "RAS"), ("Segment_Name", segment.GetName())):
        text = vtk.vtkStringArray()
        text.SetName(name)
        text.InsertNextValue(value)
        bare.GetFieldData().AddArray(text)
    colour = vtk.vtkDoubleArray()
    colour.SetName("Segment_DefaultColor")
    for part in segment.GetColor():
        colour.InsertNextValue(part)
    bare.GetFieldData().AddArray(colour)
    writer = vtk.vtkXMLPolyDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(bare)
    if not writer.Write():
        raise InputError(f"Cannot write the structure '{segment.GetName()}' to '{path}'.")
