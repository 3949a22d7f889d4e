"""Small RT files written with pydicom, good and bad."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from regsuite.geometry import Image
from regsuite.io.rt_dose import RT_STRUCTURES, write_rt_dose

FRAME = "1.2.826.0.1.3680043.8.498.1"
LPS = np.array([-1.0, -1.0, 1.0])


def structure_set(path: Path, regions: dict[str, Sequence[np.ndarray]], frame: str = FRAME, kind: str = "CLOSED_PLANAR") -> Path:
    """An RTSTRUCT with contours (n, 3) RAS mm."""
    data = dicom_object(RT_STRUCTURES, "RTSTRUCT", frame)
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    reference = Dataset()
    reference.FrameOfReferenceUID = frame
    data.ReferencedFrameOfReferenceSequence = [reference]
    for number, (name, contours) in enumerate(regions.items(), 1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        item.ReferencedROINumber, item.ROIDisplayColor, item.ContourSequence = number, [10 * number, 200, 30], []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{v:.6f}" for v in (points * LPS).ravel()]
            item.ContourSequence.append(contour)
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(item)
    data.save_as(path, enforce_file_format=True)
    return path


def dose_file(path: Path, dose: Image, frame: str = FRAME) -> Path:
    """An RTDOSE through our own writer."""
    write_rt_dose(dose, path, study(frame))
    return path


def study(frame: str = FRAME) -> Dataset:
    """Something to refer to."""
    data = dicom_object(RT_STRUCTURES, "RTSTRUCT", frame)
    data.FrameOfReferenceUID = frame
    return data


def dicom_object(kind: str, modality: str, frame: str) -> Dataset:
    """Patient, study, series and instance of an object in this frame of reference; the rest is up to the caller."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = kind
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Modality, data.PatientID, data.PatientName, data.StudyInstanceUID = modality, "42", "Test^A", "1.2.3"
    data.FrameOfReferenceUID = frame
    data.SeriesInstanceUID = generate_uid()
    return data
