"""Files that are no input: always InputError, one sentence that names the file, a clean standard error, never a hang."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io import read_image, read_labels, read_landmarks, read_transform, write_image, write_landmarks, write_transform

from Testing.unit.io import samples

VOLUMES = ("x.nrrd", "x.nii", "x.nii.gz", "x.mha")
TRANSFORMS = ("x.h5", "x.tfm", "x.mat")
EVERY = (*VOLUMES, *TRANSFORMS, "x.mrk.json", "x.fcsv", "x.csv")


def _reader(name: str):
    if name in VOLUMES:
        return read_image
    return read_transform if name in TRANSFORMS else read_landmarks


def _write(path: Path) -> None:
    if path.name in VOLUMES:
        write_image(samples.image(), path)
    elif path.name == "x.mat":
        sitk.WriteTransform(sitk.AffineTransform(3), str(path))
    elif path.name in TRANSFORMS:
        write_transform(samples.composite(), path)
    else:
        write_landmarks(samples.points(5), path)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, bytes]:
    """A valid file of every format."""
    folder = tmp_path_factory.mktemp("good")
    for name in EVERY:
        _write(folder / name)
    return {name: (folder / name).read_bytes() for name in EVERY}


def _refused(read, path: Path, capfd) -> str:
    """The sentence with which `read` refuses `path`; standard error stays empty."""
    capfd.readouterr()
    with pytest.raises(InputError) as caught:
        read(path)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert re.search("expected|must|singular", sentence)
    return sentence


@pytest.mark.parametrize("name", EVERY)
def test_missing_empty_folder_and_foreign_bytes(tmp_path, capfd, name):
    read, path = _reader(name), tmp_path / name
    assert "no such file" in _refused(read, path, capfd)
    path.write_bytes(b"")
    assert "empty file" in _refused(read, path, capfd)
    path.write_bytes(b"hello world, this is no such file\n")
    _refused(read, path, capfd)
    path.write_bytes(bytes(2000))
    _refused(read, path, capfd)
    path.unlink()
    path.mkdir()
    assert "found" in _refused(read, path, capfd)


@pytest.mark.parametrize("name", [*VOLUMES, *TRANSFORMS])
def test_cut_in_the_middle_of_the_data(tmp_path, capfd, good, name):
    path = tmp_path / name
    path.write_bytes(good[name][: len(good[name]) * 4 // 5])
    _refused(_reader(name), path, capfd)
    if name in VOLUMES:  # the last voxels alone
        path.write_bytes(good[name][:-12])
        _refused(read_image, path, capfd)


@pytest.mark.parametrize("name", ["x.nrrd", "x.nii.gz", "x.mha"])
def test_altered_compressed_byte_is_noticed(tmp_path, capfd, good, name):
    content = bytearray(good[name])
    content[-40] ^= 0x55
    (tmp_path / name).write_bytes(content)
    _refused(read_image, tmp_path / name, capfd)


@pytest.mark.parametrize("name", ["x.mhd", "y.nhdr"])
def test_header_without_its_data(tmp_path, capfd, name):
    sitk.WriteImage(sitk.GetImageFromArray(samples.image().data[0].numpy()), str(tmp_path / name))
    (data,) = (p for p in tmp_path.iterdir() if p.name != name)
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    _refused(read_image, tmp_path / name, capfd)
    data.unlink()
    _refused(read_image, tmp_path / name, capfd)


def _zoo(name: str, path: Path) -> None:
    volume = sitk.GetImageFromArray(samples.image().data[0].numpy())
    if name == "4d":
        sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(path))
    elif name == "rgb":
        sitk.WriteImage(sitk.Compose([sitk.Cast(volume, sitk.sitkUInt8)] * 3), str(path))
    elif name == "complex":
        sitk.WriteImage(sitk.RealAndImaginaryToComplex(volume, volume), str(path))
    else:
        data = samples.image().data.clone()
        data[0, 1, 2, 3] = {"nan": float("nan"), "infinite": float("inf"), "negative infinite": -float("inf")}[name]
        write_image(Image(data, samples.grid()), path)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("4d", "expected one 3D volume, found 4D data of 6x5x4x2"),
        ("rgb", "found 3"),
        ("complex", "complex voxels|found 2"),
        ("nan", "1 NaN or infinite voxels"),
        ("infinite", "1 NaN or infinite voxels"),
        ("negative infinite", "1 NaN or infinite voxels"),
    ],
)
def test_voxels_that_are_no_input(tmp_path, capfd, name, words, suffix):
    path = tmp_path / f"x{suffix}"
    _zoo(name, path)
    assert re.search(words, _refused(read_image, path, capfd))
    _refused(read_labels, path, capfd)


def test_metaimage_whose_data_file_name_is_garbage(tmp_path, capfd, good):
    """ITK's reader overruns its memory on this one (seen: abort)."""
    (tmp_path / "x.mha").write_bytes(good["x.mha"].replace(b"LOCAL\n", b"LOCAL\xe9"))
    assert "ElementDataFile" in _refused(read_image, tmp_path / "x.mha", capfd)


def test_metaimage_without_dimensions(tmp_path, capfd, good):
    (tmp_path / "x.mha").write_bytes(good["x.mha"].replace(b"NDims = 3", b"NDims = 0"))
    _refused(read_image, tmp_path / "x.mha", capfd)


@pytest.mark.parametrize("directions", ["(1,0,0) (2,0,0) (0,0,1)", "(1,0,0) (0,0,0) (0,0,1)", "(1,0,0) (0,1,0) (1,1,1e-9)"])
def test_nrrd_with_dependent_axes(tmp_path, capfd, good, directions):
    content = re.sub(rb"space directions:[^\n]*", b"space directions: " + directions.encode(), good["x.nrrd"])
    (tmp_path / "x.nrrd").write_bytes(content)
    assert "singular" in _refused(read_image, tmp_path / "x.nrrd", capfd)


@pytest.mark.parametrize("matrix", ["1 0 0 2 0 0 0 0 1", "0 0 0 0 0 0 0 0 0"])
def test_metaimage_with_dependent_axes(tmp_path, capfd, good, matrix):
    content = re.sub(rb"TransformMatrix = [^\n]*", b"TransformMatrix = " + matrix.encode(), good["x.mha"])
    (tmp_path / "x.mha").write_bytes(content)
    assert "singular" in _refused(read_image, tmp_path / "x.mha", capfd)


@pytest.mark.parametrize("rows", [(0.0,) * 12, (1.0, 0, 0, 5, 0, 1, 0, 6, 0, 1, 0, 7)])
@pytest.mark.parametrize("zipped", [False, True])
def test_nifti_with_a_zero_or_singular_sform_and_no_qform(tmp_path, capfd, good, rows, zipped):
    content = bytearray(good["x.nii"])
    content[252:256] = struct.pack("<2h", 0, 1)
    content[280:328] = struct.pack("<12f", *rows)
    path = tmp_path / ("x.nii.gz" if zipped else "x.nii")
    path.write_bytes(gzip.compress(bytes(content)) if zipped else bytes(content))
    assert "singular" in _refused(read_image, path, capfd)


def test_header_that_promises_more_than_memory(tmp_path, capfd, good):
    for name, field in [("x.nrrd", b"sizes: "), ("x.mha", b"DimSize = ")]:
        content = good[name].replace(field + b"6 5 4", field + b"60000 50000 40000")
        assert content != good[name]
        (tmp_path / name).write_bytes(content)
        _refused(read_image, tmp_path / name, capfd)
    content = bytearray(good["x.nii"])
    content[42:48] = struct.pack("<3h", 30000, 30000, 30000)
    (tmp_path / "x.nii").write_bytes(content)
    assert "cut short" in _refused(read_image, tmp_path / "x.nii", capfd)


@pytest.mark.parametrize("name", VOLUMES)
def test_transform_read_as_image_and_the_reverse(tmp_path, capfd, good, name):
    for foreign in ("x.h5", "x.mrk.json", "x.csv"):
        (tmp_path / foreign).write_bytes(good[foreign])
        _refused(read_image, tmp_path / foreign, capfd)
    (tmp_path / name).write_bytes(good[name])
    assert "found 1" in _refused(read_transform, tmp_path / name, capfd)
    _refused(read_landmarks, tmp_path / name, capfd)


# HDF5 itself crashes on some single altered bytes, so .h5 is cut but not altered.
ALTERED = tuple(name for name in EVERY if name != "x.h5")
FUZZ = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _survives(name: str, path: Path, content: bytes) -> None:
    """Reading gives a value or InputError, nothing else."""
    path.write_bytes(content)
    try:
        _reader(name)(path)
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", EVERY)
@given(share=st.floats(0.0, 1.0, exclude_max=True))
@FUZZ
def test_fuzz_cut_anywhere(tmp_path, good, name, share):
    content = good[name][: int(share * len(good[name]))]
    if name in VOLUMES:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            read_image(tmp_path / name)
    else:  # a text that ends after a whole line is a shorter valid file
        _survives(name, tmp_path / name, content)


@pytest.mark.parametrize("name", ALTERED)
@given(changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6))
@FUZZ
def test_fuzz_altered_bytes(tmp_path, good, name, changes):
    content = bytearray(good[name])
    for place, value in changes:
        content[place % len(content)] = value
    _survives(name, tmp_path / name, bytes(content))


@pytest.mark.parametrize("name", EVERY)
@given(content=st.binary(min_size=1, max_size=400))
@FUZZ
def test_fuzz_random_bytes_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError):
        _reader(name)(tmp_path / name)


def test_fuzz_oracle_accepts_the_good_files(tmp_path, good):
    """The bytes that the fuzz tests start from do read: a refusal there is due to the change."""
    for name in EVERY:
        (tmp_path / name).write_bytes(good[name])
        _reader(name)(tmp_path / name)
    assert torch.equal(read_image(tmp_path / "x.nii").data, samples.image().data)
    np.testing.assert_allclose(read_landmarks(tmp_path / "x.csv"), samples.points(5))
