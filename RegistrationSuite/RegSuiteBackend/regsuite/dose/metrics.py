"""Numbers of a DVH by their usual names: D95, D2cc, V20, V20cc, mean ..."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from regsuite.dose.dvh import Histogram
from regsuite.errors import InputError

DEFAULT = ("volume", "min", "mean", "max", "D95", "D98", "D50", "D2", "D2cc", *(f"V{n}" for n in range(5, 65, 5)))
RANKS: Final = "weibull"
"""Percentiles of n samples at the ranks p (n + 1): then a new draw lies between the 5th and 95th with a probability of 90 %. The
usual ranks p (n - 1) + 1 would give 86 % for 50 samples."""
_FORM = re.compile(r"^(?P<kind>[DV])(?P<value>\d+(\.\d+)?)(?P<unit>%|cc|Gy|Gycc)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Metric:
    """name as written in tables, unit of the value, and how it is taken from a histogram (NaN: not defined)."""

    name: str
    unit: str
    of: Callable[[Histogram], float]


@dataclass(frozen=True)
class Value:
    """One cell of the table; p05 and p95 are None without samples."""

    metric: str
    value: float
    unit: str
    p05: float | None = None
    p95: float | None = None


def parse_metric(text: str) -> Metric:
    """D95 or D95% (Gy that 95 % of the volume get), D2cc (Gy that the hottest 2 cm^3 get), V20 or V20Gy (% that gets 20 Gy), V20cc
    (the same in cm^3), volume, min, mean, max. Raises InputError on anything else."""
    plain = {
        "volume": Metric("volume", "cc", lambda h: h.total_cc),
        "min": Metric("min", "Gy", lambda h: float(h.edges_gy[0])),
        "mean": Metric("mean", "Gy", lambda h: h.mean_gy),
        "max": Metric("max", "Gy", lambda h: float(h.edges_gy[-1])),
    }
    if text.lower() in plain:
        return plain[text.lower()]
    match = _FORM.match(text.strip())
    unit = (match["unit"] or "").lower() if match else ""
    kind = match["kind"].upper() if match else ""
    allowed = {"D": ("", "%", "cc"), "V": ("", "gy", "cc", "gycc")}
    if match is None or unit not in allowed[kind]:
        raise InputError(f"Unknown dose metric '{text}'; expected volume, min, mean, max, D95, D2cc, V20 or V20cc.")
    value = float(match["value"])
    number = f"{value:g}"
    if kind == "D" and unit == "cc":
        return Metric(f"D{number}cc", "Gy", lambda h: h.dose_at(value))
    if kind == "D":
        if value > 100:
            raise InputError(f"Unknown dose metric '{text}': a share of the volume lies between 0 and 100 %.")
        return Metric(f"D{number}", "Gy", lambda h: h.dose_at(value / 100.0 * h.total_cc))
    if unit in ("cc", "gycc"):
        return Metric(f"V{number}cc", "cc", lambda h: float(h.volume_at(value)))
    return Metric(f"V{number}", "%", lambda h: 100.0 * float(h.volume_at(value)) / h.total_cc)


def parse_metrics(names: Sequence[str] | None) -> tuple[Metric, ...]:
    """The default table and the user's own names, each once."""
    found = {m.name: m for m in map(parse_metric, (*DEFAULT, *(names or ())))}
    return tuple(found.values())


def table(metrics: Sequence[Metric], nominal: Histogram, samples: Sequence[Histogram] = ()) -> list[Value]:
    """The row of values of one structure; with samples also their 5th and 95th percentiles."""
    out = []
    for metric in metrics:
        values = [metric.of(h) for h in samples]
        defined = metric.name != "volume" and len(values) > 0 and bool(np.isfinite(values).all())  # the volume stays
        low, high = (float(p) for p in np.percentile(values, (5, 95), method=RANKS)) if defined else (None, None)
        out.append(Value(metric.name, metric.of(nominal), metric.unit, low, high))
    return out


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve over dose: volume (%) or volume per Gy (%/Gy), nominal and the band of the samples (None without)."""

    dose_gy: np.ndarray
    value: np.ndarray
    p05: np.ndarray | None = None
    p95: np.ndarray | None = None


def cumulative(nominal: Histogram, samples: Sequence[Histogram] = (), steps: int = 200) -> Curve:
    """% of the volume that gets at least a dose. The doses stand where the curve bends: even steps of dose and of volume
    together.
    """
    top = max(h.edges_gy[-1] for h in (nominal, *samples))
    shares = np.linspace(0.0, 1.0, steps + 1)
    doses = [*np.linspace(0.0, top, steps + 1), *nominal.doses_at(shares * nominal.total_cc)]
    marks = np.array([0.02, 0.05, 0.5, 0.95, 0.98])
    doses += [dose for h in samples for dose in h.doses_at(marks * h.total_cc)]
    at = np.unique(np.round(doses, 4))
    percent = [100.0 * h.volume_at(at) / h.total_cc for h in (nominal, *samples)]
    return _curve(at, percent)


def differential(nominal: Histogram, samples: Sequence[Histogram] = (), bins: int = 100) -> Curve:
    """% of the volume per Gy, in equal bins over what the structure gets; at the bins' middles."""
    low = min(h.edges_gy[0] for h in (nominal, *samples))
    top = max(h.edges_gy[-1] for h in (nominal, *samples))
    edges = np.linspace(low, max(top, low + 1e-3), bins + 1)
    percent = [-np.diff(100.0 * h.volume_at(edges) / h.total_cc) / np.diff(edges) for h in (nominal, *samples)]
    return _curve(0.5 * (edges[1:] + edges[:-1]), percent)


def _curve(doses: np.ndarray, values: list[np.ndarray]) -> Curve:
    if len(values) == 1:
        return Curve(doses, values[0])
    low, high = np.percentile(np.stack(values[1:]), (5, 95), axis=0, method=RANKS)
    return Curve(doses, values[0], low, high)
