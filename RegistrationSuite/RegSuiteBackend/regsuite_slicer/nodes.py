"""Nodes <-> files for the worker. World RAS mm, parent transforms included; input nodes and the scene stay as they are.

Every export takes `ignore`: a parent transform that does not count (the output transform of an earlier run, see world.py).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from regsuite.errors import InputError

from regsuite_slicer.arrays import VolumeData, array_to_matrix, matrix_to_array, reslice, volume_data, write_nrrd
from regsuite_slicer.world import map_points, matrix_of, to_world

INTERPOLATION_ATTRIBUTE = "RegistrationSuite.Interpolation"
_MOST_SAMPLES = 60_000
FilePath = str | os.PathLike[str]


@contextmanager
def private_scene() -> Iterator[Any]:
    """A scene of its own for helper nodes, cleared at the end: nothing reaches the user's scene."""
    import slicer

    scene = slicer.vtkMRMLScene()
    try:
        yield scene
    finally:
        scene.Clear(True)


def export_volume(node: Any, path: FilePath, ignore: Any = None) -> VolumeData:
    """Write a scalar or label volume as NRRD, in the world; returns what was written, with warnings (see volume_data)."""
    volume = volume_data(node, ignore)
    write_nrrd(volume, path)
    return volume


def export_labels(
    node: Any, reference: Any, path: FilePath, segment_ids: Sequence[str] | None = None, ignore: Any = None,
    numbers: Mapping[str, int] | None = None,
) -> VolumeData:  # fmt: skip
    """Write a label map volume or a segmentation as a label image (NRRD), in the world.

    A label map keeps its own grid and values. A segmentation is put on the grid of `reference` (a volume node or a VolumeData);
    the segments get the values 1, 2, ... in the order of `segment_ids` (default: all, in the node's order), or those that
    `numbers` gives by segment id; where segments overlap the later one wins, with a warning. A segmentation without binary label
    maps (RT structures) is converted on a copy.

    Raises InputError for an empty segmentation, an unknown segment, or another kind of node.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        grid = reference if isinstance(reference, VolumeData) else volume_data(reference)
        labels = _segments_on_grid(node, grid, segment_ids, ignore, numbers or {})
    elif node.IsA("vtkMRMLLabelMapVolumeNode"):
        if segment_ids is not None:
            raise InputError(
                f"'{node.GetName()}' is a label map and has no segments; expected a segmentation, or no segment names."
            )
        labels = volume_data(node, ignore)
    else:
        raise InputError(
            f"Cannot use '{node.GetName()}' as labels: expected a segmentation or a label map, found {node.GetNodeTagName()}."
        )
    write_nrrd(labels, path)
    return labels


def segment_names(node: Any) -> list[str]:
    """Names of a segmentation's segments in their order; none for any other node."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return []
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(identifier).GetName() for identifier in segmentation.GetSegmentIDs()]


def numbers_like(node: Any, reference: Any) -> dict[str, int] | None:
    """Segment id -> number as export_labels numbers the segment of that name in `reference`, further ones beyond; None when one
    of the two is no segmentation or they share no name."""
    known = {name: number for number, name in enumerate(segment_names(reference), 1)}
    names = segment_names(node)
    if not known.keys() & set(names):
        return None
    identifiers = node.GetSegmentation().GetSegmentIDs()
    new = iter(range(len(known) + 1, len(known) + len(names) + 1))
    return {i: known[name] if name in known else next(new) for i, name in zip(identifiers, names, strict=True)}


def common_segments(first: Any, second: Any) -> tuple[list[str], list[str]]:
    """The ids of the segments that have the same name in both segmentations, in the order of the first: for labels that match."""
    ids = [
        {s.GetSegment(i).GetName(): i for i in s.GetSegmentIDs()}
        for s in (first.GetSegmentation(), second.GetSegmentation())
    ]
    names = [name for name in ids[0] if name in ids[1]]
    return [ids[0][name] for name in names], [ids[1][name] for name in names]


def export_points(node: Any, path: FilePath, ignore: Any = None) -> int:
    """Write the defined control points of a markups node as csv (label, x, y, z in world RAS mm); returns their number.

    Raises InputError when there is none.
    """
    defined = [
        n for n in range(node.GetNumberOfControlPoints())
        if node.GetNthControlPointPositionStatus(n) == node.PositionDefined
    ]  # fmt: skip
    if not defined:
        raise InputError(f"'{node.GetName()}' holds no control point with a position; expected at least one.")
    local = np.array([node.GetNthControlPointPosition(n) for n in defined])
    world = map_points(to_world(node, ignore), local)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["label", "x", "y", "z"])
        writer.writerows(
            [node.GetNthControlPointLabel(n), *row] for n, row in zip(defined, world.tolist(), strict=True)
        )
    return len(defined)


def export_transform(node: Any, path: FilePath, reference: Any = None) -> tuple[str, ...]:
    """Write the node's transform *from world* (fixed -> moving points) as an ITK file (.h5, .tfm); returns warnings.

    Matrices, displacement grids, B-splines and chains of them are written as they are. What ITK's files cannot hold (a
    transform that is only known to-parent, thin plate splines) is sampled at about 60 000 points of the box of `reference` (a
    volume node or VolumeData of the fixed image), with a warning; InputError when there is no reference.
    """
    import slicer
    import vtk

    general = vtk.vtkGeneralTransform()
    node.GetTransformFromWorld(general)
    matrix = matrix_of(general)
    warnings: tuple[str, ...] = ()
    with private_scene() as scene:
        copy = scene.AddNewNodeByClass("vtkMRMLTransformNode", "export")
        if matrix is not None:
            copy.SetMatrixTransformFromParent(array_to_matrix(matrix))
        elif all(_fits_in_file(part) for part in parts_of(general)):
            copy.SetAndObserveTransformFromParent(general)
        else:
            if reference is None:
                raise InputError(
                    f"Cannot use '{node.GetName()}' as it is: expected a transform from parent, or a fixed volume to sample it on."
                )
            grid = reference if isinstance(reference, VolumeData) else volume_data(reference)
            sampled, spacing = _sample(general, grid)
            copy.SetAndObserveTransformFromParent(sampled)
            warnings = (f"'{node.GetName()}' was sampled every {spacing:.1f} mm; finer detail of it is lost.",)
        storage = slicer.vtkMRMLTransformStorageNode()
        storage.SetFileName(os.path.abspath(path))
        if not storage.WriteData(copy):
            raise InputError(f"Cannot write the transform '{node.GetName()}' to '{path}'.")
    return warnings


def read_transform(path: FilePath) -> Any:
    """vtkAbstractTransform of an ITK transform file or a displacement volume: RAS mm, fixed -> moving points.

    vtkTransform, vtkOrientedGridTransform or vtkGeneralTransform. Grids are set to linear interpolation, which is what regsuite
    and ITK mean (Slicer's reader sets cubic). Outside its box a grid keeps its border displacement in Slicer, and is zero in ITK.
    Raises InputError for a file that is no transform.
    """
    import slicer

    with private_scene() as scene:
        node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "import")
        storage = slicer.vtkMRMLTransformStorageNode()
        storage.SetFileName(os.path.abspath(path))
        if not os.path.isfile(path) or not storage.ReadData(node) or node.GetTransformFromParent() is None:
            raise InputError(
                f"Cannot read '{path}': expected a transform file, found no such file or another kind of file."
            )
        transform = node.GetTransformFromParent()
    _set_linear(transform)
    return transform


def import_transform(path: FilePath, node: Any = None, name: str = "Transform") -> Any:
    """Put a transform file T (fixed -> moving points) into `node`, or a new node called `name`, as its transform *from parent*."""
    transform = read_transform(path)
    return set_transform(node or _new("vtkMRMLTransformNode", name), transform)


def set_transform(node: Any, transform: Any) -> Any:
    """Make `transform` (of read_transform) the node's transform from parent, marked so that it stays linear between its voxels."""
    matrix = matrix_of(transform)
    if matrix is not None:
        modifying = node.StartModify()
        for clear in (node.SetAndObserveTransformFromParent, node.SetAndObserveTransformToParent):
            clear(None)  # else a node that holds a deformation refuses a matrix
        node.SetMatrixTransformFromParent(array_to_matrix(matrix))
        node.EndModify(modifying)
        node.RemoveAttribute(INTERPOLATION_ATTRIBUTE)
    else:
        node.SetAndObserveTransformFromParent(transform)
        node.SetAttribute(INTERPOLATION_ATTRIBUTE, "linear")
    return node


def restore_interpolation(scene: Any) -> int:
    """Set our grids back to linear after a scene was loaded (scene files do not keep it); returns how many nodes changed."""
    import slicer

    nodes = [
        n
        for n in slicer.util.getNodesByClass("vtkMRMLTransformNode", scene)
        if n.GetAttribute(INTERPOLATION_ATTRIBUTE) == "linear"
    ]
    return sum(
        _set_linear(node.GetTransformFromParent()) for node in nodes if node.GetTransformFromParent() is not None
    )


def read_volume(path: FilePath) -> VolumeData:
    """An image file as values and matrix; raises InputError for a file that Slicer cannot read."""
    import slicer

    with private_scene() as scene:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "import")
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(os.path.abspath(path))
        storage.SetCenterImage(0)
        storage.SetSingleFile(1)  # numbered files beside it are no series
        if not os.path.isfile(path) or not storage.ReadData(node):
            raise InputError(
                f"Cannot read '{path}': expected an image file, found no such file or another kind of file."
            )
        return volume_data(node)


def import_volume(path: FilePath, node: Any = None, name: str = "Volume") -> Any:
    """Put an image file into `node`, or a new scalar volume node called `name`, in the world (no parent transform)."""
    volume = read_volume(path)
    return set_volume(node or _new("vtkMRMLScalarVolumeNode", name), volume)


def set_volume(node: Any, volume: VolumeData) -> Any:
    """Make a volume node hold `volume`, in the world; it gets display nodes when it has none."""
    import slicer

    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(volume.values))
    node.SetIJKToRASMatrix(array_to_matrix(volume.affine))
    node.SetAndObserveTransformNodeID(None)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def fill_table(node: Any, columns: Mapping[str, Sequence[str]]) -> Any:
    """Replace what a table node holds by columns of text."""
    import vtk

    node.RemoveAllColumns()
    for name, cells in columns.items():
        array = vtk.vtkStringArray()
        array.SetName(name)
        for cell in cells:
            array.InsertNextValue(cell)
        node.AddColumn(array)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    return node


def parts_of(transform: Any) -> list[Any]:
    """The simple transforms that a vtkAbstractTransform is made of."""
    import slicer
    import vtk

    parts = vtk.vtkCollection()
    slicer.vtkMRMLTransformNode.FlattenGeneralTransform(parts, transform)
    return [parts.GetItemAsObject(n) for n in range(parts.GetNumberOfItems())]


def _new(class_name: str, name: str) -> Any:
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name))


def _set_linear(transform: Any) -> bool:
    """Interpolate every displacement grid of a transform linearly; False when there is none that was not."""
    grids = [
        part
        for part in parts_of(transform)
        if part.IsA("vtkGridTransform") and part.GetInterpolationModeAsString() != "Linear"
    ]
    for grid in grids:
        grid.SetInterpolationModeToLinear()
    return bool(grids)


def _fits_in_file(part: Any) -> bool:
    """Can ITK's files hold this simple transform exactly?"""
    oriented = part.IsA("vtkOrientedGridTransform") or part.IsA("vtkOrientedBSplineTransform")
    return part.IsA("vtkHomogeneousTransform") or (oriented and not part.GetInverseFlag())


def _sample(transform: Any, grid: VolumeData) -> tuple[Any, float]:
    """(vtkOrientedGridTransform, largest spacing mm): displacements on a coarse lattice over the box of `grid`."""
    size = np.array(grid.values.shape[::-1])
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    extent = size * spacing
    step = max(float(np.cbrt(np.prod(extent) / _MOST_SAMPLES)), float(spacing.min()))
    count = np.maximum(np.ceil(extent / step).astype(int), 1) + 1
    affine = grid.affine.copy()
    affine[:3, :3] *= size / (count - 1)
    affine[:3, 3] = grid.affine[:3] @ [-0.5, -0.5, -0.5, 1.0]
    index = (
        np.stack(np.meshgrid(*(np.arange(n) for n in count), indexing="ij"), axis=-1)
        .transpose(2, 1, 0, 3)
        .reshape(-1, 3)
    )
    points = index @ affine[:3, :3].T + affine[:3, 3]
    displacement = (map_points(transform, points) - points).reshape(*count[::-1], 3)
    return grid_transform(displacement, affine), float(np.linalg.norm(affine[:3, :3], axis=0).max())


def grid_transform(displacement: np.ndarray, affine: np.ndarray) -> Any:
    """vtkOrientedGridTransform x -> x + u(x): u (k, j, i, 3), mm along RAS, on the grid `affine`; linear between voxels."""
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = vtk.vtkImageData()
    image.SetDimensions(*displacement.shape[2::-1])
    image.SetSpacing(*spacing)
    image.SetOrigin(*affine[:3, 3])
    rows = np.ascontiguousarray(displacement, dtype=np.float64).reshape(-1, 3)
    image.GetPointData().SetScalars(numpy_to_vtk(rows, deep=True))  # VTK ignores vectors here, and i runs fastest
    direction = np.eye(4)
    direction[:3, :3] = affine[:3, :3] / spacing
    transform = slicer.vtkOrientedGridTransform()
    transform.SetGridDirectionMatrix(array_to_matrix(direction))
    transform.SetDisplacementGridData(image)
    transform.SetInterpolationModeToLinear()
    return transform


def _segments_on_grid(
    node: Any, grid: VolumeData, segment_ids: Sequence[str] | None, ignore: Any, numbers: Mapping[str, int]
) -> VolumeData:
    import slicer

    segmentation = node.GetSegmentation()
    known = list(segmentation.GetSegmentIDs())
    wanted = known if segment_ids is None else list(segment_ids)
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        found = ", ".join(known) or "no segment"
        raise InputError(
            f"'{node.GetName()}' has no segment {', '.join(missing) or 'at all'}; expected one of: {found}."
        )
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if not copy.CreateRepresentation(name):
        raise InputError(
            f"'{node.GetName()}' cannot be turned into a label image; expected segments with contours or voxels."
        )
    from_world = to_world(node, ignore).GetInverse()
    largest = max([len(wanted), *numbers.values()])
    labels = np.zeros(grid.values.shape, dtype=np.uint8 if largest < 256 else np.uint16)
    overlap = 0
    for value, identifier in enumerate(wanted, 1):
        inside = _segment_mask(copy, identifier, from_world, grid, name)
        overlap += int(np.count_nonzero(labels[inside]))
        labels[inside] = numbers.get(identifier, value)
    text = f"Segments of '{node.GetName()}' overlap in {overlap} voxels; there the later one in the list counts."
    return VolumeData(labels, grid.affine, (text,) if overlap else ())


def _segment_mask(segmentation: Any, identifier: str, from_world: Any, grid: VolumeData, name: str) -> np.ndarray:
    """(k, j, i) bool: the voxels of `grid` whose centre lies in the segment."""
    import vtk

    segment = segmentation.GetSegment(identifier)
    image = segment.GetRepresentation(name)
    if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
        return np.zeros(grid.values.shape, dtype=bool)
    to_local = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_local)
    index_from_world = vtk.vtkGeneralTransform()
    index_from_world.PostMultiply()
    index_from_world.Concatenate(from_world)
    index_from_world.Concatenate(array_to_matrix(np.linalg.inv(matrix_to_array(to_local))))
    values = reslice(image, index_from_world, grid.affine, grid.values.shape, linear=False, background=0.0)
    return values == segment.GetLabelValue()
