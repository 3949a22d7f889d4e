"""Images in files: NIfTI, NRRD, MetaImage and DICOM in, the first three out."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from regsuite import check
from regsuite.errors import InputError, OutputError
from regsuite.geometry import Grid, Image, frames
from regsuite.io import dicom, integrity
from regsuite.io.atomic import require_space, staged_file
from regsuite.io.itk import extension, grid_from_itk, quiet_itk, readable_file, tensor_from_itk, tensor_to_itk, unreadable

VOLUME_EXTENSIONS = (".nrrd", ".nii.gz", ".nii", ".mha", ".mhd")
_EXPECTED = "an image (NIfTI, NRRD, MetaImage or DICOM)"
_DETACHED = (".mhd", ".nhdr", ".hdr", ".img")
_MOST_COMPRESSION = {".nrrd": 50_000}  # voxels per byte of file (bzip2); a header that promises more is damaged
_MOST_DEFLATE = 1100
_COMPRESSION_LEVEL = 2
_COMPLEX = {sitk.sitkComplexFloat32, sitk.sitkComplexFloat64}


def read_image(path: str | os.PathLike[str], dtype: torch.dtype = torch.float32, channels: int = 1) -> Image:
    """Read one 2D or 3D image -> Image (channels, D, H, W), grid in RAS mm.

    `path`: NIfTI, NRRD, MetaImage, one DICOM file, or a folder with one DICOM series; of a folder with several, pick one by
    `FOLDER?series=N` (the number the error message gives, or the series UID). A 2D image becomes one slice; a 4D file
    with a single frame is 3D. Of a NIfTI file, sform and qform are read as ITK and Slicer do. RT doses come out in Gy.
    `dtype`: a floating type, or an integer type for labels; integers require whole numbers within range.
    `channels`: values per voxel that are expected. Vectors keep the components of the file (see read_transform for
    displacement volumes).

    Raises InputError (file, expected, found) for a file that is missing, not readable, no image, cut short or damaged;
    for 4D, colour, vector or complex voxels, singular directions, and NaN or infinite voxels.
    """
    name = os.fspath(path)
    folder, series = dicom.split_selector(name)
    if folder.is_dir():
        image, grid = dicom.read_series(folder, series)
    else:
        image = _read_file(Path(name), channels)
        grid = grid_from_itk(image, name)
    _check_kind(image, name, channels)
    data = _convert(image, grid, dtype, name)
    return Image(data, grid)


def read_labels(path: str | os.PathLike[str]) -> Image:
    """Read a label image or a segmentation (.seg.nrrd with one layer) -> Image int32 (1, D, H, W); values kept.

    Raises InputError as read_image does, and for values that are not whole numbers of 32 bits.
    """
    if os.fspath(path).lower().endswith(".seg.nrrd"):
        _require_one_layer(Path(path))
    return read_image(path, dtype=torch.int32)


def write_image(image: Image, path: str | os.PathLike[str], *, vectors: bool = False) -> None:
    """Write an image, all or nothing, compressed; the extension names the format: .nrrd .nii.gz .nii .mha .mhd.

    `vectors=True` marks 3 channels as vectors in RAS mm: they are written as LPS components, the way ITK and Slicer expect of
    a displacement volume; NIfTI marks them with intent 1006, whose components are RAS in the file. Bool is written as uint8.

    Raises InputError for an unknown extension, channels that are no vectors, or a sheared grid in NIfTI (cannot hold it), and
    OutputError when the file cannot be written.
    """
    target = Path(path)
    kind = extension(target)
    if kind not in VOLUME_EXTENSIONS:
        raise InputError(f"Cannot write '{target}': expected an extension of {', '.join(VOLUME_EXTENSIONS)}, found '{kind}'.")
    if vectors and image.channels != 3:
        raise InputError(f"Cannot write '{target}': expected vectors of 3 components, found {image.channels} channels.")
    is_nifti = kind.startswith(".nii")
    if is_nifti:
        _require_orthonormal(image, target)
    displacement_nifti = vectors and is_nifti
    data = frames.flip_vector_field(image.data) if vectors and not is_nifti else image.data
    itk_image = tensor_to_itk(data, image.grid)
    with staged_file(target) as stage:
        if kind == ".nii":
            require_space(stage, data.numel() * data.element_size())
        if displacement_nifti:
            _write_displacement_nifti(itk_image, stage, target)
        else:
            _write_itk(itk_image, stage, target)
        if is_nifti:
            _require_written(stage, target)


def _read_file(path: Path, channels: int) -> sitk.Image:
    """One file as an ITK image of at most 4 dimensions, its header checked before the voxels are read."""
    readable_file(path, _EXPECTED)
    integrity.require_complete(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        try:
            reader.ReadImageInformation()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise _from_itk_error(path, error) from error
        _check_header(reader, path, channels)
        try:
            return dicom.scale_dose(reader.Execute())
        except (RuntimeError, ValueError, MemoryError) as error:
            raise _from_itk_error(path, error, header_read=True) from error


def _check_header(reader: sitk.ImageFileReader, path: Path, channels: int) -> None:
    """Refuse, before any allocation, what is no 2D/3D image of `channels` values or cannot fit in the file."""
    size = reader.GetSize()
    shown = "x".join(str(n) for n in size)
    if not size or min(size) < 1:
        raise unreadable(path, "at least one voxel along every axis", shown)
    if any(n > 1 for n in size[3:]):
        raise unreadable(path, "one 3D volume", f"{len(size)}D data of {shown}")
    components = reader.GetNumberOfComponents()
    if components != channels:
        raise _wrong_channels(path, channels, components)
    promised = float(np.prod(np.asarray(size, dtype=np.float64))) * components
    files = [path]
    if extension(path) in _DETACHED:
        files = [p for p in path.parent.iterdir() if p.is_file()]
    if promised > _MOST_COMPRESSION.get(extension(path), _MOST_DEFLATE) * sum(p.stat().st_size for p in files):
        raise unreadable(path, f"the data of {shown} voxels", "a file too small for them")


def _check_kind(image: sitk.Image, name: str, channels: int) -> None:
    """Refuse complex voxels and another number of channels."""
    if image.GetPixelID() in _COMPLEX:
        raise unreadable(name, "real numbers", "complex voxels")
    components = image.GetNumberOfComponentsPerPixel()
    if components != channels:
        raise _wrong_channels(name, channels, components)


def _wrong_channels(name: str | Path, expected: int, found: int) -> InputError:
    wanted = "1 value (grey)" if expected == 1 else f"{expected} values"
    return unreadable(name, f"{wanted} per voxel", f"{found} (colour or vectors)")


def _convert(image: sitk.Image, grid: Grid, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Voxels in `dtype`, finite; integers only from whole numbers that fit."""
    if dtype.is_floating_point:
        wide = np.float64 if dtype == torch.float64 else np.float32
        data = tensor_from_itk(image, grid, wide)
        check.finite_tensor(f"The image '{name}'", data)
        return data.to(dtype)
    view = sitk.GetArrayViewFromImage(image)
    limits = torch.iinfo(dtype)
    low, high = view.min(), view.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"The image '{name}' holds NaN or infinite voxels; expected whole numbers (labels).")
    if low < limits.min or high > limits.max:
        raise InputError(f"The image '{name}' holds {low} to {high}; expected whole numbers from {limits.min} to {limits.max}.")
    if np.issubdtype(view.dtype, np.floating):
        fractions = np.count_nonzero(view != np.rint(view))
        if fractions:
            raise InputError(f"The image '{name}' holds {fractions} voxels with fractions; expected whole numbers (labels).")
    return tensor_from_itk(image, grid, np.dtype(str(dtype).removeprefix("torch.")))


def _require_one_layer(path: Path) -> None:
    """Refuse a segmentation whose segments overlap (Slicer then stores several layers as a 4D file)."""
    readable_file(path, _EXPECTED)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        try:
            reader.ReadImageInformation()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise _from_itk_error(path, error) from error
        layers = reader.GetNumberOfComponents()
    if layers > 1:
        raise unreadable(path, "segments that do not overlap (one layer)", f"{layers} layers; export them as label images")


def _from_itk_error(path: Path, error: Exception, header_read: bool = False) -> InputError:
    """One sentence from ITK's many lines."""
    text = str(error).lower()
    if any(word in text for word in ("direction", "spacing", "determinant")):
        wanted = "three axes that span space (for NIfTI, at right angles)"
        return unreadable(path, wanted, "a singular or sheared direction matrix or a zero spacing")
    if header_read:
        return unreadable(path, "the voxels its header promises", "a file cut short or damaged")
    return unreadable(path, _EXPECTED, "another kind of file or a damaged header")


def _require_orthonormal(image: Image, target: Path) -> None:
    """ITK silently straightens a sheared grid in NIfTI, which would move the image: refuse."""
    direction = image.grid.direction
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise InputError(f"Cannot write '{target}': expected axes at right angles, found a sheared grid; write .nrrd or .mha.")


def _write_itk(image: sitk.Image, stage: Path, target: Path) -> None:
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(stage))
    writer.SetUseCompression(True)
    writer.SetCompressionLevel(_COMPRESSION_LEVEL)
    with quiet_itk():
        try:
            writer.Execute(image)
        except RuntimeError as error:
            raise OutputError(_why_unwritten(target, error)) from error


def _write_displacement_nifti(image: sitk.Image, stage: Path, target: Path) -> None:
    """RAS vectors with intent 1006 (displacement vector); SimpleITK offers only intent 1007, so the header is patched."""
    plain = stage.with_name("field.nii")
    _write_itk(image, plain, target)
    _require_written(plain, target)
    integrity.set_intent(plain, integrity.DISPLACEMENT_INTENT)
    if extension(stage) == ".nii":
        plain.replace(stage)
        return
    with plain.open("rb") as source, gzip.open(stage, "wb", compresslevel=_COMPRESSION_LEVEL) as packed:
        shutil.copyfileobj(source, packed, 4 << 20)
    plain.unlink()


def _require_written(stage: Path, target: Path) -> None:
    """ITK does not notice a full disk while it writes NIfTI: look at the file itself."""
    try:
        integrity.require_complete(stage, finite=False)
    except InputError as error:
        raise OutputError(f"Cannot write '{target}': the file came out incomplete; is the disk full?") from error


def _why_unwritten(target: Path, error: Exception) -> str:
    text = str(error)
    if "No space left" in text or "wrote only" in text or "H5Dwrite" in text:
        return f"Cannot write '{target}': no space left on the disk."
    last = text.strip().splitlines()[-1].strip() if text.strip() else "unknown reason"
    return f"Cannot write '{target}': {last.removeprefix('ITK ERROR:').strip()}"
