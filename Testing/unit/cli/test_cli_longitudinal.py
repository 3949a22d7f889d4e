"""`regsuite longitudinal` refuses what it cannot measure: exit code 2, one line with the file and the rule, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from regsuite import cli


def scan(path: Path, shape: tuple[int, ...] = (16, 16, 16)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).uniform(0.0, 100.0, shape).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=False), str(path))
    return str(path)


def two(folder: Path, first: str = "a.nii.gz", second: str = "b.nii.gz") -> list[str]:
    return [scan(folder / first), scan(folder / second)]


def no_ages(folder: Path) -> list[str]:
    return two(folder)


def one_age(folder: Path) -> list[str]:
    return [*two(folder), "--ages", "2"]


def equal_ages(folder: Path) -> list[str]:
    return [*two(folder), "--ages", "3", "3"]


def four_dimensions(folder: Path) -> list[str]:
    return [scan(folder / "a.nii.gz"), scan(folder / "series.nii.gz", (3, 16, 16, 16)), "--ages", "2", "3"]


def two_children(folder: Path) -> list[str]:
    return [*two(folder, "sub-01_ses-1_T1w.nii.gz", "sub-02_ses-2_T1w.nii.gz"), "--ages", "2", "3"]


def no_t1(folder: Path) -> list[str]:
    return [*two(folder, "sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_acq-fast_T2w.nii.gz"), "--ages", "2", "3"]


def one_scan(folder: Path) -> list[str]:
    return [scan(folder / "a.nii.gz"), "--ages", "2"]


def flat(folder: Path) -> list[str]:
    return [scan(folder / "a.nii.gz"), scan(folder / "flat.nii.gz", (3, 16, 16)), "--ages", "2", "3"]


def absent(folder: Path) -> list[str]:
    return [scan(folder / "a.nii.gz"), str(folder / "gone.nii.gz"), "--ages", "2", "3"]


CASES: list[tuple[Callable[[Path], list[str]], tuple[str, ...]]] = [
    (no_ages, ("one age", "found 0")),
    (one_age, ("one age", "found 1")),
    (equal_ages, ("'a.nii.gz' and 'b.nii.gz'", "same age (3 years)")),
    (four_dimensions, ("series.nii.gz", "4")),
    (two_children, ("sub-01_ses-1_T1w.nii.gz", "sub-02_ses-2_T1w.nii.gz", "different subjects")),
    (no_t1, ("sub-01_ses-2_acq-fast_T2w.nii.gz", "T2w", "expected T1w")),
    (one_scan, ("two or more scans",)),
    (flat, ("flat.nii.gz", "3 slices", "at least 8")),
    (absent, ("gone.nii.gz", "no such file")),
]


@pytest.mark.parametrize(("make", "words"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_single_scans(make: Callable[[Path], list[str]], words: tuple[str, ...], tmp_path: Path, capsys) -> None:
    arguments = make(tmp_path / "data")
    out = tmp_path / "out"
    assert cli.run(["longitudinal", *arguments, "-o", str(out), "-q"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("regsuite: ")
    for word in words:
        assert word in said[0]
    assert not out.exists()


def dataset(folder: Path, table: str = "session_id\tage\nses-1\t2\nses-2\t3.5\n") -> Path:
    """One child with two sessions, right but for what a test breaks."""
    folder.mkdir()
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    for visit in (1, 2):
        scan(folder / "sub-a" / f"ses-{visit}" / "anat" / f"sub-a_ses-{visit}_T1w.nii.gz")
    (folder / "sub-a" / "sub-a_sessions.tsv").write_text(table)
    return folder


def anatomy(root: Path, visit: int = 2) -> Path:
    return root / "sub-a" / f"ses-{visit}" / "anat"


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


BROKEN: list[tuple[str, Callable[[Path], object], tuple[str, ...]]] = [
    ("no age", lambda root: (root / "sub-a" / "sub-a_sessions.tsv").write_text("session_id\tage\nses-1\t2\n"),
     ("sub-a_sessions.tsv", "no row for 'ses-2'")),
    ("equal ages", lambda root: (root / "sub-a" / "sub-a_sessions.tsv").write_text("session_id\tage\nses-1\t2\nses-2\t2\n"),
     ("sub-a_ses-1_T1w.nii.gz", "sub-a_ses-2_T1w.nii.gz", "same age")),
    ("no column", lambda root: (root / "sub-a" / "sub-a_sessions.tsv").write_text("session_id\tyears\nses-1\t2\n"),
     ("sub-a_sessions.tsv", "columns session_id and age")),
    ("another child", lambda root: rename(anatomy(root) / "sub-a_ses-2_T1w.nii.gz", "sub-b_ses-2_T1w.nii.gz"),
     ("sub-b_ses-2_T1w.nii.gz", "another subject")),
    ("no T1", lambda root: rename(anatomy(root) / "sub-a_ses-2_T1w.nii.gz", "sub-a_ses-2_T2w.nii.gz"),
     ("sub-a/ses-2/anat", "no T1w")),
    ("four dimensions", lambda root: scan(anatomy(root) / "sub-a_ses-2_T1w.nii.gz", (2, 16, 16, 16)),
     ("sub-a_ses-2_T1w.nii.gz", "4")),
]  # fmt: skip


@pytest.mark.parametrize(("break_it", "words"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_bids_subjects(break_it: Callable[[Path], object], words: tuple[str, ...], tmp_path: Path) -> None:
    """What the worker says of a subject; the command prints it, and fails where no subject is left."""
    from regsuite.pipeline.cohort import process_subject

    root = dataset(tmp_path / "bids")
    break_it(root)
    said = process_subject(str(root), str(tmp_path / "out"), "sub-a", {"preset": "Preview"})
    for word in words:
        assert word in said
    assert not (tmp_path / "out" / "sub-a").exists()


def test_a_dataset_without_any_result_is_exit_code_2(tmp_path: Path, capsys) -> None:
    root = dataset(tmp_path / "bids", "session_id\tage\nses-1\t2\nses-2\tn/a\n")
    assert cli.run(["longitudinal", str(root), "-o", str(tmp_path / "out"), "--workers", "1", "-q"]) == 2
    said = capsys.readouterr()
    assert "no usable age for 'ses-2'" in said.out and "No subject of 'bids' has a result" in said.err
    assert "sub-a" in (tmp_path / "out" / "failures.tsv").read_text()


def test_options_that_do_not_belong_together(tmp_path: Path, capsys) -> None:
    root = dataset(tmp_path / "bids")
    assert cli.run(["longitudinal", str(root), "--ages", "2", "3", "-o", str(tmp_path / "out")]) == 2
    assert "brings its own ages" in capsys.readouterr().err
    arguments = [*two(tmp_path / "data"), "--ages", "2", "3", "--workers", "2"]
    assert cli.run(["longitudinal", *arguments, "-o", str(tmp_path / "out")]) == 2
    assert "--workers belong to a BIDS folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
