"""A sphere in a linear dose, through every kind of file, against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.dose.dvh import histogram, structure_histogram
from regsuite.dose.metrics import cumulative, differential, parse_metric
from regsuite.dose.structures import load_structures
from regsuite.geometry import Grid, Image
from regsuite.io import write_image

from Testing.unit.dose import shapes
from Testing.unit.dose.rt_files import structure_set

VOLUME = 4 / 3 * np.pi * shapes.RADIUS**3 / 1000
LPS = np.array([-1.0, -1.0, 1.0])


def sources(tmp_path):
    points, faces = shapes.sphere_mesh()
    write_image(shapes.sphere_labels(0.5), tmp_path / "mask.nrrd")
    return {
        "mesh": str(shapes.write_stl(tmp_path / "mesh.stl", points * LPS, faces)),
        "contours": str(structure_set(tmp_path / "rs.dcm", {"Ball": shapes.sphere_contours(0.5)})),
        "mask": str(tmp_path / "mask.nrrd"),
    }


def test_sphere_in_a_linear_dose(tmp_path):
    dose = shapes.linear_dose()
    doses = np.linspace(shapes.MIDDLE - 18, shapes.MIDDLE + 18, 73)
    for kind, path in sources(tmp_path).items():
        ends = "slab" if kind == "contours" else "taper"
        (ball,) = load_structures([f"Ball={path}"], 2.5, ends=ends)
        found = structure_histogram(dose, ball.occupancy)
        assert found.total_cc == pytest.approx(VOLUME, rel=1e-3), kind
        assert found.mean_gy == pytest.approx(shapes.MIDDLE, rel=1e-3), kind
        share = found.volume_at(doses) / found.total_cc
        assert np.abs(share - shapes.sphere_share(doses)).max() < 1e-3, kind
        for percent in (2, 50, 95, 98):
            exact = np.interp(-percent / 100, -shapes.sphere_share(np.linspace(20, 60, 40001)), np.linspace(20, 60, 40001))
            assert found.dose_at(percent / 100 * found.total_cc) == pytest.approx(exact, rel=1e-3), (kind, percent)


def test_a_coarse_hard_mask_is_sampled_inside_its_voxels():
    """4 mm voxels in a steep dose: voxel centres alone would give a staircase of a few steps."""
    mask = shapes.sphere_labels(4.0)
    found = structure_histogram(shapes.linear_dose(), mask)
    doses = np.linspace(30, 50, 41)
    away = mask.grid.world_points(torch.float64) - torch.from_numpy(shapes.CENTRE)
    voxels = shapes.MIDDLE + away @ torch.from_numpy(shapes.SLOPE)
    inside = mask.data[0] > 0
    # the exact histogram of these boxes: each voxel cut into 8^3
    offsets = (torch.arange(8, dtype=torch.float64) - 3.5) / 8 * 4.0
    spread = sum(s * o for s, o in zip(shapes.SLOPE, torch.meshgrid(offsets, offsets, offsets, indexing="ij"), strict=True))
    fine = (voxels[inside][:, None] + spread.reshape(1, -1)).reshape(-1)
    exact = np.array([float((fine >= d).double().mean()) for d in doses])
    assert np.abs(found.volume_at(doses) / found.total_cc - exact).max() < 2e-3


def test_metrics_by_name():
    values = torch.linspace(0, 10, 100001, dtype=torch.float64)
    ramp = histogram(values, torch.full_like(values, 1000.0 * 50 / len(values)))  # 50 cc from 0 to 10 Gy
    expected = {"D95": 0.5, "D2%": 9.8, "D2cc": 9.6, "D100": 0.0, "V4": 60.0, "V4Gy": 60.0, "V4cc": 30.0, "mean": 5.0}
    for name, value in expected.items():
        assert parse_metric(name).of(ramp) == pytest.approx(value, abs=2e-3), name
    assert np.isnan(parse_metric("D51cc").of(ramp))
    assert parse_metric("V11").of(ramp) == 0.0
    assert (parse_metric("d0.5CC").name, parse_metric("v20gy").name) == ("D0.5cc", "V20")


def test_curves_start_at_all_and_end_at_none():
    values = torch.linspace(3, 10, 10001, dtype=torch.float64)
    ramp = histogram(values, torch.ones_like(values))
    hotter = histogram(values + 1.0, torch.ones_like(values))
    curve = cumulative(ramp, [ramp, hotter])
    assert (curve.dose_gy[0], curve.value[0]) == (0.0, pytest.approx(100.0))
    assert curve.value[-1] == pytest.approx(0.0, abs=0.02)
    assert (np.diff(curve.value) <= 1e-9).all()
    assert (curve.p95 >= curve.p05).all()
    assert curve.p05 == pytest.approx(curve.value, abs=1.0)  # 5 % of the way from ramp to hotter
    bars = differential(ramp)
    assert np.trapezoid(bars.value, bars.dose_gy) == pytest.approx(100.0, rel=0.02)
    assert bars.value[50] == pytest.approx(100.0 / 7.0, rel=0.01)


def test_two_values_a_constant_dose_and_nothing_else():
    grid = Grid((6, 5, 4), np.diag([2.0, 2.5, 3.0, 1.0]))
    dose = Image(torch.full((6, 5, 4), 12.5), grid)
    found = structure_histogram(dose, Image(torch.ones(6, 5, 4), grid))
    assert found.total_cc == pytest.approx(120 * 15 / 1000)
    assert (found.mean_gy, found.dose_at(0.9)) == (pytest.approx(12.5), pytest.approx(12.5, abs=1e-6))
