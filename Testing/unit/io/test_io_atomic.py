"""All or nothing: what is on disk after success, failure and interrupt."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from regsuite.errors import OutputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, staged_file, staged_folder, write_image, write_landmarks, write_transform

from Testing.unit.io import samples

ROOT = Path(__file__).resolve().parents[3]


def _tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_staged_file_leaves_the_old_one_on_failure(tmp_path, failure):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(failure), staged_file(target) as stage:
        stage.write_text("half")
        raise failure
    assert _tree(tmp_path) == {"a.txt": "old"}


def test_staged_file_replaces_the_old_one_on_success(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with staged_file(target) as stage:
        stage.write_text("new")
        stage.with_name("a.raw").write_text("beside")
        assert target.read_text() == "old"
    assert _tree(tmp_path) == {"a.raw": "beside", "a.txt": "new"}


def test_staged_file_that_was_never_written(tmp_path):
    with pytest.raises(OutputError, match="nothing was written"), staged_file(tmp_path / "a.txt"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_new_folder_does_not_exist_after_failure(tmp_path, failure):
    with pytest.raises(failure), staged_folder(tmp_path / "a" / "b" / "out") as stage:
        (stage / "x.txt").write_text("half")
        assert stage.name.startswith(".")
        raise failure
    assert not list(tmp_path.iterdir())


def test_new_folder_appears_with_its_parents(tmp_path):
    out = tmp_path / "a" / "out"
    with staged_folder(out) as stage:
        (stage / "x.txt").write_text("one")
        (stage / "sub").mkdir()
        (stage / "sub" / "y.txt").write_text("two")
        assert not out.exists()
    assert _tree(tmp_path) == {"a/out/sub/y.txt": "two", "a/out/x.txt": "one"}
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_old_folder_is_as_it_was_after_failure(tmp_path, failure):
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.txt").write_text("old")
    with pytest.raises(failure), staged_folder(out) as stage:
        (stage / "x.txt").write_text("half")
        raise failure
    assert _tree(tmp_path) == {"out/x.txt": "old"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_old_folder_gains_the_results_and_keeps_the_rest(tmp_path):
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "x.txt").write_text("old")
    (out / "sub" / "keep.txt").write_text("keep")
    with staged_folder(out) as stage:
        (stage / "x.txt").write_text("new")
        (stage / "sub").mkdir()
        (stage / "sub" / "y.txt").write_text("more")
    assert _tree(tmp_path) == {"out/sub/keep.txt": "keep", "out/sub/y.txt": "more", "out/x.txt": "new"}


def test_folder_made_by_somebody_else_meanwhile_is_merged(tmp_path):
    out = tmp_path / "out"
    with staged_folder(out) as stage:
        (stage / "x.txt").write_text("mine")
        out.mkdir()
        (out / "z.txt").write_text("theirs")
    assert _tree(tmp_path) == {"out/x.txt": "mine", "out/z.txt": "theirs"}


def test_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with staged_folder("out") as stage:
        (stage / "x.txt").write_text("one")
    assert _tree(tmp_path) == {"out/x.txt": "one"}


@pytest.mark.parametrize("out", ["file", "file/out", "file/a/b"])
def test_file_in_the_way_is_refused_at_once(tmp_path, out):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match="file"), staged_folder(tmp_path / out):
        pytest.fail("the long work began")
    assert _tree(tmp_path) == {"file": "precious"}


def _as_user(code: str, folder: Path) -> subprocess.CompletedProcess:
    """Run code as an ordinary user (root ignores permissions)."""
    drop = "import os\nif os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
    path = os.pathsep.join([str(ROOT / "RegistrationSuite/RegSuiteBackend"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code.replace("DROP", drop), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="POSIX permissions")
def test_folder_without_permission_is_refused_at_once(tmp_path):
    for folder in [tmp_path, *list(tmp_path.parents)[:3]]:  # pytest's own folders, one more under xdist
        folder.chmod(0o755)
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "a.nrrd").write_text("secret")
    (locked / "a.nrrd").chmod(0)
    locked.chmod(0o555)
    code = """
import sys, torch
from regsuite.errors import InputError, OutputError
from regsuite.io import read_image, staged_folder, write_landmarks
DROP
for action in (lambda: staged_folder(sys.argv[1]).__enter__(), lambda: staged_folder(sys.argv[1] + "/new").__enter__(),
               lambda: write_landmarks(torch.zeros(1, 3), sys.argv[1] + "/p.csv"), lambda: read_image(sys.argv[1] + "/a.nrrd")):
    try:
        action()
        print("no error")
    except (OutputError, InputError) as error:
        print(type(error).__name__, error)
"""
    result = _as_user(code, locked)
    lines = result.stdout.splitlines()
    assert len(lines) == 4, result.stderr
    assert all(line.startswith("OutputError") and "no permission" in line for line in lines[:3]), lines
    assert lines[3].startswith("InputError") and "permission denied" in lines[3]
    assert [p.name for p in locked.iterdir()] == ["a.nrrd"]


FULL = ("a.nrrd", "a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.tfm", "f.nii.gz", "f.nrrd", "p.csv")


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="POSIX limits")
def test_full_disk_leaves_nothing(tmp_path):
    """A limit on the size of files stands for a full disk: ITK itself does not notice it for NIfTI and text transforms."""
    code = """
import resource, signal, sys, torch
import numpy as np
from regsuite.errors import OutputError
from regsuite.geometry import Grid, Image
from regsuite.io import write_image, write_landmarks, write_transform
from regsuite.transforms import DisplacementField
grid = Grid((20, 21, 22), np.eye(4))
noise = torch.randn(3, 20, 21, 22, generator=torch.Generator().manual_seed(0))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
for name in NAMES:
    path = sys.argv[1] + "/" + name
    try:
        if name == "a.tfm" or name.startswith("f."):
            write_transform(DisplacementField(noise, grid), path)
        elif name.endswith(".csv"):
            write_landmarks(noise.reshape(-1, 3), path)
        else:
            write_image(Image(noise[:1], grid), path)
        print("no error", name)
    except OutputError as error:
        print(error)
"""
    result = _as_user(code.replace("NAMES", repr(FULL)), tmp_path)
    lines = result.stdout.splitlines()
    assert len(lines) == len(FULL), result.stdout + result.stderr
    for name, line in zip(FULL, lines, strict=True):
        assert line.startswith(f"Cannot write '{tmp_path / name}'")
    assert result.stderr == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.nrrd", "t.h5", "t.nrrd", "p.csv"])
def test_missing_folder_is_named(tmp_path, name):
    writers = {"a.nrrd": (write_image, samples.image()), "p.csv": (write_landmarks, torch.zeros(1, 3))}
    write, value = writers.get(name, (write_transform, samples.field()))
    with pytest.raises(OutputError, match=r"the folder '.*nowhere' does not exist"):
        write(value, tmp_path / "nowhere" / name)
    with pytest.raises(OutputError, match="found a folder"):
        (tmp_path / name).mkdir()
        write(value, tmp_path / name)


def test_h5_asks_for_space_first(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6, 1000))
    with pytest.raises(OutputError, match=r"needs .* MB, found 0 MB free"):
        write_transform(samples.field(), tmp_path / "t.h5")
    assert not list(tmp_path.iterdir())


def test_overwriting_an_image_replaces_header_and_data_together(tmp_path):
    write_image(samples.image(), tmp_path / "a.mhd")
    write_image(Image(torch.ones(1, 2, 3, 4), Grid((2, 3, 4), samples.AFFINE)), tmp_path / "a.mhd")
    assert read_image(tmp_path / "a.mhd").data.shape == (1, 2, 3, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mhd", "a.zraw"]
