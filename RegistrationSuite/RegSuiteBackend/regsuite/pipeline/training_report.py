"""What a training shows of itself: validation with the metrics of `evaluate`, a picture, rows of CSV, TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from regsuite.geometry import Image
from regsuite.nets.fields import sample
from regsuite.nets.pair import Pair, world_mm
from regsuite.pipeline.evaluate import Region, field_statistics, truth_metrics
from regsuite.pipeline.inputs import Truth
from regsuite.solvers.training import Task
from regsuite.transforms import DisplacementField

_LANDMARKS = 300
_FIGURES = ("tre_before_mm", "tre_mm", "dice_before", "dice", "folding_percent")


def validate(task: Task, model: nn.Module, pairs: Sequence[Pair], device: torch.device) -> dict[str, float]:
    """Means over the pairs: the task's own figures, or landmark error where truth is known, Dice of labels, folding."""
    model.eval()
    rows: list[dict[str, float]] = []
    for pair in pairs:
        with torch.no_grad():
            own = task.measure(model, pair.to(device))
            rows.append(own if own is not None else _measure(pair, task.displacement(model, pair.to(device)).cpu()))
    names = [*_FIGURES, *(name for name in rows[0] if name not in _FIGURES)]
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names if any(name in r for r in rows)}


def _measure(pair: Pair, u: torch.Tensor) -> dict[str, float]:
    transform = DisplacementField(world_mm(u, pair.grid), pair.grid)
    still = DisplacementField(torch.zeros_like(transform.field), pair.grid)
    inside = pair.fixed_mask[0, 0] > 0.5 if pair.fixed_mask is not None else pair.fixed[0, 0] > 0.05
    region = Region(inside if bool(inside.any()) else torch.ones_like(inside), "mask")
    row = {"folding_percent": float(field_statistics(transform, pair.grid, None, region)["folding_percent"])}
    truth = _truth(pair, region.inside)
    for name, measured in (("", truth_metrics(transform, truth)), ("_before", truth_metrics(still, truth))):
        if "landmarks_tre_mm" in measured:
            row[f"tre{name}_mm"] = measured["landmarks_tre_mm"]["mean"]
        if "dice_mean" in measured:
            row[f"dice{name}"] = measured["dice_mean"]
    return row


def _truth(pair: Pair, inside: torch.Tensor) -> Truth:
    fixed = moving = None
    if pair.truth is not None:
        index = inside.nonzero()
        index = index[:: max(1, len(index) // _LANDMARKS)]
        fixed = pair.grid.index_to_world(index.flip(1).double())
        k, j, i = index.T
        moving = fixed + world_mm(pair.truth, pair.grid)[:, k, j, i].T.double()
    elif pair.points is not None and pair.moves is not None:
        fixed, moving = (pair.grid.index_to_world(points.double()) for points in (pair.points, pair.points + pair.moves))
    labels = [None if data is None else Image(data, pair.grid) for data in (pair.fixed_labels, pair.moving_labels)]
    return Truth(fixed, moving, labels[0] if labels[1] is not None else None, labels[1] if labels[0] is not None else None)


def preview(task: Task, model: nn.Module, pair: Pair, device: torch.device, path: Path, title: str) -> None:
    """Coronal planes: fixed, moving, moved, and the differences before and after on one scale; or what a network foretells, beside
    what it should (in 10 mm)."""
    model.eval()
    with torch.no_grad():
        told = task.displacement(model, pair.to(device)).cpu()
    middle = pair.grid.shape[1] // 2
    if pair.sigma is not None:
        both = [0.1 * sigma.norm(dim=1, keepdim=True) for sigma in (pair.sigma, told)]
        planes = {"fixed": pair.fixed, "moved": pair.moving, "sigma": both[0], "foretold": both[1]}
        planes["foretold - sigma"] = both[1] - both[0]
    else:
        moved = sample(pair.moving, told)
        planes = {
            "fixed": pair.fixed,
            "moving": pair.moving,
            "moved": moved,
            "fixed - moving": pair.fixed - pair.moving,
            "fixed - moved": pair.fixed - moved,
        }
    figure = Figure(figsize=(2.6 * len(planes), 3.0), dpi=100, facecolor="#15171a")
    FigureCanvasAgg(figure)
    stretch = float(pair.grid.spacing[2] / pair.grid.spacing[0])
    for axes, (name, image) in zip(figure.subplots(1, len(planes)), planes.items(), strict=True):
        difference = "-" in name
        limits = {"cmap": "RdBu_r", "vmin": -0.6, "vmax": 0.6} if difference else {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
        axes.imshow(image[0, 0, :, middle].numpy(), origin="lower", aspect=stretch, interpolation="nearest", **limits)
        axes.set_title(name, color="white", fontsize=9)
        axes.axis("off")
    figure.suptitle(title, color="white", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None}, facecolor=figure.get_facecolor())


class Rows:
    """A CSV file that grows by rows keyed by their step, and can go back to an earlier one."""

    def __init__(self, path: Path, before: int) -> None:
        self.path = path
        rows: list[dict[str, str]] = []
        if before and path.is_file():
            with path.open(encoding="utf-8", newline="") as stream:
                complete = [r for r in csv.DictReader(stream) if None not in r.values() and r.get("step", "").isdigit()]
            rows = [row for row in complete if int(row["step"]) < before]
        self._names: list[str] = list(rows[0]) if rows else []
        with path.open("w", encoding="utf-8", newline="") as stream:
            if rows:
                self._writer(stream).writeheader()
                self._writer(stream).writerows(rows)

    def _writer(self, stream: Any) -> csv.DictWriter:
        return csv.DictWriter(stream, self._names, restval="", extrasaction="ignore", lineterminator="\n")

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Floats keep every digit."""
        row = {"step": step, **{name: repr(float(value)) for name, value in values.items()}}
        first = not self._names
        self._names = self._names or list(row)
        with self.path.open("a", encoding="utf-8", newline="") as stream:
            if first:
                self._writer(stream).writeheader()
            self._writer(stream).writerow(row)


class Board:
    """TensorBoard where it is installed, else nothing."""

    def __init__(self, folder: Path, before: int) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder), purge_step=before)

    @property
    def there(self) -> bool:
        """Is tensorboard installed?"""
        return self._writer is not None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point on the curve of each value."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()
