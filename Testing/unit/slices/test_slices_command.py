"""`regsuite slices` from files to files, and what it says to bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from regsuite import cli
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_transform, write_image
from regsuite.pipeline import localiser
from regsuite.pipeline.phantom import run_phantom
from regsuite.pipeline.slices_inputs import SlicesRequest, load_slices

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


def in_one_plane(here: Path, flat: bool = False) -> tuple[list[str], np.ndarray]:
    """The slices as some scanners write them: all with the place of the localiser, which stands across the fan's true axis."""
    truth = [read_transform(f"slice_0{n}_true.h5").matrix @ read_image(f"slice_0{n}.nrrd").grid.affine for n in range(1, 7)]
    along = np.mean([matrix[:3, 1] for matrix in truth], axis=0)
    along /= np.linalg.norm(along)
    frame = np.eye(4)
    frame[:3, 0] = np.cross(along, [0.0, 1.0, 0.0]) / np.linalg.norm(np.cross(along, [0.0, 1.0, 0.0]))
    frame[:3, 1], frame[:3, 2] = np.cross(along, frame[:3, 0]), along
    names = []
    for n in range(1, 7):
        image = read_image(f"slice_0{n}.nrrd")
        affine = frame @ np.diag([*image.grid.spacing, 1.0])
        middle = np.mean([matrix @ [71.5, 71.5, 0, 1] for matrix in truth], axis=0)[:3]
        affine[:3, 3] = middle - affine[:3, :3] @ [71.5, 71.5, 0.0]
        names.append(f"plane_{n}.nrrd")
        write_image(Image(image.data, Grid(image.grid.shape, affine)), names[-1])
    return names, along


def test_a_localiser_gives_radial_slices_their_places(here: Path) -> None:
    names, _ = in_one_plane(here)
    quick = ["--preset", "Preview", "--set", "finest_mm=4", "--set", "range_mm=8"]
    assert cli.run(["slices", "volume.nrrd", *names, "-o", "out", "-q", *quick, "--localiser", names[0]]) == 0
    report = json.loads((here / "out" / "report.json").read_text())
    assert any("fan about the normal of 'plane_1.nrrd'" in text for text in report["warnings"])
    off = []
    for n, name in enumerate(names, start=1):
        given, placed = read_image(name).grid, read_image(here / "out" / f"slice_0{n}_placed.nrrd").grid
        pose = read_transform(here / "out" / f"slice_0{n}.h5").matrix  # type: ignore[attr-defined]
        np.testing.assert_allclose(placed.affine, pose @ given.affine, atol=1e-4)
        true = read_transform(f"slice_0{n}_true.h5").matrix @ read_image(f"slice_0{n}.nrrd").grid.affine  # type: ignore[attr-defined]
        off.append(np.linalg.norm((placed.affine - true) @ [71.5, 71.5, 0, 1]))
        off.append(np.rad2deg(np.arccos(np.clip(placed.direction[:, 2] @ true[:3, 2] / np.linalg.norm(true[:3, 2]), -1, 1))))
    assert np.median(off) < 1.0  # mm and degrees: the volume has voxels of 4 mm
    assert max(off) < 6.0  # 30 degrees lie between neighbours


def test_slices_in_one_plane_are_told_of_and_2d_files_need_a_localiser(here: Path) -> None:
    names, along = in_one_plane(here)
    grids = [read_image(name).grid for name in names]
    assert localiser.one_plane(grids)
    assert not localiser.one_plane([read_image(f"slice_0{n}.nrrd").grid for n in range(1, 7)])
    for upright in localiser.UPRIGHT:
        fan = localiser.fan(grids, grids[2], upright, 2.5)
        axis = "ij".index(upright[-1])
        for grid in fan:
            np.testing.assert_allclose(grid.direction[:, axis] * (-1) ** (len(upright) - 1), along, atol=1e-9)
            np.testing.assert_allclose(grid.centre, grids[2].centre, atol=1e-9)
        turns = [np.rad2deg(np.arccos(min(1.0, abs(fan[0].direction[:, 2] @ grid.direction[:, 2])))) for grid in fan]
        np.testing.assert_allclose(turns, [0, 30, 60, 90, 60, 30], atol=1e-5)
        assert {float(grid.spacing[2].round(6)) for grid in fan} == {2.5}
    for n in range(2):
        sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(n).normal(size=(40, 40)).astype(np.float32)), f"flat_{n}.nrrd")
    request = SlicesRequest("volume.nrrd", ["flat_0.nrrd", "flat_1.nrrd"], "out", localiser=names[0], thickness_mm=3.0)
    inputs = load_slices(request)
    assert [image.grid.size for image in inputs.slices] == [(40, 40, 1)] * 2
    assert inputs.arranged is not None
    request = SlicesRequest("volume.nrrd", names, "out")
    assert any("claim the same plane" in text for text in load_slices(request).notes)


def test_a_dicom_slice_holds_its_own_centre_and_normal(here: Path) -> None:
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", generate_uid()
    dataset.SeriesInstanceUID = dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = generate_uid()
    dataset.Modality, dataset.SliceThickness, dataset.PixelSpacing = "MR", 3.5, [1.5, 1.25]  # rows first
    dataset.ImagePositionPatient = [10.0, -20.0, 30.0]
    dataset.ImageOrientationPatient = [0.0, 0.8, 0.6, 1.0, 0.0, 0.0]
    dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 24, 32, 16, 12, 11
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.PixelData = np.random.default_rng(0).integers(0, 900, (24, 32)).astype(np.uint16).tobytes()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as("slice.dcm", enforce_file_format=True)
    (image,) = load_slices(SlicesRequest("volume.nrrd", ["slice.dcm"], "out")).slices
    assert image.grid.size == (32, 24, 1)
    np.testing.assert_allclose(image.grid.spacing, [1.25, 1.5, 3.5])
    np.testing.assert_allclose(image.grid.affine[:3, 3], [-10.0, 20.0, 30.0], atol=1e-6)  # LPS to RAS
    np.testing.assert_allclose(np.abs(image.grid.direction[:, 2]), [0.0, 0.6, 0.8], atol=1e-6)
    del dataset.ImageOrientationPatient, dataset.ImagePositionPatient
    dataset.save_as("nowhere.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"nowhere.dcm.*ImageOrientationPatient"):
        load_slices(SlicesRequest("volume.nrrd", ["nowhere.dcm"], "out"))


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


def full_masks(here: Path) -> list[str]:
    for n in (1, 2):
        image = read_image(f"slice_0{n}_mask.nrrd")
        write_image(image.with_data(torch.ones_like(image.data)), f"full_{n}.nrrd")
    argv = ["volume.nrrd", "slice_01.nrrd", "slice_02.nrrd", "--volume-mask", "volume_mask.nrrd"]
    return [*argv, "--slice-masks", "full_1.nrrd", "full_2.nrrd", *HULL]


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
    "parallel slices for a hull": (
        lambda here: ["volume.nrrd", *["slice_01.nrrd"] * 3, "--volume-mask", "volume_mask.nrrd", *HULL],
        ("two or more slices at different angles", "3 slices within 0 degrees"),
    ),
    "silhouettes over the border": (
        full_masks,
        ("silhouette of slice 1 covers 100 % of the picture's border", "start=search"),
    ),
    "2D localiser": (lambda here: [*two_dimensional(here), "--localiser", "flat.nrrd"], ("flat.nrrd", "2D", "orientation")),
    "thickness without localiser": (
        lambda here: ["volume.nrrd", "slice_01.nrrd", "--thickness", "3"],
        ("thickness_mm", "expected a localiser"),
    ),
    "unknown picture axis": (
        lambda here: ["volume.nrrd", "slice_01.nrrd", "--localiser", "slice_01.nrrd", "--upright", "k"],
        ("upright", "j, -j, i, -i", "'k'"),
    ),
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
