"""Pictures and phantoms with known motion: Dice and error of the field by deformation alone, by variant."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from regsuite import metrics, phantoms
from regsuite.geometry import Image
from regsuite.geometry.grid import Grid
from regsuite.methods.api import Result
from regsuite.methods.tumour import wm

from Testing.bench.tumour import figures

Task = tuple[str, Callable[[], dict[str, Any]]]
VENTRICLES = 3
FREER = "metamorphosis+rho=500"
"""Classic metamorphosis where added intensity costs ten times the Default: the paper's table gives each method its own settings."""


def register(fixed: Image, moving: Image, lesion: Image, settings: dict[str, Any]) -> tuple[Result, dict[str, Any]]:
    """One run at the Default with `settings` changed: its result, and what every case reports."""
    begin = time.process_time()
    result = wm.register(fixed, moving, wm.TumourWmConfig(**settings), lesion_mask=lesion)
    jacobian = metrics.jacobian_statistics(result.images["deformation_jacobian"].data[0])
    return result, {
        "cpu_s": time.process_time() - begin,
        "jacobian_min": jacobian["min"],
        "folding_percent": jacobian["folding_percent"],
        "ssd": result.findings["ssd"],
        "residual": result.findings["residual"],
        "status": str(result.status),
    }


def triangle(seed: int, settings: dict[str, Any], n: int = 300) -> dict[str, Any]:
    """The paper's toy figure. dice: of the four inner ovals, which the triangle pushes; all: of the border's ovals too.

    The pictures lie on each other as drawn, as the paper's do: no linear start.
    """
    figure = figures.growing_triangle(seed, n)
    result, row = register(figure.patient, figure.template, figure.lesion, {"linear": "header"} | settings)
    return row | _ovals(figure, result)


def disc(settings: dict[str, Any]) -> dict[str, Any]:
    """The growing disc: mean error of the field in the ring, px."""
    figure = figures.growing_disc()
    result, row = register(figure.patient, figure.template, figure.lesion, settings)
    points = figure.patient.grid.world_points(torch.float64)
    moved = result.transform.map_points(points.reshape(-1, 3)).reshape(points.shape)
    u = (moved - points)[0, ..., :2].movedim(-1, 0)
    error = (u - figure.truth).norm(dim=0)[figure.near]
    return row | {"error_px": float(error.mean()), "before_px": float(figure.truth.norm(dim=0)[figure.near].mean())}


def brain(seed: int, settings: dict[str, Any], size: tuple[int, int, int] = (112, 136, 1)) -> dict[str, Any]:
    """The phantom brain-tumour, an axial slice through the tumour: Dice of the ventricles and of all labels."""
    phantom = phantoms.make_phantom("brain-tumour", seed, size=size)
    assert phantom.lesion_mask is not None
    result, row = register(phantom.fixed, phantom.moving, phantom.lesion_mask, settings)
    scores = metrics.dice_resampled(phantom.fixed_labels, phantom.moving_labels, result.transform)
    return row | {"dice": scores[VENTRICLES], "mean_dice": float(np.mean(list(scores.values())))}


def _ovals(figure: figures.Figure, result: Result) -> dict[str, Any]:
    grid: Grid = figure.patient.grid
    patient, template = (Image(labels[None, None], grid) for labels in (figure.patient_labels, figure.template_labels))
    scores = metrics.dice_resampled(patient, template, result.transform)
    return {"dice": float(np.mean([scores[n] for n in range(1, 5)])), "all": float(np.mean(list(scores.values())))}


def settings_of(variant: str) -> dict[str, Any]:
    """ "metamorphosis+rho=500" -> the settings of the method."""
    name, *changed = variant.split("+")
    return {"variant": name} | {key: float(value) for key, value in (item.split("=") for item in changed)}


def tasks(seeds: Sequence[int], variants: Sequence[str]) -> Iterator[Task]:
    """Every case by every variant, seed by seed; the toy figure, which is dearer, for every other seed."""
    for variant in variants:
        yield f"disc-{variant}", lambda v=variant: disc({"variant": v})  # type: ignore[misc]
        yield f"drawn-disc-{variant}", lambda v=variant: disc({"variant": v, "linear": "header"})  # type: ignore[misc]
    for seed in seeds:
        for variant in (*variants, FREER):
            yield f"phantom-{seed:02d}-{variant}", lambda s=seed, v=variant: brain(s, settings_of(v))  # type: ignore[misc]
    for seed in seeds[::2]:
        for variant in (*variants, FREER):
            yield f"toy-{seed:02d}-{variant}", lambda s=seed, v=variant: triangle(s, settings_of(v))  # type: ignore[misc]
