"""overview.png of slices in a volume: each real slice beside its emulation, before and after, and where they all lie."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from regsuite.geometry import Image
from regsuite.pipeline import planes
from regsuite.pipeline.region import foreground

if TYPE_CHECKING:
    from regsuite.pipeline.slices import Placement

_INK, _DIM, _PAPER = "#f2f2f2", "#9aa0a6", "#15171a"
_LEVELS = {"good": "#58c77a", "check": "#f0b848", "poor": "#f0655a"}
_ROWS = ("Real slice", "Emulated before", "Emulated after", "Edges of the real slice\non the emulated one")
_MOST_SHOWN, _DPI, _INCHES = 8, 100, 2.2


def draw_slices(placement: Placement, path: Path) -> None:
    """Write the picture (PNG): up to eight slices in columns, and below them the values in three planes of the volume."""
    count = len(placement.inputs.slices)
    shown = [round(n) for n in np.linspace(0, count - 1, min(count, _MOST_SHOWN))]
    lines = _lines(placement)
    columns = max(len(shown), 4)
    head, foot = 1.0 + 0.21 * len(lines), 0.5
    lower = _INCHES * 1.5
    width, height = 1.0 + _INCHES * columns, head + _INCHES * len(_ROWS) + 0.4 + lower + foot
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    _words(figure, placement, lines, width, height)
    top, bottom = 1 - head / height, (foot + lower + 0.4) / height
    grid = GridSpec(
        len(_ROWS), columns, figure, left=0.8 / width, right=1 - 0.1 / width, top=top, bottom=bottom, wspace=0.03, hspace=0.03
    )
    for column, n in enumerate(shown):
        for row, (picture, style) in enumerate(_pictures(placement, n)):
            axes = figure.add_subplot(grid[row, column])
            _show(axes, picture, **style)
            if row == 0:
                info = placement.report["slices"][n]
                title = f"{n + 1}: place {info['slot']}{' from behind' if info['reversed'] else ''}"
                axes.set_title(f"{title}\nconfidence {info['confidence']:.2f}", color=_LEVELS[info["level"]], fontsize=10)
    for row, name in enumerate(_ROWS):
        box = grid[row, 0].get_position(figure)
        figure.text(0.4 / width, (box.y0 + box.y1) / 2, name, color=_INK, fontsize=10, rotation=90, ha="center", va="center")
    _values(figure, placement, width, height, foot, lower)
    figure.savefig(path, facecolor=_PAPER, metadata={"Software": "regsuite"}, pil_kwargs={"compress_level": 4})


def _pictures(placement: Placement, n: int) -> list[tuple[np.ndarray, dict]]:
    real = _grey(placement.inputs.slices[n])
    low, high = _window(placement.inputs.volume)
    before, after = (
        ((image.data[0, 0].numpy() - low) / (high - low)).clip(0, 1) for image in (placement.before[n], placement.emulated[n])
    )
    edges = np.repeat(after[..., None], 3, axis=2)
    gradient = np.hypot(*np.gradient(real))
    strength = (gradient / max(float(np.percentile(gradient, 98)), 1e-6)).clip(0, 1)[..., None] ** 1.5
    edges = edges * (1 - strength) + strength * np.array(matplotlib.colors.to_rgb("#ffb000"))
    aspect = float(placement.inputs.slices[n].grid.spacing[1] / placement.inputs.slices[n].grid.spacing[0])
    grey = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0, "aspect": aspect}
    return [(real, grey), (before, grey), (after, grey), (edges, {"aspect": aspect})]


def _grey(image: Image) -> np.ndarray:
    values = image.data[0, 0].float().numpy()
    low, high = np.percentile(values, (1, 99))
    return ((values - low) / max(float(high - low), 1e-6)).clip(0, 1)


def _window(volume: Image) -> tuple[float, float]:
    low, high = planes.display_window(volume, foreground(volume))
    return float(low), max(float(high), float(low) + 1e-6)


def _show(axes: Axes, picture: np.ndarray, **style: object) -> None:
    axes.imshow(picture, interpolation="bilinear", **style)  # type: ignore[arg-type]
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _values(figure: Figure, placement: Placement, width: float, height: float, foot: float, lower: float) -> None:
    """The slices' values in colour on three planes of the volume."""
    volume = placement.inputs.volume
    inside = placement.weight.data[0] > 0
    if not bool(inside.any()):
        figure.text(0.5, foot / height, "No slice passes through the volume.", color=_DIM, ha="center")
        return
    views = planes.planes_through(volume.grid, foreground(volume) | inside, inside)
    window = _window(volume)
    known = placement.quantitative.data[0][inside].numpy()
    low, high = (float(v) for v in np.percentile(known, (2, 98)))
    colours = matplotlib.colormaps["viridis"]
    each = (width - 1.6) / 3
    for number, view in enumerate(views):
        grey = np.nan_to_num(planes.to_grey(planes.cut(volume, view), window))
        value, weight = (np.nan_to_num(planes.cut(image, view)) for image in (placement.quantitative, placement.weight))
        picture = np.repeat(0.75 * grey[..., None], 3, axis=2)
        share = np.clip(weight, 0, 1)[..., None] * 0.85
        picture = picture * (1 - share) + share * colours(((value - low) / max(high - low, 1e-6)).clip(0, 1))[..., :3]
        axes = figure.add_axes(((0.8 + number * each) / width, foot / height, (each - 0.05) / width, lower / height))
        _show(axes, picture, aspect="equal")
        axes.set_title(f"Values in the volume, {view.name.lower()}", color=_INK, fontsize=10)
    axes = figure.add_axes((1 - 0.62 / width, foot / height, 0.12 / width, lower / height))
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(low, high), colours), cax=axes)
    bar.ax.tick_params(colors=_INK, labelsize=9, length=2)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _lines(placement: Placement) -> list[tuple[str, str]]:
    report = placement.report
    items = [(item["level"], item["text"]) for item in report["verdict"]["reasons"]]
    items += [("check", text) for text in report["warnings"]]
    lines = []
    for level, text in items:
        first, *rest = textwrap.wrap(text, 130)
        lines += [(level, first), *(("", line) for line in rest)]
    return lines


def _words(figure: Figure, placement: Placement, lines: list[tuple[str, str]], width: float, height: float) -> None:
    report, left = placement.report, 0.3 / width
    figure.text(left, 1 - 0.26 / height, f"{report['title']} · {report['preset']}", color=_DIM, fontsize=11, va="center")
    colour = _LEVELS[report["verdict"]["level"]]
    figure.text(left, 1 - 0.52 / height, report["verdict"]["headline"], color=colour, fontsize=14, weight="bold", va="center")
    for number, (level, text) in enumerate(lines):
        y = 1 - (0.76 + 0.2 * number) / height
        if level:
            figure.text(left, y, "●", color=_LEVELS[level], fontsize=9, va="center")
        figure.text(left + 0.2 / width, y, text, color=_INK, fontsize=10, va="center")
    made_by = f"regsuite {report['versions']['regsuite']} · {report['intended_use']}"
    figure.text(left, 0.18 / height, made_by, color=_DIM, fontsize=9, va="center")
