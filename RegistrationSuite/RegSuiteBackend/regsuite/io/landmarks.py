"""Landmarks in files: Slicer .mrk.json and .fcsv, and csv of x, y, z in RAS mm."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry import frames
from regsuite.io.atomic import staged_file
from regsuite.io.itk import readable_file, unreadable

LANDMARK_EXTENSIONS = (".mrk.json", ".json", ".fcsv", ".csv")
_EXPECTED = "landmarks (.mrk.json, .fcsv, or csv with x, y, z in RAS mm)"
_SYSTEMS = {"RAS": False, "0": False, "LPS": True, "1": True}  # name in a Slicer file -> is x, y to be flipped?
_SCHEMA = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def read_landmarks(path: str | os.PathLike[str]) -> torch.Tensor:
    """Read landmarks -> (N, 3) float64, (x, y, z) RAS mm, in the order of the file.

    .mrk.json: every control point of the first markup whose position is defined. .fcsv: its CoordinateSystem line (RAS or 0,
    LPS or 1) is required, as Slicer's versions differ without one. .csv: columns named x, y, z (other columns are ignored), or
    exactly three numbers a line without a header. Empty lines and lines that begin with # are skipped.

    Raises InputError with the line number for anything else, and when there is no landmark.
    """
    name = Path(path)
    readable_file(name, _EXPECTED)
    try:
        text = name.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(name, _EXPECTED, "bytes that are no text") from error
    lower = name.name.lower()
    if lower.endswith(".json"):
        rows = _parse_markups(text, name)
    elif lower.endswith(".fcsv"):
        rows = _parse_fcsv(text, name)
    elif lower.endswith(".csv"):
        rows = _parse_csv(text, name)
    else:
        raise unreadable(name, _EXPECTED, f"the extension '{name.suffix}'")
    if not rows:
        raise unreadable(name, "at least one landmark", "none")
    return torch.tensor(rows, dtype=torch.float64)


def write_landmarks(points: torch.Tensor, path: str | os.PathLike[str], labels: Sequence[str] | None = None) -> None:
    """Write (N, 3) RAS mm, all or nothing, as .mrk.json or .fcsv (both LPS, and marked so) or .csv (label, x, y, z in RAS).

    `labels`: one name per point, by default 1, 2, 3 ... Coordinates keep all digits of float64.
    Raises InputError for points that are not finite (N, 3), a wrong number of labels or an unknown extension; OutputError when
    the file cannot be written.
    """
    target = Path(path)
    values = check.points("landmarks", points)
    names = [str(n + 1) for n in range(len(values))] if labels is None else [str(label) for label in labels]
    if len(names) != len(values):
        raise InputError(f"Cannot write '{target}': expected {len(values)} labels, found {len(names)}.")
    lower = target.name.lower()
    if not lower.endswith(LANDMARK_EXTENSIONS):
        raise InputError(f"Cannot write '{target}': expected an extension of {', '.join(LANDMARK_EXTENSIONS)}.")
    lps = frames.flip_points(values).tolist()
    with staged_file(target) as stage, stage.open("w", encoding="utf-8", newline="") as stream:
        if lower.endswith(".json"):
            json.dump(_markups(lps, names), stream, indent=2)
        elif lower.endswith(".fcsv"):
            stream.write(f"# Markups fiducial file version = 5.0\n# CoordinateSystem = LPS\n# columns = {_FCSV_COLUMNS}\n")
            writer = csv.writer(stream, lineterminator="\n")
            for n, (xyz, label) in enumerate(zip(lps, names, strict=True), 1):
                writer.writerow([n, *xyz, 0, 0, 0, 1, 1, 1, 0, label, "", ""])
        else:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["label", "x", "y", "z"])
            writer.writerows([label, *xyz] for label, xyz in zip(names, values.tolist(), strict=True))


def _markups(lps: list[list[float]], names: list[str]) -> dict:
    """A Slicer markups document with one point list."""
    state = {"selected": True, "locked": False, "visibility": True, "positionStatus": "defined"}
    pairs = enumerate(zip(lps, names, strict=True), 1)
    control_points = [{"id": str(n), "label": label, "position": xyz, **state} for n, (xyz, label) in pairs]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": control_points}
    return {"@schema": _SCHEMA, "markups": [markup]}


def _parse_markups(text: str, name: Path) -> list[list[float]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # JSONDecodeError, or an integer of thousands of digits
        line = getattr(error, "lineno", 1)
        raise unreadable(name, "a Slicer markups file", f"broken JSON at line {line}") from error
    markups = document.get("markups") if isinstance(document, dict) else None
    if not isinstance(markups, list) or not markups or not isinstance(markups[0], dict):
        raise unreadable(name, "a Slicer markups file", "JSON without a list 'markups'")
    if len(markups) > 1:
        raise unreadable(name, "one point list", f"{len(markups)} markups")
    markup = markups[0]
    units = markup.get("coordinateUnits", "mm")
    if units != "mm":
        raise unreadable(name, "coordinates in mm", f"units {units!r}")
    flip = _is_lps(markup.get("coordinateSystem", "LPS"), name, "the markup")  # Slicer's default as well
    items = markup.get("controlPoints")
    if not isinstance(items, list):
        raise unreadable(name, "a list 'controlPoints'", type(items).__name__)
    rows = []
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise unreadable(name, f"an object as control point {number}", f"{item!r:.40}")
        if item.get("positionStatus", "defined") != "defined":
            continue
        position = item.get("position")
        if not isinstance(position, list) or len(position) != 3:
            raise unreadable(name, f"3 numbers as the position of control point {number}", f"{position!r:.40}")
        rows.append(_numbers(position, name, f"control point {number}"))
    return _to_ras(rows, flip)


def _parse_fcsv(text: str, name: Path) -> list[list[float]]:
    flip: bool | None = None
    columns = [1, 2, 3]
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            if key.strip() == "CoordinateSystem":
                flip = _is_lps(value.strip(), name, f"line {number}")
            elif key.strip() == "columns":
                titles = [t.strip().lower() for t in value.split(",")]
                columns = _columns_xyz(titles, name, number)
        elif line.strip():
            cells = _cells(line, name, number)
            if len(cells) <= max(columns):
                raise unreadable(name, f"at least {max(columns) + 1} values at line {number}", str(len(cells)))
            rows.append(_numbers([cells[c] for c in columns], name, f"line {number}"))
    if flip is None:  # Slicer's default changed between versions: RAS before, LPS now
        raise unreadable(name, "a line '# CoordinateSystem = RAS' or LPS", "none")
    return _to_ras(rows, flip)


def _parse_csv(text: str, name: Path) -> list[list[float]]:
    columns: list[int] | None = None
    rows = []
    first = True
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = _cells(line, name, number)
        if first and not all(_is_number(cell) for cell in cells):
            columns = _columns_xyz([cell.lower() for cell in cells], name, number)
            first = False
            continue
        first = False
        if columns is None and len(cells) != 3:
            raise unreadable(name, f"x,y,z (3 numbers, or a header naming them) at line {number}", f"{len(cells)} values")
        picked = columns or [0, 1, 2]
        if len(cells) <= max(picked):
            raise unreadable(name, f"at least {max(picked) + 1} values at line {number}", str(len(cells)))
        rows.append(_numbers([cells[c] for c in picked], name, f"line {number}"))
    return rows


def _cells(line: str, name: Path, number: int) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise unreadable(name, f"comma-separated values at line {number}", f"{line[:40]!r}") from error


def _columns_xyz(titles: list[str], name: Path, number: int) -> list[int]:
    """Where x, y and z stand in a header."""
    if any(titles.count(axis) != 1 for axis in "xyz"):
        raise unreadable(name, f"a header with one x, one y and one z at line {number}", f"{','.join(titles)[:60]!r}")
    return [titles.index(axis) for axis in "xyz"]


def _is_lps(system: object, name: Path, where: str) -> bool:
    """Does this Slicer file hold LPS?"""
    if not isinstance(system, str) or system.upper() not in _SYSTEMS:
        raise unreadable(name, f"the coordinate system RAS or LPS at {where}", f"{system!r:.40}")
    return _SYSTEMS[system.upper()]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(values: Sequence[object], name: Path, where: str) -> list[float]:
    """Three finite floats, else InputError with the place."""
    out = []
    for value in values:
        try:
            number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise unreadable(name, f"finite numbers x, y, z at {where}", f"{value!r:.40}")
        out.append(number)
    return out


def _to_ras(rows: list[list[float]], flip: bool) -> list[list[float]]:
    if not flip or not rows:
        return rows
    return frames.flip_points(torch.tensor(rows, dtype=torch.float64)).tolist()
