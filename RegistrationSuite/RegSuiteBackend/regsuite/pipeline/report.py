"""report.json: what was done, with what, and how well it worked. Holds file names, never folders or patient data."""

from __future__ import annotations

import dataclasses
import importlib
import math
import platform
from pathlib import Path
from typing import Any

from regsuite import __version__
from regsuite.geometry import Image
from regsuite.methods.api import Result
from regsuite.methods.registry import MethodRow
from regsuite.pipeline import memory
from regsuite.pipeline.request import RegistrationRequest
from regsuite.pipeline.verdict import confidence_level

SCHEMA_VERSION = "1.0"
INTENDED_USE = "Research use only. Not a medical device."


def versions() -> dict[str, str]:
    """Versions of regsuite and of what its numbers depend on."""
    found = {"regsuite": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "scipy", "SimpleITK"):
        found[name] = str(importlib.import_module(name).__version__)
    return found


def geometry(image: Image) -> dict[str, Any]:
    """Size (i, j, k), spacing in mm, origin and direction (columns are the axes) in RAS mm."""
    grid = image.grid
    return {
        "size": list(grid.size),
        "spacing_mm": grid.spacing.tolist(),
        "origin_ras_mm": grid.affine[:3, 3].tolist(),
        "direction_ras": grid.direction.tolist(),
    }


def registration_report(
    request: RegistrationRequest,
    row: MethodRow,
    result: Result,
    *,
    inputs: dict[str, Any],
    timings_s: dict[str, float],
    warnings: tuple[str, ...],
    before: dict[str, Any],
    after: dict[str, Any],
    verdict: dict[str, Any],
) -> dict[str, Any]:
    """The content of report.json, ready for json.dumps."""
    paths = {name: getattr(request, name) for name in _PATHS}
    return clean(
        {
            "schema_version": SCHEMA_VERSION,
            "kind": "registration",
            "intended_use": INTENDED_USE,
            "method": row.key,
            "title": row.title,
            "reference": row.reference,
            "preset": request.preset,
            "settings": request.settings,
            "config": dataclasses.asdict(result.config),
            "seed": result.seed,
            "device": result.device,
            "versions": versions(),
            "files": {name: Path(path).name for name, path in paths.items() if path},
            "inputs": inputs,
            "timings_s": {stage: round(seconds, 3) for stage, seconds in timings_s.items()},
            "peak_memory_mib": memory.peak_mib(),
            "peak_gpu_memory_mib": memory.peak_gpu_mib(),
            "status": result.status.value,
            "status_message": result.status.message,
            "warnings": list(warnings),
            "history": [dict(row) for row in result.history],
            "confidence": result.confidence,
            "confidence_level": confidence_level(result.confidence),
            "candidates": [{"score": item.score, "matrix_ras": item.transform.matrix} for item in result.candidates],
            "metrics": {"before": before, "after": after},
            "findings": dict(result.findings),
            "images": sorted(result.images),
            "series": sorted(result.series),
            "verdict": verdict,
        }
    )


_PATHS = (
    "fixed",
    "moving",
    "fixed_mask",
    "moving_mask",
    "lesion_mask",
    "initial",
    "fixed_landmarks",
    "moving_landmarks",
    "fixed_labels",
    "moving_labels",
)


def clean(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null. Numbers of numpy become plain ones."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, (str, bytes)):
        return clean(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
