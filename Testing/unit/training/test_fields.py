"""Trainings that judge given fields: rows with transform and sigma, seen in a mirror, and refused where they are absent."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from regsuite.cli import run
from regsuite.geometry import Image
from regsuite.io import write_image, write_transform
from regsuite.methods.uncertainty import net
from regsuite.pipeline.training_data import open_source
from regsuite.pipeline.training_fields import mirrored, read_given, spoilt
from regsuite.transforms import AffineTransform

from Testing.unit.training import scans

TINY = {"width": 2, "steps": 8, "real_share": 1.0, "validation_subjects": 1, "validate_every": 8, "checkpoint_every": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three scans of 6 mm, each shifted by 4, 2 and 3 mm against itself, sigma 1, 2 and 3 mm along x, y and z."""
    here = tmp_path / "fields"
    here.mkdir()
    rows = []
    for n in range(3):
        image = scans.image(n, (16, 18, 20))
        grid = image.grid.__class__(image.grid.shape, np.diag([6.0, 6.0, 6.0, 1.0]))
        image = Image(image.data.clamp(0, 1), grid)
        write_image(image, here / f"{n}.nrrd")
        write_transform(AffineTransform.translation([4.0, 2.0, 3.0]), here / f"{n}.h5", grid)
        sigma = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1).expand(3, *grid.shape).contiguous()
        write_image(Image(sigma, grid), here / f"{n}-sigma.nrrd")
        rows.append([f"{n}.nrrd", f"{n}.nrrd", f"{n}.h5", "truth.h5", f"{n}-sigma.nrrd"])
    write_transform(AffineTransform.translation([0.0, 0.0, 0.0]), here / "truth.h5", grid)
    with (here / "pairs.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["fixed", "moving", "transform", "truth", "sigma"], *rows])
    return here


def test_a_row_becomes_channels_and_what_is_to_be_foretold(folder: Path) -> None:
    source = open_source(str(folder), net.PHANTOM, net.MOTION, net.Training(**TINY), 0)
    (held_out,) = source.held_out
    assert held_out.judged is not None and held_out.sigma is not None
    assert held_out.judged.shape == (1, 5, *held_out.grid.shape)
    middle = [n // 2 for n in held_out.grid.shape]
    assert held_out.error is not None and held_out.error[0, :, 3, 3, 3].tolist() == pytest.approx([4.0, 2.0, 3.0])
    assert held_out.sigma[0, :, middle[0], middle[1], middle[2]].tolist() == pytest.approx([1.0, 2.0, 3.0])


def test_a_mirror_turns_images_and_the_sign_of_one_component(folder: Path) -> None:
    pair = open_source(str(folder), net.PHANTOM, net.MOTION, net.Training(**TINY), 0).held_out[0]
    seen = None
    for seed in range(50):
        rng = np.random.default_rng(seed)
        if [np.random.default_rng(seed).uniform(size=3)[axis] < 0.5 for axis in range(3)] == [True, False, False]:
            seen = mirrored(pair, rng)
            break
    assert seen is not None and seen.judged is not None and pair.judged is not None
    assert torch.equal(seen.judged[:, :2], pair.judged[:, :2].flip(4))
    assert torch.equal(seen.judged[:, 2], -pair.judged[:, 2].flip(3))
    assert torch.equal(seen.judged[:, 3:], pair.judged[:, 3:].flip(4))
    assert seen.error is not None and pair.error is not None
    assert torch.equal(seen.error[:, :1], -pair.error[:, :1].flip(4))


def test_an_added_error_is_known_and_seen(folder: Path) -> None:
    rows = [{"fixed": "2.nrrd", "moving": "2.nrrd", "transform": "2.h5", "truth": "truth.h5", "sigma": "2-sigma.nrrd"}]
    given = read_given(folder, rows[0])
    added = torch.zeros(3, *given.body.grid.shape)
    added[1] = 5.0
    plain, other = given.pair(), given.pair(added)
    assert other.sigma is None and plain.error is not None and other.error is not None
    assert torch.allclose(other.error - plain.error, added[None], atol=1e-5)
    shift = spoilt(given, np.random.default_rng(0))
    assert shift.judged is not None and plain.judged is not None
    assert not torch.equal(shift.judged[:, 1], plain.judged[:, 1])
    assert torch.equal(shift.judged[:, 0], plain.judged[:, 0])


def test_the_training_runs_and_its_weights_carry_its_name(folder: Path, tmp_path: Path) -> None:
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    assert run(["train", "uncertainty-net", "--data", str(folder), *settings, "-o", str(tmp_path / "run"), "-q"]) == 0
    rows = list(csv.DictReader((tmp_path / "run" / "validation.csv").open(encoding="utf-8")))
    assert float(rows[-1]["likelihood"]) < float(rows[0]["likelihood"])
    assert (tmp_path / "run" / "preview" / "step_0000008.png").stat().st_size > 2000


def test_images_alone_cannot_train_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "uncertainty-net", "--set", "voxels=32", "--set", "subjects=1", "-o", str(tmp_path / "run"), "-q"]) == 2
    assert "transform, truth and sigma" in capsys.readouterr().err


def test_one_factor_makes_the_held_out_errors_lie_where_they_should(folder: Path) -> None:
    settings = net.Training(**TINY)
    (pair,) = open_source(str(folder), net.PHANTOM, net.MOTION, settings, 0).held_out
    torch.manual_seed(0)
    task = net.task(settings)
    model = task.build()
    with torch.no_grad():
        before = task.displacement(model, pair)
        task.settle(model, [pair])
        after = task.displacement(model, pair)
        assert task.measure(model, pair)["inside_90"] == pytest.approx(0.9, abs=0.01)
    ratio = after / before
    assert float(ratio.std()) < 1e-4 * float(ratio.mean())
    assert float(ratio.mean()) != pytest.approx(1.0, abs=0.1)
