"""tumour-wm beside its contract: a growing disc with a known push, the data terms, the optimisers, the variants."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from regsuite.methods.api import Result
from regsuite.methods.tumour.wm import TumourWmConfig, register

from Testing.bench.tumour import figures


@cache
def disc(n: int) -> figures.Figure:
    return figures.growing_disc(n)


def ring_error(figure: figures.Figure, result: Result) -> float:
    """px, mean over the ring."""
    points = figure.patient.grid.world_points(torch.float64).reshape(-1, 3)
    moved = (result.transform.map_points(points) - points)[:, :2].T.reshape(figure.truth.shape)
    return float((moved - figure.truth).norm(dim=0)[figure.near].mean())


def run(figure: figures.Figure, **settings: Any) -> Result:
    return register(figure.patient, figure.template, TumourWmConfig(**settings), lesion_mask=figure.lesion)


def test_a_growing_disc_pushes_its_ring_outward_at_the_default() -> None:
    """6 -> 18 px in 240 x 240: the ring is 4.9 px off before; pure recolouring would leave it there."""
    figure = disc(240)
    before = float(figure.truth.norm(dim=0)[figure.near].mean())
    result = run(figure)
    assert before > 4.8
    assert ring_error(figure, result) < 1.0
    ssd = result.findings["ssd"]
    assert ssd["final"] < 0.4 * ssd["deformation"]  # the disc itself is matched
    assert result.findings["residual"]["energy_outside_lesion"] == 0.0
    assert float(result.images["deformation_jacobian"].data.min()) > 0.0


SMALL = {"levels": 2, "coarse_iterations": 15, "fine_iterations": 12, "finest_mm": 4.0, "steps": 6}


LNCC, ADADELTA = {"data_term": "lncc", "regularisation": 1e-4}, {"optimiser": "adadelta", "coarse_iterations": 60}


@pytest.mark.parametrize("settings", [LNCC, ADADELTA], ids=["lncc", "adadelta"])
def test_the_other_data_term_and_optimiser_register_too(settings: dict[str, Any]) -> None:
    figure = disc(240)
    before = float(figure.truth.norm(dim=0)[figure.near].mean())
    result = run(figure, **(SMALL | settings))
    assert ring_error(figure, result) < 0.8 * before
    assert float(result.images["deformation_jacobian"].data.min()) > 0.0


@pytest.mark.parametrize("variant", ["lddmm", "metamorphosis", "cost-function-masking"])
def test_no_variant_folds(variant: str) -> None:
    """A bright disc that the template lacks tempts LDDMM to fold; the search refuses."""
    result = run(disc(240), **SMALL, variant=variant)
    assert float(result.images["deformation_jacobian"].data.min()) > 0.0
    assert result.findings["ssd"]["final"] < 0.9 * result.findings["ssd"]["before"]
