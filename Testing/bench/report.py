"""Tables of the benchmark's results."""

from __future__ import annotations

import os
import platform
from typing import Any

Result = dict[str, Any]
REFERENCE = "greedy"  # the fast good one: every ratio is against it
MEASURES = [
    ("epe_mean_mm", "error mm"), ("epe_p95_mm", "p95"),
    ("epe_lungs_mean_mm", "lungs mm"), ("epe_lungs_p95_mm", "p95"),
    ("epe_inner_mean_mm", "inner mm"), ("epe_inner_p95_mm", "p95"),
    ("tre_liver_mean_mm", "liver mm"), ("tre_liver_p95_mm", "p95"),
    ("tre_outside_mean_mm", "outside mm"), ("tre_outside_p95_mm", "p95"),
    ("tre_vessels_mean_mm", "vessels mm"), ("dice", "Dice"), ("dice20", "Dice of 20"), ("folding_percent", "folding %"),
]  # fmt: skip
COSTS = [("cpu_s", "CPU s"), ("wall_s", "wall s"), ("peak_gib", "GiB")]
PRIMARY = ("epe_mean_mm", "tre_liver_mean_mm", "dice")


def number(key: str, value: float | None) -> str:
    """A value with the digits that mean something."""
    if value is None:
        return ""
    if key in ("cpu_s", "wall_s"):
        return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    if key == "folding_percent":
        return "0" if value == 0 else f"{value:.3f}"
    return f"{value:.3f}" if key.startswith("dice") else f"{value:.2f}"


def plain(result: Result) -> str:
    """One line for the terminal."""
    head = f"{result['input']:<12} {result['method']:<20}"
    if "failed" in result:
        return f"{head} FAILED ({result.get('returncode')}): {result['failed']}"
    words = [f"{key.removesuffix('_mm')} {number(key, result[key])}" for key, _ in MEASURES + COSTS if key in result]
    return head + "  ".join(words)


def ratio(result: Result, reference: Result | None, key: str) -> str:
    """Value over the reference's, for costs and errors."""
    if reference is None or not reference.get(key) or key not in result:
        return ""
    return f"{result[key] / reference[key]:.2f}"


def table(results: list[Result]) -> list[str]:
    """Markdown rows for one input; the best error is in bold."""
    columns = [(k, title) for k, title in MEASURES + COSTS if any(k in r for r in results)]
    primary = next((k for k in PRIMARY if any(k in r for r in results)), None)
    reference = next((r for r in results if r["method"] == REFERENCE and "failed" not in r), None)
    done = [r for r in results if "failed" not in r]
    best = {k: (max if k.startswith("dice") else min)(r[k] for r in done if k in r) for k, _ in columns if k not in dict(COSTS)}
    titles = ["method", *(t for _, t in columns), f"error / {REFERENCE}", f"CPU / {REFERENCE}"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for r in results:
        if "failed" in r:
            lines.append(f"| {r['method']} | failed: {r['failed']} |" + " |" * (len(titles) - 2))
            continue
        cells = [r["method"]]
        for key, _ in columns:
            text = number(key, r.get(key))
            bold = key in best and r.get(key) == best[key] and key != "folding_percent"
            cells.append(f"**{text}**" if bold else text)
        error = "" if primary in (None, "dice") else ratio(r, reference, str(primary))
        lines.append("| " + " | ".join([*cells, error, ratio(r, reference, "cpu_s")]) + " |")
    return lines


def markdown(results: list[Result], command: str) -> str:
    """The whole RESULTS.md."""
    lines = ["# Benchmark results", "", f"Made by `{command}`", ""]
    lines += [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, two threads per method, "
        "no masks given unless the command says so, one run each. Wall and CPU seconds are of the whole process "
        "(start, imports, reading and writing; for ours also the report and pictures). CPU seconds say more than wall "
        "seconds on a shared machine. Errors in mm; what each input is stands in README.md.",
        "",
    ]
    for name in dict.fromkeys(r["input"] for r in results):
        lines += [f"## {name}", "", *table([r for r in results if r["input"] == name]), ""]
    return "\n".join(lines)
