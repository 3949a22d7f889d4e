"""Structures from every kind of file: holes, overlaps, layers, surfaces in each of VTK's forms, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from regsuite.dose.occupancy import inside_outline
from regsuite.dose.structures import Structure, load_structures, parse_source
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import write_image

from Testing.unit.dose import shapes
from Testing.unit.dose.rt_files import LPS, structure_set

SPHERE_CC = 4 / 3 * np.pi * shapes.RADIUS**3 / 1000
FORMS = [(mode, zlib) for mode in ("ascii", "binary", "appended", "raw") for zlib in (False, True)]


def rings(radius: float, planes: int = 21, step: float = 2.0, centre: tuple[float, float] = (10.0, -5.0)) -> list[np.ndarray]:
    """Circles (n, 3) RAS mm of one size on axial planes: a cylinder of planes x step with `slab` ends."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    x, y = centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)
    return [np.stack([x, y, np.full(180, k * step - 20.0)], 1) for k in range(planes)]


def cylinder_cc(radius: float, length: float = 42.0) -> float:
    return np.pi * radius**2 * length / 1000


def only(structures: list[Structure]) -> Structure:
    assert len(structures) == 1
    return structures[0]


def load(source: str, **more: object) -> list[Structure]:
    return load_structures([source], 2.5, **more)  # type: ignore[arg-type]


def test_a_contour_inside_another_is_a_hole(tmp_path: Path) -> None:
    path = structure_set(tmp_path / "rs.dcm", {"Tube": rings(20.0) + rings(8.0)})
    assert only(load(str(path), ends="slab")).volume_cc == pytest.approx(cylinder_cc(20.0) - cylinder_cc(8.0), rel=2e-3)


def test_an_island_in_a_hole_counts_again_and_parts_beside_add_up(tmp_path: Path) -> None:
    nested = rings(20.0) + rings(12.0) + rings(5.0)
    apart = rings(6.0, centre=(60.0, 30.0))
    path = structure_set(tmp_path / "rs.dcm", {"Parts": nested + apart})
    exact = cylinder_cc(20.0) - cylinder_cc(12.0) + cylinder_cc(5.0) + cylinder_cc(6.0)
    assert only(load(str(path), ends="slab")).volume_cc == pytest.approx(exact, rel=3e-3)


def test_contours_that_cut_through_each_other_are_told(tmp_path: Path) -> None:
    path = structure_set(tmp_path / "rs.dcm", {"Both": rings(15.0) + rings(15.0, centre=(25.0, -5.0))})
    found = only(load(str(path), ends="slab"))
    half = np.arccos(7.5 / 15.0)
    lens = 2 * (15.0**2 * half - 7.5 * np.sqrt(15.0**2 - 7.5**2)) * 42.0 / 1000
    assert found.volume_cc == pytest.approx(2 * cylinder_cc(15.0) - 2 * lens, rel=4e-3), "XOR: what both enclose is outside"
    assert "21 pairs of contours cut through each other" in " ".join(found.notes)


def test_inside_an_outline_is_what_another_library_says() -> None:
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(4)
    angle = np.sort(rng.random(60) * 2 * np.pi)
    star = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (3.0 + rng.random((60, 1)) * 4.0)
    points = rng.uniform(-8.0, 8.0, (4000, 2))
    found = inside_outline(star, points)
    assert (found == Outline(star).contains_points(points)).all() and 0.1 < found.mean() < 0.9


def test_open_contours_enclose_nothing(tmp_path: Path) -> None:
    path = structure_set(tmp_path / "open.dcm", {"Scar": rings(9.0)}, kind="OPEN_PLANAR")
    with pytest.raises(InputError, match=r"'Scar'.*contours that enclose nothing.*21 OPEN_PLANAR"):
        load(f"Scar={path}")
    with pytest.raises(InputError, match="holds no region with closed contours"):
        load(str(path))
    lines = tmp_path / "lines.vtp"
    write_vtp(lines, polylines([ring[:-40] for ring in rings(9.0)]), "binary", True)
    with pytest.raises(InputError, match="21 of its 21 contours are open"):
        load(f"Scar={lines}")


def test_one_plane_needs_a_thickness(tmp_path: Path) -> None:
    path = structure_set(tmp_path / "rs.dcm", {"Flat": rings(9.0)[:1]})
    with pytest.raises(InputError, match=r"'Flat'.*all contours lie in one plane and the file gives no slice thickness"):
        load(str(path))
    path = structure_set(tmp_path / "two.dcm", {"Flat": rings(9.0)[:1], "Tall": rings(20.0)})
    flat = load(str(path))[0]
    assert flat.volume_cc == pytest.approx(cylinder_cc(9.0, 2.0), rel=0.01), "as thick as the other planes are apart"


def write_vtp(path: Path, data: object, mode: str, zlib: bool) -> Path:
    vtk = pytest.importorskip("vtk")
    writer = vtk.vtkXMLPolyDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(data)
    {"ascii": writer.SetDataModeToAscii, "binary": writer.SetDataModeToBinary}.get(mode, writer.SetDataModeToAppended)()
    writer.SetEncodeAppendedData(mode == "appended")
    if not zlib:
        writer.SetCompressorTypeToNone()
    assert writer.Write()
    return path


def polylines(lines: list[np.ndarray], close: bool = False) -> object:
    vtk = pytest.importorskip("vtk")
    points, cells, data = vtk.vtkPoints(), vtk.vtkCellArray(), vtk.vtkPolyData()
    for line in lines:
        first = points.GetNumberOfPoints()
        for point in line:
            points.InsertNextPoint(*point)
        ids = [*range(first, first + len(line)), *([first] if close else [])]
        cells.InsertNextCell(len(ids))
        for one in ids:
            cells.InsertCellPoint(one)
    data.SetPoints(points)
    data.SetLines(cells)
    return data


@pytest.mark.parametrize(("mode", "zlib"), FORMS)
def test_vtp_in_each_of_its_forms(tmp_path: Path, mode: str, zlib: bool) -> None:
    pytest.importorskip("vtk")
    points, faces = shapes.sphere_mesh(40)
    path = write_vtp(tmp_path / "ball.vtp", shapes.vtk_polydata(points * LPS, faces), mode, zlib)
    ball = only(load(f"Ball={path}"))
    assert ball.volume_cc == pytest.approx(SPHERE_CC, rel=2e-3) and centre_of(ball) == pytest.approx(shapes.CENTRE, abs=0.05)


def centre_of(structure: Structure) -> np.ndarray:
    share = structure.occupancy.data[0].double()
    points = structure.occupancy.grid.world_points(torch.float64)
    return ((points * share[..., None]).sum((0, 1, 2)) / share.sum()).numpy()


def test_a_surface_says_its_space_name_and_colour(tmp_path: Path) -> None:
    vtk = pytest.importorskip("vtk")
    points, faces = shapes.sphere_mesh(40)
    data = shapes.vtk_polydata(points, faces)
    for key, value in (("SPACE", "RAS"), ("Segment_Name", "Left=right")):
        text = vtk.vtkStringArray()
        text.SetName(key)
        text.InsertNextValue(value)
        data.GetFieldData().AddArray(text)
    colour = vtk.vtkDoubleArray()
    colour.SetName("Segment_DefaultColor")
    for part in (0.25, 0.5, 0.75):
        colour.InsertNextValue(part)
    data.GetFieldData().AddArray(colour)
    ball = only(load(str(write_vtp(tmp_path / "ball.vtp", data, "raw", True))))
    assert (ball.name, ball.colour) == ("Left=right", (0.25, 0.5, 0.75))
    assert centre_of(ball) == pytest.approx(shapes.CENTRE, abs=0.05)


def test_closed_lines_in_a_vtp_are_contours(tmp_path: Path) -> None:
    path = write_vtp(tmp_path / "c.vtp", polylines(rings(12.0), close=True), "binary", True)
    assert only(load(f"C={path}", space="RAS", ends="slab")).volume_cc == pytest.approx(cylinder_cc(12.0), rel=3e-3)


def test_legacy_vtk_and_stl_agree(tmp_path: Path) -> None:
    vtk = pytest.importorskip("vtk")
    points, faces = shapes.sphere_mesh(40)
    volumes = []
    for binary in (True, False):
        writer = vtk.vtkPolyDataWriter()
        writer.SetFileName(str(tmp_path / f"ball{binary}.vtk"))
        writer.SetInputData(shapes.vtk_polydata(points * LPS, faces))
        writer.SetFileTypeToBinary() if binary else writer.SetFileTypeToASCII()
        assert writer.Write()
        volumes.append(only(load(f"B={tmp_path / f'ball{binary}.vtk'}")).volume_cc)
    shapes.write_stl(tmp_path / "ball.stl", points * LPS, faces)
    volumes.append(only(load(f"B={tmp_path / 'ball.stl'}")).volume_cc)
    assert volumes == pytest.approx([SPHERE_CC] * 3, rel=2e-3)


def seg_nrrd(path: Path, layers: list[np.ndarray], segments: list[dict[str, str]]) -> Path:
    images = [sitk.GetImageFromArray(layer) for layer in layers]
    image = sitk.Compose(images) if len(images) > 1 else images[0]
    image.SetSpacing((2.0, 2.0, 2.5))
    for number, facts in enumerate(segments):
        for key, value in facts.items():
            image.SetMetaData(f"Segment{number}_{key}", value)
    sitk.WriteImage(image, str(path))
    return path


def boxes() -> tuple[np.ndarray, np.ndarray]:
    first, second = np.zeros((12, 20, 22), np.uint8), np.zeros((12, 20, 22), np.uint8)
    first[2:8, 3:12, 4:14], first[8:11, 3:12, 4:14] = 1, 2
    second[4:10, 5:15, 6:20] = 1
    return first, second


def test_layers_overlap_in_a_seg_nrrd(tmp_path: Path) -> None:
    first, second = boxes()
    facts = [
        {"ID": "S1", "Name": "Lung", "Color": "0.1 0.2 0.9", "Layer": "0", "LabelValue": "1"},
        {"ID": "S2", "Name": "Rest=2", "Color": "0.5 0.2 0.1", "Layer": "0", "LabelValue": "2"},
        {"ID": "S3", "Name": "Target", "Color": "0.9 0.2 0.1", "Layer": "1", "LabelValue": "1"},
    ]
    found = load(str(seg_nrrd(tmp_path / "s.seg.nrrd", [first, second], facts)))
    assert [s.name for s in found] == ["Lung", "Rest=2", "Target"] and found[2].colour == (0.9, 0.2, 0.1)
    voxels = [(first == 1).sum(), (first == 2).sum(), (second == 1).sum()]
    assert [s.volume_cc for s in found] == pytest.approx([n * 0.01 for n in voxels])
    only(load(f"{tmp_path / 's.seg.nrrd'}?name=Rest=2"))
    facts[2]["Layer"] = "4"
    with pytest.raises(InputError, match="layer 4 of segment 2, found 2 layers"):
        load(str(seg_nrrd(tmp_path / "bad.seg.nrrd", [first, second], facts)))
    with pytest.raises(InputError, match="is it a plain label image"):
        load(str(seg_nrrd(tmp_path / "plain.seg.nrrd", [first], [])))


def test_an_empty_segment_is_named(tmp_path: Path) -> None:
    facts = [{"ID": "S1", "Name": "Gone", "LabelValue": "7", "Layer": "0"}]
    with pytest.raises(InputError, match=r"'Gone'.*has no volume"):
        load(str(seg_nrrd(tmp_path / "s.seg.nrrd", [boxes()[0]], facts)))


def test_labels_by_number_and_shares(tmp_path: Path) -> None:
    first, _ = boxes()
    grid = Grid(first.shape, np.diag([-2.0, -2.0, 2.5, 1.0]))
    write_image(Image(torch.from_numpy(first.astype(np.int16)), grid), tmp_path / "labels.nrrd")
    write_image(Image(torch.from_numpy(first.astype(np.float32)) * 0.25, grid), tmp_path / "shares.nrrd")
    write_image(Image(torch.zeros(first.shape), grid), tmp_path / "zero.nrrd")
    assert [s.name for s in load(str(tmp_path / "labels.nrrd"))] == ["label_1", "label_2"]
    two = only(load(f"Two={tmp_path / 'labels.nrrd'}?label=2"))
    assert two.volume_cc == pytest.approx((first == 2).sum() * 0.01)
    assert only(load(f"Half={tmp_path / 'shares.nrrd'}")).volume_cc == pytest.approx(first.sum() * 0.25 * 0.01)
    for source, words in (
        (f"A={tmp_path / 'labels.nrrd'}", "holds 2 structures"),
        (f"{tmp_path / 'labels.nrrd'}?label=5", "holds 2 structures"),
        (f"{tmp_path / 'labels.nrrd'}?label=x", "a label is a whole number"),
        (f"A={tmp_path / 'zero.nrrd'}", "has no volume"),
        (f"={tmp_path / 'labels.nrrd'}", "found no name"),
        (f"A={tmp_path / 'missing.nrrd'}", "no such file"),
    ):
        with pytest.raises(InputError, match=words):
            load(source)
    with pytest.raises(InputError, match="used 2 times"):
        load_structures([f"A={tmp_path / 'labels.nrrd'}?label=1", f"A={tmp_path / 'labels.nrrd'}?label=2"], 2.5)


def test_sources_are_taken_apart(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.nrrd"
    odd.write_bytes(b"")
    assert parse_source(str(odd)).path == odd and parse_source(str(odd)).name is None
    named = parse_source(f"PTV={odd}")
    assert (named.name, named.path) == ("PTV", odd)
    picked = parse_source("PTV=set.dcm?name=GTV = 2")
    assert (picked.name, str(picked.path), picked.inner_name) == ("PTV", "set.dcm", "GTV = 2")
