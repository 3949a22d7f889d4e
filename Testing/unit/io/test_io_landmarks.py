"""Landmark files: frames, layouts, and the line that is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from regsuite.errors import InputError
from regsuite.io import read_landmarks, write_landmarks

POINTS = torch.tensor([[1.5, -2.25, 3.125], [-10.1, 20.2, 1 / 3], [0.0, 1e-7, -400.0]], dtype=torch.float64)


def _markups(points, **changes) -> str:
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [{"position": p} for p in points]}
    markup.update(changes)
    return json.dumps({"markups": [{k: v for k, v in markup.items() if v is not None}]})


@pytest.mark.parametrize("name", ["p.mrk.json", "p.fcsv", "p.csv"])
def test_round_trip_is_exact(tmp_path, name):
    write_landmarks(POINTS, tmp_path / name, labels=["a", 'b, "quoted"', "c"])
    assert torch.equal(read_landmarks(tmp_path / name), POINTS)


def test_files_hold_the_frame_they_claim(tmp_path):
    write_landmarks(POINTS, tmp_path / "p.mrk.json")
    markup = json.loads((tmp_path / "p.mrk.json").read_text())["markups"][0]
    assert markup["coordinateSystem"] == "LPS"
    assert markup["controlPoints"][0]["position"] == [-1.5, 2.25, 3.125]
    write_landmarks(POINTS, tmp_path / "p.fcsv")
    lines = (tmp_path / "p.fcsv").read_text().splitlines()
    assert lines[1] == "# CoordinateSystem = LPS"
    assert lines[3].startswith("1,-1.5,2.25,3.125,")
    write_landmarks(POINTS, tmp_path / "p.csv", labels=["tip", "b", "c"])
    assert (tmp_path / "p.csv").read_text().splitlines()[:2] == ["label,x,y,z", "tip,1.5,-2.25,3.125"]


@pytest.mark.parametrize(("system", "sign"), [("RAS", 1), ("0", 1), ("LPS", -1), ("1", -1), (None, -1)])
def test_markups_frames(tmp_path, system, sign):
    (tmp_path / "p.mrk.json").write_text(_markups([[1.0, 2.0, 3.0]], coordinateSystem=system))
    assert read_landmarks(tmp_path / "p.mrk.json").tolist() == [[sign * 1.0, sign * 2.0, 3.0]]


@pytest.mark.parametrize(("system", "sign"), [("RAS", 1), ("0", 1), ("LPS", -1), ("1", -1)])
def test_fcsv_frames(tmp_path, system, sign):
    (tmp_path / "p.fcsv").write_text(
        f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n# columns = id,x,y,z,ow,ox,oy,oz,label\n"
        "vtkMRMLMarkupsFiducialNode_1,1,2,3,0,0,0,1,F-1\n\n"
    )
    assert read_landmarks(tmp_path / "p.fcsv").tolist() == [[sign * 1.0, sign * 2.0, 3.0]]


def test_only_defined_positions_count(tmp_path):
    points = [{"position": [1, 2, 3]}, {"positionStatus": "undefined"}, {"position": [4, 5, 6], "positionStatus": "defined"}]
    (tmp_path / "p.json").write_text(_markups([], controlPoints=points, coordinateSystem="RAS"))
    assert read_landmarks(tmp_path / "p.json").tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3\n4,5,6\n",
        "x,y,z\n1,2,3\n4,5,6",
        "Landmark,Z,X,Y\r\na,3,1,2\r\n\r\nb,6,4,5\r\n",
        "\ufeff# note\n 1 , 2 , 3\n4,5,6e0\n",
    ],
)
def test_csv_layouts(tmp_path, text):
    (tmp_path / "p.csv").write_bytes(text.encode())
    assert read_landmarks(tmp_path / "p.csv").tolist() == [[1, 2, 3], [4, 5, 6]]


BAD = {
    "short.csv": ("1,2,3\n4,5\n", "line 2"),
    "word.csv": ("x,y,z\n1,2,3\n4,five,6\n", "line 3"),
    "nan.csv": ("1,2,3\n\n4,nan,6\n", "line 3"),
    "inf.csv": ("1,2,inf\n", "line 1"),
    "extra.csv": ("1,2,3,4\n", "line 1, found 4 values"),
    "header.csv": ("a,b,c\n1,2,3\n", "line 1"),
    "twice.csv": ("x,y,z,x\n1,2,3,4\n", "line 1"),
    "late.csv": ("1,2,3\nx,y,z\n", "line 2"),
    "quote.csv": ('1,2,3\n"4,5,6\n', "line 2"),
    "empty.csv": ("x,y,z\n", "at least one landmark"),
    "none.fcsv": ("# CoordinateSystem = RAS\n", "at least one landmark"),
    "frame.fcsv": ("# columns = id,x,y,z\n1,2,3,4\n", "CoordinateSystem"),
    "ijk.fcsv": ("# CoordinateSystem = IJK\n1,2,3,4\n", "line 1, found 'IJK'"),
    "short.fcsv": ("# CoordinateSystem = RAS\n1,2,3\n", "line 2"),
    "columns.fcsv": ("# CoordinateSystem = RAS\n# columns = id,r,a,s\n1,2,3,4\n", "line 2"),
    "word.fcsv": ("# CoordinateSystem = RAS\n1,2,x,4\n", "line 2"),
    "broken.json": ('{"markups": [\n{', "broken JSON at line 2"),
    "list.json": ("[1, 2]", "without a list 'markups'"),
    "none.json": ('{"markups": []}', "without a list 'markups'"),
    "deep.json": ("[" * 100_000, "broken JSON"),
    "frame.json": (_markups([[1, 2, 3]], coordinateSystem="IJK"), "RAS or LPS"),
    "number.json": (_markups([[1, 2, 3]], coordinateSystem=0), "RAS or LPS"),
    "units.json": (_markups([[1, 2, 3]], coordinateUnits="m"), "mm"),
    "two.json": (_markups([[1, 2, 3], [1, 2]]), "control point 2"),
    "word.json": (_markups([[1, 2, "x"]]), "control point 1"),
    "true.json": (_markups([[1, 2, True]]), "control point 1"),
    "nan.json": (_markups([[1, 2, float("nan")]]), "control point 1"),
    "huge.json": (_markups([[1, 2, 10**400]]), "control point 1"),
    "points.json": (_markups([], controlPoints={}), "controlPoints"),
    "item.json": (_markups([], controlPoints=[3]), "control point 1"),
    "undefined.json": (_markups([], controlPoints=[{"positionStatus": "undefined"}]), "at least one landmark"),
    "points.txt": ("1,2,3\n", "extension '.txt'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where(tmp_path, name):
    text, where = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_landmarks(tmp_path / name)
    assert where in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_point_lists_are_refused(tmp_path):
    markup = json.loads(_markups([[1, 2, 3]]))["markups"][0]
    (tmp_path / "p.json").write_text(json.dumps({"markups": [markup, markup]}))
    with pytest.raises(InputError, match="found 2 markups"):
        read_landmarks(tmp_path / "p.json")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe1,2,3")
    with pytest.raises(InputError, match="no text"):
        read_landmarks(tmp_path / "p.csv")


def test_writing_refuses_bad_points(tmp_path):
    with pytest.raises(InputError, match="finite"):
        write_landmarks(torch.tensor([[1.0, float("nan"), 2.0]]), tmp_path / "p.csv")
    with pytest.raises(InputError, match=r"shape \(N, 3\)"):
        write_landmarks(torch.zeros(2, 2), tmp_path / "p.csv")
    with pytest.raises(InputError, match="expected 3 labels, found 1"):
        write_landmarks(POINTS, tmp_path / "p.csv", labels=["a"])
    with pytest.raises(InputError, match="extension"):
        write_landmarks(POINTS, tmp_path / "p.txt")
    assert not list(tmp_path.iterdir())
