"""The folder of `regsuite longitudinal` into the scene: growth map, curves, regions, transforms, and pictures to play."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from regsuite.errors import InputError

from regsuite_slicer import charts, nodes, playback, results, views

AGE = "age (years)"
_LEGEND_SHARE = 1.0  # of the years, free at the right of the chart, where its legend lies
_LEAST_JACOBIAN = 0.3  # ours: a place that keeps less than this of its volume deserves a look


@dataclass(frozen=True)
class GrowthNodes:
    """The nodes of a job, scans in the order of the panel: their ages (years), the regions and the scan they are drawn on, and the
    volume for the growth map (None: a new one)."""

    scans: tuple[Any, ...]
    ages: tuple[float, ...]
    regions: Any = None
    growth: Any = None
    transform: Any = None

    def in_order(self) -> list[Any]:
        """The scans from the youngest to the oldest."""
        return [self.scans[n] for n in sorted(range(len(self.scans)), key=lambda n: self.ages[n])]


@dataclass(frozen=True)
class GrowthInScene:
    """What a job made. template: the mean brain in mid-space; growth: % per year on it; volumes: the table of regions over age;
    transforms, regions: one for each scan in order of age (regions empty without labels); browser plays growth, or None."""

    table: Any
    template: Any
    growth: Any
    volumes: Any
    chart: Any
    transforms: tuple[Any, ...]
    regions: tuple[Any, ...]
    browser: Any
    report: dict[str, Any]
    warnings: tuple[str, ...] = ()


def apply_growth(outputs: GrowthNodes, folder: str | Path) -> GrowthInScene:
    """Read everything, then make the nodes; on an error remove what was made. Raises InputError for a damaged folder."""
    folder = Path(folder)
    read = _Files(folder)
    scans, made = outputs.in_order(), _Made()
    try:
        template = nodes.set_volume(made.new("vtkMRMLScalarVolumeNode", "Mean brain"), read.template)
        playback.grey_window(template)
        growth = outputs.growth or made.new("vtkMRMLScalarVolumeNode", "Growth % per year")
        show_growth(nodes.set_volume(growth, read.growth), read.growth.values, "% per year")
        names = _region_names(outputs.regions)
        volumes = charts.fill_numbers(made.new("vtkMRMLTableNode", "Growth curves"), curve_columns(read.rows, names))
        chart = _chart(volumes, made)
        transforms = tuple(
            _transform(made, item, template, scan, f"{_name(scan, n)} to mean brain")
            for n, (item, scan) in enumerate(zip(read.transforms, scans, strict=True))
        )
        regions = tuple(
            nodes.set_volume(made.new("vtkMRMLLabelMapVolumeNode", f"{_name(scan, n)} regions"), item)
            for n, (item, scan) in enumerate(zip(read.regions, scans, strict=bool(read.regions)))
        )
        browser = _playback(read, made)
        table = made.new("vtkMRMLTableNode", "Growth verdict")
        nodes.fill_table(table, in_words(read.report, read.rows, names))
        table.SetAttribute(results.REPORT_ATTRIBUTE, json.dumps(read.report))
    except Exception:
        made.remove()
        raise
    return GrowthInScene(table, template, growth, volumes, chart, transforms, regions, browser, read.report)


class _Made(list[Any]):
    """The nodes made so far."""

    def new(self, class_name: str, name: str) -> Any:
        import slicer

        self.append(slicer.mrmlScene.AddNewNodeByClass(class_name, slicer.mrmlScene.GenerateUniqueName(name)))
        return self[-1]

    def remove(self) -> None:
        for item in reversed(self):
            views.remove_node(item)


class _Files:
    """Everything that the worker wrote, read before the scene is touched."""

    def __init__(self, folder: Path) -> None:
        try:
            self.report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            with (folder / "volumes.tsv").open(encoding="utf-8", newline="") as stream:
                self.rows = list(csv.DictReader(stream, delimiter="\t"))
            count = len(self.report["time_points"])
            self.ages = [float(age) for age in self.report.get("frames_age_years", [])]
        except (OSError, ValueError, KeyError) as error:
            what = type(error).__name__
            raise InputError(f"Cannot read '{folder}': expected the result of 'longitudinal', found {what}.") from error
        self.template = nodes.read_volume(folder / "template.nrrd")
        self.growth = nodes.read_volume(folder / "growth_total.nrrd")
        parts = [folder / f"time_{n + 1:02d}" for n in range(count)]
        self.transforms = [nodes.read_transform(part / "transform.h5") for part in parts]
        self.regions = [nodes.read_volume(p / "labels.nrrd") for p in parts if (p / "labels.nrrd").is_file()]
        frames = [folder / "frames" / f"{{}}_{n + 1:03d}.nrrd" for n in range(len(self.ages))]
        self.frames = [nodes.read_volume(str(path).format("frame")) for path in frames]
        self.changes = [nodes.read_volume(str(path).format("growth")) for path in frames]


def curve_columns(rows: Sequence[Mapping[str, str]], names: Mapping[str, str]) -> dict[str, list[float]]:
    """Columns for a chart: age, then the volume of each region in percent of the first scan."""
    regions = list(dict.fromkeys(row["region"] for row in rows))
    ages = [float(row["age_years"]) for row in rows if row["region"] == regions[0]]
    return {AGE: ages} | {
        names.get(region, region): [float(row["percent_of_first"]) for row in rows if row["region"] == region]
        for region in regions
    }


def interval_cells(table: Any, ages: Sequence[float]) -> list[tuple[str, str]]:
    """(volume in percent of the first scan, % per year since the scan before) of the brain at each of these ages, or empty text."""
    found: dict[float, tuple[str, str]] = {}
    data = table.GetTable() if table is not None else None
    if data is not None and data.GetColumnByName(AGE) is not None and data.GetNumberOfColumns() > 1:
        known = [(data.GetColumn(0).GetValue(r), data.GetColumn(1).GetValue(r)) for r in range(data.GetNumberOfRows())]
        for n, (age, percent) in enumerate(known):
            rate = "" if n == 0 else f"{per_year(known[n - 1], known[n]):+.2f}"
            found[age] = (f"{percent:.2f}", rate)
    return [found.get(age, ("", "")) for age in ages]


def per_year(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Percent per year between (age, volume) and (age, volume), compound."""
    return 100.0 * ((after[1] / before[1]) ** (1.0 / (after[0] - before[0])) - 1.0)


def in_words(report: Mapping[str, Any], rows: Sequence[Mapping[str, str]], names: Mapping[str, str]) -> dict[str, list[str]]:
    """The verdict table as columns of text: What, Before (first scan), After (last scan), Assessment."""
    regions: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        regions.setdefault(row["region"], []).append(row)
    brain = [(float(row["age_years"]), float(row["volume_ml"])) for row in regions["brain"]]
    doubtful = bool(report["warnings"]) or report["jacobian_min"] < _LEAST_JACOBIAN
    rate = per_year(brain[0], brain[-1])
    level, (first, last) = "Check" if doubtful else "Good", (brain[0][0], brain[-1][0])
    said = f"{level}: the brain grew by {rate:.1f} % per year from {first:g} to {last:g} years."
    lines = [("Verdict", "", "", said)]
    for region, own in regions.items():
        ends = [float(own[n]["volume_ml"]) for n in (0, -1)]
        lines.append((f"{names.get(region, region)} (ml)", f"{ends[0]:.1f}", f"{ends[1]:.1f}", ""))
    lines.append(("Lowest Jacobian in the brain", "", f"{report['jacobian_min']:.2f}", ""))
    if report["jacobian_min"] < _LEAST_JACOBIAN:
        lines.append(("Check", "", "", "Some place is squeezed hard; look at the growth map and at the scans there."))
    lines += [("Warning", "", "", text) for text in report["warnings"]]
    return {title: [line[n] for line in lines] for n, title in enumerate(("What", "Before", "After", "Assessment"))}


def show_growth(node: Any, values: np.ndarray, unit: str) -> None:
    """Blue shrinks, red grows, dark where nothing changes; the window is symmetric and holds 98 % of what changes."""
    changing = np.abs(values[values != 0])
    top = results.round_up(float(np.percentile(changing, 98))) if changing.size else 1.0
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    results.show_as_map(node, results.growth_colours().GetID(), (-top, top), unit)


def _chart(table: Any, made: _Made) -> Any:
    columns = [table.GetTable().GetColumnName(n) for n in range(1, table.GetTable().GetNumberOfColumns())]
    lines = []
    for n, column in enumerate(columns):
        node = made.new("vtkMRMLPlotSeriesNode", column)
        node.SetName(column)  # the legend's text; names of nodes need not be unique
        lines.append(charts.fill_series(node, table, AGE, column, _colour(n), width=4.0 if n == 0 else 2.0, markers=True))
    chart = charts.fill_chart(made.new("vtkMRMLPlotChartNode", "Growth"), lines, "Growth", AGE, "volume (% of the first scan)")
    ages = table.GetTable().GetColumn(0)
    first, last = ages.GetValue(0), ages.GetValue(ages.GetNumberOfValues() - 1)
    charts.set_range(chart, "x", first, last + _LEGEND_SHARE * (last - first))
    return chart


def _colour(n: int) -> charts.Colour:
    """Black for the whole brain, then the colours in turn."""
    return (0.1, 0.1, 0.1) if n == 0 else charts.COLOURS[(n - 1) % len(charts.COLOURS)]


def _transform(made: _Made, transform: Any, template: Any, scan: Any, name: str) -> Any:
    node = nodes.set_transform(made.new("vtkMRMLTransformNode", name), transform)
    node.SetNodeReferenceID(node.GetFixedNodeReferenceRole(), template.GetID())
    if scan is not None and scan.GetScene() is not None:
        node.SetNodeReferenceID(node.GetMovingNodeReferenceRole(), scan.GetID())
    views.prepare_transform_display(node, template)
    return node


def _playback(read: _Files, made: _Made) -> Any:
    """A sequence browser over age with two proxies: the brain in the shape of each age, and its growth until then; or None."""

    if not read.ages:
        return None
    browser = made.new("vtkMRMLSequenceBrowserNode", "Growth over age")
    names = ["Brain at age", "Growth until age"]
    sequences = [made.new("vtkMRMLSequenceNode", name) for name in names]
    for sequence, name, volumes in zip(sequences, names, (read.frames, read.changes), strict=True):
        playback.fill_sequence(sequence, ("age", "years"), read.ages, volumes, name)
    picture, change = playback.connect(browser, sequences, names)
    made += [picture, change]
    playback.grey_window(picture, read.frames[-1].values)
    show_growth(change, read.changes[-1].values, "% since the first scan")
    return browser


def _region_names(node: Any) -> dict[str, str]:
    """ "label 3" -> the name of the third segment; a label map's numbers have no names."""
    if node is None or node.GetScene() is None or not node.IsA("vtkMRMLSegmentationNode"):
        return {}
    segmentation = node.GetSegmentation()
    return {f"label {n + 1}": segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())}


def _name(scan: Any, n: int) -> str:
    return str(scan.GetName()) if scan is not None and scan.GetName() else f"Scan {n + 1}"


def show_playback(browser: Any, item: int) -> None:
    """The brain at the item-th age in the slice views, with its growth until then over it."""
    picture, change = playback.select(browser, item)
    views.show_overlay(picture, change, 0.65, fit=False)


def age_text(browser: Any) -> str:
    """ "3.4 years": the age that the browser shows."""
    return f"{playback.index_of(browser):.1f} years"
