"""Transforms in files: ITK .h5 / .tfm / .txt / .mat, and displacement volumes that ITK and Slicer read."""

from __future__ import annotations

import importlib.util
import os
import re
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regsuite.errors import InputError, OutputError
from regsuite.geometry import Grid, Image, frames
from regsuite.io.atomic import require_space, staged_file
from regsuite.io.itk import extension, grid_from_itk, quiet_itk, readable_file, tensor_from_itk, tensor_to_itk, unreadable
from regsuite.io.rt_dose import is_dicom
from regsuite.io.volumes import VOLUME_EXTENSIONS, read_image, write_image
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, StationaryVelocityField, Transform

TRANSFORM_EXTENSIONS = (".h5", ".hdf5", ".tfm", ".txt", ".mat")
BSPLINE_TOLERANCE_MM = 0.02
_BSPLINE_MOST_VOXELS = 60_000_000
_EXPECTED = (
    "an ITK transform (.h5, .tfm, .txt, .mat), a DICOM registration or a displacement volume (.nrrd, .nii.gz, .nii, .mha, .mhd)"
)
_KINDS = "affine family, displacement field, B-spline or a composite of these"


def read_transform(path: str | os.PathLike[str]) -> Transform:
    """Read a transform; its map in RAS mm equals ITK's map in LPS mm.

    Linear ITK transforms of any class become one AffineTransform; displacement fields a DisplacementField (float32);
    composites a CompositeTransform in ITK's order (last part applied first). A cubic B-spline becomes a displacement field
    fine enough that linear interpolation stays within BSPLINE_TOLERANCE_MM of the spline inside its domain (within
    half of the field's voxel outside the domain's border the border value holds instead of zero).
    DICOM: see read_registration. Displacement volumes hold mm vectors: LPS components in NRRD, MetaImage and NIfTI intent 1007;
    RAS with NIfTI intent 1006.

    Raises InputError for a missing, damaged or 2D file, a file with several separate transforms, or another kind of map. (An
    .h5 that is cut short is noticed; one with altered bytes inside may crash the HDF5 library itself.)
    """
    name = Path(path)
    kind = extension(name)
    if kind in VOLUME_EXTENSIONS:
        image = read_image(name, channels=3)
        return DisplacementField(frames.flip_vector_field(image.data), image.grid)
    readable_file(name, _EXPECTED)
    if is_dicom(name):
        from regsuite.io.rt_registration import read_registration

        return read_registration(name)
    if kind not in TRANSFORM_EXTENSIONS:
        raise unreadable(name, _EXPECTED, f"the extension '{kind}'")
    if kind in (".tfm", ".txt"):
        _require_whole_text(name)
    if kind == ".mat":
        _require_matlab(name)
    with quiet_itk():
        try:
            transform = sitk.ReadTransform(str(name))
            return _from_itk(transform.Downcast(), name)
        except InputError:
            raise
        except (RuntimeError, ValueError, MemoryError) as error:
            raise unreadable(name, _EXPECTED, "another kind of file or a damaged one") from error


def write_transform(transform: Transform, path: str | os.PathLike[str], grid: Grid | None = None) -> None:
    """Write a transform, all or nothing; SimpleITK and Slicer read the same map (LPS there).

    .h5 / .hdf5 / .tfm / .txt: affine, displacement field (ITK stores doubles), composite; a stationary velocity field is
    written as the displacement field of its exponential. Volume extensions: a displacement volume of 3 float components on
    the transform's own grid, or on `grid`, which an affine or composite map needs; outside that grid readers see identity.
    Slicer interpolates displacement fields cubically, so between voxels of a rough field it may differ from ITK.
    The same transform gives the same bytes; in .h5 where h5py is present (3D Slicer does not bring it: there HDF5's times stay).

    Raises InputError for an unknown extension, a missing grid or a kind of transform without a file form; OutputError when
    the file cannot be written.
    """
    target = Path(path)
    kind = extension(target)
    if kind in VOLUME_EXTENSIONS:
        field = _as_field(transform, grid, target)
        write_image(Image(field.field.float(), field.grid), target, vectors=True)
        return
    if kind not in TRANSFORM_EXTENSIONS or kind == ".mat":
        allowed = ", ".join((".h5", ".hdf5", ".tfm", ".txt", *VOLUME_EXTENSIONS))
        raise InputError(f"Cannot write '{target}': expected an extension of {allowed}; found '{kind}'.")
    with staged_file(target) as stage:
        itk_transform = _to_itk(transform, target)
        # ITK's HDF5 crashes rather than raises when the disk fills up late: ask first.
        require_space(stage, 2 * (8 * _parameter_count(transform) + 65536))  # the file and its copy without times
        try:
            with quiet_itk():
                sitk.WriteTransform(itk_transform, str(stage))
            if kind in (".h5", ".hdf5"):
                _drop_times(stage)
            if kind in (".tfm", ".txt"):
                _require_whole_text(stage)  # ITK does not notice a failed text write
        except (RuntimeError, InputError) as error:
            raise OutputError(f"Cannot write '{target}': the file came out incomplete; is the disk full?") from error


def _from_itk(transform: sitk.Transform, name: Path) -> Transform:
    """ITK transform (LPS) -> ours (RAS)."""
    if transform.GetDimension() != 3:
        raise unreadable(name, "a 3D transform", f"a {transform.GetDimension()}D one")
    if transform.IsLinear():
        return _affine_from_itk(transform, name)
    if isinstance(transform, sitk.CompositeTransform):
        parts = [transform.GetNthTransform(n).Downcast() for n in range(transform.GetNumberOfTransforms())]
        return CompositeTransform(tuple(_from_itk(part, name) for part in parts))
    if isinstance(transform, sitk.DisplacementFieldTransform):
        return _field_from_itk(transform.GetDisplacementField(), name)
    if isinstance(transform, sitk.BSplineTransform):
        return _field_from_itk(_sample_bspline(transform, name), name)
    raise unreadable(name, _KINDS, transform.GetName())


def _affine_from_itk(transform: sitk.Transform, name: Path) -> AffineTransform:
    """Any linear ITK map, from its values at the origin and the three unit points (exact up to float64 rounding)."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis, unit in enumerate(np.eye(3)):
        matrix[:3, axis] = np.subtract(transform.TransformPoint(unit.tolist()), matrix[:3, 3])
    try:
        return AffineTransform(frames.flip_world_affine(matrix))
    except InputError as error:
        raise InputError(f"Cannot use the transform '{name}': {error}") from error


def _field_from_itk(image: sitk.Image, name: Path) -> DisplacementField:
    grid = grid_from_itk(image, str(name))
    field = tensor_from_itk(image, grid, np.float32)
    try:
        return DisplacementField(frames.flip_vector_field(field), grid)
    except InputError as error:
        raise InputError(f"Cannot use the transform '{name}': {error}") from error


def _sample_bspline(transform: sitk.BSplineTransform, name: Path) -> sitk.Image:
    """Displacements of a cubic B-spline on a lattice over its domain.

    With n steps per mesh cell, linear interpolation errs by at most sum_d |D_d^2 c|_max / (8 n_d^2), c the coefficients, D_d^2
    their second difference along axis d: the second derivative is a convex combination of these.
    """
    if transform.GetOrder() != 3:
        raise unreadable(name, "a cubic B-spline", f"order {transform.GetOrder()}")
    coefficients = np.stack([sitk.GetArrayFromImage(c) for c in transform.GetCoefficientImages()])  # (3, k, j, i)
    bends = [float(np.linalg.norm(np.diff(coefficients, n=2, axis=axis), axis=0).max()) for axis in (3, 2, 1)]
    steps = np.array([max(1, int(np.ceil(np.sqrt(3.0 * bend / (8.0 * BSPLINE_TOLERANCE_MM))))) for bend in bends])
    cells = np.array(transform.GetTransformDomainMeshSize()) * steps
    if not np.isfinite(bends).all() or float(np.prod(cells + 1.0)) > _BSPLINE_MOST_VOXELS:
        raise unreadable(name, "a smooth B-spline", f"one too rough to sample to {BSPLINE_TOLERANCE_MM} mm")
    # ITK's spline is zero outside its domain, rounding included: stay a hair inside.
    extent = np.array(transform.GetTransformDomainPhysicalDimensions())
    direction = np.reshape(transform.GetTransformDomainDirection(), (3, 3))
    hair = 1e-9 * extent
    origin = np.array(transform.GetTransformDomainOrigin()) + direction @ hair
    spacing = (extent - 2.0 * hair) / cells
    size = [int(n) for n in cells + 1]
    lattice = (size, origin.tolist(), spacing.tolist(), direction.ravel().tolist())
    return sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, *lattice)


def _to_itk(transform: Transform, target: Path) -> sitk.Transform:
    """Ours (RAS) -> ITK transform (LPS)."""
    if isinstance(transform, AffineTransform):
        matrix = frames.flip_world_affine(transform.matrix)
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(matrix[:3, :3].ravel().tolist())
        affine.SetTranslation(matrix[:3, 3].tolist())
        return affine
    if isinstance(transform, StationaryVelocityField):
        return _to_itk(transform.exponential, target)
    if isinstance(transform, DisplacementField):
        vectors = frames.flip_vector_field(transform.field.detach().cpu().double())
        return sitk.DisplacementFieldTransform(tensor_to_itk(vectors, transform.grid))
    if isinstance(transform, CompositeTransform):
        composite = sitk.CompositeTransform(3)
        for part in _flat(transform):  # ITK files cannot hold a composite inside a composite
            composite.AddTransform(_to_itk(part, target))
        return composite
    raise InputError(f"Cannot write '{target}': a {type(transform).__name__} has no ITK form; sample it on a grid first.")


def _flat(transform: Transform) -> list[Transform]:
    """The parts of nested composites in one list, in order."""
    if not isinstance(transform, CompositeTransform):
        return [transform]
    return [leaf for part in transform.parts for leaf in _flat(part)]


def _as_field(transform: Transform, grid: Grid | None, target: Path) -> DisplacementField:
    """The displacement field to store in a volume, sampled on `grid` unless the transform brings its own."""
    if isinstance(transform, StationaryVelocityField):
        transform = transform.exponential
    if isinstance(transform, DisplacementField) and (grid is None or grid == transform.grid):
        return transform
    if grid is None:
        raise InputError(
            f"Cannot write '{target}': a displacement volume of a {type(transform).__name__} needs the grid to sample it on; "
            "give a grid, or write .h5."
        )
    return DisplacementField(transform.displacement(grid), grid)


def _parameter_count(transform: Transform) -> int:
    """Numbers that an ITK file of `transform` holds, about."""
    fields = (DisplacementField, StationaryVelocityField)
    return sum(3 * part.grid.voxels if isinstance(part, fields) else 16 for part in _flat(transform))


def _drop_times(path: Path) -> None:
    """Copy an HDF5 file over itself without the times of writing that ITK's HDF5 puts into it."""
    if importlib.util.find_spec("h5py") is None:
        return
    import h5py

    copy = path.with_name(f"{path.name}.copy")
    with h5py.File(path) as source, h5py.File(copy, "w") as target:

        def put(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                target.create_dataset(name, data=item[()], dtype=item.dtype, track_times=False)

        source.visititems(put)
    copy.replace(path)


def _require_whole_text(path: Path) -> None:
    """ITK takes the first of several separate transforms in a text file, and reads one without numbers as the identity."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):  # ITK ends every line; without it the last number may be cut
        raise unreadable(path, _EXPECTED, "a file whose last line has no end; it may be cut short")
    kinds = re.findall(rb"^Transform:\s*(\w+)", content, flags=re.MULTILINE)
    composite = bool(kinds) and kinds[0].startswith(b"CompositeTransform")
    parts = len(kinds) - composite
    if parts > 1 and not composite:
        raise unreadable(path, "one transform or a composite", f"{parts} separate transforms")
    for tag in (rb"^Parameters:", rb"^FixedParameters:"):
        if parts < 1 or len(re.findall(tag, content, flags=re.MULTILINE)) != parts:
            raise unreadable(path, _EXPECTED, "another kind of file or one cut short")


def _require_matlab(path: Path) -> None:
    """ITK believes any size in a .mat header (MATLAB 4: 20-byte headers, name, doubles), and a missing end: check them."""
    content = path.read_bytes()
    place = 0
    while place + 20 <= len(content):
        _, rows, columns, _, name_length = struct.unpack_from("<5i", content, place)
        if min(rows, columns) < 0 or not 0 < name_length < 256:
            break
        place += 20 + name_length + 8 * rows * columns
    if place != len(content):
        raise unreadable(path, _EXPECTED, "another kind of file or a damaged one")
