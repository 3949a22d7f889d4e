"""dvh.png: the curves with their bands and the most used numbers on one page."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from regsuite.pipeline.report import INTENDED_USE

if TYPE_CHECKING:
    from regsuite.pipeline.dvh import Evaluation, StructureDose

_INK, _DIM, _GRID, _STRIPE = "#20242a", "#6b7280", "#d9dde3", "#f4f6f8"
_COLUMNS = (
    ("volume", "Volume\ncc", 1),
    ("mean", "Mean\nGy", 2),
    *((f"D{n}", f"D{n} %\nGy", 2) for n in (98, 95, 50, 2)),
    ("D2cc", "D2 cc\nGy", 2),
    ("V20", "V20 Gy\n%", 1),
)
_STYLES = ("-", "--", ":", "-.")
_DPI = 110
_WIDTH, _PLOT, _ROW = 12.5, 5.4, 0.27


def draw_dvh(evaluation: Evaluation, path: Path) -> None:
    """Write the page (PNG): cumulative curves left, differential right, the table below, notes at the foot."""
    items = evaluation.structures
    notes = [line for note in evaluation.notes for line in textwrap.wrap(f"Note: {note}", 150)][:12]
    row = _ROW if evaluation.samples == 0 else 1.65 * _ROW
    table = 0.75 + row * len(items)
    head, foot = 0.75, 0.75 + 0.2 * len(notes)
    height = head + _PLOT + table + foot
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    what = f", 5-95 % bands of {evaluation.samples} samples" if evaluation.samples else ""
    figure.text(0.05, 1 - 0.38 / height, f"Dose-volume histograms{what}", fontsize=15, color=_INK, va="center", weight="bold")
    bottom = (foot + table + 0.55) / height
    tall = (_PLOT - 0.65) / height
    left = figure.add_axes((0.06, bottom, 0.55, tall))
    right = figure.add_axes((0.68, bottom, 0.29, tall))
    _plot(left, items, "Volume [%]", cumulative=True)
    _plot(right, items, "Volume per dose [%/Gy]", cumulative=False)
    left.legend(loc="best", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor=_GRID, ncols=1 + len(items) // 14)
    _table(figure, evaluation, (foot + table - 0.25) / height, row / height, height)
    for n, line in enumerate(notes):
        figure.text(0.05, (0.42 + 0.2 * (len(notes) - 1 - n)) / height, line, fontsize=8.5, color=_DIM, va="center")
    figure.text(0.05, 0.18 / height, INTENDED_USE, fontsize=8.5, color=_DIM, va="center")
    figure.savefig(path)


def _plot(axes: Axes, items: tuple[StructureDose, ...], label: str, cumulative: bool) -> None:
    highest, top = 1.0, 0.0
    styles = {item.structure.name: _STYLES[n % len(_STYLES)] for item, n in zip(items, _repeats(items), strict=True)}
    for item in items:
        curve = item.cumulative if cumulative else item.differential
        colour = _readable(item.structure.colour)
        if curve.p05 is not None and curve.p95 is not None:
            axes.fill_between(curve.dose_gy, curve.p05, curve.p95, color=colour, alpha=0.22, linewidth=0)
        axes.plot(
            curve.dose_gy,
            curve.value,
            color=colour,
            linewidth=1.7,
            label=item.structure.name,
            linestyle=styles[item.structure.name],
        )
        highest = max(highest, float(curve.dose_gy[-1]))
        top = max(top, float(np.sort(curve.value)[-min(3, len(curve.value))]))
    axes.set_xlim(0, highest * 1.02)
    axes.set_ylim(0, 101 if cumulative else max(top, 1e-3) * 1.05)
    if not cumulative:
        axes.set_yscale("symlog", linthresh=5.0)
        axes.set_ylim(0, max(top, 6.0) * 1.3)
    axes.set_xlabel("Dose [Gy]", color=_INK)
    axes.set_ylabel(label, color=_INK)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _repeats(items: tuple[StructureDose, ...]) -> list[int]:
    """How often the colour of each structure came before: planning systems give several the same."""
    colours = [item.structure.colour for item in items]
    return [colours[:n].count(colour) for n, colour in enumerate(colours)]


def _table(figure: Figure, evaluation: Evaluation, top: float, row: float, height: float) -> None:
    xs = np.linspace(0.30, 0.965, len(_COLUMNS))
    for x, (_, title, _) in zip(xs, _COLUMNS, strict=True):
        figure.text(x, top, title, fontsize=9, color=_DIM, ha="right", va="center", linespacing=1.3)
    figure.text(0.075, top, "Structure", fontsize=9, color=_DIM, va="center")
    y = top - 0.28 / height
    for n, item in enumerate(evaluation.structures):
        middle = y - (n + 0.5) * row
        if n % 2 == 0:
            figure.add_artist(_box(middle - row / 2, row, figure))
        figure.text(0.05, middle, "■", fontsize=11, color=_readable(item.structure.colour), va="center")
        name = textwrap.shorten(item.structure.name, 26, placeholder="…")
        figure.text(0.075, middle, name, fontsize=9.5, color=_INK, va="center")
        values = {v.metric: v for v in item.values}
        for x, (metric, _, digits) in zip(xs, _COLUMNS, strict=True):
            v = values[metric]
            band = "" if v.p05 is None or v.p95 is None else f"{v.p05:.{digits}f} – {v.p95:.{digits}f}"
            text = "–" if not np.isfinite(v.value) else f"{v.value:.{digits}f}"
            banded = bool(band) and metric != "volume"
            figure.text(x, middle + (0.22 * row if banded else 0), text, fontsize=9.5, color=_INK, ha="right", va="center")
            if banded:
                figure.text(x, middle - 0.24 * row, band, fontsize=7.5, color=_DIM, ha="right", va="center")


def _box(bottom: float, height: float, figure: Figure) -> Rectangle:
    return Rectangle((0.04, bottom), 0.935, height, transform=figure.transFigure, color=_STRIPE, zorder=-1)


def _readable(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """Bright contour colours vanish on white paper: darken them to a luminance of at most 0.6."""
    r, g, b = colour
    light = 0.299 * r + 0.587 * g + 0.114 * b
    scale = min(1.0, 0.6 / light) if light > 0 else 1.0
    return (r * scale, g * scale, b * scale)
