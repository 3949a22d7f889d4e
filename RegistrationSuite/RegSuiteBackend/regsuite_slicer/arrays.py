"""Volumes as plain values, in and out: numpy array (k, j, i) and the 4x4 matrix index (i, j, k) -> world RAS mm."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from regsuite.errors import InputError

from regsuite_slicer.world import map_points, matrix_of, to_world

_LATTICE = 9
"""Points per axis at which a non-linear parent transform is looked at to find the box it moves a volume to."""


@dataclass(frozen=True, eq=False)
class VolumeData:
    """values (k, j, i), any real type; affine 4x4 float64: index (i, j, k, 1) -> world RAS mm; warnings: one sentence each.

    `values` may share the node's memory: write or copy it before the user can edit the node.
    """

    values: np.ndarray
    affine: np.ndarray
    warnings: tuple[str, ...] = ()


def matrix_to_array(matrix: Any) -> np.ndarray:
    """vtkMatrix4x4 -> (4, 4) float64."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def array_to_matrix(array: np.ndarray) -> Any:
    """(4, 4) -> vtkMatrix4x4."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=np.float64).ravel())
    return matrix


def image_array(image: Any) -> np.ndarray:
    """The voxels (k, j, i) of a vtkImageData with one value per voxel, sharing its memory."""
    from vtk.util.numpy_support import vtk_to_numpy

    i, j, k = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)


def ijk_to_ras(node: Any) -> np.ndarray:
    """The node's own matrix (4, 4), index -> local RAS mm, before its parent transforms."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix_to_array(matrix)


def require_image(node: Any) -> Any:
    """The vtkImageData of a volume node; InputError when it is empty or has several values per voxel."""
    image = node.GetImageData() if node is not None and node.IsA("vtkMRMLVolumeNode") else None
    name = "the volume" if node is None else f"'{node.GetName()}'"
    if image is None or image.GetPointData().GetScalars() is None or min(image.GetDimensions()) < 1:
        raise InputError(
            f"Cannot use {name}: expected a volume with voxels, found an empty node or another kind of node."
        )
    if image.GetNumberOfScalarComponents() != 1:
        found = image.GetNumberOfScalarComponents()
        raise InputError(f"Cannot use {name}: expected one value (grey) per voxel, found {found} (colour or vectors).")
    return image


def volume_data(node: Any, ignore: Any = None) -> VolumeData:
    """A scalar or label volume where it lies in the world; the node is not touched.

    Linear parent transforms go into the matrix. A non-linear one (or a chain with one) resamples the voxels, linearly or for
    labels to the nearest, on a grid of about the same spacing that covers the moved box, with a warning; outside the volume
    its lowest value is put (0 for labels). `ignore`: a parent transform to leave out (the output transform, see world.py).

    Raises InputError for an empty, colour or vector volume.
    """
    image = require_image(node)
    local, above = ijk_to_ras(node), to_world(node, ignore)
    matrix = matrix_of(above)
    if matrix is not None:
        return VolumeData(image_array(image), matrix @ local)
    affine, shape = _box_after(above, local, image.GetDimensions())
    labels = node.IsA("vtkMRMLLabelMapVolumeNode")
    background = 0.0 if labels else float(image.GetScalarRange()[0])
    values = reslice(image, _index_from_world(above, local), affine, shape, linear=not labels, background=background)
    text = (
        f"'{node.GetName()}' lies under a non-linear transform: a copy was resampled; the node itself was not changed."
    )
    return VolumeData(values, affine, (text,))


def values_on_grid_of(node: Any, reference: Any) -> np.ndarray:
    """The voxels of `node`, where they appear in the world, at the voxels of `reference`: (k, j, i) in the type of `node`.

    Both under any parent transforms; linear interpolation, labels to the nearest; outside `node` its lowest value (labels: 0).
    """
    import vtk

    image, target = require_image(node), require_image(reference)
    general = vtk.vtkGeneralTransform()
    general.PostMultiply()
    general.Concatenate(array_to_matrix(ijk_to_ras(reference)))
    general.Concatenate(to_world(reference))
    general.Concatenate(_index_from_world(to_world(node), ijk_to_ras(node)))
    labels = node.IsA("vtkMRMLLabelMapVolumeNode")
    background = 0.0 if labels else float(image.GetScalarRange()[0])
    shape = tuple(reversed(target.GetDimensions()))
    return reslice(image, general, np.eye(4), shape, linear=not labels, background=background)


def reslice(
    image: Any, index_from_world: Any, affine: np.ndarray, shape: tuple[int, ...], *, linear: bool, background: float
) -> np.ndarray:
    """Voxels (k, j, i) of a vtkImageData (whose index is its extent's) on the grid `shape` (k, j, i), `affine` index -> world."""
    import vtk

    source = vtk.vtkImageData()
    source.ShallowCopy(image)
    source.SetSpacing(1.0, 1.0, 1.0)
    source.SetOrigin(0.0, 0.0, 0.0)
    source.SetDirectionMatrix(1, 0, 0, 0, 1, 0, 0, 0, 1)
    general = vtk.vtkGeneralTransform()
    general.PostMultiply()
    general.Concatenate(array_to_matrix(affine))
    general.Concatenate(index_from_world)
    linear_map = matrix_of(general)  # much faster where it is linear
    filter_ = vtk.vtkImageReslice()
    filter_.SetInputData(source)
    if linear_map is None:
        filter_.SetResliceTransform(general)
    else:
        whole = vtk.vtkTransform()
        whole.SetMatrix(array_to_matrix(linear_map))
        filter_.SetResliceTransform(whole)
    filter_.SetInterpolationMode(vtk.VTK_LINEAR_INTERPOLATION if linear else vtk.VTK_NEAREST_INTERPOLATION)
    filter_.SetBackgroundLevel(background)
    filter_.SetOutputSpacing(1.0, 1.0, 1.0)
    filter_.SetOutputOrigin(0.0, 0.0, 0.0)
    filter_.SetOutputExtent(0, shape[2] - 1, 0, shape[1] - 1, 0, shape[0] - 1)
    filter_.Update()
    return image_array(filter_.GetOutput()).copy()


def _index_from_world(above: Any, local: np.ndarray) -> Any:
    """vtkGeneralTransform: world RAS mm -> index of a volume with matrix `local` under the transform `above`."""
    import vtk

    general = vtk.vtkGeneralTransform()
    general.PostMultiply()
    general.Concatenate(above.GetInverse())
    general.Concatenate(array_to_matrix(np.linalg.inv(local)))
    return general


def _box_after(above: Any, local: np.ndarray, size: tuple[int, int, int]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """(affine, shape (k, j, i)) of a grid that covers a volume after a non-linear transform: the best affine fit of the map,
    grown to hold every point of a lattice over the volume."""
    axes = [np.linspace(-0.5, n - 0.5, _LATTICE) for n in size]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    rows = np.column_stack([index, np.ones(len(index))])
    world = map_points(above, rows @ local[:3].T)
    fit = np.eye(4)
    fit[:3] = np.linalg.lstsq(rows, world, rcond=None)[0].T
    moved = np.column_stack([world, np.ones(len(world))]) @ np.linalg.inv(fit)[:3].T
    low = np.floor(moved.min(axis=0) + 0.5)
    high = np.ceil(moved.max(axis=0) - 0.5)
    shift = np.eye(4)
    shift[:3, 3] = low
    i, j, k = (int(n) for n in np.maximum(high - low + 1, 1))
    return fit @ shift, (k, j, i)


_SLAB_BYTES = 4 * 2**20
_NRRD_TYPES = {"i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32", "i8": "int64",
               "u8": "uint64", "f4": "float", "f8": "double"}  # fmt: skip


def write_nrrd(volume: VolumeData, path: str | os.PathLike[str]) -> None:
    """Write a volume as `nrrd_slabs` does, in one go."""
    for _ in nrrd_slabs(volume, path):
        pass


def nrrd_slabs(volume: VolumeData, path: str | os.PathLike[str]) -> Iterator[None]:
    """Write a volume as uncompressed NRRD whose space is RAS, all digits of the matrix kept; ITK turns it to LPS when it reads.

    A generator: each step writes at most about 4 MiB, so that an event loop can turn in between.
    Raises InputError for a type of voxel that NRRD does not know or an affine with a singular direction.
    """
    kind = volume.values.dtype.str[1:]
    if kind not in _NRRD_TYPES:
        raise InputError(
            f"Cannot write '{path}': expected whole or real numbers of at most 64 bits, found {volume.values.dtype}."
        )
    if not np.isfinite(volume.affine).all() or abs(np.linalg.det(volume.affine[:3, :3])) < 1e-12:
        raise InputError(
            f"Cannot write '{path}': expected axes that span space, found a singular geometry (check parent transforms)."
        )
    columns = " ".join(_vector(volume.affine[:3, axis]) for axis in range(3))
    k, j, i = volume.values.shape
    header = [
        "NRRD0004",
        f"type: {_NRRD_TYPES[kind]}",
        "dimension: 3",
        "space: right-anterior-superior",
        f"sizes: {i} {j} {k}",
        f"space directions: {columns}",
        "kinds: domain domain domain",
        f"endian: {'little' if sys.byteorder == 'little' else 'big'}",
        "encoding: raw",
        f"space origin: {_vector(volume.affine[:3, 3])}",
    ]
    slab = max(1, _SLAB_BYTES // max(1, volume.values[0].nbytes))
    with open(path, "wb", buffering=0) as stream:
        stream.write(("\n".join(header) + "\n\n").encode("ascii"))
        for start in range(0, k, slab):
            part = volume.values[start : start + slab]
            stream.write(memoryview(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("="))).cast("B"))
            yield


def _vector(values: np.ndarray) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"
