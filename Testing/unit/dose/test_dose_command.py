"""`regsuite dvh`, `regsuite dose` and the phantom behind them: what they write, and every kind of bad input."""

from __future__ import annotations

import csv
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from regsuite import cli, worker
from regsuite.dose.carry import Fraction, Spread, finer, total_on_grid
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, write_image, write_transform
from regsuite.phantoms import make_phantom
from regsuite.transforms import AffineTransform

from Testing.unit.dose import rt_files, shapes

OTHER_FRAME = "1.2.826.0.1.3680043.8.498.99"


def flat_dose(value: float = 10.0) -> Image:
    image = shapes.linear_dose()
    return image.with_data(torch.full_like(image.data, value))


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A folder with a dose (as NRRD and RTDOSE), a sphere (as labels and RTSTRUCT), a fixed image, a transform and sigma."""
    folder = tmp_path / "case"
    folder.mkdir()
    dose = shapes.linear_dose()
    dose = dose.with_data(dose.data.clamp(min=0.0))
    write_image(dose, folder / "dose.nrrd")
    rt_files.dose_file(folder / "dose.dcm", dose)
    rt_files.structure_set(folder / "rs.dcm", {"Ball": shapes.sphere_contours(2.0, 90)})
    write_image(shapes.sphere_labels(2.0), folder / "ball.nrrd")
    grid = shapes.sphere_labels(4.0).grid
    write_image(Image(torch.zeros(grid.shape), grid), folder / "fixed.nrrd")
    write_transform(AffineTransform.translation([1.0, 2.0, -1.0]), folder / "t.tfm")
    write_image(Image(torch.full((3, *grid.shape), 1.0), grid), folder / "sigma.nrrd")
    return folder


def dvh(folder: Path, dose: str = "dose.nrrd", structures: str = "ball.nrrd", *more: str) -> list[str]:
    return ["dvh", str(folder / dose), "-o", str(folder / "out"), "--structures", str(folder / structures), *more, "-q"]


def carry(folder: Path, *more: str, dose: str = "dose.nrrd", transform: str = "t.tfm") -> list[str]:
    call = ["dose", str(folder / dose), str(folder / transform), "--like", str(folder / "fixed.nrrd"), "-o", str(folder / "out")]
    return [*call, *more, "-q"]


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (folder / "out" / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return {(row["structure"], row["metric"]): row for row in csv.DictReader(stream)}


def test_dvh_writes_a_page_and_tables(case: Path) -> None:
    assert cli.run(dvh(case, "dose.dcm", "rs.dcm", "--metrics", "D0.1cc", "V12cc")) == 0
    files = {"dvh.csv", "dvh_differential.csv", "metrics.csv", "dvh.png", "report.json"}
    assert {p.name for p in (case / "out").iterdir()} == files
    found = rows(case)
    assert float(found["Ball", "mean"]["value"]) == pytest.approx(shapes.MIDDLE, rel=5e-3)
    usual = {"volume", "min", "mean", "max", "D95", "D98", "D50", "D2", "D2cc", *(f"V{n}" for n in range(5, 65, 5))}
    assert {metric for _, metric in found} == usual | {"D0.1cc", "V12cc"}
    assert found["Ball", "D0.1cc"]["unit"] == "Gy" and found["Ball", "V12cc"]["unit"] == "cc"
    report = json.loads((case / "out" / "report.json").read_text())
    assert report["kind"] == "dvh" and report["structures"][0]["name"] == "Ball" and report["warnings"] == []


def test_without_matplotlib_all_but_the_page_is_written(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in 3D Slicer, which does not bring it; contours that cut through each other are looked at as well."""
    for name in [*(n for n in sys.modules if n.startswith("matplotlib.")), "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "regsuite.pipeline.dvh_figure", raising=False)
    assert cli.run(dvh(case, structures="rs.dcm")) == 0
    assert {p.name for p in (case / "out").iterdir()} == {"dvh.csv", "dvh_differential.csv", "metrics.csv", "report.json"}
    warnings = json.loads((case / "out" / "report.json").read_text())["warnings"]
    assert any("matplotlib is not installed" in text for text in warnings)


def test_dose_with_bands_and_an_rtdose(case: Path) -> None:
    more = ("--sigma", str(case / "sigma.nrrd"), "--samples", "8", "--structures", f"Ball={case / 'ball.nrrd'}")
    assert cli.run(carry(case, *more, "--dose-unit", "Gy", "--reference", str(case / "rs.dcm"))) == 0
    row = rows(case)["Ball", "mean"]
    assert float(row["p05"]) < float(row["value"]) < float(row["p95"])
    written = pydicom.dcmread(case / "out" / "dose_nominal.dcm")
    assert written.Modality == "RTDOSE" and written.FrameOfReferenceUID == rt_files.FRAME and written.PatientID == "42"
    reference = pydicom.dcmread(case / "rs.dcm")
    assert written.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == reference.SOPInstanceUID
    nominal = read_image(case / "out" / "dose_nominal.nrrd")
    pixels = written.pixel_array * float(written.DoseGridScaling)
    assert pixels.max() == pytest.approx(float(nominal.data.max()), abs=1e-4)


def test_the_accumulated_dose_as_an_rtdose(case: Path) -> None:
    """Two fractions with weights: the sum, under the patient, study and frame of the reference."""
    (case / "more.csv").write_text("dose,transform,weight\ndose.nrrd,t.tfm,3\n")
    sources = ("--sigma", str(case / "sigma.nrrd"), "--samples", "3", "--fractions", str(case / "more.csv"))
    assert cli.run(carry(case, *sources, "--dose-unit", "Gy", "--reference", str(case / "rs.dcm"))) == 0
    reference = pydicom.dcmread(case / "rs.dcm")
    for name in ("nominal", "mean"):
        written = pydicom.dcmread(case / "out" / f"dose_{name}.dcm")
        volume = read_image(case / "out" / f"dose_{name}.nrrd").data[0].numpy()
        assert np.abs(written.pixel_array * float(written.DoseGridScaling) - volume).max() < 1e-4
        assert (written.StudyInstanceUID, written.PatientID) == (reference.StudyInstanceUID, reference.PatientID)
        assert written.FrameOfReferenceUID == rt_files.FRAME and written.SOPInstanceUID != reference.SOPInstanceUID
        assert written.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == reference.SOPInstanceUID
    assert cli.run([*carry(case, "--dose-unit", "Gy")[:-1], "-o", str(case / "one"), "-q"]) == 0
    one = read_image(case / "one" / "dose_nominal.nrrd").data
    both = read_image(case / "out" / "dose_nominal.nrrd").data
    assert float((both - 4.0 * one).abs().max()) < 1e-3


def hot(folder: Path) -> list[str]:
    write_image(flat_dose(5000.0), folder / "cgy.nrrd")
    return dvh(folder, "cgy.nrrd")


def negative(folder: Path) -> list[str]:
    dose = shapes.linear_dose()
    write_image(dose.with_data(dose.data - 60.0), folder / "minus.nrrd")
    return dvh(folder, "minus.nrrd")


def nothing(folder: Path) -> list[str]:
    write_image(flat_dose(0.0), folder / "zero.nrrd")
    return dvh(folder, "zero.nrrd")


def empty(folder: Path) -> list[str]:
    write_image(flat_dose(0.0), folder / "empty.nrrd")
    return dvh(folder, structures="empty.nrrd")


def outside(folder: Path) -> list[str]:
    ball = shapes.sphere_labels(2.0)
    affine = ball.grid.affine.copy()
    affine[:3, 3] += 400.0
    write_image(Image(ball.data[0], Grid(ball.grid.shape, affine)), folder / "away.nrrd")
    return dvh(folder, structures="away.nrrd")


def other_frame(folder: Path) -> list[str]:
    rt_files.structure_set(folder / "other.dcm", {"Ball": shapes.sphere_contours(2.0, 90)}, frame=OTHER_FRAME)
    return dvh(folder, "dose.dcm", "other.dcm")


def no_unit(folder: Path) -> list[str]:
    data = pydicom.dcmread(folder / "dose.dcm")
    data.DoseUnits = ""
    data.save_as(folder / "nounit.dcm")
    return dvh(folder, "nounit.dcm")


def open_contours(folder: Path) -> list[str]:
    rt_files.structure_set(folder / "open.dcm", {"Wire": shapes.sphere_contours(2.0, 90)}, kind="OPEN_PLANAR")
    return dvh(folder, structures="open.dcm")


def fractions(text: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "more.csv").write_text(text)
        return carry(folder, "--fractions", str(folder / "more.csv"))

    return make


def wrong_sigma(folder: Path) -> list[str]:
    return carry(folder, "--sigma", str(folder / "dose.nrrd"))


BAD = {
    "too much for Gy": (hot, "states no unit and reaches 5000"),
    "negative dose": (negative, "is negative, down to"),
    "zero dose": (nothing, "holds no positive value"),
    "zero volume": (empty, "has no volume: every voxel is 0"),
    "structure outside": (outside, "lies outside the dose"),
    "frames of reference": (other_frame, "different frames of reference"),
    "no unit in DICOM": (no_unit, "no dose units"),
    "open contours": (open_contours, "no region with closed contours"),
    "unknown metric": (lambda f: dvh(f, "dose.nrrd", "ball.nrrd", "--metrics", "X20"), "Unknown dose metric 'X20'"),
    "unknown ends": (lambda f: dvh(f, "dose.nrrd", "ball.nrrd", "--ends", "round"), "'ends'"),
    "unknown unit": (lambda f: dvh(f, "dose.nrrd", "ball.nrrd", "--dose-unit", "rad"), "must be Gy or cGy"),
    "no structures": (lambda f: ["dvh", str(f / "dose.nrrd"), "-o", str(f / "out"), "-q"], "No structures are given"),
    "missing dose": (lambda f: dvh(f, "none.nrrd"), "no such file"),
    "structures as dose": (lambda f: dvh(f, "rs.dcm"), "expected a DICOM RTDOSE"),
    "dose as structures": (lambda f: dvh(f, "dose.nrrd", "dose.dcm"), "expected a DICOM RTSTRUCT"),
    "dose as transform": (lambda f: carry(f, transform="dose.dcm"), "registration"),
    "one-channel sigma": (wrong_sigma, "3"),
    "one sample": (lambda f: carry(f, "--samples", "1"), "between 2 and 10000"),
    "unknown errors": (lambda f: carry(f, "--errors", "none"), "'errors'"),
    "no columns": (fractions("a,b\n1,2\n"), "expected the columns dose, transform"),
    "no fraction dose": (fractions("dose,transform\n,t.tfm\n"), "line 2: expected a dose and a transform"),
    "bad weight": (fractions("dose,transform,weight\ndose.nrrd,t.tfm,x\n"), "expected a number as weight, found 'x'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(name: str, case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, words = BAD[name]
    argv = make(case)
    before = sorted(p.name for p in case.iterdir())
    assert cli.run(argv) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == "" and len(lines) == 1 and lines[0].startswith("regsuite: ") and words in lines[0], captured.err
    assert sorted(p.name for p in case.iterdir()) == before


def test_what_is_odd_but_usable_is_told(case: Path) -> None:
    dose = shapes.linear_dose()
    data = dose.data.clamp(min=0.0)
    data[0, 0, 0, 0] = -0.2
    grid = dose.grid
    write_image(Image(data[0, :22], grid.cropped((0, 0, 0), (22, *grid.shape[1:]))), case / "part.nrrd")
    assert cli.run(dvh(case, "part.nrrd")) == 0
    warnings = " ".join(json.loads((case / "out" / "report.json").read_text())["warnings"])
    assert "states no unit; taken as Gy" in warnings and "negative values are taken as 0" in warnings
    assert "lies outside the dose grid and counts as 0 Gy" in warnings


class Lines:
    """A stand-in for the worker's channel."""

    def __init__(self) -> None:
        self.said: list[dict] = []

    def send(self, **message: object) -> None:
        self.said.append(message)


def test_the_worker_knows_dose_and_dvh(case: Path) -> None:
    common = {"dose": str(case / "dose.nrrd"), "structures": [str(case / "ball.nrrd")], "dose_unit": "Gy"}
    further = {"transform": str(case / "t.tfm"), "like": str(case / "fixed.nrrd")}
    for number, request in enumerate(({"command": "dvh", **common}, {"command": "dose", **common, **further})):
        channel = Lines()
        out = case / f"out{number}"
        assert worker.run_job({**request, "job": 7, "out": str(out)}, channel, threading.Event())  # type: ignore[arg-type]
        answer = channel.said[-1]
        assert answer["type"] == "result" and answer["structures"][0]["name"] == "label_1" and "metrics.csv" in answer["files"]
    channel = Lines()
    bad = {"command": "uncertain_dose", "structures": ["x"], "fixed": "a", "moving": "b", "transform": "c", "out": str(case / "o")}
    assert not worker.run_job(bad, channel, threading.Event())  # type: ignore[arg-type]
    assert channel.said[-1]["message"] == "Structures were given without a dose; expected both, or none."


def test_the_phantom_gives_what_its_maps_say() -> None:
    phantom = make_phantom("dose", 3, size=(40, 32, 28), fractions=2)
    assert set(phantom.maps) == {"fraction_01_transform", "fraction_02_transform"}
    plan, truth = phantom.images["plan_dose"], phantom.images["true_dose"]
    assert float(plan.data.max()) == pytest.approx(60.0, rel=0.08)
    parts = [Fraction(finer(phantom.images[f"fraction_0{n}_dose"]), phantom.maps[f"fraction_0{n}_transform"]) for n in (1, 2)]
    carried = total_on_grid(parts, [p.transform for p in parts], phantom.fixed.grid)
    assert float((carried - truth.data[0]).abs().mean()) < 0.05, "Gy; the dose grid is 3 mm"
    target = phantom.images["planned_target"].data[0] > 0
    assert float(truth.data[0][target].min()) > 50.0
    one, two = (phantom.maps[f"fraction_0{n}_transform"].map_points(phantom.fixed_landmarks) for n in (1, 2))
    assert float((one - two).norm(dim=1).mean()) > 1.0, "two states of breathing"


@pytest.mark.parametrize(("name", "value"), [("fractions", 0), ("fractions", 2.5), ("motion_mm", 9.0), ("size", (4, 4, 4))])
def test_the_phantom_refuses_nonsense(name: str, value: object) -> None:
    with pytest.raises(Exception, match=f"'{name}'"):
        make_phantom("dose", 0, **{name: value})


def test_a_band_holds_a_new_draw_with_the_probability_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(51, 20, 50, 50, generator=generator) + 10.0
    spread = Spread((20, 50, 50), 50, None)
    for draw in draws[:50]:
        spread.add(draw)
    found = spread.statistics()
    inside = (draws[50] >= found["p05"]) & (draws[50] <= found["p95"])
    assert float(inside.double().mean()) == pytest.approx(0.90, abs=0.006)
    assert np.isclose(float(found["sigma"].mean()), 1.0, atol=0.01)
