"""RT Dose in and out, with its units, scaling, frame of reference and references (pydicom reads the format)."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry import Grid, Image, frames
from regsuite.io.atomic import staged_file
from regsuite.io.itk import readable_file, unreadable
from regsuite.io.volumes import read_image

RT_DOSE, RT_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.481.3"
DOSE_UNITS = {"Gy": 1.0, "cGy": 0.01}
MOST_GY = 300.0
"""No plan gives more; a file without a unit that holds more is taken for cGy by mistake."""
NEGATIVE_SHARE = 0.01
_UNEVEN_MM = 0.02
_EXPECTED = "a dose (DICOM RTDOSE, NRRD, NIfTI, MetaImage)"


@dataclass(frozen=True, eq=False)
class Dose:
    """image: float32 (1, D, H, W) Gy, never negative. frame_of_reference: DICOM UID or None. notes: what the user should know."""

    image: Image
    frame_of_reference: str | None = None
    source: Any = None
    notes: tuple[str, ...] = ()


def is_dicom(path: Path) -> bool:
    """Does the file carry the DICOM mark (or look like one without preamble, which RT systems still write)?"""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(132)
    return head[128:132] == b"DICM" or (path.suffix.lower() in (".dcm", "") and head[:2] in (b"\x08\x00", b"\x02\x00"))


def read_dataset(path: Path, expected: str) -> Any:
    """One DICOM file as a pydicom Dataset; InputError when it is none."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    readable_file(path, expected)
    try:
        return pydicom.dcmread(path, force=is_dicom(path))
    except (InvalidDicomError, OSError, ValueError, EOFError) as error:
        raise unreadable(path, expected, "no DICOM file or a damaged one") from error


def read_dose(path: str | os.PathLike[str], unit: str | None = None) -> Dose:
    """Read a dose in Gy. RTDOSE: pixel values times Dose Grid Scaling, units GY. Other files state no unit: `unit` (Gy or cGy),
    by default Gy, which a note tells; more than 300 Gy is then refused.

    Small negative values (resampling, at most 1 % of the maximum) become 0 with a note; larger ones, relative or missing units
    of an RTDOSE, uneven frames and plain zeros raise InputError.
    """
    name = Path(path)
    if unit is not None and unit not in DOSE_UNITS:
        raise InputError(f"The dose unit must be Gy or cGy, found {unit!r}.")
    if is_dicom(name):
        data = read_dataset(name, _EXPECTED)
        if str(data.get("SOPClassUID", "")) != RT_DOSE:
            raise unreadable(name, "a DICOM RTDOSE", str(data.get("Modality", "another object")))
        image = _dicom_image(data, name)
        frame = str(data.FrameOfReferenceUID) if data.get("FrameOfReferenceUID") else None
        return _checked(Dose(image, frame, data), name, [])
    image = read_image(name)
    notes = []
    top = float(image.data.max())
    if unit is None and top > MOST_GY:
        raise InputError(f"The dose '{name}' states no unit and reaches {top:.4g}, too much for Gy; say --dose-unit cGy or Gy.")
    if unit is None:
        notes.append(f"The dose '{name.name}' states no unit; taken as Gy.")
    return _checked(Dose(image.with_data(image.data * DOSE_UNITS[unit or "Gy"])), name, notes)


def _checked(dose: Dose, name: Path, notes: list[str]) -> Dose:
    data = dose.image.data
    low, top = float(data.min()), float(data.max())
    if top <= 0.0:
        raise InputError(f"The dose '{name}' holds no positive value (maximum {top:g} Gy); expected a dose distribution.")
    if low < -NEGATIVE_SHARE * top:
        raise InputError(f"The dose '{name}' is negative, down to {low:.4g} Gy (maximum {top:.4g}); expected doses from 0 upwards.")
    if low < 0.0:
        notes.append(f"The dose '{name.name}' falls to {low:.3g} Gy; negative values are taken as 0.")
        dose = Dose(dose.image.with_data(data.clamp(min=0.0)), dose.frame_of_reference, dose.source)
    return Dose(dose.image, dose.frame_of_reference, dose.source, tuple(notes))


def _dicom_image(data: Any, name: Path) -> Image:
    unit = str(data.get("DoseUnits", "") or "").upper()
    if unit != "GY":
        found = f"the dose units '{unit}'" if unit else "no dose units"
        raise unreadable(name, "an RTDOSE in Gy (Dose Units GY)", found)
    if data.get("DoseGridScaling") is None:
        raise unreadable(name, "an RTDOSE with Dose Grid Scaling", "none")
    try:
        frames_of = np.atleast_3d(data.pixel_array)
    except (AttributeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise unreadable(name, "an RTDOSE with a dose grid", "no readable pixels (a DVH only?)") from error
    pixels = frames_of.reshape(-1, int(data.Rows), int(data.Columns))
    affine, flip = _dicom_affine(data, len(pixels), name)
    values = (pixels[::-1] if flip else pixels).astype(np.float64) * float(data.DoseGridScaling)
    return Image(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), Grid(pixels.shape, affine))


def _dicom_affine(data: Any, count: int, name: Path) -> tuple[np.ndarray, bool]:
    """Index -> RAS mm and whether the frames run against the normal and are to be reversed."""
    row, column = np.reshape(np.array(data.ImageOrientationPatient, dtype=float), (2, 3))
    normal = np.cross(row, column)
    origin = np.array(data.ImagePositionPatient, dtype=float)
    dy, dx = (float(v) for v in data.PixelSpacing)
    offsets = np.array(data.get("GridFrameOffsetVector") or [0.0], dtype=float)
    if len(offsets) != count:
        raise unreadable(name, f"{count} frame offsets", str(len(offsets)))
    if abs(offsets[0]) > 1e-3 and np.allclose(np.abs(row), (1, 0, 0)):
        offsets = (offsets - origin[2]) * normal[2]  # the old form: absolute z of the frames
    steps = np.diff(offsets)
    step = float(steps.mean()) if count > 1 else float(data.get("SliceThickness") or 1.0)
    if count > 1 and (abs(step) < 1e-3 or np.abs(steps - step).max() > _UNEVEN_MM):
        raise unreadable(name, "evenly spaced dose planes", f"steps of {steps.min():.4g} to {steps.max():.4g} mm")
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * dx, column * dy, normal * abs(step)
    lps[:3, 3] = origin + normal * (offsets[-1] if step < 0 else offsets[0])
    return frames.flip_grid_affine(lps), step < 0


def write_rt_dose(dose: Image, path: str | os.PathLike[str], reference: Any, description: str = "regsuite") -> None:
    """Write Gy as an RTDOSE (32 bit, all or nothing) beside `reference`, a pydicom dataset of the study it belongs to.

    Patient, study, frame of reference and the referenced plan and structure set are those of the reference; series and instance
    are new. The grid must have axes at right angles (DICOM's form): InputError otherwise.
    """
    from pydicom.uid import generate_uid

    data = _dose_header(reference, description)
    grid = dose.grid
    lps = frames.flip_grid_affine(grid.affine)
    values = dose.data[0].detach().cpu().double().numpy()
    direction = lps[:3, :3] / grid.spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise InputError(f"Cannot write '{path}': an RTDOSE needs axes at right angles, found a sheared grid.")
    origin = lps[:3, 3]
    if np.linalg.det(direction) < 0:  # frames must follow the right-hand normal: begin at the other end
        origin = origin + lps[:3, 2] * (grid.shape[0] - 1)
        values = values[::-1]
    top = max(float(values.max()), 1e-6)
    scaling = float(f"{top / (2**32 - 2):.9e}") * (1 + 1e-8)
    pixels = np.rint(np.clip(values, 0.0, None) / float(f"{scaling:.9e}")).astype(np.uint32)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.Rows, data.Columns, data.NumberOfFrames = int(grid.shape[1]), int(grid.shape[2]), int(grid.shape[0])
    data.ImagePositionPatient = [f"{v:.6f}" for v in origin]
    data.ImageOrientationPatient = [f"{v:.9f}" for v in (*direction[:, 0], *direction[:, 1])]
    data.PixelSpacing = [f"{grid.spacing[1]:.9f}", f"{grid.spacing[0]:.9f}"]
    data.SliceThickness = f"{grid.spacing[2]:.6f}"
    data.FrameIncrementPointer = (0x3004, 0x000C)
    data.GridFrameOffsetVector = [f"{k * grid.spacing[2]:.6f}" for k in range(grid.shape[0])]
    data.BitsAllocated = data.BitsStored = 32
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 31, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.DoseUnits, data.DoseType, data.DoseGridScaling = "GY", "PHYSICAL", f"{scaling:.9e}"
    data.PixelData = np.ascontiguousarray(pixels).astype("<u4").tobytes()
    with staged_file(path) as stage:
        data.save_as(stage, enforce_file_format=True)


_COPIED = ("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
           "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator",
           "ReferencedRTPlanSequence", "ReferencedStructureSetSequence")  # fmt: skip


def _dose_header(reference: Any, description: str) -> Any:
    """Everything but the grid."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID(RT_DOSE)
    for name in _COPIED:
        if name in reference:
            setattr(data, name, getattr(reference, name))
    if not reference.get("FrameOfReferenceUID"):
        raise InputError("The reference DICOM object has no Frame of Reference UID; an RTDOSE cannot be placed by it.")
    if str(reference.get("SOPClassUID")) == RT_STRUCTURES:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference.SOPClassUID, reference.SOPInstanceUID
        data.ReferencedStructureSetSequence = [item]
    now = datetime.datetime.now()
    data.InstanceCreationDate = data.ContentDate = data.SeriesDate = now.strftime("%Y%m%d")
    data.InstanceCreationTime = data.ContentTime = data.SeriesTime = now.strftime("%H%M%S")
    data.Modality, data.Manufacturer, data.SeriesInstanceUID = "RTDOSE", "regsuite (research use only)", generate_uid()
    data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = 1, 1, description[:64]
    data.DoseSummationType, data.DoseComment = "MULTI_PLAN", "Research use only; not for clinical decisions."
    return data
