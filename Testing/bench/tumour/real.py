"""Real patients: a healthy template onto two tumours, and a follow-up onto its pre-operative image, through the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from Testing.bench.measure import measure

Task = tuple[str, Callable[[], dict[str, Any]]]
VARIANTS = ("weighted-evolving", "weighted-constant", "metamorphosis", "lddmm", "cost-function-masking")
TEMPLATE = "brain-mni/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
GLI, REG = "brain-tumour/BraTS-GLI-00001-000/BraTS-GLI-00001-000", "brain-tumour/BraTSReg_002/BraTSReg_002"
PATIENTS = {"gli": f"{GLI}-t1n.nii.gz", "reg002": f"{REG}_00_0000_t1.nii.gz"}
FOLLOW_UP = f"{REG}_01_0262_t1.nii.gz"
SAME_PERSON = {"linear": "rigid", "data_term": "lncc", "window_mm": 7, "regularisation": 1e-5, "kernel_mm": 6, "finest_mm": 1.5,
               "steps": 5, "fine_iterations": 30, "tolerance": 5e-4}  # fmt: skip
"""What differs from the Default for two visits of one person: small motion of fine detail, grey values that drift."""


def lesion_of(data: Path, patient: str, out: Path) -> Path:
    """The lesion of a patient as a file. gli: largest part of the data's own mask (the smaller part marks healthy tissue).

    reg002 comes without: FLAIR 1.45 times as bright as the brain's median after a 1 mm Gaussian, opened by 2 mm, the largest part,
    closed by 4 mm, holes filled (tumour core and oedema).
    """
    path = out / f"lesion-{patient}.nii.gz"
    if path.exists():
        return path
    if patient == "gli":
        image = sitk.ReadImage(str(data / f"{GLI}-mask.nii.gz"))
        mask = _largest(sitk.GetArrayFromImage(image) > 0)
    else:
        image = sitk.ReadImage(str(data / f"{REG}_00_0000_flair.nii.gz"))
        values = sitk.GetArrayFromImage(image).astype(np.float32)
        bright = ndimage.gaussian_filter(values, 1.0) > 1.45 * np.median(values[values > 0])
        mask = _largest(ndimage.binary_opening(bright, _ball(2)))
        mask = ndimage.binary_fill_holes(ndimage.binary_closing(mask, _ball(4)))
    drawn = sitk.GetImageFromArray(mask.astype(np.uint8))
    drawn.CopyInformation(image)
    sitk.WriteImage(drawn, str(path))
    return path


def _ball(radius: int) -> np.ndarray:
    line = np.arange(-radius, radius + 1)
    return np.asarray(sum(axis**2 for axis in np.meshgrid(line, line, line)) <= radius**2)


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def tasks(data: Path, out: Path, variants: Sequence[str]) -> Iterator[Task]:
    """Template onto each patient, by every variant."""
    for variant in variants:
        for patient in PATIENTS:

            def task(patient: str = patient, variant: str = variant) -> dict[str, Any]:
                fixed, lesion = data / PATIENTS[patient], lesion_of(data, patient, out)
                return _register(fixed, data / TEMPLATE, lesion, out / f"{patient}-{variant}", {"variant": variant})

            yield f"real-{patient}-{variant}", task


def follow_up(data: Path, out: Path, variants: Sequence[str]) -> Iterator[Task]:
    """Follow-up onto pre-operative image (settings SAME_PERSON), judged by the landmarks."""
    for variant in variants:

        def task(variant: str = variant) -> dict[str, Any]:
            folder = out / f"follow-up-{variant}"
            settings = {"variant": variant} | SAME_PERSON
            row = _register(data / PATIENTS["reg002"], data / FOLLOW_UP, lesion_of(data, "reg002", out), folder, settings)
            return row | landmark_errors(data, folder / "transform.h5")

        yield f"follow-up-{variant}", task


def landmark_errors(data: Path, transform: Path) -> dict[str, Any]:
    """mm, before and after: the pre-operative landmarks (LPS, as the files say) through T against those of the follow-up."""
    before, after = (
        np.loadtxt(data / f"{REG}_{visit}_landmarks.csv", delimiter=",", skiprows=1)[:, 1:] for visit in ("00_0000", "01_0262")
    )
    mapping = sitk.ReadTransform(str(transform))
    carried = np.array([mapping.TransformPoint(point.tolist()) for point in before])
    start, end = (np.linalg.norm(points - after, axis=1) for points in (before, carried))
    return {"landmarks_before_mm": start.tolist(), "landmarks_after_mm": end.tolist(), "median_before_mm": float(np.median(start)),
            "median_after_mm": float(np.median(end))}  # fmt: skip


def _register(fixed: Path, moving: Path, lesion: Path, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "regsuite.cli", "register", "tumour-wm", str(fixed), str(moving), "--lesion-mask", str(lesion)]
    command += ["-o", str(folder)]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    log = folder.with_suffix(".log")
    used = measure(command, log)
    if used["returncode"] != 0:
        raise RuntimeError(log.read_text()[-2000:])
    report = json.loads((folder / "report.json").read_text())
    return used | {key: report.get(key) for key in ("status", "warnings", "timings_s", "findings", "metrics")}
