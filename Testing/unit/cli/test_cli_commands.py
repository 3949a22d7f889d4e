"""The commands from the outside: files in, files and words out, exit code 0."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite import cli
from regsuite.cli.usage import ClickException
from regsuite.geometry import Image
from regsuite.io import read_image, write_landmarks

from Testing.unit.pipeline.pairs import SHIFT, Pair, blobs, fixed_grid

REPOSITORY = Path(__file__).resolve().parents[3]


def register(pair: Pair, out: Path, *options: str) -> int:
    return cli.run(["register", "test-shift", pair.path("fixed.nrrd"), pair.path("moving.nrrd"), "-o", str(out), *options])


def test_register_writes_the_folder_and_tells_the_verdict(a_pair, tmp_path, capsys):
    out = tmp_path / "Ergebnis für Größe 1"
    assert register(a_pair, out, "--set", "pauses=2", "--seed", "4", "--preset", "preview") == 0
    assert sorted(path.name for path in out.iterdir()) == ["moved.nrrd", "overview.png", "report.json", "transform.h5"]
    report = json.loads((out / "report.json").read_text())
    assert (report["preset"], report["seed"], report["config"]["pauses"]) == ("preview", 4, 2)
    captured = capsys.readouterr()
    assert report["verdict"]["headline"] in captured.out
    assert "Correlation" in captured.out
    assert str(out) in captured.out
    lines = captured.err.splitlines()
    assert any("Centring" in line for line in lines)
    assert all(line.startswith("[") for line in lines)


def test_quiet_prints_nothing_and_scene_adds_a_file(a_pair, tmp_path, capsys):
    assert register(a_pair, tmp_path / "out", "-q", "--scene") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert (tmp_path / "out" / "scene.mrb").is_file()


def test_masks_change_the_result(a_pair, tmp_path):
    half = torch.zeros(a_pair.fixed.grid.shape, dtype=torch.uint8)
    half[:7] = 1
    mask = a_pair.write("half.nrrd", Image(half, a_pair.fixed.grid))
    assert register(a_pair, tmp_path / "plain", "-q") == 0
    assert register(a_pair, tmp_path / "masked", "-q", "--fixed-mask", mask) == 0
    plain, masked = (sitk.ReadTransform(str(tmp_path / name / "transform.h5")) for name in ("plain", "masked"))
    assert np.linalg.norm(np.subtract(plain.GetParameters(), masked.GetParameters())) > 0.5
    assert json.loads((tmp_path / "masked" / "report.json").read_text())["metrics"]["after"]["region"] == "fixed mask"


def test_a_second_run_replaces_its_files_and_keeps_others(a_pair, tmp_path):
    out = tmp_path / "out"
    assert register(a_pair, out, "-q", "--seed", "1") == 0
    (out / "notes.txt").write_text("mine")
    assert register(a_pair, out, "-q", "--seed", "2") == 0
    assert json.loads((out / "report.json").read_text())["seed"] == 2
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic"])
def test_apply_gives_what_simpleitk_gives(a_pair, tmp_path, interpolation):
    assert register(a_pair, tmp_path / "out", "-q") == 0
    transform, moved = str(tmp_path / "out" / "transform.h5"), tmp_path / "again.nii.gz"
    command = ["apply", transform, a_pair.path("moving.nrrd"), "--like", a_pair.path("fixed.nrrd"), "-o", str(moved)]
    assert cli.run([*command, "--interpolation", interpolation, "-q"]) == 0
    kinds = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "cubic": sitk.sitkBSpline}
    fixed, moving = (sitk.ReadImage(a_pair.path(f"{side}.nrrd")) for side in ("fixed", "moving"))
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, sitk.ReadTransform(transform), kinds[interpolation]))
    ours = read_image(moved).data[0].numpy()
    difference = np.abs(ours - theirs)[2:-2, 2:-2, 2:-2]
    assert np.percentile(difference, 99) < (0.5 if interpolation == "cubic" else 0.01)


def test_apply_keeps_labels_whole(a_pair, tmp_path):
    grid = a_pair.moving.grid
    labels = a_pair.write("labels.nrrd", Image((blobs(grid, SHIFT).data / 20).to(torch.int32) * 50, grid))
    assert register(a_pair, tmp_path / "out", "-q") == 0
    command = ["apply", str(tmp_path / "out" / "transform.h5"), labels, "--like", a_pair.path("fixed.nrrd"), "-q"]
    assert cli.run([*command, "-o", str(tmp_path / "moved.nrrd"), "--interpolation", "nearest"]) == 0
    moved = sitk.ReadImage(str(tmp_path / "moved.nrrd"))
    assert moved.GetPixelID() == sitk.sitkUInt8
    values = set(np.unique(sitk.GetArrayFromImage(moved)))
    assert {0, 50, 100} < values <= {0, 50, 100, 150, 200, 250}


def test_evaluate_reports_landmarks_labels_and_images(a_pair, tmp_path, capsys):
    points = torch.tensor(fixed_grid().centre) + torch.tensor([[0.0, 0, 0], [5, 2, -3], [-4, 6, 2]], dtype=torch.float64)
    options = []
    for side, offset in (("fixed", 0 * SHIFT), ("moving", SHIFT)):
        write_landmarks(points + torch.tensor(offset), tmp_path / f"{side}.mrk.json")
        grid = getattr(a_pair, side).grid
        labels = a_pair.write(f"{side}_labels.nrrd", Image((blobs(grid, offset).data > 40).to(torch.uint8), grid))
        options += [f"--{side}-landmarks", str(tmp_path / f"{side}.mrk.json"), f"--{side}-labels", labels]
        options += [f"--{side}", a_pair.path(f"{side}.nrrd")]
    assert register(a_pair, tmp_path / "out", "-q") == 0
    options += ["--transform", str(tmp_path / "out" / "transform.h5"), "-o", str(tmp_path / "r.json")]
    assert cli.run(["evaluate", *options]) == 0
    metrics = json.loads((tmp_path / "r.json").read_text())["metrics"]
    assert metrics["before"]["landmarks_tre_mm"]["mean"] == pytest.approx(np.linalg.norm(SHIFT), abs=1e-4)
    assert metrics["after"]["landmarks_tre_mm"]["mean"] < 1.0
    assert metrics["after"]["dice"]["1"] > 0.85 > metrics["before"]["dice"]["1"]
    assert metrics["after"]["hd95_mm"]["1"] < metrics["before"]["hd95_mm"]["1"]
    assert metrics["after"]["similarity"]["ncc"] > 0.97
    assert metrics["after"]["folding_percent"] == 0.0
    assert "Landmarks, mean (mm)" in capsys.readouterr().out


def test_methods_lists_the_registry_and_json_all_settings(capsys):
    assert cli.run(["methods"]) == 0
    assert "lung-convex" in capsys.readouterr().out
    assert cli.run(["methods", "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    row = rows["test-shift"]
    assert set(row["presets"]) == {"Preview", "Default", "Best"}
    pauses = next(item for item in row["settings"] if item["name"] == "pauses")
    assert (pauses["type"], pauses["default"], pauses["low"], pauses["high"]) == ("int", 1, 1, 10000)
    fail = next(item for item in row["settings"] if item["name"] == "fail")
    assert fail["choices"] == ["no", "memory", "bug"]


def test_phantom_writes_a_pair_with_its_truth(tmp_path):
    out = tmp_path / "p"
    assert cli.run(["phantom", "thorax", "-o", str(out), "--seed", "3", "--size", "40", "32", "28", "-q"]) == 0
    facts = json.loads((out / "phantom.json").read_text())
    assert (facts["name"], facts["seed"]) == ("thorax", 3)
    fixed = read_image(out / "fixed.nrrd")
    assert fixed.grid.size == (40, 32, 28)
    truth = ["evaluate", "--transform", str(out / "true_transform.nrrd"), "-o", str(out / "r.json"), "-q"]
    truth += ["--fixed-landmarks", str(out / "fixed_landmarks.mrk.json")]
    assert cli.run([*truth, "--moving-landmarks", str(out / "moving_landmarks.mrk.json")]) == 0
    metrics = json.loads((out / "r.json").read_text())["metrics"]
    assert metrics["after"]["landmarks_tre_mm"]["median"] < 1.5 < metrics["before"]["landmarks_tre_mm"]["median"]


def test_help_and_version_need_neither_torch_nor_numpy():
    code = "import sys; from regsuite.cli import run; code = run(['--help']); code += run(['register', '--help']);"
    code += "sys.exit(code or any(name in sys.modules for name in ('torch', 'numpy', 'matplotlib', 'SimpleITK')))"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "RegistrationSuite" / "RegSuiteBackend")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in ("register", "apply", "evaluate", "methods", "phantom", "demo", "--interpolation", "--lesion-mask"):
        assert (name in done.stdout) == (name not in ("--interpolation",))


def test_every_option_of_the_contract_exists(capsys):
    contract = {
        "register": "--out --fixed-mask --moving-mask --lesion-mask --initial --preset --set --device --seed --scene",
        "apply": "--like --out --interpolation",
        "evaluate": "--transform --fixed-landmarks --moving-landmarks --fixed-labels --moving-labels --fixed --moving --out",
        "methods": "--json",
        "phantom": "--out --seed --size",
        "demo": "--out",
    }
    for command, options in contract.items():
        assert cli.run([command, "--help"]) == 0
        words = capsys.readouterr().out.replace(",", " ").split()
        assert set(options.split()) <= set(words), command


def test_the_class_of_usage_errors_is_the_one_typer_raises():
    assert ClickException.__name__ == "ClickException"
