"""A folder with a DICOM series as one volume, through SimpleITK (GDCM)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from regsuite.errors import InputError
from regsuite.geometry import Grid, frames
from regsuite.io.itk import grid_from_itk, quiet_itk, unreadable

_SELECTOR = "?series="
_DESCRIPTION, _MODALITY, _DOSE_SCALE = "0008|103e", "0008|0060", "3004|000e"
_UNEVEN = 0.05  # of the slice distance; real series vary by rounding only


@dataclass(frozen=True)
class _Series:
    uid: str
    files: tuple[str, ...]
    label: str


def split_selector(name: str) -> tuple[Path, str | None]:
    """'FOLDER?series=N' -> (FOLDER, 'N'); any other path -> (path, None)."""
    folder, found, series = name.partition(_SELECTOR)
    return (Path(folder), series) if found else (Path(name), None)


def read_series(folder: Path, selector: str | None = None) -> tuple[sitk.Image, Grid]:
    """The one image series in `folder`, or the one that `selector` (number from 1, or UID) picks -> voxels and RAS grid.

    Slices are ordered along their normal; the third axis is the step between them, so a tilted gantry is kept. Raises
    InputError for no series, several series without a selector, slices of different size or orientation, two at one place,
    or missing ones.
    """
    with quiet_itk():
        try:
            series = _pick(folder, _list_series(folder), selector)
            if len(series.files) == 1:
                image = scale_dose(sitk.ReadImage(series.files[0]))
                return image, grid_from_itk(image, str(folder))
            files, affine = _stack(folder, series)
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(files)
            reader.SetOutputPixelType(sitk.sitkFloat32)  # rescale slopes may differ from slice to slice (PET)
            image = reader.Execute()
        except InputError:
            raise
        except (RuntimeError, ValueError, MemoryError) as error:
            raise unreadable(folder, "a complete DICOM series", "damaged or unequal slices") from error
    return image, Grid(frames.shape_from_size(image.GetSize()), affine)


def scale_dose(image: sitk.Image) -> sitk.Image:
    """RT dose files store integers and the Gy of one step (Dose Grid Scaling), which GDCM does not apply."""
    if not image.HasMetaDataKey(_DOSE_SCALE):
        return image
    return sitk.Cast(image, sitk.sitkFloat64) * float(image.GetMetaData(_DOSE_SCALE))


def _list_series(folder: Path) -> list[_Series]:
    """Image series in `folder` (not below it), in order of their UID."""
    found = []
    for uid in sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))):
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
        reader = sitk.ImageFileReader()
        reader.SetFileName(files[0])
        reader.ReadImageInformation()
        words = [reader.GetMetaData(key).strip() for key in (_MODALITY, _DESCRIPTION) if reader.HasMetaDataKey(key)]
        text = " ".join(w.encode("utf-8", "replace").decode() for w in words if w)
        found.append(_Series(uid, tuple(files), f"{text or 'no description'}, {len(files)} files"))
    return found


def _pick(folder: Path, series: list[_Series], selector: str | None) -> _Series:
    if not series:
        raise unreadable(folder, "a folder with a DICOM series", "none in it")
    listed = "; ".join(f"{n}: {s.label}" for n, s in enumerate(series, 1))
    if selector is None:
        if len(series) == 1:
            return series[0]
        raise unreadable(folder, "one DICOM series", f"{len(series)} ({listed}); pick one with '{folder}{_SELECTOR}1'")
    for number, item in enumerate(series, 1):
        if selector in (str(number), item.uid):
            return item
    raise unreadable(f"{folder}{_SELECTOR}{selector}", f"one of the series {listed}", f"no series '{selector}'")


def _stack(folder: Path, series: _Series) -> tuple[list[str], np.ndarray]:
    """Files along their normal (GDCM gives up sorting odd series) and the index -> RAS matrix of the stack.

    Raises InputError unless the slices are parallel, distinct and evenly spaced.
    """
    headers = []
    for name in series.files:
        reader = sitk.ImageFileReader()
        reader.SetFileName(name)
        reader.ReadImageInformation()
        headers.append((reader.GetOrigin(), reader.GetSpacing(), reader.GetDirection(), reader.GetSize()))
    first = headers[0]
    for other in headers[1:]:
        same = np.allclose(other[2], first[2], atol=1e-3) and np.allclose(other[1][:2], first[1][:2], rtol=1e-3)
        if not same or other[3] != first[3]:
            raise unreadable(folder, "parallel slices of one size", "slices that differ")
    origins = np.array([h[0] for h in headers])
    direction = np.reshape(first[2], (3, 3))
    order = np.argsort(origins @ direction[:, 2], kind="stable")
    origins = origins[order]
    steps = np.diff(origins @ direction[:, 2])
    step = float(np.median(steps))
    if steps.min() < 1e-3:
        raise unreadable(folder, "one slice at each place", "several (several phases in one series?)")
    if np.abs(steps - step).max() > max(_UNEVEN * step, 0.02):
        found = f"steps of {steps.min():.3g} to {steps.max():.3g} mm ({len(order)} slices; are some missing?)"
        raise unreadable(folder, "evenly spaced slices", found)
    matrix = np.eye(4)
    matrix[:3, :2] = direction[:, :2] * np.array(first[1][:2])
    matrix[:3, 2] = (origins[-1] - origins[0]) / (len(origins) - 1)
    matrix[:3, 3] = origins[0]
    return [series.files[n] for n in order], frames.flip_grid_affine(matrix)
