"""Dose-volume histograms as nodes: nominal curves laid out as SlicerRT lays out its own, bands in tables of our own.

Where SlicerRT is installed its own logic makes the nominal curves and its parameter node shows them in its module.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regsuite_slicer import charts

PREFIX = "DoseVolumeHistogram."
BAND_ATTRIBUTE = "RegistrationSuite.DvhBand"
BAND_ROLE, BAND_SERIES_ROLE = "RegistrationSuite.DvhBand", "RegistrationSuite.DvhBandSeries"
"""References of the table of metrics: the n-th band belongs to its n-th row; each has three series (nominal, P05, P95)."""
FIRST_GY, STEP_GY = 0.1, 0.2
AXES = ("Dose [Gy]", "Fractional volume [%]")
SHOWN = ("volume", "mean", "min", "max", "D95", "D98", "D50", "D2", "D2cc", "V5", "V10", "V20", "V30", "V40", "V50", "V60")


@dataclass(frozen=True)
class StructureCurves:
    """What the files say of one structure: colour RGB 0..1, metric -> (value, unit, p05, p95), curves (N,); bands None without."""

    name: str
    colour: tuple[float, float, float]
    metrics: Mapping[str, tuple[float, str, float | None, float | None]]
    dose_gy: np.ndarray
    volume: np.ndarray
    p05: np.ndarray | None
    p95: np.ndarray | None


def read_curves(folder: Path, report: Mapping[str, Any]) -> list[StructureCurves]:
    """dvh.csv and report.json of `regsuite dose` or `dvh`; raises OSError, ValueError or KeyError when they are damaged."""
    rows: dict[str, list[list[float]]] = {}
    with (folder / "dvh.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            values = [float(row[key] or "nan") for key in ("dose_gy", "volume_percent", "p05", "p95")]
            rows.setdefault(row["structure"], []).append(values)
    found = []
    for item in report["structures"]:
        dose, volume, low, high = np.array(rows[item["name"]]).T
        banded = bool(np.isfinite(low).all() and np.isfinite(high).all())
        metrics = {name: (_number(m["value"]), m["unit"], m["p05"], m["p95"]) for name, m in item["metrics"].items()}
        red, green, blue = (float(part) for part in item["colour"])
        bands = (low, high) if banded else (None, None)
        found.append(StructureCurves(item["name"], (red, green, blue), metrics, dose, volume, *bands))
    return found


def metric_columns(items: Sequence[StructureCurves]) -> dict[str, list[str]]:
    """The table of metrics as text: a row per structure, "20.1 (19.4 - 21.0)" with the 5-95 % interval where there is one."""
    names = [name for name in SHOWN if items and name in items[0].metrics]
    names += [name for name in (items[0].metrics if items else ()) if name not in SHOWN and not name.startswith("V")]
    columns = {"Structure": [item.name for item in items]}
    for name in names:
        unit = items[0].metrics[name][1]
        columns[f"{name.capitalize() if name.islower() else name} ({unit})"] = [_cell(item.metrics[name]) for item in items]
    return columns


def place_bands(items: Sequence[StructureCurves], table: Any, chart: Any, make: Any) -> None:
    """A table of Dose, Nominal, P05, P95 and three series for each structure, referred to by `table`, shown by show_band."""
    for item in items:
        node = make("vtkMRMLTableNode", f"{item.name} DVH band")
        columns = {"Dose": item.dose_gy.tolist(), "Nominal": item.volume.tolist()}
        if item.p05 is not None and item.p95 is not None:
            columns |= {"P05": item.p05.tolist(), "P95": item.p95.tolist()}
        charts.fill_numbers(node, columns)
        node.SetAttribute(BAND_ATTRIBUTE, item.name)
        table.AddNodeReferenceID(BAND_ROLE, node.GetID())
        for column in list(columns)[1:]:
            label = item.name if column == "Nominal" else f"{item.name} {column}"
            series = make("vtkMRMLPlotSeriesNode", label)
            nominal = column == "Nominal"
            charts.fill_series(series, node, "Dose", column, item.colour, width=3.0 if nominal else 1.5, dashed=not nominal)
            series.SetAttribute(BAND_ATTRIBUTE, item.name)
            table.AddNodeReferenceID(BAND_SERIES_ROLE, series.GetID())
    show_band(table, chart, None)


def show_band(table: Any, chart: Any, structure: str | None) -> None:
    """Let the chart show one structure with its band, or (None) the nominal curve of every structure."""
    count = table.GetNumberOfNodeReferences(BAND_SERIES_ROLE)
    series = [table.GetNthNodeReference(BAND_SERIES_ROLE, n) for n in range(count)]
    series = [item for item in series if item is not None]
    wanted = [
        item for item in series
        if item.GetAttribute(BAND_ATTRIBUTE) == structure or (structure is None and item.GetYColumnName() == "Nominal")
    ]  # fmt: skip
    title = "Dose-volume histograms, nominal" if structure is None else f"{structure}: nominal and 5-95 % band"
    charts.fill_chart(chart, wanted, title, *AXES)
    charts.set_range(chart, "y", 0.0, 101.0)


def place_nominal(items: Sequence[StructureCurves], dose: Any, segmentation: Any, make: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """Nominal curves for SlicerRT: (metrics table, chart, warnings), made by its logic when it is there, else in its layout."""
    import slicer

    if hasattr(slicer.modules, "dosevolumehistogram"):
        node = make("vtkMRMLDoseVolumeHistogramNode", "DVH of the carried dose")
        node.SetAndObserveDoseVolumeNode(dose)
        node.SetAndObserveSegmentationNode(segmentation)
        error = slicer.modules.dosevolumehistogram.logic().ComputeDvh(node)
        if not error:
            return node.GetMetricsTableNode(), node.GetChartNode(), ()
        return *_lay_out(items, dose, segmentation, make), (f"SlicerRT made no histograms: {error}",)
    return *_lay_out(items, dose, segmentation, make), ()


def _lay_out(items: Sequence[StructureCurves], dose: Any, segmentation: Any, make: Any) -> tuple[Any, Any]:
    """As vtkMRMLDoseVolumeHistogramNode refers to them: a table of metrics, and a table and a series of each segment."""
    metrics, chart = make("vtkMRMLTableNode", "DVH metrics"), make("vtkMRMLPlotChartNode", "DVH nominal")
    ids = segment_ids(segmentation)
    charts.fill_numbers(metrics, _slicer_rt_columns(items, dose.GetName()))
    metrics.SetNodeReferenceID("doseVolumeRef", dose.GetID())
    metrics.SetNodeReferenceID("segmentationRef", segmentation.GetID())
    series = []
    for row, item in enumerate(items):
        identifier = ids.get(item.name, item.name)
        table = make("vtkMRMLTableNode", f"{identifier}_DvhTable")
        at, share = uniform_curve(item)
        charts.fill_numbers(table, {"Dose": at.tolist(), "Volume": share.tolist()})
        facts = {"DVH": "1", "SegmentID": identifier, "TableRow": str(row), "DoseVolumeOversamplingFactor": "1",
                 "Volume (cc)": f"{item.metrics['volume'][0]:.6g}"}  # fmt: skip
        for key, value in facts.items():
            table.SetAttribute(PREFIX + key, value)
        references = {"doseVolumeRef": dose, "segmentationRef": segmentation, "dvhMetricsTableRef": metrics}
        for role, node in references.items():
            table.SetNodeReferenceID(role, node.GetID())
        series.append(charts.fill_series(make("vtkMRMLPlotSeriesNode", f"{item.name} DVH"), table, "Dose", "Volume", item.colour))
        chart.AddNodeReferenceID(PREFIX + "dvhPlotSeries", series[-1].GetID())
    return metrics, charts.fill_chart(chart, series, "Dose Volume Histogram", *AXES)


def uniform_curve(item: StructureCurves) -> tuple[np.ndarray, np.ndarray]:
    """The nominal curve at SlicerRT's doses: (0, 100 %), then 0.1 Gy, 0.3 Gy ... to the first dose that nothing gets."""
    top = item.metrics["max"][0]
    at = np.append(0.0, FIRST_GY + STEP_GY * np.arange(int(np.ceil(max(top - FIRST_GY, 0.0) / STEP_GY)) + 1))
    share = np.interp(at, item.dose_gy, item.volume, right=0.0)
    share[0] = 100.0
    return at, share


def segment_ids(segmentation: Any) -> dict[str, str]:
    """Name -> id of the segments."""
    content = segmentation.GetSegmentation()
    return {content.GetSegment(identifier).GetName(): identifier for identifier in content.GetSegmentIDs()}


def _slicer_rt_columns(items: Sequence[StructureCurves], dose_name: str) -> dict[str, list[Any]]:
    def numbers(name: str) -> list[float]:
        return [item.metrics[name][0] for item in items]

    return {
        "Show": [1.0] * len(items),
        "Structure": [item.name for item in items],
        "Volume name": [dose_name] * len(items),
        "Volume (cc)": numbers("volume"),
        "Mean dose (Gy)": numbers("mean"),
        "Min dose (Gy)": numbers("min"),
        "Max dose (Gy)": numbers("max"),
        "V20 (cc)": [item.metrics["V20"][0] * item.metrics["volume"][0] / 100.0 for item in items],
        "V20 (%)": numbers("V20"),
        "D95% (Gy)": numbers("D95"),
        "D2cc (Gy)": numbers("D2cc"),
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _cell(metric: tuple[float, str, float | None, float | None]) -> str:
    value, _, low, high = metric
    if not np.isfinite(value):
        return "-"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} \u2013 {high:.2f})"
