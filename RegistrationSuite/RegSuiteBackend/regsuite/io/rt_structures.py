"""RT Structure Sets: the contours of each region, with what is odd about them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry import frames
from regsuite.io.itk import unreadable
from regsuite.io.rt_dose import RT_STRUCTURES, read_dataset

_EXPECTED = "a DICOM RTSTRUCT"
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True, eq=False)
class ContourSet:
    """One region: closed planar contours, each (n, 3) float64 RAS mm; `other` counts what encloses nothing, by DICOM's type."""

    name: str
    contours: tuple[np.ndarray, ...]
    other: dict[str, int]
    colour: tuple[float, float, float] | None = None
    thickness_mm: float | None = None


@dataclass(frozen=True, eq=False)
class StructureSet:
    """The regions of one file, in its order, and the frame of reference they lie in (DICOM UID or None)."""

    regions: tuple[ContourSet, ...]
    frame_of_reference: str | None
    source: Any


def read_structure_set(path: str | os.PathLike[str]) -> StructureSet:
    """Read an RTSTRUCT; InputError when it is another kind of file or holds no region."""
    name = Path(path)
    data = read_dataset(name, _EXPECTED)
    if str(data.get("SOPClassUID", "")) != RT_STRUCTURES:
        raise unreadable(name, _EXPECTED, str(data.get("Modality", "another object")))
    names = {
        int(item.ROINumber): str(item.get("ROIName", "") or f"ROI {item.ROINumber}")
        for item in data.get("StructureSetROISequence") or []
    }
    contours = {int(item.ReferencedROINumber): item for item in data.get("ROIContourSequence") or []}
    if not names:
        raise unreadable(name, "an RTSTRUCT with regions", "none")
    uids = {
        str(item.ReferencedFrameOfReferenceUID)
        for item in data.StructureSetROISequence
        if item.get("ReferencedFrameOfReferenceUID")
    }
    uids |= {
        str(i.FrameOfReferenceUID) for i in data.get("ReferencedFrameOfReferenceSequence") or [] if i.get("FrameOfReferenceUID")
    }
    if len(uids) > 1:
        raise unreadable(name, "regions in one frame of reference", f"{len(uids)}: {', '.join(sorted(uids))}")
    regions = tuple(_region(names[number], contours.get(number), name) for number in names)
    return StructureSet(regions, next(iter(uids), None), data)


def _numbers(contour: Any) -> np.ndarray | None:
    """Contour Data, None when it is no list of numbers. pydicom would make an object of each of a million numbers."""
    if "ContourData" not in contour:
        return np.empty(0)
    value = contour.get_item("ContourData").value
    try:
        return np.array(value.split(b"\\") if isinstance(value, bytes) else value or [], dtype=np.float64)
    except ValueError:
        return None


def _region(name: str, item: Any, path: Path) -> ContourSet:
    closed: list[np.ndarray] = []
    other: dict[str, int] = {}
    thickness = None
    for contour in (item.get("ContourSequence") if item is not None else None) or []:
        kind = str(contour.get("ContourGeometricType", "") or "no type")
        numbers = _numbers(contour)
        if numbers is None or numbers.size % 3 or not np.isfinite(numbers).all():
            found = "other text" if numbers is None else numbers.size
            raise InputError(
                f"The RTSTRUCT '{path}' has a damaged contour in '{name}': expected triples of numbers, found {found}."
            )
        points = frames.flip_points(torch.from_numpy(numbers.reshape(-1, 3))).numpy()
        if kind not in _CLOSED or len(points) < 3:
            kind = kind if kind not in _CLOSED else "closed with fewer than 3 points"
            other[kind] = other.get(kind, 0) + 1
            continue
        thickness = float(contour.ContourSlabThickness) if contour.get("ContourSlabThickness") else thickness
        closed.append(points)
    colour = (item.get("ROIDisplayColor") if item is not None else None) or None
    rgb = None if colour is None else (float(colour[0]) / 255.0, float(colour[1]) / 255.0, float(colour[2]) / 255.0)
    return ContourSet(name, tuple(closed), other, rgb, thickness)
