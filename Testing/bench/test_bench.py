"""The benchmark's own measuring tools, on cases whose answers are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parent))

import fields as f
from cases import Case, image_like
from evaluate import dice_by_size, evaluate
from inputs import write_case
from measure import measure
from report import markdown


def oblique_image(size: tuple[int, int, int] = (14, 11, 9)) -> sitk.Image:
    """Noise on an anisotropic, oblique grid away from the origin."""
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.standard_normal(size[::-1]).astype(np.float32))
    image.SetSpacing((1.0, 2.0, 3.5))
    image.SetOrigin((10.0, -20.0, 30.0))
    c, s = np.cos(0.4), np.sin(0.4)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, 1))
    return image


def test_jacobian_of_a_linear_map_on_an_oblique_grid() -> None:
    image = oblique_image()
    matrix = np.array([[1.2, 0.1, 0.0], [0.0, 0.9, 0.3], [0.2, 0.0, 1.1]])
    u = f.positions(image) @ (matrix - np.eye(3)).T
    assert f.jacobian_determinant(u, image) == pytest.approx(1.194, abs=1e-4)  # det(matrix), by hand


def test_a_reflection_folds_everywhere() -> None:
    image = oblique_image()
    u = f.positions(image) @ (np.diag([-1.0, 1.0, 1.0]) - np.eye(3)).T
    assert (f.jacobian_determinant(u, image) < 0).all()


def test_damped_motion_runs_along_a_flat_surface() -> None:
    image = sitk.Image(20, 18, 16, sitk.sitkFloat32)
    image.SetSpacing((1.0, 2.0, 3.0))
    inside = np.zeros((16, 18, 20), bool)
    inside[:, :, :10] = True  # the surface lies across x
    distance = f.signed_distance(inside, image)
    u = np.broadcast_to(np.array([4.0, 1.0, -2.0]), (16, 18, 20, 3))
    damped = f.damp_normal(u, distance, image, 6.0)
    at_wall = np.abs(distance) <= 1.0
    assert np.abs(damped[at_wall][:, 0]).max() < 0.7
    assert damped[at_wall][:, 1:] == pytest.approx(np.broadcast_to([1.0, -2.0], (at_wall.sum(), 2)), abs=0.05)


def test_dice_leaves_small_labels_out() -> None:
    fixed = np.zeros((10, 10, 10), int)
    fixed[:5] = 1
    fixed[9, 9, 9] = 2
    moved = np.zeros_like(fixed)
    moved[:6] = 1
    assert dice_by_size(fixed, moved) == pytest.approx([1000 / 1100])


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """An input whose truth is a shift by (2, -1, 0.5) mm."""
    image = oblique_image()
    shape = image.GetSize()[::-1]
    u = np.broadcast_to(np.array([2.0, -1.0, 0.5]), (*shape, 3))
    mask = np.zeros(shape, bool)
    mask[2:7, 2:9, 2:12] = True
    points = f.positions(image)[3, 4, 5:8]
    labels = image_like(np.ones(shape, np.uint8), image)
    case = Case(image, image, mask, u, {"part": mask}, {"spots": (points, points + np.array([2.0, -1.0, 3.5]))}, (labels, labels))
    write_case("shifted", case, tmp_path / "shifted")
    return tmp_path


def test_evaluate_a_known_shift(shifted: Path) -> None:
    exact = evaluate("shifted", shifted, sitk.TranslationTransform(3, (2.0, -1.0, 0.5)))
    assert exact["epe_mean_mm"] == pytest.approx(0, abs=1e-5)
    assert exact["epe_part_p95_mm"] == pytest.approx(0, abs=1e-5)
    assert exact["tre_spots_mean_mm"] == pytest.approx(3.0, abs=1e-5)
    assert exact["folding_percent"] == 0 and exact["jacobian_min"] == pytest.approx(1, abs=1e-5)
    nothing = evaluate("shifted", shifted, None)
    assert nothing["epe_mean_mm"] == pytest.approx(2.29129, abs=1e-4)  # sqrt(4 + 1 + 0.25)
    assert nothing["dice"] == 1.0
    wrong_way = evaluate("shifted", shifted, sitk.TranslationTransform(3, (-2.0, 1.0, -0.5)))
    assert wrong_way["epe_mean_mm"] == pytest.approx(4.58258, abs=1e-4)


def test_a_field_file_and_a_transform_file_measure_alike(shifted: Path, tmp_path: Path) -> None:
    transform = sitk.TranslationTransform(3, (1.0, 0.0, 0.0))
    sitk.WriteTransform(transform, str(tmp_path / "t.h5"))
    image = sitk.ReadImage(str(shifted / "shifted" / "fixed.nrrd"))
    u = np.broadcast_to(np.array([1.0, 0.0, 0.0]), (*image.GetSize()[::-1], 3))
    sitk.WriteImage(f.to_field(u, image), str(tmp_path / "u.nrrd"))
    by_file = [evaluate("shifted", shifted, tmp_path / name) for name in ("t.h5", "u.nrrd")]
    assert by_file[0]["epe_mean_mm"] == pytest.approx(by_file[1]["epe_mean_mm"], abs=1e-5)
    assert by_file[0]["tre_spots_mean_mm"] == pytest.approx(by_file[1]["tre_spots_mean_mm"], abs=1e-4)


def test_measure_sees_the_memory_and_the_failure_of_a_child_alone(tmp_path: Path) -> None:
    ballast = np.ones(50_000_000)  # 0.37 GiB of our own, which must not be charged to the child
    used = measure([sys.executable, "-S", "-c", "x = bytearray(200 * 2**20)"], tmp_path / "log")
    assert used["returncode"] == 0 and ballast.size
    assert 0.19 < used["peak_gib"] < 0.3
    failed = measure([sys.executable, "-S", "-c", "print('why'); raise SystemExit(3)"], tmp_path / "log")
    assert failed["returncode"] == 3
    assert (tmp_path / "log").read_text().strip() == "why"


def test_the_table_names_failures_and_ratios() -> None:
    rows = [
        {"method": "greedy", "input": "a", "epe_mean_mm": 2.0, "cpu_s": 10.0, "folding_percent": 0.0},
        {"method": "ours", "input": "a", "epe_mean_mm": 1.0, "cpu_s": 5.0, "folding_percent": 0.0},
        {"method": "elastix", "input": "a", "failed": "no such module", "returncode": 1},
    ]
    text = markdown(json.loads(json.dumps(rows)), "run")
    assert "| ours | **1.00** | 0 | 5.0 | 0.50 | 0.50 |" in text
    assert "failed: no such module" in text
