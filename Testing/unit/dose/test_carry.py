"""Doses seen through transforms: exact cases, the closed form of the spread, fractions, streams."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from regsuite.dose.carry import Extended, Fraction, Spread, dose_on_grid, finer, sampled_maps, total_at_points
from regsuite.dose.metrics import RANKS
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, write_image, write_transform
from regsuite.ops.sampling import resample
from regsuite.ops.upsample import upsample
from regsuite.pipeline.dose import DoseRequest, run_dose
from regsuite.transforms import AffineTransform, DisplacementField, sample_transforms

from Testing.unit.dose import shapes


def fixed_grid() -> Grid:
    """Oblique, anisotropic, well inside the dose."""
    angle = np.deg2rad(-7.0)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array([-2.0, -1.9, 2.2])
    affine[:3, 3] = shapes.CENTRE - affine[:3, :3] @ np.array([13.5, 14.5, 12.5])
    return Grid((26, 30, 28), affine)


def expected_dose(points: torch.Tensor) -> torch.Tensor:
    return shapes.MIDDLE + (points - torch.from_numpy(shapes.CENTRE)) @ torch.from_numpy(shapes.SLOPE)


def test_a_linear_dose_under_an_affine_map_is_exact():
    grid, dose = fixed_grid(), finer(shapes.linear_dose())
    matrix = np.eye(4)
    matrix[:3, :3] += np.array([[0.02, 0.01, 0], [0, -0.03, 0.01], [0.015, 0, 0.01]])
    matrix[:3, 3] = (3.0, -2.0, 1.0)
    transform = AffineTransform(matrix)
    points = grid.world_points(torch.float64).view(-1, 3)
    expected = expected_dose(transform.map_points(points))
    assert (dose_on_grid(dose, grid, transform).view(-1).double() - expected).abs().max() < 8e-3  # mirrored border
    at_points = total_at_points([Fraction(dose, transform, 0.5), Fraction(dose, transform, 1.5)], [transform] * 2, points)
    assert (at_points.double() - 2.0 * expected).abs().max() < 2e-2


def test_beyond_the_dose_there_is_none():
    grid, dose = fixed_grid(), shapes.linear_dose()
    far = AffineTransform.translation([500.0, 0.0, 0.0])
    assert float(dose_on_grid(dose, grid, far).abs().max()) == 0.0


def test_upsampling_is_the_cubic_spline():
    rng = np.random.default_rng(3)
    image = Image(torch.from_numpy(rng.normal(size=(9, 7, 8)).astype(np.float32)), fixed_grid().cropped((0, 0, 0), (9, 7, 8)))
    fine = upsample(image, (2, 3, 1))
    assert fine.grid == image.grid.resized((9, 21, 16))
    reference = resample(image, fine.grid, None, "cubic")
    inner = (slice(None), slice(1, -1), slice(3, -3), slice(2, -2))
    assert (fine.data - reference.data)[inner].abs().max() < 1e-5


def test_constant_sigma_on_a_linear_dose_spreads_as_its_closed_form():
    grid, dose = fixed_grid(), finer(shapes.linear_dose())
    sigma_mm = torch.tensor([1.5, 1.0, 2.0])
    sigma = Image(sigma_mm.view(3, 1, 1, 1).expand(3, *grid.shape).clone(), grid)
    identity = AffineTransform.identity()
    fraction = Fraction(dose, identity, 1.0, sample_transforms(identity, sigma, 4.0, 120, seed=5))
    spread = Spread(grid.shape, 120, None)
    for (mapping,) in sampled_maps([fraction]):
        spread.add(dose_on_grid(dose, grid, mapping))
    found = spread.statistics()
    exact = float(np.linalg.norm(shapes.SLOPE * sigma_mm.numpy()))
    assert float(found["sigma"].square().mean().sqrt()) == pytest.approx(exact, rel=0.02)
    assert float((found["p95"] - found["p05"]).mean()) == pytest.approx(2 * 1.6449 * exact, rel=0.03)  # 120 ranks widen it a little
    mean = expected_dose(grid.world_points(torch.float64).view(-1, 3)).view(grid.shape)
    assert float((found["mean"] - mean).mean().abs()) < 0.05 * exact


def test_statistics_are_numpys_in_memory_and_on_disk(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    volumes = rng.gamma(2.0, 5.0, size=(21, 5, 4, 3)).astype(np.float32)
    volumes[:, 0] = 0.0
    results = []
    for limit in (10**9, 0):
        monkeypatch.setattr("regsuite.dose.carry.IN_MEMORY_BYTES", limit)
        spread = Spread((5, 4, 3), 21, tmp_path)
        for volume in volumes:
            spread.add(torch.from_numpy(volume))
        assert len(list(tmp_path.iterdir())) == (1 if limit == 0 else 0)
        results.append(spread.statistics())
        spread.close()
    assert list(tmp_path.iterdir()) == []
    for found in results:
        assert np.allclose(found["mean"], volumes.mean(0), rtol=1e-5)
        assert np.allclose(found["sigma"], volumes.std(0, ddof=1), rtol=1e-4, atol=1e-5)
        for name, percent in (("p05", 5), ("p50", 50), ("p95", 95)):
            assert np.allclose(found[name], np.percentile(volumes, percent, axis=0, method=RANKS), rtol=1e-5)


def test_samples_that_leave_the_dose_are_left_out():
    rng = np.random.default_rng(1)
    volumes = rng.gamma(2.0, 5.0, size=(15, 4, 3, 5)).astype(np.float32)
    volumes[rng.random(volumes.shape) < 0.3] = np.nan
    volumes[:, 0, 0, 0] = np.nan
    volumes[1:, 0, 0, 1] = np.nan
    volumes[0, 0, 0, 1] = 7.0
    spread = Spread((4, 3, 5), 15, None)
    for volume in volumes:
        spread.add(torch.from_numpy(volume))
    found = spread.statistics()
    assert all(float(found[name][0, 0, 0]) == 0.0 for name in found), "nothing known"
    assert (float(found["mean"][0, 0, 1]), float(found["sigma"][0, 0, 1])) == (7.0, 0.0)
    for at in np.ndindex(4, 3, 5):
        values = volumes[(slice(None), *at)]
        values = values[~np.isnan(values)]
        if len(values) > 1:
            assert float(found["mean"][at]) == pytest.approx(values.mean(), rel=1e-5)
            assert float(found["sigma"][at]) == pytest.approx(values.std(ddof=1), rel=1e-4)
            assert float(found["p95"][at]) == pytest.approx(np.percentile(values, 95, method=RANKS), rel=1e-5)


def test_the_border_of_a_dose_is_no_spread(tmp_path):
    """A constant dose that ends inside the fixed image: no doubt of the transform changes it."""
    request = job(tmp_path, sigma=str(tmp_path / "sigma.nrrd"), correlation_mm=10.0, structures=())
    small = shapes.linear_dose()
    part = small.grid.cropped((4, 4, 4), tuple(max(4, n // 2) for n in small.grid.shape))
    write_image(Image(torch.full((1, *part.shape), 20.0), part), tmp_path / "dose.nrrd")
    out = run_dose(request)
    nominal, sigma, mean = (read_image(out / f"dose_{name}.nrrd").data[0] for name in ("nominal", "sigma", "mean"))
    known = nominal > 0
    assert 0.02 < float(known.double().mean()) < 0.98, "the dose ends inside"
    assert float(sigma.max()) < 1e-3
    assert torch.equal(mean > 0, known) and float((mean - nominal).abs().max()) < 1e-3


def test_beyond_sigma_the_mean_transform_goes_on():
    grid = fixed_grid()
    field = DisplacementField(torch.ones(3, *grid.shape), grid)
    shift = AffineTransform.translation([4.0, 0.0, 0.0])
    both = torch.from_numpy(np.stack([shapes.CENTRE, shapes.CENTRE + 500.0]))
    moved = Extended(field, shift).map_points(both) - both
    assert torch.allclose(moved, torch.tensor([[1.0, 1.0, 1.0], [4.0, 0.0, 0.0]], dtype=torch.float64))


def job(tmp_path, **more) -> DoseRequest:
    """Files of a small job; the structure is the sphere."""
    grid = fixed_grid()
    dose = shapes.linear_dose()
    write_image(dose.with_data(dose.data.clamp(min=0.0)), tmp_path / "dose.nrrd")  # positive all over the sphere
    write_image(Image(torch.zeros(grid.shape), grid), tmp_path / "fixed.nrrd")
    write_transform(AffineTransform.translation([1.0, 2.0, -1.0]), tmp_path / "t.tfm")
    write_image(Image(torch.full((3, *grid.shape), 1.0), grid), tmp_path / "sigma.nrrd")
    write_image(shapes.sphere_labels(1.0), tmp_path / "ball.nrrd")
    settings = {"dose_unit": "Gy", "samples": 12, "structures": (f"Ball={tmp_path / 'ball.nrrd'}",), **more}
    names = {name: str(tmp_path / file) for name, file in (("dose", "dose.nrrd"), ("transform", "t.tfm"), ("like", "fixed.nrrd"))}
    return DoseRequest(**names, out=str(tmp_path / "out"), **settings)


def metrics(folder) -> dict[str, dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as stream:
        return {row["metric"]: row for row in csv.DictReader(stream)}


def test_nominal_only(tmp_path):
    out = run_dose(job(tmp_path))
    names = {"dose_nominal.nrrd", "dvh.csv", "dvh_differential.csv", "metrics.csv", "dvh.png", "report.json"}
    assert {p.name for p in out.iterdir()} == names
    shift = float(np.dot(shapes.SLOPE, (1.0, 2.0, -1.0)))
    row = metrics(out)["mean"]
    assert float(row["value"]) == pytest.approx(shapes.MIDDLE + shift, abs=0.02)
    assert (row["p05"], row["p95"]) == ("", "")


def test_with_sigma_contours_and_fractions(tmp_path):
    (tmp_path / "more.csv").write_text("dose,transform,sigma,weight\ndose.nrrd,t.tfm,sigma.nrrd,3\n")
    ball = f"Carried ball={tmp_path / 'ball.nrrd'}"
    common = {"sigma": str(tmp_path / "sigma.nrrd"), "correlation_mm": 10.0, "fractions": str(tmp_path / "more.csv")}
    widths = {}
    for errors in ("shared", "independent"):
        out = run_dose(job(tmp_path, contours=(ball,), errors=errors, **common))
        names = {
            "dose_mean.nrrd",
            "dose_sigma.nrrd",
            "dose_p05.nrrd",
            "dose_p50.nrrd",
            "dose_p95.nrrd",
            "probability_Carried_ball.nrrd",
        }
        assert names <= {p.name for p in out.iterdir()}
        shift = float(np.dot(shapes.SLOPE, (1.0, 2.0, -1.0)))
        row = metrics(out)["mean"]
        assert float(row["value"]) == pytest.approx(4.0 * (shapes.MIDDLE + shift), rel=1e-3)
        assert float(row["p05"]) < float(row["p95"])
        widths[errors] = float(read_image(out / "dose_sigma.nrrd").data.square().mean().sqrt())
        probability = read_image(out / "probability_Carried_ball.nrrd")
        assert float(probability.data.min()) >= 0.0 and float(probability.data.max()) == pytest.approx(1.0)
        volume = float(probability.data.double().sum()) * probability.grid.voxel_volume
        assert volume == pytest.approx(4 / 3 * np.pi * shapes.RADIUS**3, rel=0.03)
    one = float(np.linalg.norm(shapes.SLOPE))  # per Gy of weight; weights 1 and 3
    assert widths["shared"] == pytest.approx(4.0 * one, rel=0.15)
    assert widths["independent"] == pytest.approx(np.sqrt(10.0) * one, rel=0.15)
