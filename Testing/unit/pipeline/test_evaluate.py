"""The numbers of a report, against closed forms."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io import write_landmarks, write_transform
from regsuite.pipeline.evaluate import (
    EvaluationRequest,
    Region,
    field_statistics,
    image_similarity,
    mutual_information,
    run_evaluation,
)
from regsuite.pipeline.inputs import overlap_fraction
from regsuite.pipeline.region import foreground, otsu
from regsuite.transforms import AffineTransform, DisplacementField

from Testing.unit.lattices import grid_of
from Testing.unit.pipeline.pairs import SHIFT, blobs, fixed_grid, moving_grid

GRID = fixed_grid()
EVERYWHERE = Region(torch.ones(GRID.shape, dtype=torch.bool), "everywhere")


def stretch() -> AffineTransform:
    """Scales x by 1.5, y by 0.8, z by 1 about the grid's centre, then moves by (3, -2, 4) mm: det = 1.2."""
    matrix = np.diag([1.5, 0.8, 1.0, 1.0])
    matrix[:3, 3] = GRID.centre - matrix[:3, :3] @ GRID.centre + SHIFT
    return AffineTransform(matrix)


def test_field_statistics_of_an_affine_map_are_its_determinant_and_lengths():
    found = field_statistics(stretch(), GRID, None, EVERYWHERE)
    assert found["folding_percent"] == 0.0
    np.testing.assert_allclose([found["jacobian"][key] for key in ("min", "p01", "p99", "max")], 1.2, rtol=1e-4)
    points = GRID.world_points(torch.float64).view(-1, 3).numpy()
    lengths = np.linalg.norm((points - GRID.centre) * [0.5, -0.2, 0.0] + SHIFT, axis=1)
    assert found["displacement_mm"]["mean"] == pytest.approx(lengths.mean(), rel=1e-5)
    assert found["displacement_mm"]["max"] == pytest.approx(lengths.max(), rel=1e-5)


def test_field_statistics_look_at_the_region_only_and_read_a_field_on_its_own_grid():
    field = torch.zeros(3, *GRID.shape)
    field[0, 2:5, 3:6, 4:9] = -40.0  # a block thrown over its neighbours: folds at its faces
    transform = DisplacementField(field, GRID)
    whole = field_statistics(transform, GRID, None, EVERYWHERE)
    away = torch.zeros(GRID.shape, dtype=torch.bool)
    away[8:13, 9:17, 12:20] = True
    assert whole["folding_percent"] > 0.0
    assert whole["displacement_mm"]["max"] == pytest.approx(40.0)
    quiet = field_statistics(transform, GRID, None, Region(away, "away"))
    assert quiet["folding_percent"] == 0.0
    assert quiet["displacement_mm"]["max"] == 0.0
    assert quiet["jacobian"]["min"] == pytest.approx(1.0)


def test_slabs_do_not_change_the_statistics(monkeypatch):
    from regsuite.pipeline import evaluate

    from Testing.unit.lattices import smooth_field

    transform = DisplacementField(smooth_field(GRID, 4.0, seed=3).float(), GRID)
    whole = field_statistics(transform, GRID, moving_grid(), EVERYWHERE)
    monkeypatch.setattr(evaluate, "_SLAB_VOXELS", 2 * GRID.shape[1] * GRID.shape[2])
    assert field_statistics(transform, GRID, moving_grid(), EVERYWHERE) == whole


def test_coverage_counts_the_voxels_that_map_into_the_moving_image():
    shift = np.eye(4)
    shift[:3, 3] = GRID.affine[:3, 0] * 11  # half of the 22 voxels along i leave the image
    found = field_statistics(AffineTransform(shift), GRID, GRID, EVERYWHERE)
    assert found["covered_percent"] == pytest.approx(50.0)
    assert overlap_fraction(GRID, GRID, AffineTransform(shift)) == pytest.approx(0.5)
    shift[:3, 3] = GRID.affine[:3, 0] * 30
    assert overlap_fraction(GRID, GRID, AffineTransform(shift)) == 0.0


def test_similarity_is_one_under_the_true_shift_and_absent_without_overlap():
    fixed, moving = blobs(GRID, np.zeros(3)), blobs(moving_grid(), SHIFT)
    true, far = np.eye(4), np.eye(4)
    true[:3, 3], far[:3, 3] = SHIFT, 1000.0
    assert image_similarity(fixed, moving, AffineTransform(true), EVERYWHERE)["ncc"] > 0.995
    assert image_similarity(fixed, moving, None, EVERYWHERE)["ncc"] < 0.95
    assert image_similarity(fixed, moving, AffineTransform(far), EVERYWHERE) == {"ncc": None, "mutual_information": None}


def test_mutual_information_of_four_equal_states_is_ln_4_and_of_independent_values_0():
    values = np.tile(np.arange(4.0), 100)
    assert mutual_information(values, 3.0 - values, (0.0, 3.0), (0.0, 3.0)) == pytest.approx(np.log(4.0))
    a, b = np.repeat(np.arange(4.0), 4), np.tile(np.arange(4.0), 4)
    assert mutual_information(a, b, (0.0, 3.0), (0.0, 3.0)) == pytest.approx(0.0, abs=1e-12)


def test_otsu_splits_two_classes_and_foreground_fills_the_cavity():
    assert 10.0 < otsu(np.concatenate([np.full(300, 10.0), np.full(100, 50.0)]) + np.linspace(-1, 1, 400)) < 50.0
    grid = grid_of((9, 30, 40))
    data = torch.full((9, 30, 40), -1000.0)
    data[:, 5:25, 6:34] = 40.0
    data[:, 10:20, 12:20] = -800.0  # a lung
    found = foreground(Image(data, grid))
    assert bool(found[:, 5:25, 6:34].all())
    assert int(found.sum()) == 9 * 20 * 28


def test_evaluation_of_landmarks_alone(tmp_path):
    points = torch.tensor(GRID.centre) + torch.tensor([[0.0, 0, 0], [5, 2, -3]], dtype=torch.float64)
    write_landmarks(points, tmp_path / "f.mrk.json")
    write_landmarks(points + torch.tensor(SHIFT), tmp_path / "m.fcsv")
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT + np.array([0.0, 0.0, 0.5])
    write_transform(AffineTransform(matrix), tmp_path / "t.tfm")
    request = EvaluationRequest(
        out=str(tmp_path / "r.json"),
        transform=str(tmp_path / "t.tfm"),
        fixed_landmarks=str(tmp_path / "f.mrk.json"),
        moving_landmarks=str(tmp_path / "m.fcsv"),
    )
    report = run_evaluation(request)
    assert report == json.loads((tmp_path / "r.json").read_text())
    assert report["metrics"]["before"]["landmarks_tre_mm"]["mean"] == pytest.approx(np.sqrt(29.0), abs=1e-4)
    assert report["metrics"]["after"]["landmarks_tre_mm"]["mean"] == pytest.approx(0.5, abs=1e-4)
    assert report["verdict"]["level"] == "good"


@pytest.mark.parametrize(
    ("given", "words"),
    [({}, "Nothing to evaluate"), ({"fixed_landmarks": "a.csv"}, "fixed landmarks"), ({"moving": "a.nrrd"}, "Nothing to evaluate"),
     ({"fixed_labels": "a.nrrd"}, "fixed labels"), ({"fixed": "missing.nrrd"}, "missing.nrrd")],
)
def test_evaluation_says_what_is_missing_and_writes_nothing(tmp_path, given, words):
    with pytest.raises(InputError, match=words):
        run_evaluation(EvaluationRequest(out=str(tmp_path / "r.json"), **given))
    assert list(tmp_path.iterdir()) == []


def test_landmark_counts_must_agree(tmp_path):
    write_landmarks(torch.zeros(3, 3), tmp_path / "f.csv")
    write_landmarks(torch.zeros(2, 3), tmp_path / "m.csv")
    request = EvaluationRequest(
        out=str(tmp_path / "r.json"), fixed_landmarks=str(tmp_path / "f.csv"), moving_landmarks=str(tmp_path / "m.csv")
    )
    with pytest.raises(InputError, match="3 and 2"):
        run_evaluation(request)
