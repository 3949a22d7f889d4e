"""The demo: phantom, registration and the comparison with the truth, in one folder."""

from __future__ import annotations

import json

import pytest
import torch
from regsuite.errors import InputError
from regsuite.io import read_transform
from regsuite.phantoms import make_phantom
from regsuite.pipeline import demo


def test_demo_compares_with_the_truth(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.DEMOS, "lung", ("thorax", "test-shift"))
    seen: list[float] = []
    report, truth, out = demo.run_demo(
        "lung", tmp_path / "demo", lambda fraction, stage, detail: seen.append(fraction), seed=2, size=(40, 32, 28)
    )
    assert sorted(path.name for path in out.iterdir()) == ["data", "result", "truth.json"]
    assert sorted(path.name for path in (out / "result").iterdir()) == ["moved.nrrd", "overview.png", "report.json", "transform.h5"]
    assert json.loads((out / "truth.json").read_text()) == truth
    phantom = make_phantom("thorax", 2, size=(40, 32, 28))
    points = phantom.fixed.grid.world_points(torch.float64)[phantom.fixed_mask.data[0] > 0]
    true = phantom.transform.map_points(points)
    transform = read_transform(out / "result" / "transform.h5")
    assert truth["voxels"] == len(points)
    assert truth["before_mm"]["mean"] == pytest.approx(float((points - true).norm(dim=1).mean()))
    assert truth["after_mm"]["mean"] == pytest.approx(float((transform.map_points(points) - true).norm(dim=1).mean()))
    assert report["metrics"]["after"]["landmarks_tre_mm"]["count"] == len(phantom.fixed_landmarks)
    assert set(report["metrics"]["after"]["dice"]) >= {"1", "2"}
    assert seen == sorted(seen)


def test_an_unknown_area_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="lung"):
        demo.run_demo("knee", tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
