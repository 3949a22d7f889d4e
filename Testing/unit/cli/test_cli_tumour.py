"""tumour-wm at the command line: a small slice is registered; every bad lesion and every unfit pair is one clear sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite import cli, io
from regsuite.geometry import Image
from regsuite.phantoms import make_phantom
from regsuite.phantoms.base import Phantom

FAST = ["--set", "steps=4", "--set", "levels=1", "--set", "fine_iterations=6", "--set", "finest_mm=6", "-q"]


@pytest.fixture(scope="module")
def slices() -> Phantom:
    """A patient and a template, one slice each."""
    return make_phantom("brain-tumour", 2, size=(64, 72, 1))


@pytest.fixture(scope="module")
def volumes() -> Phantom:
    return make_phantom("brain-tumour", 2, size=(32, 36, 30))


def written(folder: Path, **images: Image) -> dict[str, str]:
    for name, image in images.items():
        io.write_image(image, folder / f"{name}.nrrd")
    return {name: str(folder / f"{name}.nrrd") for name in images}


def run(files: dict[str, str], out: Path) -> int:
    inputs = [files["fixed"], files["moving"], "--lesion-mask", files["lesion"]]
    return cli.run(["register", "tumour-wm", *inputs, "-o", str(out), *FAST])


def said(files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(files, tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_slice_is_registered(slices: Phantom, tmp_path: Path) -> None:
    assert slices.lesion_mask is not None
    files = written(tmp_path, fixed=slices.fixed, moving=slices.moving, lesion=slices.lesion_mask)
    assert run(files, tmp_path / "out") == 0
    images = ("metamorphosed.nrrd", "residual.nrrd", "deformation_jacobian.nrrd", "geodesic.seq.nrrd", "masks.seq.nrrd")
    for name in ("transform.h5", "inverse_transform.h5", *images):
        assert (tmp_path / "out" / name).is_file(), sorted(path.name for path in (tmp_path / "out").iterdir())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["findings"]["residual"]["energy_outside_lesion"] == 0.0
    assert report["findings"]["ssd"]["deformation"] < report["findings"]["ssd"]["before"]
    similarity = {when: report["metrics"][when]["similarity"]["ncc"] for when in ("before", "after")}
    assert similarity["after"] > similarity["before"]
    check_inverse(tmp_path / "out", slices)
    masks, geodesic = (sitk.ReadImage(str(tmp_path / "out" / f"{name}.seq.nrrd")) for name in ("masks", "geodesic"))
    sizes = sitk.GetArrayFromImage(masks).astype(float).reshape(-1, masks.GetNumberOfComponentsPerPixel()).sum(axis=0)
    assert len(sizes) == geodesic.GetNumberOfComponentsPerPixel() == report["config"]["steps"] + 1
    assert 0.0 < sizes[0] < 0.4 * sizes[-1] and (np.diff(sizes) > 0.0).all()  # the mask grows from its seed


def check_inverse(out: Path, phantom: Phantom) -> None:
    """There and back again, for the voxels inside the head."""
    there, back = (sitk.ReadTransform(str(out / f"{name}.h5")) for name in ("transform", "inverse_transform"))
    index = torch.nonzero(phantom.fixed_mask.data[0] > 0)[::37].flip(1).double()
    points = phantom.fixed.grid.index_to_world(index).numpy() * [-1.0, -1.0, 1.0]
    away = [np.subtract(back.TransformPoint(there.TransformPoint(p)), p) for p in points.tolist()]
    moved = [np.subtract(there.TransformPoint(p), p) for p in points.tolist()]
    assert np.linalg.norm(moved, axis=1).max() > 1.0
    assert np.linalg.norm(away, axis=1).max() < 0.1


@pytest.mark.parametrize("kind", ["empty", "whole brain", "off the brain"])
def test_a_lesion_that_cannot_be_one(kind: str, volumes: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = torch.zeros(1, *volumes.fixed.grid.shape, dtype=torch.uint8)
    if kind == "whole brain":
        data[:] = (volumes.fixed_mask.data > 0).to(torch.uint8)
    elif kind == "off the brain":
        data[0, :3, :3, :3] = 1
    lesion = volumes.fixed.with_data(data)
    line = said(written(tmp_path, fixed=volumes.fixed, moving=volumes.moving, lesion=lesion), tmp_path, capsys)
    words = {"empty": "is empty: no voxel", "whole brain": "% of the head", "off the brain": "lies off the brain: 0 %"}
    assert words[kind] in line


def test_a_lesion_elsewhere_in_the_world(volumes: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert volumes.lesion_mask is not None
    affine = np.array(volumes.fixed.grid.affine)
    affine[:3, 3] += 1000.0
    lesion = Image(volumes.lesion_mask.data, type(volumes.fixed.grid)(volumes.fixed.grid.shape, affine))
    line = said(written(tmp_path, fixed=volumes.fixed, moving=volumes.moving, lesion=lesion), tmp_path, capsys)
    assert "lesion" in line.lower()
    assert "outside" in line or "overlap" in line


def test_opposite_contrast(volumes: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert volumes.lesion_mask is not None
    inside = volumes.moving_mask.data > 0
    turned = volumes.moving.with_data(torch.where(inside, 1000.0 - volumes.moving.data.float(), 0.0).clamp(min=0.0))
    line = said(written(tmp_path, fixed=volumes.fixed, moving=turned, lesion=volumes.lesion_mask), tmp_path, capsys)
    assert "opposite contrast" in line


def test_a_slice_with_a_volume(
    slices: Phantom, volumes: Phantom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slices.lesion_mask is not None
    line = said(written(tmp_path, fixed=slices.fixed, moving=volumes.moving, lesion=slices.lesion_mask), tmp_path, capsys)
    assert "one slice" in line
    assert "volume" in line
