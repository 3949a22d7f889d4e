"""From a transform to dose with bands in one job: `uncertainty`, then `dose` with its sigma. What a panel asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regsuite.errors import InputError
from regsuite.io.atomic import staged_folder
from regsuite.pipeline.dose import DEFAULT_SAMPLES, DoseRequest, run_dose
from regsuite.pipeline.uncertainty import METHOD, SIGMA, UncertaintyRequest, run_uncertainty
from regsuite.progress import ProgressCallback

UNCERTAINTY, DOSE = "uncertainty", "dose"
"""Folders in the result: as `regsuite uncertainty` and `regsuite dose` write them; the second only with a dose."""
_SHARE = 0.5


@dataclass(frozen=True)
class UncertainDoseRequest:
    """Entries of UncertaintyRequest and, with a dose (in the moving space), of DoseRequest; structures lie in the fixed space,
    contours in the moving one."""

    fixed: str
    moving: str
    transform: str
    out: str
    dose: str | None = None
    structures: tuple[str, ...] = ()
    contours: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    dose_unit: str | None = None
    samples: int = DEFAULT_SAMPLES
    fixed_landmarks: str | None = None
    moving_landmarks: str | None = None
    recalibrate: bool = False
    preset: str = "Default"
    settings: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    method: str = METHOD


def run_uncertain_dose(request: UncertainDoseRequest, progress: ProgressCallback | None = None) -> Path:
    """Do both jobs and return the folder with `uncertainty` and, when there is a dose, `dose`; all or nothing.

    Raises InputError, OutputError or Cancelled as the two do.
    """
    if (request.structures or request.contours) and request.dose is None:
        raise InputError("Structures were given without a dose; expected both, or none.")

    def part(start: float, share: float) -> ProgressCallback | None:
        if progress is None:
            return None
        return lambda fraction, stage, detail: progress(start + share * fraction, stage, detail)

    first = 1.0 if request.dose is None else _SHARE
    with staged_folder(request.out) as folder:
        run_uncertainty(
            UncertaintyRequest(
                request.fixed, request.moving, request.transform, str(folder / UNCERTAINTY), request.samples, False,
                request.fixed_landmarks, request.moving_landmarks, request.recalibrate, request.preset, request.settings,
                request.device, request.seed, request.method,
            ),
            part(0.0, first),
        )  # fmt: skip
        if request.dose is not None:
            run_dose(
                DoseRequest(
                    request.dose, request.transform, request.fixed, str(folder / DOSE), str(folder / UNCERTAINTY / SIGMA),
                    max(2, request.samples), request.structures, request.contours, metrics=request.metrics,
                    dose_unit=request.dose_unit, seed=request.seed,
                ),
                part(first, 1.0 - first),
            )  # fmt: skip
    return Path(request.out)
