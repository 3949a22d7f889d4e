"""Which DICOM frame of reference a file or a series lies in."""

from __future__ import annotations

from regsuite.io.dicom import split_selector
from regsuite.io.rt_dose import is_dicom


def frame_of_reference(path: str) -> str | None:
    """UID of the frame of reference of a DICOM file, or of the first DICOM file with one in a folder; None elsewhere."""
    import pydicom

    name = split_selector(path)[0]
    files = sorted(name.iterdir()) if name.is_dir() else [name]
    for file in files:
        if is_dicom(file):
            data = pydicom.dcmread(file, specific_tags=["FrameOfReferenceUID"], stop_before_pixels=True, force=True)
            if data.get("FrameOfReferenceUID"):
                return str(data.FrameOfReferenceUID)
    return None
