"""Pictures of growth: curves of the regions over age, maps of percent per year on the mean scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from regsuite.ops.sampling import resample

if TYPE_CHECKING:
    from regsuite.pipeline.longitudinal import Growth

_DPI = 110
_METADATA = {"Software": None}  # the same bytes from every run


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Volume of each region over age, in percent of the first scan."""
    figure = Figure(figsize=(7.5, 4.5), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for region in dict.fromkeys(row["region"] for row in rows):
        own = [row for row in rows if row["region"] == region]
        wide = 2.6 if region == "brain" else 1.3
        axes.plot([r["age_years"] for r in own], [r["percent_of_first"] for r in own], "o-", lw=wide, ms=4, label=region)
    axes.set_xlabel("age (years)")
    axes.set_ylabel("volume (% of the first scan)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata=_METADATA)


def draw_growth(growth: Growth, path: Path) -> None:
    """Three planes: the mean scan, each scan in mid-space, and percent per year from first to last with its scale."""
    rate = growth.percent_per_year(0, len(growth.ages) - 1).data[0].numpy()
    inside = growth.mask.data[0].numpy() > 0
    limit = max(1.0, float(np.ceil(np.percentile(np.abs(rate[inside]), 99)))) if inside.any() else 1.0
    pairs = zip(growth.scans, growth.group.transforms, strict=True)
    pictures = [resample(scan, growth.grid, transform, fill=0.0).data[0].numpy() for scan, transform in pairs]
    titles = [f"{age:g} years" for age in growth.ages]
    columns = len(pictures) + 1
    figure = Figure(figsize=(2.6 * columns + 0.8, 8.0), dpi=_DPI, facecolor="#15171a")
    FigureCanvasAgg(figure)
    middle = [int(np.median(np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis))))) for axis in range(3)]
    middle[2] += int(np.ptp(np.flatnonzero(inside.any(axis=(0, 1)))) / 6)  # beside the gap between the hemispheres
    shown: AxesImage | None = None
    for row, axis in enumerate((0, 1, 2)):
        for column in range(columns):
            axes = figure.add_subplot(3, columns, row * columns + column + 1)
            image = pictures[min(column, columns - 2)].take(middle[axis], axis)
            axes.imshow(image, cmap="gray", origin="lower", vmin=0.0, vmax=1.05)
            if column == columns - 1:
                cut = np.ma.masked_where(~inside.take(middle[axis], axis), rate.take(middle[axis], axis))
                shown = axes.imshow(cut, cmap="RdBu_r", origin="lower", vmin=-limit, vmax=limit, alpha=0.75)
            if row == 0:
                axes.set_title(titles[column] if column < columns - 1 else "growth", color="#f2f2f2", fontsize=10)
            axes.set_axis_off()
    figure.subplots_adjust(left=0.01, right=0.88, top=0.94, bottom=0.02, wspace=0.03, hspace=0.03)
    assert shown is not None
    bar = figure.colorbar(shown, cax=figure.add_axes((0.91, 0.2, 0.02, 0.6)))
    bar.set_label("volume change (% per year)", color="#f2f2f2")
    bar.ax.tick_params(colors="#f2f2f2")
    figure.savefig(path, facecolor=figure.get_facecolor(), metadata=_METADATA)
