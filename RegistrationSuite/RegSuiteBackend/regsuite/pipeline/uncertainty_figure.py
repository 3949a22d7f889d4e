"""overview.png of `regsuite uncertainty`: where the transform can be trusted, on three planes, and its calibration if measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patheffects import withStroke

from regsuite.ops.sampling import resample
from regsuite.pipeline import planes
from regsuite.pipeline.region import foreground
from regsuite.pipeline.report import INTENDED_USE

if TYPE_CHECKING:
    from regsuite.pipeline.uncertainty import Uncertainty

_INK, _DIM, _PAPER, _LINE = "#f2f2f2", "#9aa0a6", "#15171a", "#3a3f45"
_COLUMNS = ("Fixed", "Moving, moved", "Sigma", "Sigma left-right", "Sigma front-back", "Sigma head-foot")
_PANEL_INCHES, _DPI = 2.6, 110
SIGMA_COLOURS = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.05, 1.0, 256)))


def draw_uncertainty(found: Uncertainty, report: dict[str, Any], path: Path) -> None:
    """Write the picture (PNG): anatomy, sigma and its components on three planes, one logarithmic scale, numbers in words."""
    fixed = found.inputs.fixed
    body = foreground(fixed)
    cuts = planes.planes_through(fixed.grid, body, planes.interest(fixed, body))
    window = planes.display_window(fixed, body)
    limits = _limits(found, body)
    ratios = [max(0.35, min(1.35, p.grid.shape[1] / p.grid.shape[2])) for p in cuts]
    measured = found.calibration is not None
    head, foot, side = 1.0, 0.85, 3.6 if measured else 0.15
    width = 0.45 + _PANEL_INCHES * len(_COLUMNS) + side
    height = head + _PANEL_INCHES * sum(ratios) + foot
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    cells = GridSpec(
        3, len(_COLUMNS), figure, left=0.4 / width, right=1 - side / width, top=1 - head / height, bottom=foot / height,
        wspace=0.03, hspace=0.03, height_ratios=ratios,
    )  # fmt: skip
    for row, plane in enumerate(cuts):
        for column, picture in enumerate(_pictures(found, plane, body, window, limits)):
            axes = figure.add_subplot(cells[row, column])
            _show(axes, picture, plane if column == 0 else None)
            if row == 0:
                axes.set_title(_COLUMNS[column], color=_INK, fontsize=12, pad=7)
        box = cells[row, 0].get_position(figure)
        figure.text(0.2 / width, (box.y0 + box.y1) / 2, plane.name, color=_INK, fontsize=12, rotation=90, ha="center", va="center")
    _scale(figure, cells, limits, foot / height)
    _words(figure, report, width, height)
    if measured:
        _diagram(figure, report["calibration"], width, height, side, head)
    figure.savefig(path, facecolor=_PAPER, metadata={"Software": "regsuite"}, pil_kwargs={"compress_level": 4})


def _limits(found: Uncertainty, body: Any) -> tuple[float, float]:
    values = found.magnitude.data[0][body]
    low, high = np.percentile(values[:: max(1, values.numel() // 300_000)].numpy(), (1, 99))
    low = max(float(low) / 1.8, 0.05)  # a component is smaller than the whole
    return low, max(float(high), 1.5 * low)


def _pictures(
    found: Uncertainty, plane: planes.Plane, body: Any, window: tuple[float, float], limits: tuple[float, float]
) -> list[Any]:
    fixed = planes.to_grey(planes.cut(found.inputs.fixed, plane), window)
    moved = planes.to_grey(planes.cut(found.inputs.moving, plane, found.transform), window)
    mask = planes.cut_mask(body, found.inputs.fixed.grid, plane)
    sigma = resample(found.sigma, plane.grid).data[:, 0].numpy()
    grey = [np.repeat(g[..., None], 3, axis=2) for g in (fixed, moved)]
    scale = LogNorm(*limits, clip=True)
    maps = []
    for values in (np.linalg.norm(sigma, axis=0), *sigma):
        picture = 0.3 * grey[0]
        coloured = SIGMA_COLOURS(scale(values))[..., :3] * (0.72 + 0.28 * grey[0])
        picture[mask] = coloured[mask]
        maps.append(picture)
    return [*grey, *maps]


def _show(axes: Axes, picture: np.ndarray, lettered: planes.Plane | None) -> None:
    axes.imshow(picture, interpolation="bilinear", aspect="equal")
    axes.set_axis_off()
    axes.set_anchor("N")
    if lettered is None:
        return
    places = (
        (0.015, 0.5, "left", "center"),
        (0.985, 0.5, "right", "center"),
        (0.5, 0.985, "center", "top"),
        (0.5, 0.015, "center", "bottom"),
    )
    for letter, (x, y, across, up) in zip(lettered.letters, places, strict=True):
        outline = [withStroke(linewidth=2.2, foreground="black")]
        style: dict[str, Any] = {"color": "#ffd479", "fontsize": 10, "weight": "bold", "path_effects": outline}
        axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=up, **style)


def _scale(figure: Figure, cells: GridSpec, limits: tuple[float, float], foot: float) -> None:
    first, last = cells[2, 2].get_position(figure), cells[2, 5].get_position(figure)
    axes = figure.add_axes((first.x0 + 0.05, foot * 0.68, last.x1 - first.x0 - 0.1, foot * 0.12))
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if limits[0] <= t <= limits[1]]
    bar = figure.colorbar(ScalarMappable(LogNorm(*limits), SIGMA_COLOURS), cax=axes, orientation="horizontal", ticks=ticks)
    bar.ax.set_xticklabels([f"{t:g}" for t in ticks], color=_INK, fontsize=9)
    bar.ax.minorticks_off()
    bar.ax.tick_params(color=_LINE, length=2, pad=2)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("standard deviation of the position, mm (logarithmic)", color=_DIM, fontsize=9, labelpad=2)


def _words(figure: Figure, report: dict[str, Any], width: float, height: float) -> None:
    left, sigma, files = 0.4 / width, report["sigma_mm"], report["files"]
    figure.text(left, 1 - 0.28 / height, f"{report['title']} · {report['preset']}", color=_DIM, fontsize=12, va="center")
    names = "     ".join(f"{key}: {files[key]}" for key in ("fixed", "moving", "transform") if key in files)
    figure.text(1 - 0.15 / width, 1 - 0.28 / height, names, color=_DIM, fontsize=10, va="center", ha="right")
    text = (
        f"Half of the body is known to {sigma['p50']:.1f} mm or better, 95 % to {sigma['p95']:.1f} mm (one sigma)"
    )
    folds = report["folding_of_samples"]
    if folds:
        text += f"; samples fold in {folds['folding_percent_mean']:.2g} % of it"
    figure.text(left, 1 - 0.58 / height, text + ".", color=_INK, fontsize=14, weight="bold", va="center")
    made_by = f"regsuite {report['versions']['regsuite']} · {INTENDED_USE} Patient's right is on the left."
    figure.text(left, 0.18 / height, made_by, color=_DIM, fontsize=9, va="center")


def _diagram(figure: Figure, report: dict[str, Any], width: float, height: float, side: float, head: float) -> None:
    """Reliability: found against stated error at the landmarks, and the coverage in words."""
    axes = figure.add_axes(
        (1 - (side - 0.75) / width, 1 - (head + 3.0) / height, (side - 1.0) / width, 2.7 / height), facecolor=_PAPER
    )
    kinds = (("as_stored", "#9aa0a6", "as stored"), ("recalibrated", "#58c77a", "recalibrated"))
    most = 0.1
    for kind, colour, label in kinds:
        rows = [row for row in report.get(kind, {}).get("reliability", ()) if row["count"]]
        if rows:
            axes.plot([r["sigma_mm"] for r in rows], [r["error_mm"] for r in rows], "o-", color=colour, ms=4, lw=1.2, label=label)
            most = max(most, *(max(r["sigma_mm"], r["error_mm"]) for r in rows))
    axes.plot([0, most], [0, most], "--", color=_DIM, lw=1)
    axes.set(xlim=(0, 1.05 * most), ylim=(0, 1.05 * most))
    axes.set_xlabel("stated, mm", color=_DIM, fontsize=9)
    axes.set_ylabel("found at the landmarks, mm", color=_DIM, fontsize=9)
    axes.set_title("Root mean square error", color=_INK, fontsize=11)
    axes.tick_params(colors=_DIM, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(_LINE)
    axes.legend(frameon=False, labelcolor=_INK, fontsize=8)
    kept = report.get("recalibrated", report["as_stored"])
    covered = [f"{100 * kept['coverage'][name]:.0f} % inside the {name} % ellipsoid" for name in ("50", "90", "95")]
    factor = f"factor that fits them: {report['scale']:.2f}, {'applied' if report['applied'] else 'not applied'}"
    lines = [f"{kept['count']} landmarks", *covered, factor]
    for number, line in enumerate(lines):
        figure.text(1 - (side - 0.3) / width, 1 - (head + 3.75 + 0.22 * number) / height, line, color=_INK, fontsize=8.5)
