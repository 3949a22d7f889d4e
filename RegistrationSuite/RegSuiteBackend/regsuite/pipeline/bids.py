"""Reading a BIDS folder of children scanned several times, and saying which rule is broken in which file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from regsuite.errors import InputError

_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_FILE = re.compile(r"(sub-[A-Za-z0-9]+)_(?:[A-Za-z0-9-]+_)*([A-Za-z0-9]+)\.[a-z.]+$")


@dataclass(frozen=True)
class Session:
    """One visit: its label (ses-...), age in years, T1w file, and a segmentation where there is one."""

    name: str
    age_years: float
    t1w: Path
    dseg: Path | None


def check_names(names: Sequence[str]) -> None:
    """Files of one subject whose names follow BIDS must be T1w images of one subject; raises InputError naming the file.

    Other names say nothing and pass.
    """
    first: tuple[str, str] | None = None
    for name in names:
        found = _FILE.match(name)
        if found is None:
            continue
        subject, suffix = found.group(1), found.group(2)
        if suffix != "T1w":
            raise InputError(f"'{name}' is a {suffix} image by its name; expected T1w images of one child.")
        if first is not None and subject != first[0]:
            raise InputError(f"'{first[1]}' and '{name}' are scans of different subjects; expected one child over time.")
        first = first or (subject, name)


def subjects_of(root: Path) -> list[str]:
    """sub-... folders in order of name. Raises InputError unless `root` is a BIDS dataset with at least one."""
    description = root / "dataset_description.json"
    if not description.is_file():
        raise InputError(f"'{root.name}' is no BIDS dataset: 'dataset_description.json' is missing from it.")
    try:
        facts = json.loads(description.read_text(encoding="utf-8"))
        missing = [key for key in ("Name", "BIDSVersion") if not isinstance(facts.get(key), str)]
    except (ValueError, AttributeError, UnicodeDecodeError):
        raise InputError("'dataset_description.json' is not a JSON object.") from None
    if missing:
        raise InputError(f"'dataset_description.json' lacks {' and '.join(missing)} (BIDS: required).")
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and _SUBJECT.fullmatch(p.name))
    if not found:
        raise InputError(f"'{root.name}' holds no subject; expected folders called sub-LABEL.")
    return found


def sessions_of(root: Path, subject: str) -> list[Session]:
    """The sessions of a subject in order of age; raises InputError naming file and rule."""
    ages = _ages(root / subject / f"{subject}_sessions.tsv")
    folders = sorted(p.name for p in (root / subject).iterdir() if p.is_dir() and p.name.startswith("ses-"))
    if len(folders) < 2:
        raise InputError(f"'{subject}' has {len(folders)} session(s); growth needs two or more ses-LABEL folders.")
    sessions = []
    for name in folders:
        if name not in ages:
            raise InputError(f"'{subject}_sessions.tsv' has no row for '{name}', which the folder holds.")
        anatomy = root / subject / name / "anat"
        scans = sorted(anatomy.glob("*_T1w.nii*")) if anatomy.is_dir() else []
        if not scans:
            raise InputError(f"'{subject}/{name}/anat' holds no T1w image (*_T1w.nii.gz).")
        if len(scans) > 1:
            raise InputError(f"'{subject}/{name}/anat' holds {len(scans)} T1w images; expected exactly one.")
        if not scans[0].name.startswith(f"{subject}_{name}_"):
            raise InputError(f"'{scans[0].name}' lies in '{subject}/{name}' but is named for another subject or session.")
        segmentation = next(iter(sorted(anatomy.glob("*_dseg.nii*"))), None)
        sessions.append(Session(name, ages[name], scans[0], segmentation))
    return sorted(sessions, key=lambda session: session.age_years)


def _ages(table: Path) -> dict[str, float]:
    if not table.is_file():
        raise InputError(f"'{table.name}' is missing; it holds the age of each session (columns session_id, age in years).")
    with table.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    if not rows or not {"session_id", "age"} <= set(rows[0]):
        raise InputError(f"'{table.name}' must have the columns session_id and age, separated by tabs.")
    ages: dict[str, float] = {}
    for row in rows:
        try:
            ages[str(row["session_id"])] = float(row["age"])
        except (TypeError, ValueError):
            raise InputError(f"'{table.name}' has no usable age for '{row['session_id']}': found {row['age']!r}.") from None
    return ages
