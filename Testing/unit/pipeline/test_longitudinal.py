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
from regsuite.pipeline.longitudinal import LongitudinalRequest, run_longitudinal
from regsuite.pipeline.phantom import write_phantom
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
    request = LongitudinalRequest(images, [5.0, 2.0, 3.0], str(out), labels=labels, labels_at=2, preset="Preview")
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
