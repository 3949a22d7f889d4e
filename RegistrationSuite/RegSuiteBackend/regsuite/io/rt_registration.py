"""DICOM registration objects: Spatial Registration (matrices) and Deformable Spatial Registration (a grid of offsets)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry import Grid, frames
from regsuite.io.itk import unreadable
from regsuite.io.rt_dose import read_dataset
from regsuite.transforms import AffineTransform, CompositeTransform, DisplacementField, Transform

SPATIAL, DEFORMABLE = "1.2.840.10008.5.1.4.1.1.66.1", "1.2.840.10008.5.1.4.1.1.66.3"
_EXPECTED = "a DICOM registration (REG)"


def read_registration(path: Path) -> Transform:
    """T of a registration object: from the Registered (fixed) to the Source (moving) frame of reference, RAS mm.

    Deformable (DICOM PS3.3 C.20.3.1.1): T(x) = M_post (M_pre x + d(x)), d linear on its grid and zero beyond. Spatial (C.20.2): its
    matrices map the source to the registered frame, so T is their inverse. An object with several registrations keeps the one that
    moves something; with more than one of those, or with none, InputError.
    """
    data = read_dataset(path, _EXPECTED)
    kind = str(data.get("SOPClassUID", ""))
    if kind == DEFORMABLE:
        items = [i for i in data.get("DeformableRegistrationSequence") or [] if _moves(i)]
        if len(items) != 1:
            raise unreadable(path, "one registration that moves something", str(len(items)))
        return _deformable(items[0], path)
    if kind == SPATIAL:
        found = [_matrix(item, path) for item in data.get("RegistrationSequence") or []]
        moving = [m for m in found if not np.allclose(m, np.eye(4), atol=1e-9)]
        if len(moving) > 1 or not found:
            raise unreadable(path, "one registration that moves something", str(len(moving)))
        matrix = moving[0] if moving else np.eye(4)
        return AffineTransform(np.linalg.inv(frames.flip_world_affine(matrix)))
    raise unreadable(path, _EXPECTED, str(data.get("Modality", "another object")))


def _moves(item: Any) -> bool:
    matrices = [
        _one_matrix(item, name)
        for name in ("PreDeformationMatrixRegistrationSequence", "PostDeformationMatrixRegistrationSequence")
    ]
    return bool(item.get("DeformableRegistrationGridSequence")) or any(not np.allclose(m, np.eye(4)) for m in matrices)


def _one_matrix(item: Any, name: str) -> np.ndarray:
    """The 4x4 (LPS) of a sequence of at most one matrix; identity without."""
    sequence = item.get(name)
    if not sequence:
        return np.eye(4)
    return np.array(sequence[0].FrameOfReferenceTransformationMatrix, dtype=np.float64).reshape(4, 4)


def _matrix(item: Any, path: Path) -> np.ndarray:
    """Product of the matrices of one registration item: the first in the sequence is applied first."""
    out = np.eye(4)
    for registration in item.get("MatrixRegistrationSequence") or []:
        for step in registration.get("MatrixSequence") or []:
            matrix = np.array(step.FrameOfReferenceTransformationMatrix, dtype=np.float64)
            if matrix.size != 16:
                raise unreadable(path, "4x4 matrices", f"{matrix.size} numbers")
            out = matrix.reshape(4, 4) @ out
    return out


def _deformable(item: Any, path: Path) -> Transform:
    before = frames.flip_world_affine(_one_matrix(item, "PreDeformationMatrixRegistrationSequence"))
    after = frames.flip_world_affine(_one_matrix(item, "PostDeformationMatrixRegistrationSequence"))
    parts: list[Transform] = [AffineTransform(after @ before)]
    sequence = item.get("DeformableRegistrationGridSequence")
    if sequence:
        field, grid = _grid(sequence[0], path)
        # M_pre x + d(x) = M_pre (x + L^-1 d(x)), L the linear part of M_pre
        back = torch.from_numpy(np.linalg.inv(before[:3, :3]))
        field = torch.einsum("ab,bkji->akji", back, field.double()).float()
        parts.append(DisplacementField(field, grid))
    identity = np.allclose(after @ before, np.eye(4), atol=1e-12)
    if identity and len(parts) > 1:
        return parts[1]
    return CompositeTransform(tuple(parts)) if len(parts) > 1 else parts[0]


def _grid(item: Any, path: Path) -> tuple[torch.Tensor, Grid]:
    size = [int(n) for n in item.GridDimensions]
    spacing = np.array(item.GridResolution, dtype=np.float64)
    row, column = np.reshape(np.array(item.ImageOrientationPatient, dtype=np.float64), (2, 3))
    raw = item.VectorGridData
    values = np.frombuffer(raw, "<f4") if isinstance(raw, (bytes, bytearray)) else np.array(raw, dtype=np.float32)
    expected = 3 * int(np.prod(size))
    if values.size != expected:
        raise InputError(f"Cannot read '{path}': expected {expected} offsets on a grid of {size}, found {values.size}.")
    undefined = int(np.isnan(values.reshape(-1, 3)).any(axis=1).sum())
    if undefined:
        verb = "is" if undefined == 1 else "are"
        raise InputError(f"Cannot use '{path}': {undefined} of its {expected // 3} offsets {verb} undefined (NaN).")
    lps = np.eye(4)
    lps[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) * spacing
    lps[:3, 3] = np.array(item.ImagePositionPatient, dtype=np.float64)
    grid = Grid(frames.shape_from_size(tuple(size)), frames.flip_grid_affine(lps))
    field = torch.from_numpy(values.reshape(*grid.shape, 3).copy()).permute(3, 0, 1, 2)
    return frames.flip_vector_field(field).contiguous(), grid
