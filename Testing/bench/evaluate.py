"""One evaluator for every method: end-point error, landmarks, Dice, folding.

`evaluate(name, inputs_dir, result)` compares a transform (fixed points to moving points, LPS mm) with what is known
about the input of that name, written by `inputs.py`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import fields as f
import numpy as np
import SimpleITK as sitk

Array = np.ndarray
MIN_LABEL_VOXELS = 50  # smaller labels measure the voxel size, not the registration


@lru_cache(maxsize=64)
def read(path: Path) -> sitk.Image:
    """Image file, kept for the next method on the same input."""
    return sitk.ReadImage(str(path))


def as_transform(result: sitk.Transform | sitk.Image | str | Path | None) -> sitk.Transform:
    """Transform, displacement image (LPS mm), a file of either, or None for the identity."""
    if result is None:
        return sitk.Transform(3, sitk.sitkIdentity)
    if isinstance(result, str | Path):
        path = str(result)
        is_image = path.endswith((".nrrd", ".nii.gz", ".nii", ".mha"))
        result = sitk.ReadImage(path) if is_image else sitk.ReadTransform(path)
    if isinstance(result, sitk.Image):
        return sitk.DisplacementFieldTransform(sitk.Cast(result, sitk.sitkVectorFloat64))
    return result


def displacement(transform: sitk.Transform, fixed: sitk.Image) -> Array:
    """u(x) = T(x) - x on the fixed grid, (k, j, i, 3), LPS mm."""
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat32, fixed.GetSize(), fixed.GetOrigin(), fixed.GetSpacing(), fixed.GetDirection()
    )
    return np.asarray(sitk.GetArrayFromImage(field))


def landmark_errors(transform: sitk.Transform, csv: Path) -> Array:
    """|T(fixed point) - moving point| in mm for each pair of a csv written by `inputs.py`."""
    rows = np.loadtxt(csv, delimiter=",", skiprows=1)
    mapped = np.asarray([transform.TransformPoint(row[:3].tolist()) for row in rows])
    return np.asarray(np.linalg.norm(mapped - rows[:, 3:], axis=1))


def dice_by_size(fixed: Array, moved: Array) -> list[float]:
    """Dice of each label of the fixed image with at least MIN_LABEL_VOXELS voxels, the largest label first."""
    labels, sizes = np.unique(fixed, return_counts=True)
    scores = []
    for n in np.argsort(-sizes, kind="stable"):
        if labels[n] != 0 and sizes[n] >= MIN_LABEL_VOXELS:
            a, b = fixed == labels[n], moved == labels[n]
            scores.append(float(2 * (a & b).sum() / (sizes[n] + b.sum())))
    return scores


def region_errors(error: Array, mask: Array, prefix: str) -> dict[str, float]:
    """Mean and 95th percentile of an error map in a mask."""
    inside = error[mask]
    return {f"{prefix}_mean_mm": float(inside.mean()), f"{prefix}_p95_mm": float(np.percentile(inside, 95))}


def evaluate(name: str, inputs_dir: Path | str, result: sitk.Transform | sitk.Image | str | Path | None) -> dict[str, Any]:
    """Measures of one result on one input; only those for which the input has truth.

    epe_mean_mm, epe_p95_mm (in mask.nrrd), epe_REGION_mean_mm and _p95_mm, tre_SET_mean_mm and tre_SET_p95_mm
    (landmarks), dice (mean over labels, nearest neighbour), folding_percent (voxels of the mask whose Jacobian
    determinant by central differences on the fixed grid is <= 0), jacobian_min.
    """
    folder = Path(inputs_dir) / name
    transform = as_transform(result)
    fixed = read(folder / "fixed.nrrd")
    u = displacement(transform, fixed)
    mask = sitk.GetArrayFromImage(read(folder / "mask.nrrd")) > 0
    det = f.jacobian_determinant(u, fixed)[mask]
    out: dict[str, Any] = {"folding_percent": float(100 * (det <= 0).mean()), "jacobian_min": float(det.min())}
    if (folder / "truth.nrrd").exists():
        error = np.linalg.norm(u - sitk.GetArrayFromImage(read(folder / "truth.nrrd")), axis=-1)
        out |= region_errors(error, mask, "epe")
        for path in sorted(folder.glob("region_*.nrrd")):
            key = path.stem.removeprefix("region_")
            out |= region_errors(error, sitk.GetArrayFromImage(read(path)) > 0, f"epe_{key}")
    for path in sorted(folder.glob("landmarks_*.csv")):
        errors = landmark_errors(transform, path)
        key = path.stem.removeprefix("landmarks_")
        out |= {f"tre_{key}_mean_mm": float(errors.mean()), f"tre_{key}_p95_mm": float(np.percentile(errors, 95))}
    if (folder / "labels_fixed.nrrd").exists():
        labels = sitk.GetArrayFromImage(read(folder / "labels_fixed.nrrd"))
        moved = sitk.Resample(read(folder / "labels_moving.nrrd"), fixed, transform, sitk.sitkNearestNeighbor, 0)
        scores = dice_by_size(labels, sitk.GetArrayFromImage(moved))
        out["dice"] = float(np.mean(scores))
        out["dice20"] = float(np.mean(scores[:20]))
    return out


if __name__ == "__main__":
    import sys

    print(json.dumps(evaluate(sys.argv[2], sys.argv[1], sys.argv[3] if len(sys.argv) > 3 else None), indent=1))
