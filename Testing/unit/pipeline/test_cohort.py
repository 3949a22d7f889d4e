"""A cohort: a failed child never stops the rest, a run started again ends with the same bytes, BIDS rules are named."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from cohort_data import write_bids
from regsuite.errors import InputError
from regsuite.pipeline.bids import sessions_of, subjects_of
from regsuite.pipeline.cohort import CohortRequest, _publish, run_cohort

STEPS = {"preset": "Preview", "bias": False}


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_bids(tmp_path_factory.mktemp("bids") / "raw", 3, dseg=True)
    scan = root / "sub-02" / "ses-2" / "anat" / "sub-02_ses-2_T1w.nii.gz"
    scan.write_bytes(scan.read_bytes()[:2000])  # cut short
    return root


def test_a_corrupt_scan_is_told_and_a_second_run_gives_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "derivatives"
    request = CohortRequest(str(dataset), str(out), workers=1, steps=STEPS)
    failed = run_cohort(request)
    assert list(failed) == ["sub-02"]
    assert "'sub-02/ses-2/anat/sub-02_ses-2_T1w.nii.gz'" in failed["sub-02"]  # and not where the dataset lies
    page = (out / "summary.html").read_text()
    assert "2 done, 1 failed" in page
    assert "sub-01_desc-overview_growth.png" in page
    assert "label 3" in (out / "sub-01" / "sub-01_volumes.tsv").read_text()
    before = digest(out)
    assert sum(name.endswith("xfm.nrrd") for name in before) == 2 * 3
    shutil.rmtree(out / "sub-03")  # as if it had been killed while it worked on this one
    (out / ".work" / "sub-03" / "raw").mkdir(parents=True)
    assert run_cohort(request) == failed
    assert digest(out) == before
    with pytest.raises(InputError, match="other settings"):
        run_cohort(CohortRequest(str(dataset), str(out), workers=1, steps={"preset": "Default"}))


def test_a_subject_that_another_worker_finished_meanwhile_is_kept(tmp_path: Path) -> None:
    for folder in (tmp_path / ".work" / "sub-a", tmp_path / "sub-a"):
        folder.mkdir(parents=True)
        (folder / "sub-a_report.json").write_text(folder.parent.name)
    _publish(tmp_path / ".work" / "sub-a", tmp_path, "sub-a")
    assert (tmp_path / "sub-a" / "sub-a_report.json").read_text() == tmp_path.name
    (tmp_path / "sub-a" / "sub-a_report.json").rename(tmp_path / "sub-a" / "note.txt")
    with pytest.raises(OSError):
        _publish(tmp_path / ".work" / "sub-a", tmp_path, "sub-a")


def test_what_is_no_dataset_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset_description\.json"):
        run_cohort(CohortRequest(str(tmp_path), str(tmp_path / "out")))
    (tmp_path / "dataset_description.json").write_text('{"Name": "x"}')
    with pytest.raises(InputError, match="BIDSVersion"):
        subjects_of(tmp_path)
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    with pytest.raises(InputError, match="no subject"):
        subjects_of(tmp_path)
    assert not (tmp_path / "out").exists()


def test_each_broken_rule_names_its_file(tmp_path: Path) -> None:
    def make(name: str) -> Path:
        for visit in (1, 2):
            anatomy = tmp_path / name / f"ses-{visit}" / "anat"
            anatomy.mkdir(parents=True)
            (anatomy / f"{name}_ses-{visit}_T1w.nii.gz").touch()
        (tmp_path / name / f"{name}_sessions.tsv").write_text("session_id\tage\nses-1\t2\nses-2\t3.5\n")
        return tmp_path / name

    good = make("sub-a")
    assert [s.age_years for s in sessions_of(tmp_path, "sub-a")] == [2.0, 3.5]
    (good / "ses-2" / "anat" / "sub-a_ses-2_run-2_T1w.nii.gz").touch()
    with pytest.raises(InputError, match="2 T1w images"):
        sessions_of(tmp_path, "sub-a")
    (make("sub-b") / "sub-b_sessions.tsv").unlink()
    with pytest.raises(InputError, match=r"sub-b_sessions\.tsv' is missing"):
        sessions_of(tmp_path, "sub-b")
    (make("sub-c") / "sub-c_sessions.tsv").write_text("session_id\tage\nses-1\t2\nses-2\tn/a\n")
    with pytest.raises(InputError, match="no usable age for 'ses-2'"):
        sessions_of(tmp_path, "sub-c")
    anatomy = make("sub-d") / "ses-1" / "anat"
    (anatomy / "sub-d_ses-1_T1w.nii.gz").rename(anatomy / "sub-x_ses-1_T1w.nii.gz")
    with pytest.raises(InputError, match="another subject"):
        sessions_of(tmp_path, "sub-d")
    (anatomy / "sub-x_ses-1_T1w.nii.gz").unlink()
    with pytest.raises(InputError, match="no T1w"):
        sessions_of(tmp_path, "sub-d")
    shutil.rmtree(make("sub-e") / "ses-2")
    with pytest.raises(InputError, match="two or more"):
        sessions_of(tmp_path, "sub-e")


def test_a_scheduler_that_does_not_answer_is_told(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No dask scheduler"):
        run_cohort(CohortRequest(str(dataset), str(tmp_path / "out"), scheduler="tcp://127.0.0.1:9"))
