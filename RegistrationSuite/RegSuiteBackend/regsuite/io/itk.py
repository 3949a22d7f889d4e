"""What every reader and writer shares: SimpleITK called quietly, and its images turned into tensors and grids."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from regsuite.errors import InputError
from regsuite.geometry import Grid, frames

_LOCK = threading.RLock()


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Keep ITK's warnings, and what its C libraries print to the process's standard error, off the terminal.

    The failure itself still arrives as an exception. File descriptor 2 is shared by the process, so one thread at a time.
    """
    with _LOCK:
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.GlobalWarningDisplayOff()
        saved = _silence_stderr()
        try:
            yield
        finally:
            if saved is not None:
                os.dup2(saved, 2)
                os.close(saved)
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _silence_stderr() -> int | None:
    """Point file descriptor 2 at the null device; return a copy of the old one, None where the process has none."""
    try:
        saved = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
    except OSError:
        return None
    os.dup2(null, 2)
    os.close(null)
    return saved


def unreadable(name: str | Path, expected: str, found: str) -> InputError:
    """The one form of sentence about a file that cannot be read."""
    return InputError(f"Cannot read '{name}': expected {expected}, found {found}.")


def readable_file(path: Path, expected: str) -> None:
    """Raise InputError unless `path` is a file with at least one byte that this user may read."""
    if not path.exists():
        raise unreadable(path, expected, "no such file")
    if not path.is_file():
        raise unreadable(path, expected, "a folder")
    try:
        with path.open("rb") as stream:
            first = stream.read(1)
    except OSError as error:
        raise unreadable(path, expected, (error.strerror or "an error").lower()) from error
    if not first:
        raise unreadable(path, expected, "an empty file")


def extension(path: Path) -> str:
    """The lower-case extension, `.nii.gz` and `.seg.nrrd`-like doubles reduced to the part that names the format."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def grid_from_itk(image: sitk.Image | sitk.ImageFileReader, name: str) -> Grid:
    """The RAS grid of a 2D, 3D or (1, ..., 1)-trailing ITK image or header; 2D gains one slice of 1 mm along z.

    Raises InputError naming `name` when the axes do not span space or a value is not finite.
    """
    dimension = image.GetDimension()
    keep = min(dimension, 3)
    size = np.ones(3, dtype=int)
    origin, spacing, direction = np.zeros(3), np.ones(3), np.eye(3)
    size[:keep] = image.GetSize()[:keep]
    origin[:keep] = image.GetOrigin()[:keep]
    spacing[:keep] = image.GetSpacing()[:keep]
    direction[:keep, :keep] = np.reshape(image.GetDirection(), (dimension, dimension))[:keep, :keep]
    affine = frames.affine_from_itk(tuple(origin), tuple(spacing), tuple(direction.ravel()))
    try:
        return Grid(frames.shape_from_size(tuple(size)), affine)
    except InputError as error:
        raise InputError(f"Cannot use '{name}': {error}") from error


def tensor_from_itk(image: sitk.Image, grid: Grid, dtype: np.dtype | type) -> torch.Tensor:
    """Voxel values as (C, D, H, W) in `dtype`; one copy."""
    view = sitk.GetArrayViewFromImage(image)
    channels = image.GetNumberOfComponentsPerPixel()
    if channels == 1:
        return torch.from_numpy(view.astype(dtype).reshape(1, *grid.shape))
    array = np.moveaxis(view.reshape(*grid.shape, channels), -1, 0)
    return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))


def tensor_to_itk(data: torch.Tensor, grid: Grid) -> sitk.Image:
    """(C, D, H, W) -> scalar (C = 1) or vector ITK image; bool becomes uint8, half precision float32."""
    data = data.detach().cpu()
    if data.dtype == torch.bool:
        data = data.to(torch.uint8)
    elif data.dtype in (torch.float16, torch.bfloat16):
        data = data.float()
    if data.shape[0] == 1:
        image = sitk.GetImageFromArray(data[0].numpy())
    else:
        image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(data.numpy(), 0, -1)), isVector=True)
    origin, spacing, direction = frames.affine_to_itk(grid.affine)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image
