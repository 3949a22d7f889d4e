"""`regsuite slices` from files to files, and what it says to bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite import cli
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_transform, write_image
from regsuite.pipeline.phantom import run_phantom

FAST = ["--preset", "Preview", "--set", "finest_mm=4", "--set", "iterations=6", "--set", "range_mm=8", "--set", "range_deg=0"]


@pytest.fixture(scope="module")
def hip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_phantom("hip-radial", tmp_path_factory.mktemp("hip") / "data", 5, (40, 40, 40))


@pytest.fixture
def here(hip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for path in hip.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_folder_of_results(here: Path) -> None:
    argv = ["slices", "volume.nrrd", "slice_01.nrrd", "slice_02.nrrd", "-o", "out", "--labels", "volume_labels.nrrd", "-q", *FAST]
    assert cli.run([*argv, "--slice-masks", "slice_01_mask.nrrd", "slice_02_mask.nrrd", "--volume-mask", "volume_mask.nrrd"]) == 0
    names = {path.name for path in (here / "out").iterdir()}
    wanted = {"stack.h5", "quantitative.nrrd", "quantitative_weight.nrrd", "regions.csv", "report.json", "overview.png"}
    assert wanted | {f"slice_0{n}{kind}" for n in (1, 2) for kind in (".h5", "_placed.nrrd", "_emulated.nrrd")} == names
    report = json.loads((here / "out" / "report.json").read_text())
    assert report["kind"] == "slices"
    assert [row["file"] for row in report["slices"]] == ["slice_01.nrrd", "slice_02.nrrd"]
    given, placed = read_image(here / "slice_01.nrrd"), read_image(here / "out" / "slice_01_placed.nrrd")
    pose = read_transform(here / "out" / "slice_01.h5").matrix  # type: ignore[attr-defined]
    np.testing.assert_allclose(placed.grid.affine, pose @ given.grid.affine, atol=1e-4)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    weight, values = (read_image(here / "out" / f"quantitative{end}.nrrd").data for end in ("_weight", ""))
    assert values[weight > 0].numel() > 1000
    assert float(values[weight == 0].abs().max()) == 0.0
    rows = {row["label"]: row for row in csv.DictReader((here / "out" / "regions.csv").open())}
    assert rows.keys() >= {"1", "5"}
    assert 0.0 < float(rows["5"]["pure_share"]) <= 1.0
    assert abs(float(rows["5"]["pure_mean"]) / float(rows["5"]["mean"]) - 1.0) < 0.3


def two_dimensional(here: Path) -> list[str]:
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)), "flat.nrrd")
    return ["volume.nrrd", "flat.nrrd"]


def far_away(here: Path) -> list[str]:
    image = read_image("slice_01.nrrd")
    moved = image.grid.affine.copy()
    moved[0, 3] += 700.0
    write_image(Image(image.data, Grid(image.grid.shape, moved)), "far.nrrd")
    return ["volume.nrrd", "far.nrrd"]


def constant(here: Path) -> list[str]:
    image = read_image("slice_02.nrrd")
    write_image(image.with_data(torch.full_like(image.data, 3.0)), "constant.nrrd")
    return ["volume.nrrd", "slice_01.nrrd", "constant.nrrd"]


HULL = ["--set", "start=hull"]
CASES: dict[str, tuple[Callable[[Path], list[str]], tuple[str, ...]]] = {
    "missing file": (lambda here: ["volume.nrrd", "nothing.nrrd"], ("nothing.nrrd",)),
    "2D file": (two_dimensional, ("flat.nrrd", "2D", "orientation")),
    "a volume as slices": (lambda here: ["volume.nrrd", *["volume.nrrd"] * 2], ("volume.nrrd", "80|40", "at most 64")),
    "far away": (far_away, ("do not meet the volume", "mm beside")),
    "constant": (constant, ("constant.nrrd", "constant")),
    "one slice for a hull": (
        lambda here: ["volume.nrrd", "slice_01.nrrd", "--volume-mask", "volume_mask.nrrd", *HULL],
        ("two or more slices", "one slice"),
    ),
    "no mask for a hull": (lambda here: ["volume.nrrd", "slice_01.nrrd", "slice_02.nrrd", *HULL], ("volume mask",)),
    "too few masks": (
        lambda here: ["volume.nrrd", "slice_01.nrrd", "slice_02.nrrd", "--slice-masks", "slice_01_mask.nrrd"],
        ("one file of slice masks for each of the 2 slices, found 1",),
    ),
    "mask of another grid": (
        lambda here: ["volume.nrrd", "slice_01.nrrd", "--slice-masks", "slice_02_mask.nrrd"],
        ("slice_02_mask.nrrd", "another grid"),
    ),
    "a slice as volume": (lambda here: ["slice_01.nrrd", "slice_02.nrrd"], ("volume", "slice_01.nrrd", "8 voxels")),
    "unknown setting": (lambda here: ["volume.nrrd", "slice_01.nrrd", "--set", "rang_mm=3"], ("rang_mm", "range_mm")),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_and_exit_code_2(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    make, words = CASES[name]
    argv = make(here)
    before = sorted(path.name for path in here.iterdir())
    assert cli.run(["slices", *argv, "-o", "out", "-q"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    for word in words:
        assert re.search(word, lines[0]), f"{word!r} is not in: {lines[0]}"
    assert sorted(path.name for path in here.iterdir()) == before


def test_register_sends_to_the_right_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["register", "slices-qmri", "volume.nrrd", "volume.nrrd", "-o", "out", "-q"]) == 2
    assert "regsuite slices" in capsys.readouterr().err
