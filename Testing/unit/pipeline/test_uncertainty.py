"""`regsuite uncertainty` from files to a folder: what is written, what it says, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from regsuite import cli
from regsuite.errors import Cancelled, InputError
from regsuite.geometry import Image
from regsuite.io import read_image, read_transform, write_landmarks, write_transform
from regsuite.metrics.calibration import correlation
from regsuite.phantoms import make_phantom
from regsuite.phantoms.base import Phantom
from regsuite.pipeline.phantom import write_phantom
from regsuite.pipeline.uncertainty import UncertaintyRequest, estimate_uncertainty, read_sigma, run_uncertainty
from regsuite.transforms import AffineTransform, DisplacementField, compose

from Testing.unit.lattices import smooth_field


def wrong_by(phantom: Phantom) -> DisplacementField:
    """The true map with a smooth error that grows from 0 in the upper half to 12 mm in the lower."""
    grid = phantom.fixed.grid
    error = smooth_field(grid, 12.0, seed=1, sigma=6.0).float()
    error[:, grid.shape[0] // 2 :] *= 0.05
    return DisplacementField(phantom.transform.displacement(grid) + error, grid)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Phantom, UncertaintyRequest, Path]:
    """A small oblique chest with fixed and moving on different grids, a transform that is partly wrong, and the finished job."""
    phantom = make_phantom("thorax", seed=5, size=(60, 46, 50), oblique=True)
    data = tmp_path_factory.mktemp("uncertainty")
    write_phantom(phantom, data)
    write_transform(wrong_by(phantom), data / "given.h5")
    landmarks = {f"{side}_landmarks": str(data / f"{side}_landmarks.mrk.json") for side in ("fixed", "moving")}
    request = UncertaintyRequest(
        str(data / "fixed.nrrd"), str(data / "moving.nrrd"), str(data / "given.h5"), str(data / "out"), samples=4,
        write_samples=True, recalibrate=True, preset="Preview", **landmarks,
    )  # fmt: skip
    return phantom, request, run_uncertainty(request)


def test_the_promised_files_hold_what_they_should(made) -> None:
    phantom, _, out = made
    names = ["overview.png", "report.json", *(f"sample_{n}.h5" for n in range(1, 5)), "sigma.nrrd", "sigma_magnitude.nrrd"]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    sigma, correlation_mm = read_sigma(out / "sigma.nrrd")
    assert sigma.grid == phantom.fixed.grid
    assert sigma.channels == 3
    assert correlation_mm == 15.0
    assert 0.04 < float(sigma.data.min()) < float(sigma.data.max()) < 61.0
    magnitude = read_image(out / "sigma_magnitude.nrrd")
    torch.testing.assert_close(magnitude.data, sigma.data.norm(dim=0, keepdim=True), atol=1e-4, rtol=1e-4)
    picture = imread(out / "overview.png")
    assert picture.shape[1] > 1200
    assert picture[..., :3].std() > 0.1


def test_sigma_is_large_where_the_transform_is_wrong(made) -> None:
    phantom, _request, out = made
    sigma, _ = read_sigma(out / "sigma.nrrd")
    inside = phantom.fixed_mask.data[0] > 0
    true = phantom.transform.displacement(phantom.fixed.grid)
    errors = (wrong_by(phantom).field - true)[:, inside].T
    assert correlation(errors, sigma.data[:, inside].T) > 0.5
    z = torch.arange(phantom.fixed.grid.shape[0]).view(-1, 1, 1).expand(inside.shape)[inside]
    half = phantom.fixed.grid.shape[0] // 2
    lengths = sigma.data[:, inside].norm(dim=0)
    assert float(lengths[z < half].mean()) > 1.5 * float(lengths[z >= half].mean())


def test_the_report_measures_and_stores_the_recalibration(made) -> None:
    phantom, _request, out = made
    report = json.loads((out / "report.json").read_text())
    found = report["calibration"]
    assert found["applied"] is True
    assert found["recalibrated"]["count"] <= len(phantom.fixed_landmarks)
    assert found["recalibrated"]["scale"] == pytest.approx(1.0, abs=1e-6)
    assert found["recalibrated"]["expected_rms_mm"] == pytest.approx(
        found["scale"] * found["as_stored"]["expected_rms_mm"], rel=1e-5
    )
    assert report["folding_of_samples"]["samples"] == 4
    assert 0 <= report["folding_of_samples"]["folding_percent_mean"] < 20
    assert report["files"]["transform"] == "given.h5"
    plain = estimate_uncertainty(phantom.fixed, phantom.moving, wrong_by(phantom), preset="Preview")
    assert plain.calibration is None
    stored = read_sigma(out / "sigma.nrrd")[0].data
    torch.testing.assert_close(stored, found["scale"] * plain.sigma.data, rtol=5e-3, atol=5e-3)


def test_samples_scatter_around_the_transform_by_sigma(made) -> None:
    phantom, request, out = made
    sigma, _ = read_sigma(out / "sigma.nrrd")
    given = read_transform(request.transform).displacement(phantom.fixed.grid)
    z = torch.stack(
        [(read_transform(out / f"sample_{n}.h5").displacement(phantom.fixed.grid) - given) / sigma.data for n in range(1, 5)]
    )
    inner = z[..., 5:-5, 5:-5, 5:-5]
    assert float(inner.square().mean().sqrt()) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"samples": 10_001}, "samples"),
        ({"transform": "nowhere.h5"}, "nowhere.h5"),
        ({"preset": "Fast"}, "Fast"),
        ({"method": "uncertainty-net", "settings": {"weights": "nowhere.safetensors"}}, "nowhere.safetensors"),
        ({"settings": {"corelation_mm": "3"}}, "corelation_mm"),
        ({"moving_landmarks": None}, "without the moving landmarks"),
        ({"device": "cuda:9"}, "cuda:9"),
    ],
)
def test_unusable_requests_are_one_sentence_and_leave_nothing(made, tmp_path, change, words) -> None:
    with pytest.raises(InputError, match=words):
        run_uncertainty(replace(made[1], out=str(tmp_path / "new"), **change))
    assert not list(tmp_path.iterdir())


def test_a_transform_of_other_images_is_refused(made, tmp_path) -> None:
    far = compose(AffineTransform.translation([900.0, 0.0, 0.0]), AffineTransform(np.eye(4)))
    write_transform(far, tmp_path / "far.h5")
    with pytest.raises(InputError, match="do not overlap"):
        run_uncertainty(replace(made[1], transform=str(tmp_path / "far.h5"), out=str(tmp_path / "new")))
    few = made[0].fixed_landmarks[:4]
    write_landmarks(few, tmp_path / "few.mrk.json")
    files = {"fixed_landmarks": str(tmp_path / "few.mrk.json"), "moving_landmarks": str(tmp_path / "few.mrk.json")}
    with pytest.raises(InputError, match="at least 10 landmarks"):
        run_uncertainty(replace(made[1], out=str(tmp_path / "new"), **files))


def test_cancelling_leaves_nothing(made, tmp_path) -> None:
    with pytest.raises(Cancelled):
        run_uncertainty(replace(made[1], out=str(tmp_path / "new")), lambda fraction, stage, detail: fraction < 0.3)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_what_matters_and_needs_no_samples(made, tmp_path, capsys) -> None:
    request = made[1]
    arguments = ["uncertainty", request.fixed, request.moving, request.transform, "-o", str(tmp_path / "out"), "--samples", "0"]
    assert cli.run([*arguments, "--preset", "preview", "--set", "lattice_mm=8"]) == 0
    assert "Sigma in the body" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["folding_of_samples"] is None
    assert cli.run([*arguments[:3], "missing.h5", *arguments[4:]]) == 2
    assert "missing.h5" in capsys.readouterr().err


def test_the_network_writes_the_same_files(made, tmp_path) -> None:
    request, out = made[1], tmp_path / "out"
    arguments = ["uncertainty", request.fixed, request.moving, request.transform, "-o", str(out), "--samples", "0"]
    assert cli.run([*arguments, "--method", "uncertainty-net"]) == 0
    assert {path.name for path in out.iterdir()} == {"overview.png", "report.json", "sigma.nrrd", "sigma_magnitude.nrrd"}
    assert json.loads((out / "report.json").read_text())["method"] == "uncertainty-net"
    assert cli.run([*arguments, "--method", "uncertainty"]) == 2


def test_sigma_files_are_checked(made, tmp_path) -> None:
    from regsuite.io import write_image

    sigma, _ = read_sigma(made[2] / "sigma.nrrd")
    write_image(Image(-sigma.data, sigma.grid), tmp_path / "negative.nrrd")
    with pytest.raises(InputError, match="negative"):
        read_sigma(tmp_path / "negative.nrrd")
    write_image(Image(sigma.data[:1], sigma.grid), tmp_path / "one.nrrd")
    with pytest.raises(InputError, match=r"one\.nrrd"):
        read_sigma(tmp_path / "one.nrrd")
