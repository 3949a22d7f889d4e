"""One child over time: growth against the phantom's truth, transitivity, tables, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io import read_image, read_labels, read_transform, write_image
from regsuite.phantoms import Phantom, make_phantom
from regsuite.pipeline.longitudinal import LongitudinalRequest, grow, run_longitudinal
from regsuite.pipeline.phantom import write_phantom
from regsuite.pipeline.playback import shape_at
from regsuite.progress import Progress
from regsuite.solvers.groupwise import unbiased_starts
from regsuite.transforms import compose

AGES = [2.0, 3.0, 5.0]


@pytest.fixture(scope="module")
def child() -> Phantom:
    return make_phantom("growth", 1, size=(44, 50, 44), ages=tuple(AGES))


@pytest.fixture(scope="module")
def data(child: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("child")
    write_phantom(child, folder)
    return folder


@pytest.fixture(scope="module")
def result(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [str(data / f"time_{n:02d}.nrrd") for n in (3, 1, 2)]  # any order
    out = tmp_path_factory.mktemp("growth") / "out"
    labels = str(data / "time_01_labels.nrrd")
    request = LongitudinalRequest(images, [5.0, 2.0, 3.0], str(out), labels=labels, labels_at=2, preset="Preview", frames=4)
    return run_longitudinal(request)


def test_growth_of_the_brain_is_right_within_a_percentage_point(child: Phantom, result: Path) -> None:
    rows = [line.split("\t") for line in (result / "volumes.tsv").read_text().splitlines()]
    brain = [float(row[4]) for row in rows if row[0] == "brain"]
    first, last = child.series[0], child.series[-1]
    inside = first.labels.data[0] > 0
    points = first.image.grid.index_to_world(inside.nonzero().flip(1).double())
    true = compose(last.to_anatomy.inverse(), first.to_anatomy)
    ticks = torch.eye(3, dtype=torch.float64) * 0.5
    columns = [true.map_points(points + t) - true.map_points(points - t) for t in ticks]
    expected = 100.0 * float(torch.linalg.det(torch.stack(columns, dim=2)).mean())
    assert brain[0] == 100.0
    assert brain[-1] == pytest.approx(expected, abs=1.0)


def test_the_maps_are_transitive_and_near_the_truth(child: Phantom, result: Path) -> None:
    to = [read_transform(result / f"time_{n:02d}" / "transform.h5") for n in (1, 2, 3)]
    direct = read_transform(result / "from_01_to_03.h5")
    points = child.fixed_landmarks
    by_way = [compose(to[1], to[0].inverse()), compose(to[2], to[1].inverse())]
    assert float((direct.map_points(points) - by_way[1].map_points(by_way[0].map_points(points))).norm(dim=1).max()) < 0.5
    assert float((direct.map_points(points) - child.moving_landmarks).norm(dim=1).mean()) < 0.8


def test_labels_travel_to_every_scan(child: Phantom, result: Path) -> None:
    carried = read_labels(result / "time_03" / "labels.nrrd").data
    true = child.moving_labels.data
    for label in (3, 7):
        overlap = 2.0 * ((carried == label) & (true == label)).sum() / ((carried == label).sum() + (true == label).sum())
        assert float(overlap) > 0.75


def test_pictures_to_play_grow_as_the_table_says(result: Path) -> None:
    ages = json.loads((result / "report.json").read_text())["frames_age_years"]
    assert ages == [2.0, 3.0, 4.0, 5.0]
    grown = [read_image(result / "frames" / f"growth_{n:03d}.nrrd") for n in (1, 2, 3, 4)]
    assert float(grown[0].data.abs().max()) < 1e-3
    pictures = [read_image(result / "frames" / f"frame_{n:03d}.nrrd") for n in (1, 4)]
    rows = [line.split("\t") for line in (result / "volumes.tsv").read_text().splitlines()]
    percent = [float(row[4]) for row in rows if row[0] == "brain"]
    mean = float(grown[3].data[grown[3].data != 0].mean())
    assert mean == pytest.approx(percent[2] - 100.0, abs=1.0)
    assert not torch.equal(pictures[0].data, pictures[1].data)


def test_a_shape_to_play_is_the_scan_but_for_its_pose(child: Phantom) -> None:
    request = LongitudinalRequest(["a", "b", "c"], AGES, "out", preset="Preview")
    with torch.no_grad():
        growth = grow(request, [s.image for s in child.series], [s.mask for s in child.series], Progress())
    points = growth.grid.world_points(torch.float64)[8:-8:9, 8:-8:9, 8:-8:9].reshape(-1, 3)
    for scan, (n, share) in enumerate(((0, 0.0), (0, 1.0), (1, 1.0))):
        shown, there = (t.map_points(points) for t in (shape_at(growth, n, share), growth.group.transforms[scan]))
        assert torch.allclose(torch.cdist(shown, shown), torch.cdist(there, there), atol=1e-3)
    early, late = (shape_at(growth, 0, share).map_points(points) for share in (0.0, 1.0))
    assert float((torch.cdist(late, late) - torch.cdist(early, early)).max()) > 0.5


def test_another_child_under_a_neutral_name_is_noticed(child: Phantom, result: Path) -> None:
    report = json.loads((result / "report.json").read_text())
    assert not any("same child" in text for text in report["warnings"])
    assert min(row["agreement"] for row in report["time_points"]) > 0.8
    other = make_phantom("growth", 2, size=(44, 50, 44), ages=(2.0, 5.0)).series[1]
    request = LongitudinalRequest(["visit1.nrrd", "visit2.nrrd"], [2.0, 5.0], "out", preset="Preview")
    with torch.no_grad():
        growth = grow(request, [child.series[0].image, other.image], [child.series[0].mask, other.mask], Progress())
    assert max(growth.group.agreement) < 0.75
    (said,) = [text for text in growth.warnings if "same child" in text]
    assert "'visit1.nrrd'" in said and "'visit2.nrrd'" in said


def test_the_folder_is_complete(result: Path) -> None:
    report = json.loads((result / "report.json").read_text())
    assert report["kind"] == "longitudinal"
    assert [t["age_years"] for t in report["time_points"]] == AGES
    assert report["jacobian_min"] > 0.5
    for name in ("template.nrrd", "growth_total.nrrd", "growth_01_02.nrrd", "curves.png", "overview.png"):
        assert (result / name).stat().st_size > 0
    rate = read_image(result / "growth_total.nrrd").data
    assert 0.5 < float(rate[rate != 0].median()) < 6.0


def test_starts_favour_no_scan() -> None:
    shift = np.eye(4)
    shift[:3, 3] = (6.0, 0.0, -3.0)
    grown = np.diag([1.21, 1.21, 1.21, 1.0])
    a, b = unbiased_starts([np.eye(4), shift])
    assert np.allclose(a[:3, 3], -shift[:3, 3] / 2.0)
    assert np.allclose(b[:3, 3], shift[:3, 3] / 2.0)
    a, b = unbiased_starts([np.eye(4), grown])
    assert np.allclose(np.linalg.det(a) * np.linalg.det(b), 1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ages": []}, "one age"),
        ({"ages": [2.0, 3.0, 3.0]}, "time_02.nrrd' and 'time_03.nrrd' have the same age"),
        ({"ages": [2.0, 3.0, float("nan")]}, "age of time_03"),
        ({"images": ["a.nrrd"], "ages": [2.0]}, "two or more"),
        ({"images": ["a.nrrd", "a.nrrd", "b.nrrd"]}, "given twice"),
        ({"labels_at": 4}, "labels_at"),
        ({"align": "elastic"}, "align"),
        ({"start": "anywhere"}, "start"),
        ({"preset": "Fast"}, "preset"),
        ({"masks": ["m.nrrd"]}, "one mask for each"),
    ],
)
def test_impossible_requests_are_refused(changes: dict, said: str, data: Path, tmp_path: Path) -> None:
    values = {"images": [str(data / f"time_{n:02d}.nrrd") for n in (1, 2, 3)], "ages": AGES, "out": str(tmp_path / "out")} | changes
    with pytest.raises(InputError, match=said):
        run_longitudinal(LongitudinalRequest(**values))
    assert not (tmp_path / "out").exists()


def test_four_dimensions_and_flat_images_name_their_file(data: Path, tmp_path: Path) -> None:
    scan = read_image(data / "time_01.nrrd")
    two = tmp_path / "two.nrrd"
    write_image(Image(scan.data.repeat(2, 1, 1, 1), scan.grid), two)
    with pytest.raises(InputError, match=r"two\.nrrd"):
        run_longitudinal(LongitudinalRequest([str(two), str(data / "time_02.nrrd")], [1.0, 2.0], str(tmp_path / "out")))
