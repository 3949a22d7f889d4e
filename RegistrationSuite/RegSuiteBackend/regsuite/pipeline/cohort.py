"""Every child of a BIDS folder: one task per subject on dask.distributed, BIDS derivatives out.

A subject's folder appears in one piece when it is done. Started again after a kill, a run keeps what is done and makes the rest:
the bytes at the end are the same, whatever the number of workers. A subject that fails is told and tried again next time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regsuite import __version__
from regsuite.errors import InputError, OutputError
from regsuite.pipeline.bids import sessions_of, subjects_of
from regsuite.pipeline.cohort_page import write_page
from regsuite.pipeline.longitudinal import (
    CURVES,
    GROWTH,
    OVERVIEW,
    REPORT,
    TEMPLATE,
    VOLUMES,
    LongitudinalRequest,
    run_longitudinal,
)
from regsuite.progress import Progress, ProgressCallback

_WORK, _DESCRIPTION, _FAILURES = ".work", "dataset_description.json", "failures.tsv"


@dataclass(frozen=True)
class CohortRequest:
    """bids: the dataset; out: derivatives. scheduler: address of a dask scheduler, else `workers` local processes (0: one a core).

    steps: settings of LongitudinalRequest that hold for every subject (align, bias, brightness, contrast, preset).
    """

    bids: str
    out: str
    scheduler: str | None = None
    workers: int = 0
    steps: dict[str, Any] = field(default_factory=dict)


def run_cohort(request: CohortRequest, progress: ProgressCallback | None = None) -> dict[str, str]:
    """Do all subjects that are not done yet; returns {subject: reason} of those that failed.

    Raises InputError for a folder that is no BIDS dataset or derivatives made with other settings, OutputError when `out` cannot
    be written, Cancelled when `progress` returned False. Other errors of one subject never stop the rest.
    """
    stages = Progress(progress)
    root, out = Path(request.bids), Path(request.out)
    subjects = subjects_of(root)
    _describe(out, request)
    shutil.rmtree(out / _WORK, ignore_errors=True)
    waiting = [subject for subject in subjects if not _done(out, subject)]
    failed: dict[str, str] = {}
    with stages.stage("Subjects", 0.0, 0.98):
        if waiting:
            with _client(request, len(waiting)) as client:
                for number, (subject, reason) in enumerate(_results(client, request, waiting, stages)):
                    if reason:
                        failed[subject] = reason
                    done = len(subjects) - len(waiting) + number + 1
                    stages.step(done / len(subjects), f"{done} of {len(subjects)}, {len(failed)} failed")
    shutil.rmtree(out / _WORK, ignore_errors=True)
    with stages.stage("Summary", 0.98, 1.0):
        lines = ["participant_id\treason", *(f"{subject}\t{failed[subject]}" for subject in sorted(failed))]
        (out / _FAILURES).write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_page(out, [s for s in subjects if _done(out, s)], failed)
    return failed


def _results(client: Any, request: CohortRequest, waiting: list[str], stages: Progress) -> Iterator[tuple[str, str]]:
    from distributed import as_completed
    from distributed import wait as wait_for

    paths = (str(Path(request.bids).resolve()), str(Path(request.out).resolve()))
    futures = {client.submit(process_subject, *paths, s, request.steps, pure=False, retries=0): s for s in waiting}
    open_ = set(futures)
    while open_:
        try:
            wait_for(list(open_), timeout=0.5, return_when="FIRST_COMPLETED")
        except TimeoutError:
            stages.step(1.0 - len(open_) / max(1, len(futures)), "working")  # may raise Cancelled
            continue
        for future in as_completed([f for f in open_ if f.done()]):
            open_.discard(future)
            error = future.exception()  # a worker that died, out of memory perhaps
            yield futures[future], future.result() if error is None else f"{type(error).__name__}: {error}".splitlines()[0]


def process_subject(bids: str, out: str, subject: str, steps: dict[str, Any]) -> str:
    """One subject from BIDS to derivatives; returns "" or the reason why there is no result. Runs in a worker process."""
    import SimpleITK as sitk
    import torch

    torch.set_num_threads(1)  # subjects side by side fill the cores; and sums in one order give the same bytes everywhere
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    work = Path(out) / _WORK / subject
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)  # what a killed run leaves behind lies in here, and goes with the next run
    try:
        sessions = sessions_of(Path(bids), subject)
        marked = next((n for n, s in enumerate(sessions) if s.dseg is not None), None)
        extra: dict[str, Any] = dict(steps)
        if marked is not None:
            extra |= {"labels": str(sessions[marked].dseg), "labels_at": marked + 1}
        images, ages = [str(s.t1w) for s in sessions], [s.age_years for s in sessions]
        run_longitudinal(LongitudinalRequest(images, ages, str(work / "raw"), fields=True, **extra))
        _arrange(work, subject, [s.name for s in sessions])
        shutil.rmtree(work / "raw")
        _publish(work, Path(out), subject)
    except InputError as error:
        return _without(bids, str(error))
    except Exception as error:  # one subject never stops the rest
        return _without(bids, f"{type(error).__name__}: {error}".splitlines()[0])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ""


def _publish(work: Path, out: Path, subject: str) -> None:
    """Move a finished subject to its place; one that a worker of an interrupted run has finished meanwhile is as good."""
    try:
        os.replace(work, out / subject)
    except OSError:
        if not _done(out, subject):
            raise


def _without(folder: str, text: str) -> str:
    """Files are named from the dataset on: where it lies on a machine is nobody's business."""
    return text.replace(f"{Path(folder)}{os.sep}", "")


def _arrange(work: Path, subject: str, names: list[str]) -> None:
    """BIDS derivative names for the files of one subject."""
    raw = work / "raw"
    for n, name in enumerate(names, start=1):
        folder, stem = work / name / "anat", f"{subject}_{name}"
        folder.mkdir(parents=True)
        part = raw / f"time_{n:02d}"
        os.replace(part / "transform.nrrd", folder / f"{stem}_from-mid_to-T1w_mode-image_xfm.nrrd")
        os.replace(part / "moved.nrrd", folder / f"{stem}_space-mid_T1w.nrrd")
        if (part / "labels.nrrd").exists():
            os.replace(part / "labels.nrrd", folder / f"{stem}_desc-carried_dseg.nrrd")
        if n > 1:
            since = f"{stem}_space-mid_desc-since{names[n - 2][4:]}_growth.nrrd"
            os.replace(raw / f"growth_{n - 1:02d}_{n:02d}.nrrd", folder / since)
            first = f"{stem}_from-{names[0][4:]}_to-{name[4:]}_mode-image_xfm.nrrd"
            os.replace(raw / f"from_01_to_{n:02d}.nrrd", folder / first)
    for source, target in (
        (TEMPLATE, f"{subject}_space-mid_T1w.nrrd"),
        (GROWTH, f"{subject}_space-mid_desc-total_growth.nrrd"),
        (VOLUMES, f"{subject}_volumes.tsv"),
        (CURVES, f"{subject}_desc-curves_growth.png"),
        (OVERVIEW, f"{subject}_desc-overview_growth.png"),
        (REPORT, f"{subject}_report.json"),
    ):
        os.replace(raw / source, work / target)


def _done(out: Path, subject: str) -> bool:
    return (out / subject / f"{subject}_report.json").is_file()


def _describe(out: Path, request: CohortRequest) -> None:
    """dataset_description.json of the derivatives; what is there must have been made with the same settings."""
    facts = {
        "Name": "regsuite longitudinal",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "regsuite", "Version": __version__, "Description": "Growth of brains; research use only."}],
        "Settings": dict(sorted(request.steps.items())),
    }
    path = out / _DESCRIPTION
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            known = _facts(path)
            if known.get("Settings") != facts["Settings"] or known.get("GeneratedBy") != facts["GeneratedBy"]:
                raise InputError(f"'{out.name}' was made with other settings or another version; choose a new folder.")
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write to '{out}': {error.strerror}.") from error


def _facts(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"'{path.parent.name}/{path.name}' is not JSON; choose a new folder for the derivatives.") from None


@contextmanager
def _client(request: CohortRequest, tasks: int) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError("Cohorts need dask.distributed, which is not installed (pip install distributed).") from None
    if request.scheduler:
        try:
            client = Client(request.scheduler, timeout=10)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(f"No dask scheduler answers at '{request.scheduler}': {str(error).splitlines()[0]}") from None
        with client:
            yield client
        return
    count = min(request.workers or os.cpu_count() or 1, tasks)
    cluster = LocalCluster(n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50)
    with cluster, Client(cluster) as client:
        yield client
