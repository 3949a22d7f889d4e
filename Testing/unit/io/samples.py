"""One oblique, anisotropic, off-origin image whose numbers are exact, and DICOM slices made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from regsuite.geometry import Grid, Image
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField

# Columns: axes (2, 2, -1)/3, (-1, 2, 2)/3, (2, -1, 2)/3 times the spacing 1.5, 3, 4.5 mm: right angles, all oblique, exact.
AFFINE = np.array([[1.0, -1.0, 3.0, -10.5], [1.0, 2.0, -1.5, 20.25], [-0.5, 2.0, 3.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
SHAPE = (4, 5, 6)
VOXEL_IJK = (2, 3, 1)
VOXEL_RAS = (-8.5, 26.75, 15.0)
VOXEL_LPS = (8.5, -26.75, 15.0)
DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
UID = "1.2.826.0.1.3680043.8.498"


def grid() -> Grid:
    return Grid(SHAPE, AFFINE)


def image(dtype: torch.dtype = torch.float32, shape: tuple[int, int, int] = SHAPE) -> Image:
    """Voxel (i, j, k) holds i + 10 j + 100 k - 7."""
    k, j, i = (torch.arange(n) for n in shape)
    values = i.view(1, 1, -1) + 10 * j.view(1, -1, 1) + 100 * k.view(-1, 1, 1) - 7
    return Image(values.to(dtype), Grid(shape, AFFINE))


def points(count: int = 40, seed: int = 3) -> torch.Tensor:
    """(N, 3) RAS mm inside the box of voxel centres of `grid()`."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.rand(count, 3, generator=generator, dtype=torch.float64) * (torch.tensor(SHAPE[::-1]) - 1)
    return grid().index_to_world(index)


def field(seed: int = 5) -> DisplacementField:
    """Random float32 displacements of some mm on `grid()`: rough, so that any shift or flip of an axis shows."""
    return DisplacementField(3.0 * torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(seed)), grid())


def affine() -> AffineTransform:
    return AffineTransform(np.array([[0.9, 0.2, -0.1, 4.0], [-0.3, 1.1, 0.05, -6.5], [0.15, -0.25, 0.95, 2.25], [0, 0, 0, 1.0]]))


def composite() -> CompositeTransform:
    """affine after displacement: the parts do not commute."""
    return CompositeTransform((affine(), field()))


def write_slice(path: Path, position: tuple[float, ...], value: int, series: int = 1, **other: object) -> None:
    """One CT slice of 4 columns and 3 rows, 0.5 x 2 mm, row axis +y and column axis +z in LPS; stored = value + index."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{UID}.{series}.{value}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID = f"{UID}.{series}", f"{UID}.99"
    data.Modality, data.SeriesDescription, data.InstanceNumber = "CT", f"phase {series}", value
    data.ImagePositionPatient, data.ImageOrientationPatient = list(position), [0, 1, 0, 0, 0, 1]
    data.PixelSpacing, data.SliceThickness = [2.0, 0.5], 3.0
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 3, 4, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept = 2, -1000
    data.PixelData = (np.arange(12, dtype="<i2") + value).tobytes()
    for name, item in other.items():
        setattr(data, name, item)
    data.save_as(path, enforce_file_format=True) if pydicom.__version_info__[0] != "2" else data.save_as(path, False)
