"""From files to a folder of results, and the same in Python."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import regsuite
import SimpleITK as sitk
import torch
from matplotlib.image import imread
from regsuite.errors import Cancelled, InputError, OutputError
from regsuite.geometry import Grid, Image, frames
from regsuite.io import read_image, read_labels, read_transform
from regsuite.pipeline.inputs import check_inputs
from regsuite.pipeline.register import run_registration
from regsuite.pipeline.request import RegistrationRequest, parse_settings
from regsuite.transforms import AffineTransform

from Testing.unit.pipeline.bad_input import CASES, Case
from Testing.unit.pipeline.pairs import SHIFT, Pair, blobs, box_mask, fixed_grid


def a_request(pair: Pair, **changes: object) -> RegistrationRequest:
    values = {"method": "test-shift", "fixed": pair.path("fixed.nrrd"), "moving": pair.path("moving.nrrd")}
    return RegistrationRequest(**(values | {"out": str(pair.folder.parent / "out")} | changes))  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path, dict]:
    from regsuite.methods.registry import METHODS

    from Testing.unit.pipeline import shift_method
    from Testing.unit.pipeline.pairs import make_pair

    METHODS[shift_method.ROW.key] = shift_method.ROW
    try:
        folder = tmp_path_factory.mktemp("done") / "data"
        folder.mkdir()
        pair = make_pair(folder)
        out = run_registration(a_request(pair, seed=5, settings={"pauses": "3"}))
    finally:
        del METHODS[shift_method.ROW.key]
    return pair, out, json.loads((out / "report.json").read_text())


def test_exactly_the_promised_files_are_written(done):
    assert sorted(path.name for path in done[1].iterdir()) == ["moved.nrrd", "overview.png", "report.json", "transform.h5"]


def test_the_transform_file_maps_fixed_to_moving_points_for_simpleitk(done):
    point = np.array([5.0, -7.0, 11.0])  # RAS
    itk = sitk.ReadTransform(str(done[1] / "transform.h5"))
    mapped = np.array(itk.TransformPoint(tuple(point * [-1, -1, 1]))) * [-1, -1, 1]
    assert np.abs(mapped - point - SHIFT).max() < 0.6  # centres of mass of sampled, cropped blobs
    own = read_transform(done[1] / "transform.h5").map_points(torch.as_tensor(point[None]))[0].numpy()
    np.testing.assert_allclose(own, mapped, atol=1e-6)


def test_moved_equals_simpleitks_resampling(done):
    pair, out, _ = done
    fixed, moving = (sitk.ReadImage(pair.path(f"{side}.nrrd")) for side in ("fixed", "moving"))
    transform = sitk.ReadTransform(str(out / "transform.h5"))
    low = float(pair.moving.data.min())
    theirs = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, low))
    ours = read_image(out / "moved.nrrd")
    assert ours.grid == pair.fixed.grid
    assert ours.data.dtype == torch.float32
    assert np.abs(ours.data[0].numpy() - theirs)[1:-1, 1:-1, 1:-1].max() < 1e-3


def test_moving_lies_on_fixed_afterwards(done):
    pair, out, _ = done
    files = [sitk.ReadImage(pair.path(f"{side}.nrrd")) for side in ("moving", "fixed")]
    before = sitk.GetArrayFromImage(sitk.Resample(*files))
    after = read_image(out / "moved.nrrd").data[0].numpy()
    fixed = pair.fixed.data[0].numpy()
    assert np.abs(after - fixed).mean() < 0.25 * np.abs(before - fixed).mean()


def test_report_says_what_was_done(done):
    report = done[2]
    assert report["schema_version"] == "1.0"
    assert (report["method"], report["preset"], report["seed"], report["device"]) == ("test-shift", "Default", 5, "cpu")
    assert report["config"]["pauses"] == 3
    assert report["status"] == "converged"
    assert {"regsuite", "torch", "numpy", "SimpleITK", "python"} <= set(report["versions"])
    assert report["inputs"]["fixed"]["size"] == [22, 18, 14]
    np.testing.assert_allclose(report["inputs"]["fixed"]["spacing_mm"], [2.0, 2.5, 3.0], atol=1e-9)
    assert report["inputs"]["moving"]["size"] == [30, 22, 20]
    assert report["timings_s"]["total"] > 0
    assert report["peak_memory_mib"] > 10


def test_report_measures_before_and_after(done):
    before, after = done[2]["metrics"]["before"], done[2]["metrics"]["after"]
    assert after["similarity"]["ncc"] > 0.97 > before["similarity"]["ncc"]
    assert after["similarity"]["mutual_information"] > before["similarity"]["mutual_information"]
    assert after["folding_percent"] == 0.0
    np.testing.assert_allclose([after["jacobian"][key] for key in ("min", "p01", "p99", "max")], 1.0, atol=1e-4)
    assert abs(after["displacement_mm"]["mean"] - np.linalg.norm(SHIFT)) < 0.8
    assert done[2]["verdict"]["level"] == "good"


def test_report_holds_no_folder_names(done):
    text = (done[1] / "report.json").read_text()
    assert str(done[0].folder) not in text
    assert done[2]["files"] == {"fixed": "fixed.nrrd", "moving": "moving.nrrd"}


def test_overview_is_a_large_picture_with_content(done):
    picture = imread(done[1] / "overview.png")
    assert picture.shape[1] > 1500
    assert picture.shape[0] > 600
    magenta = (picture[..., 0] > 0.6) & (picture[..., 1] < 0.4) & (picture[..., 2] > 0.6)
    assert magenta.mean() > 0.0005  # what only the fixed image has, in the overlay before


def test_the_same_request_gives_the_same_bytes(done, a_pair):
    again = run_registration(a_request(a_pair, seed=5, settings={"pauses": "3"}))
    for name in ("moved.nrrd", "overview.png"):
        assert (again / name).read_bytes() == (done[1] / name).read_bytes(), name
    # HDF5 writes the time of day into its headers, so of the transform the numbers are compared
    one, two = (sitk.ReadTransform(str(folder / "transform.h5")) for folder in (again, done[1]))
    assert one.GetParameters() == two.GetParameters()


def test_landmarks_and_labels_measure_but_do_not_steer(done, a_pair):
    points = torch.tensor(fixed_grid().centre) + torch.tensor([[0.0, 0, 0], [5, 2, -3], [-4, 6, 2]], dtype=torch.float64)
    for side, offset in (("fixed", 0.0 * SHIFT), ("moving", SHIFT)):
        regsuite.write_landmarks(points + torch.as_tensor(offset), a_pair.folder / f"{side}.csv")
        grid = getattr(a_pair, side).grid
        a_pair.write(f"{side}_labels.nrrd", Image((blobs(grid, offset).data > 40).to(torch.uint8), grid))
    known = {f"{side}_{kind}": a_pair.path(name) for side in ("fixed", "moving")
             for kind, name in (("landmarks", f"{side}.csv"), ("labels", f"{side}_labels.nrrd"))}
    out = run_registration(a_request(a_pair, **known))
    metrics = json.loads((out / "report.json").read_text())["metrics"]
    assert abs(metrics["before"]["landmarks_tre_mm"]["mean"] - np.linalg.norm(SHIFT)) < 1e-6
    assert metrics["after"]["landmarks_tre_mm"]["mean"] < 1.0
    assert metrics["after"]["dice"]["1"] > metrics["before"]["dice"]["1"] + 0.1
    assert (out / "moved.nrrd").read_bytes() == (done[1] / "moved.nrrd").read_bytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_raises_one_sentence_and_leaves_nothing(a_pair: Pair, case: Case):
    changes = case.make(a_pair)
    before = contents(a_pair.folder.parent)
    with pytest.raises(InputError) as caught:
        run_registration(a_request(a_pair, **changes, settings=parse_settings(case.settings)))
    for words in case.words:
        assert re.search(words, str(caught.value), re.IGNORECASE), f"{words!r} is not in: {caught.value}"
    assert "\n" not in str(caught.value)
    assert contents(a_pair.folder.parent) == before


def test_a_mask_on_another_grid_is_resampled_and_said_so(a_pair):
    mask = a_pair.write("elsewhere.nrrd", box_mask(a_pair.moving.grid))
    out = run_registration(a_request(a_pair, fixed_mask=mask))
    warnings = json.loads((out / "report.json").read_text())["warnings"]
    assert any("elsewhere.nrrd" in text and "resampled" in text for text in warnings)


def test_a_resampled_mask_covers_the_same_part_of_the_world(a_pair):
    mask = box_mask(a_pair.moving.grid)
    inputs = check_inputs(a_pair.fixed, a_pair.moving, fixed_mask=mask)
    points = a_pair.fixed.grid.world_points(torch.float64).view(-1, 3)
    index = mask.grid.world_to_index(points).round().long()
    inside = ((index >= 3) & (index < torch.tensor(mask.grid.size) - 3)).all(dim=1)
    assert torch.equal(inputs.fixed_mask.data.view(-1).bool(), inside)


def test_images_that_do_not_overlap_are_tried_and_reported(a_pair):
    affine = a_pair.moving.grid.affine.copy()
    affine[:3, 3] += [400.0, 0.0, 0.0]
    far = a_pair.write("far.nrrd", Image(a_pair.moving.data, Grid(a_pair.moving.grid.shape, affine)))
    out = run_registration(a_request(a_pair, moving=far))
    report = json.loads((out / "report.json").read_text())
    assert any("do not overlap" in text for text in report["warnings"])
    assert report["metrics"]["before"]["similarity"]["ncc"] is None
    assert report["metrics"]["after"]["similarity"]["ncc"] > 0.97
    assert report["verdict"]["level"] == "check"


def test_an_output_that_is_a_file_is_refused_before_the_work(a_pair):
    out = a_pair.folder / "taken"
    out.write_text("mine")
    with pytest.raises(OutputError, match="taken"):
        run_registration(a_request(a_pair, out=str(out), settings={"pause_s": 10.0}))
    assert out.read_text() == "mine"


def test_cancelling_leaves_nothing_and_keeps_an_earlier_result(a_pair):
    out = run_registration(a_request(a_pair))
    before = contents(a_pair.folder.parent)
    with pytest.raises(Cancelled):
        run_registration(a_request(a_pair, seed=9), lambda fraction, stage, detail: fraction < 0.9)
    assert contents(out.parent) == before


def test_progress_rises_to_one(a_pair):
    seen: list[float] = []
    run_registration(a_request(a_pair), lambda fraction, stage, detail: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_request_survives_json():
    request = RegistrationRequest("test-shift", "a", "b", "c", settings={"pauses": 3}, scene=True)
    assert RegistrationRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


@pytest.mark.parametrize(
    ("change", "words"),
    [({"fxied": "a"}, "did you mean 'fixed'"), ({"seed": -1}, "seed"), ({"seed": "1"}, "seed"), ({"scene": "yes"}, "scene"),
     ({"fixed": 3}, "fixed"), ({"settings": [1]}, "settings"), ({"moving": None}, "moving")],
)
def test_requests_of_the_wrong_kind_are_refused(change, words):
    values = {"method": "test-shift", "fixed": "a", "moving": "b", "out": "c"}
    with pytest.raises(InputError, match=words):
        RegistrationRequest.from_dict(values | change)
    with pytest.raises(InputError, match="lacks moving, out"):
        RegistrationRequest.from_dict({"method": "x", "fixed": "a"})


def test_python_shortcut_takes_images_or_paths_and_leaves_them_alone(a_pair):
    copy = a_pair.fixed.data.clone()
    one = regsuite.register("test-shift", a_pair.fixed, a_pair.moving, seed=1)
    two = regsuite.register("test-shift", a_pair.path("fixed.nrrd"), a_pair.path("moving.nrrd"), preset="best")
    assert torch.equal(a_pair.fixed.data, copy)
    np.testing.assert_allclose(one.transform.matrix, two.transform.matrix, atol=1e-9)
    assert (one.config.pauses, two.config.pauses) == (1, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda i: replace(i, data=i.data * float("nan")), "NaN"),
        (lambda i: replace(i, data=torch.zeros_like(i.data)), "constant"),
        (lambda i: Image(torch.rand(2, *i.grid.shape), i.grid), "2 components"),
        (lambda i: Image(i.data[:, :1], Grid((1, *i.grid.shape[1:]), i.grid.affine)), "2D"),
    ],
)
def test_python_shortcut_refuses_bad_images_by_name(a_pair, make, words):
    with pytest.raises(InputError, match=f"(?s)fixed image.*{words}"):
        regsuite.register("test-shift", make(a_pair.fixed), a_pair.moving)


def test_apply_has_sensible_values_beyond_the_image():
    grid = fixed_grid()
    away = AffineTransform(np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    ct = Image(torch.rand(grid.shape) * 100 - 900, grid)
    assert torch.all(regsuite.apply(away, ct).data == ct.data.min())
    labels = Image(torch.full(grid.shape, 4, dtype=torch.uint8), grid)
    moved = regsuite.apply(away, labels, interpolation="nearest").data
    assert moved.dtype == torch.uint8
    assert torch.all(moved == 0)


def test_inputs_in_lps_files_come_out_in_ras(a_pair):
    itk = sitk.ReadImage(a_pair.path("fixed.nrrd"))
    expected = frames.affine_from_itk(itk.GetOrigin(), itk.GetSpacing(), itk.GetDirection())
    np.testing.assert_allclose(read_labels(a_pair.write("m.nrrd", box_mask(a_pair.fixed.grid))).grid.affine, expected, atol=1e-6)
