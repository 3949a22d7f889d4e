"""The tables of the tumour benchmark, from its cached runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from Testing.bench.tumour.drawn import FREER
from Testing.bench.tumour.real import PATIENTS, VARIANTS


def _load(folder: Path, prefix: str, suffix: str = "") -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{prefix}*{suffix}.json"))]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def tables(folder: Path) -> str:
    """Markdown of everything that has run."""
    parts = [_real(folder), _follow_up(folder), _sweep(folder, "toy", "Toy figure, mean Dice of the four inner ovals"),
             _sweep(folder, "phantom", "Phantom brain-tumour, Dice of the ventricles"), _disc(folder), _speed(folder)]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _real(folder: Path) -> str:
    rows = []
    for patient in PATIENTS:
        for variant in VARIANTS:
            for run in _load(folder, f"real-{patient}-{variant}"):
                ssd = run["findings"]["ssd"]
                jacobian = run["metrics"]["after"]
                rows.append(
                    [patient, variant, *(f"{ssd[key]:.0f}" for key in
                     ("before", "final", "deformation", "final_outside_lesion", "deformation_outside_lesion")),
                     f"{run['metrics']['after']['similarity']['ncc']:.3f}",
                     f"{run['findings']['residual']['energy_outside_lesion']:.3g}",
                     f"{jacobian['jacobian']['min']:.2f}", f"{jacobian['folding_percent']:.3g}",
                     f"{run['wall_s']:.0f}", f"{run['cpu_s']:.0f}", f"{run['peak_gib']:.1f}"]
                )  # fmt: skip
    head = ["patient", "variant", "SSD start", "SSD final", "SSD deformation", "final, outside", "deformation, outside",
            "NCC", "residual energy outside", "det min", "fold %", "wall s", "CPU s", "GiB"]  # fmt: skip
    return "## Healthy template onto a patient, 2 mm, Default\n\n" + _table(head, rows) if rows else ""


def _follow_up(folder: Path) -> str:
    rows = []
    for variant in VARIANTS:
        for run in _load(folder, f"follow-up-{variant}"):
            errors = " ".join(f"{error:.1f}" for error in run["landmarks_after_mm"])
            rows.append([variant, f"{run['median_before_mm']:.2f}", f"{run['median_after_mm']:.2f}", errors, f"{run['cpu_s']:.0f}"])
    head = ["variant", "median before, mm", "median after, mm", "each, mm", "CPU s"]
    return "## BraTSReg_002 follow-up onto pre-operative\n\n" + _table(head, rows) if rows else ""


def _sweep(folder: Path, name: str, title: str) -> str:
    rows = []
    for variant in (*VARIANTS, FREER):
        runs = _load(folder, f"{name}-[0-9]*-", variant)
        if runs:
            dice = np.array([run["dice"] for run in runs])
            least = min(run["jacobian_min"] for run in runs)
            away = max(run["residual"]["energy_outside_lesion"] for run in runs)
            cost = np.mean([run["cpu_s"] for run in runs])
            shown = [f"{dice.mean():.3f}", f"{dice.std():.3f}", f"{least:.3f}", f"{away:.3g}", f"{cost:.1f}"]
            rows.append([variant, str(len(runs)), *shown])
    head = ["variant", "runs", "Dice", "std", "least det", "residual energy outside", "CPU s"]
    return f"## {title}\n\n" + _table(head, rows) if rows else ""


def _disc(folder: Path) -> str:
    rows = []
    for name, start in (("disc", "affine (Default)"), ("drawn-disc", "none (linear=header)")):
        for variant in VARIANTS:
            for run in _load(folder, f"{name}-{variant}"):
                shown = [f"{run['ssd'][key]:.0f}" for key in ("before", "deformation", "final")]
                shown += [f"{run['jacobian_min']:.3f}", f"{run['cpu_s']:.1f}"]
                rows.append([start, variant, f"{run['before_px']:.2f}", f"{run['error_px']:.2f}", *shown])
    head = ["linear start", "variant", "ring error before, px", "after, px", "SSD start", "SSD deformation", "SSD final", "det min",
            "CPU s"]  # fmt: skip
    return "## Growing disc, 6 to 18 px in 240 x 240\n\n" + _table(head, rows) if rows else ""


def _speed(folder: Path) -> str:
    rows = [[run["case"], f"{run['peer_s']:.3f}", f"{run['ours_s']:.3f}", f"{run['peer_s'] / run['ours_s']:.1f}"]
            for run in _load(folder, "speed-")]  # fmt: skip
    head = ["case", "demeter-metamorphosis, CPU s", "regsuite, CPU s", "times faster"]
    return "## Speed on one thread, the same machine and run\n\n" + _table(head, rows) if rows else ""
