"""overview.png: the whole registration on one page, for eyes and not for measuring."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patheffects import withStroke

from regsuite.pipeline import planes
from regsuite.pipeline.region import FOREGROUND, foreground, is_ct
from regsuite.pipeline.report import INTENDED_USE

if TYPE_CHECKING:
    from regsuite.pipeline.register import Outcome

_INK, _DIM, _PAPER, _LINE = "#f2f2f2", "#9aa0a6", "#15171a", "#3a3f45"
_LEVELS = {"good": "#58c77a", "check": "#f0b848", "poor": "#f0655a"}
_FOLD = "#ffe600"
_FIXED_ONLY, _MOVING_ONLY = "#ff5cff", "#4ade4a"
_COLUMNS = ("Fixed", "Moving, before", "Moving, after", "Overlay before", "Overlay after", "Local volume change", "Displacement")
_DPI = 110
_PANEL_INCHES = 2.75


def draw_overview(outcome: Outcome, path: Path) -> None:
    """Write the picture (PNG): three planes, fixed / moving / moved, overlays, Jacobian, displacement and the verdict."""
    pictures = _Pictures(outcome)
    heights = [plane.grid.shape[1] for plane in pictures.planes]
    widest = max(plane.grid.shape[2] for plane in pictures.planes)
    rows = [_PANEL_INCHES * min(1.35, max(0.35, height / widest)) for height in heights]
    lines = _verdict_lines(outcome.report)
    head, foot = 1.15 + 0.21 * len(lines), 0.95
    width, height = 0.55 + _PANEL_INCHES * len(_COLUMNS), head + sum(rows) + foot
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    cells = GridSpec(
        len(rows),
        len(_COLUMNS),
        figure,
        left=0.4 / width,
        right=1 - 0.15 / width,
        top=1 - head / height,
        bottom=foot / height,
        wspace=0.03,
        hspace=0.03,
        height_ratios=rows,
    )
    for row, plane in enumerate(pictures.planes):
        panels = pictures.panels(plane)
        for column, (picture, style) in enumerate(panels):
            axes = figure.add_subplot(cells[row, column])
            _draw_panel(axes, picture, style, plane if column == 0 else None)
            if row == 0:
                _title(axes, column)
        box = cells[row, 0].get_position(figure)
        middle = (box.y0 + box.y1) / 2
        figure.text(0.2 / width, middle, plane.name, color=_INK, fontsize=12, rotation=90, ha="center", va="center")
    _colour_bars(figure, cells, pictures, foot / height)
    _words(figure, outcome.report, lines, width, height)
    figure.savefig(path, facecolor=_PAPER, metadata={"Software": "regsuite"}, pil_kwargs={"compress_level": 4})


class _Pictures:
    """The panels of each plane, with one window and one colour range for all of them."""

    def __init__(self, outcome: Outcome) -> None:
        self._inputs, self._moved, self._region = outcome.inputs, outcome.moved, outcome.region
        self._transform = outcome.result.transform.to("cpu")
        fixed, moving = outcome.inputs.fixed, outcome.inputs.moving
        whole = outcome.region.name == FOREGROUND  # found already
        body = outcome.region.inside if whole else foreground(fixed) | outcome.region.inside
        self.planes = planes.planes_through(fixed.grid, body, planes.interest(fixed, outcome.region.inside))
        self._window = planes.display_window(fixed, body)
        both_ct = is_ct(fixed) and is_ct(moving)
        self._moving_window = self._window if both_ct else planes.display_window(moving, foreground(moving))
        self._fields = {plane.name: planes.cut_field(self._transform, plane) for plane in self.planes}
        self._masks = {plane.name: planes.cut_mask(outcome.region.inside, fixed.grid, plane) for plane in self.planes}
        inside = [tuple(values[self._masks[name]] for values in field) for name, field in self._fields.items()]
        determinants = np.concatenate([pair[0] for pair in inside])
        lengths = np.concatenate([pair[1] for pair in inside])
        self.volume_limit = _volume_limit(determinants)
        self.length_limit = _round_up(float(np.percentile(lengths, 99.5))) if lengths.size else 1.0
        self.folds = bool((determinants <= 0).any())

    def panels(self, plane: planes.Plane) -> list[tuple[np.ndarray, dict[str, Any]]]:
        """(picture, imshow style) of the seven columns."""
        fixed = planes.to_grey(planes.cut(self._inputs.fixed, plane), self._window)
        before = planes.to_grey(planes.cut(self._inputs.moving, plane), self._moving_window)
        after = planes.to_grey(planes.cut(self._moved, plane), self._moving_window)
        determinant, length = self._fields[plane.name]
        mask = self._masks[plane.name]
        grey = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
        return [
            (fixed, grey),
            (before, grey),
            (after, grey),
            (planes.overlay(fixed, before), {}),
            (planes.overlay(fixed, after), {}),
            (self._volume_picture(determinant, mask, fixed), {}),
            (_coloured(length / self.length_limit, LENGTH_COLOURS, mask, fixed), {}),
        ]

    def _volume_picture(self, determinant: np.ndarray, mask: np.ndarray, grey: np.ndarray) -> np.ndarray:
        change = np.log2(np.maximum(determinant, 1e-6)) / np.log2(self.volume_limit)
        picture = _coloured((change + 1) / 2, VOLUME_COLOURS, mask, grey)
        picture[mask & (determinant <= 0)] = matplotlib.colors.to_rgb(_FOLD)
        return picture


VOLUME_COLOURS: Colormap = matplotlib.colormaps["RdBu_r"]
LENGTH_COLOURS: Colormap = ListedColormap(matplotlib.colormaps["inferno"](np.linspace(0.08, 0.97, 256)))


def _coloured(values: np.ndarray, colours: Colormap, mask: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """(height, width, 3): colours (0..1) inside the mask with a trace of anatomy, dim anatomy outside."""
    picture = np.repeat(0.3 * grey[..., None], 3, axis=2)
    shade = 0.72 + 0.28 * grey[..., None]
    picture[mask] = (colours(np.clip(values, 0.0, 1.0))[..., :3] * shade)[mask]
    return picture


def _volume_limit(determinants: np.ndarray) -> float:
    """The symmetric range 1/limit .. limit of the volume map: the smallest usual one that holds 99 % of the values."""
    positive = determinants[determinants > 0]
    typical = 2 ** float(np.percentile(np.abs(np.log2(positive)), 99)) if positive.size else 2.0
    return next((limit for limit in (1.1, 1.25, 1.5, 2.0, 3.0) if typical <= limit), 4.0)


def _round_up(value: float) -> float:
    """The next of 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, ... mm."""
    steps = [0.1, 0.2, 0.5, 1, 2, 3, 5, 8, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100]
    return float(next((step for step in steps if value <= step), np.ceil(value / 50) * 50))


def _draw_panel(axes: Axes, picture: np.ndarray, style: dict[str, Any], lettered: planes.Plane | None) -> None:
    axes.imshow(picture, interpolation="bilinear", aspect="equal", **style)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")
    axes.set_anchor("N")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if lettered is None:
        return
    places = (
        (0.015, 0.5, "left", "center"),
        (0.985, 0.5, "right", "center"),
        (0.5, 0.985, "center", "top"),
        (0.5, 0.015, "center", "bottom"),
    )
    outline = [withStroke(linewidth=2.2, foreground="black")]
    for letter, (x, y, across, up) in zip(lettered.letters, places, strict=True):
        style = {"color": "#ffd479", "fontsize": 10, "weight": "bold", "path_effects": outline}
        axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=up, **style)


def _title(axes: Axes, column: int) -> None:
    axes.set_title(_COLUMNS[column], color=_INK, fontsize=12, pad=7)


def _colour_bars(figure: Figure, cells: GridSpec, pictures: _Pictures, foot: float) -> None:
    limit = pictures.volume_limit
    ticks = [1 / limit, limit**-0.5, 1.0, limit**0.5, limit]
    volume = ScalarMappable(Normalize(-1, 1), VOLUME_COLOURS)
    labels = [f"{tick:.2f}" for tick in ticks]
    text = "volume in moving / in fixed" + (" · yellow: folded" if pictures.folds else " · no folding here")
    _bar(figure, cells, 5, foot, volume, np.linspace(-1, 1, 5), labels, text)
    length = ScalarMappable(Normalize(0, pictures.length_limit), LENGTH_COLOURS)
    marks = np.linspace(0, pictures.length_limit, 5)
    _bar(figure, cells, 6, foot, length, marks, [f"{mark:g}" for mark in marks], "mm")
    for column, words in ((3, "before"), (4, "after")):
        box = cells[-1, column].get_position(figure)
        centre = (box.x0 + box.x1) / 2
        figure.text(centre - 0.004, foot * 0.72, "only fixed  ■", color=_FIXED_ONLY, fontsize=9, ha="right", va="center")
        figure.text(centre + 0.004, foot * 0.72, "■  only moving", color=_MOVING_ONLY, fontsize=9, ha="left", va="center")
        figure.text(centre, foot * 0.50, f"grey: agreement {words}", color=_DIM, fontsize=9, ha="center", va="center")


def _bar(
    figure: Figure,
    cells: GridSpec,
    column: int,
    foot: float,
    colours: ScalarMappable,
    ticks: np.ndarray,
    labels: list[str],
    text: str,
) -> None:
    box = cells[-1, column].get_position(figure)
    margin = 0.08 * box.width
    axes = figure.add_axes((box.x0 + margin, foot * 0.74, box.width - 2 * margin, foot * 0.1))
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=list(ticks))
    bar.ax.set_xticklabels(labels, color=_INK, fontsize=9)
    bar.ax.tick_params(color=_LINE, length=2, pad=2)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(text, color=_DIM, fontsize=9, labelpad=2)


def _verdict_lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """(level, line of text): the reasons, worst first, then the warnings; long ones wrapped."""
    verdict = report["verdict"]
    order = {"poor": 0, "check": 1, "good": 2}
    items = sorted(((item["level"], item["text"]) for item in verdict["reasons"]), key=lambda item: order[item[0]])
    items += [("check", text) for text in report["warnings"]]
    lines = []
    for level, text in items:
        first, *rest = textwrap.wrap(text, 190)
        lines += [(level, first), *(("", line) for line in rest)]
    return lines


def _words(figure: Figure, report: dict[str, Any], lines: list[tuple[str, str]], width: float, height: float) -> None:
    verdict, left = report["verdict"], 0.4 / width
    figure.text(left, 1 - 0.32 / height, f"{report['title']} · {report['preset']}", color=_DIM, fontsize=12, va="center")
    files = report["files"]
    names = f"fixed: {files['fixed']}     moving: {files['moving']}" if files else ""
    figure.text(1 - 0.15 / width, 1 - 0.32 / height, names, color=_DIM, fontsize=10, va="center", ha="right")
    colour = _LEVELS[verdict["level"]]
    figure.text(left, 1 - 0.64 / height, verdict["headline"], color=colour, fontsize=17, weight="bold", va="center")
    for number, (level, text) in enumerate(lines):
        y = 1 - (0.95 + 0.21 * number) / height
        if level:
            figure.text(left, y, "●", color=_LEVELS[level], fontsize=10, va="center")
        figure.text(left + 0.2 / width, y, text, color=_INK, fontsize=11, va="center")
    made_by = f"regsuite {report['versions']['regsuite']} · {INTENDED_USE}"
    figure.text(left, 0.2 / height, made_by, color=_DIM, fontsize=9, va="center")
    note = "Patient's right is on the left of axial and coronal pictures. Colours are drawn within the measured region."
    figure.text(1 - 0.15 / width, 0.2 / height, note, color=_DIM, fontsize=9, va="center", ha="right")
