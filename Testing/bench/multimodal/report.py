"""The tables of a folder of runs: `python -m Testing.bench.multimodal.report FOLDER [-o RESULTS.md]`."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from regsuite.solvers.global_pose import LOW_CONFIDENCE

SUCCESS_VOXELS = 5.0
Row = dict[str, Any]


def rows_of(folder: Path) -> list[Row]:
    """Every finished run."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-*.json"))]
    return [row for row in found if "group" in row]


def poses_table(rows: list[Row]) -> list[str]:
    """Success (mean corner error below 5 voxels), corner errors, confidence and CPU seconds by method and pair."""
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if "error_mm" not in row:
            continue
        cells[row["method"], row["group"]].append(row)
        if " " not in row["group"]:
            cells[row["method"], "all simulated"].append(row)
    lines = ["| method | pair | runs | success | median error mm | worst mm | least confidence | CPU s | worst wall s |"]
    lines.append("|" + "---|" * 9)
    for (method, group), members in sorted(cells.items()):
        errors = np.array([row["error_mm"] for row in members])
        limit = np.array([SUCCESS_VOXELS * row["voxel_mm"] for row in members])
        sure = [row["confidence"] for row in members if "confidence" in row]
        least = f"{min(sure):.2f}" if sure else "-"
        cpu, wall = np.median([row["cpu_s"] for row in members]), max(row["wall_s"] for row in members)
        lines.append(
            f"| {method} | {group} | {len(members)} | {np.mean(errors < limit):.2f} | {np.median(errors):.2f} | {errors.max():.2f} "
            f"| {least} | {cpu:.1f} | {wall:.1f} |"
        )
    return lines


def other_tables(rows: list[Row]) -> list[str]:
    """Prostates and unrelated pairs."""
    lines = []
    glands = [row for row in rows if row["group"] == "prostate"]
    if glands:
        lines += ["", "| prostate, ultrasound fixed, MR moving | Dice before | after | confidence |", "|---|---|---|---|"]
        lines += [f"| {n} | {r['dice_before']:.3f} | {r['dice_after']:.3f} | {r['confidence']:.2f} |" for n, r in enumerate(glands)]
    for group in ("unrelated", "unrelated, new"):
        strangers = [row["confidence"] for row in rows if row["group"] == group]
        if strangers:
            flagged = sum(value < LOW_CONFIDENCE for value in strangers)
            counted = f"{flagged} of {len(strangers)} (largest confidence {max(strangers):.3f})."
            lines += ["", f"Pairs {group}, flagged as such: {counted}"]
    return lines


def speed_table(folder: Path) -> list[str]:
    """One full map of translations beside the published transforms."""
    path = folder / "speed.json"
    if not path.exists():
        return []
    lines = ["", "| size | published transforms s | published map s | transforms at our length s | ours s | ours, fixed kept s |"]
    lines.append("|" + "---|" * 6)
    for row in json.loads(path.read_text(encoding="utf-8")):
        names = ("published_fft", "published_map", "published_fft_short", "ours", "ours_fixed_kept")
        lines.append(f"| {row['size']}^3 | " + " | ".join(f"{row[name]:.4f}" for name in names) + " |")
    return lines


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    rows = rows_of(given.folder)
    text = "\n".join([*poses_table(rows), *other_tables(rows), *speed_table(given.folder)]) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
