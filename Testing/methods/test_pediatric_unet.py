"""pediatric-unet leaves the linear start to its network where the network's answers there and back agree, and only there."""

from __future__ import annotations

import pytest
import torch
from regsuite.methods import registry
from regsuite.methods.api import Result
from regsuite.phantoms.base import Phantom
from regsuite.solvers import foretell
from regsuite.transforms import AffineTransform


def run(pair: Phantom, linear: str, initial: AffineTransform | None = None) -> Result:
    config = registry.config_for("pediatric-unet", "Preview", {"finest_mm": 8.0, "linear": linear})
    return registry.get("pediatric-unet").load().register(pair.fixed, pair.moving, config, initial=initial, device="cpu")


@pytest.mark.parametrize(("missed_mm", "as_if"), [(0.5, "none"), (9.0, "affine")])
def test_the_network_starts_only_where_it_agrees_with_itself(
    child: Phantom, monkeypatch: pytest.MonkeyPatch, missed_mm: float, as_if: str
) -> None:
    monkeypatch.setattr(foretell, "disagreement_mm", lambda *given: missed_mm)
    points = child.fixed_landmarks
    found, expected = (run(child, linear).transform.map_points(points) for linear in ("network", as_if))
    assert torch.allclose(found, expected, atol=0.01)  # mm; two answers in one batch are rounded in another way than one alone


def test_a_given_start_is_kept(child: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foretell, "disagreement_mm", lambda *given: 9.0)
    given = AffineTransform.identity()
    points = child.fixed_landmarks
    found, expected = (run(child, linear, given).transform.map_points(points) for linear in ("network", "none"))
    assert torch.equal(found, expected)
