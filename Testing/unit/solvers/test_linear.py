"""The local linear stage: known poses, masks, thick slices, small overlaps, its gradient, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from regsuite.errors import Cancelled, InputError
from regsuite.geometry import Grid, Image
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom
from regsuite.progress import Progress
from regsuite.solvers.linear import LinearSettings, align
from regsuite.solvers.linear_metrics import METRICS
from regsuite.solvers.linear_problem import KINDS, Problem, sample_points
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation

SETTINGS = LinearSettings(finest_mm=3.0, levels=2, samples=40_000)


@pytest.fixture(scope="module")
def head() -> Image:
    """A brain on a straight grid of 3 mm without noise."""
    return make_phantom("brain-tumour", seed=2, size=(56, 68, 52), noise=0.0, pose=False).moving


def known(kind: str = "rigid") -> np.ndarray:
    linear = Rotation.from_rotvec([0.10, -0.14, 0.07]).as_matrix()
    if kind == "similarity":
        linear = 1.06 * linear
    if kind == "affine":
        linear = linear @ np.array([[1.05, 0.03, 0.0], [0.03, 0.95, -0.02], [0.0, -0.02, 1.02]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, (7.0, -11.0, 6.0)
    return matrix


def seen(image: Image, matrix: np.ndarray, spacing: tuple[float, float, float] = (2.7, 3.1, 3.4), contrast: bool = False) -> Image:
    """`image` after `matrix`, on an oblique, anisotropic grid of its own; contrast: other grey values, with inversions."""
    direction = Rotation.from_rotvec([0.2, 0.1, -0.3]).as_matrix()
    size = np.ceil(np.array([180.0, 215.0, 170.0]) / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = image.grid.centre - affine[:3, :3] @ ((size - 1) / 2.0)
    moved = resample(image, Grid((size[2], size[1], size[0]), affine), AffineTransform(np.linalg.inv(matrix)), "cubic", fill=0.0)
    top = float(image.data.max())
    return moved if not contrast else moved.with_data(torch.sin(moved.data / top * 4.0) * 300.0 + 0.2 * moved.data)


def error(found: np.ndarray, true: np.ndarray, grid: Grid) -> float:
    """Mean distance at the corners of the box, mm."""
    corners = torch.from_numpy(grid.corners())
    return float((AffineTransform(found).map_points(corners) - AffineTransform(true).map_points(corners)).norm(dim=1).mean())


@pytest.mark.parametrize(
    ("kind", "metric", "contrast", "limit_mm"),
    [
        ("rigid", "mi", True, 0.4),
        ("rigid", "mi", False, 0.4),
        ("rigid", "ncc", False, 0.3),
        ("rigid", "ngf", True, 0.6),
        ("rigid", "mi+ngf", True, 0.4),
        ("similarity", "ncc", False, 0.5),
        ("affine", "mi", True, 0.9),
    ],
)
def test_a_known_pose_is_found(head: Image, kind: str, metric: str, contrast: bool, limit_mm: float) -> None:
    true = known(kind)
    found = align(head, seen(head, true, contrast=contrast), kind=kind, metric=metric, settings=SETTINGS)
    assert error(np.eye(4), true, head.grid) > 15.0
    assert error(found.matrix, true, head.grid) < limit_mm
    assert found.converged
    if kind == "rigid":
        assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(found.matrix[:3, :3]) > 0


def test_thick_slices_find_their_place(head: Image) -> None:
    true = known()
    found = align(head, seen(head, true, (2.0, 2.0, 9.0), contrast=True), settings=SETTINGS)
    assert error(found.matrix, true, head.grid) < 1.5


def test_a_slab_finds_its_place(head: Image) -> None:
    true = known()
    full = seen(head, true, contrast=True)
    slab = Image(full.data[:, 18:32].contiguous(), full.grid.cropped((18, 0, 0), (14, *full.grid.shape[1:])))
    for fixed, moving, expected in ((head, slab, true), (slab, head, np.linalg.inv(true))):
        found = align(fixed, moving, settings=SETTINGS)
        assert error(found.matrix, expected, slab.grid) < 1.5


@pytest.mark.parametrize("which", ["fixed_mask", "moving_mask"])
def test_a_masked_lesion_has_no_say(head: Image, which: str) -> None:
    """A bright block that moved against the head pulls the pose; masked out, it does not."""
    true = known()
    moved = seen(head, true)
    image = head if which == "fixed_mask" else moved
    box = (slice(None), slice(12, 36), slice(8, 40), slice(8, 40))
    data = image.data.clone()
    data[box] = 3000.0
    keep = torch.ones_like(data)
    keep[box] = 0.0
    spoiled = image.with_data(data)
    pair = (spoiled, moved) if which == "fixed_mask" else (head, spoiled)
    plain = align(*pair, metric="ncc", settings=SETTINGS)
    masked = align(*pair, metric="ncc", settings=SETTINGS, **{which: image.with_data(keep)})
    assert error(masked.matrix, true, head.grid) < 0.6
    assert error(plain.matrix, true, head.grid) > 2.0 * error(masked.matrix, true, head.grid)


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_gradient_is_the_slope(head: Image, metric: str, kind: str) -> None:
    moving = seen(head, known(), contrast=True)
    points, weight = sample_points(head.grid, None, 4000, 3)
    moving = moving.with_data((moving.data - moving.data.min()) / (moving.data.max() - moving.data.min()))
    fixed = head.with_data(head.data / head.data.max())
    measure = METRICS[metric](24, 3.0)
    measure.prepare(fixed.with_data(fixed.data.double()), moving.with_data(moving.data.double()), points)
    problem = Problem(points, weight.double(), moving.grid, None, measure, known(), kind, 0.1)
    rng = np.random.default_rng(1)
    p = torch.from_numpy(rng.normal(size=KINDS[kind]))
    _, gradient, _ = problem.energy(p)
    for entry in range(KINDS[kind]):
        step = torch.zeros_like(p)
        step[entry] = 1e-6
        slope = (problem.energy(p + step)[0] - problem.energy(p - step)[0]) / 2e-6
        assert slope == pytest.approx(float(gradient[entry]), rel=1e-3, abs=1e-6)


def test_a_map_that_leaves_the_moving_image_costs_infinity(head: Image) -> None:
    points, weight = sample_points(head.grid, None, 500, 0)
    measure = METRICS["mi"](16, 3.0)
    measure.prepare(head.with_data(head.data / head.data.max()), head.with_data(head.data / head.data.max()), points)
    problem = Problem(points, weight, head.grid, None, measure, np.eye(4), "rigid", 0.1)
    away = torch.tensor([1000.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    assert problem.energy(away)[0] == math.inf
    assert problem.overlap(away) == 0.0
    assert problem.overlap() > 0.97


def test_the_same_seed_gives_the_same_matrix_and_an_image_on_itself_stays(head: Image) -> None:
    settings = LinearSettings(finest_mm=3.0, levels=2, samples=20_000, turn_degrees=0.0)
    moving = seen(head, known(), contrast=True)
    a, b, other = (align(head, moving, settings=settings, seed=seed).matrix for seed in (5, 5, 6))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, other)
    still = align(head, head, settings=settings).matrix
    assert error(still, np.eye(4), head.grid) < 0.1


def test_it_stops_when_asked(head: Image) -> None:
    fractions: list[float] = []

    def stop(fraction: float, stage: str, detail: str) -> bool:
        fractions.append(fraction)
        return len(fractions) < 12

    with pytest.raises(Cancelled):
        align(head, seen(head, known()), settings=SETTINGS, progress=Progress(stop))
    assert len(fractions) == 12
    assert fractions == sorted(fractions)


def test_what_it_refuses(head: Image) -> None:
    empty = head.with_data(torch.zeros_like(head.data))
    single = empty.data.clone()
    single[0, 30, 30:32, 20:22] = 1.0
    with pytest.raises(InputError, match="'kind' must be one of rigid, similarity, affine"):
        align(head, head, kind="elastic")
    with pytest.raises(InputError, match="'metric' must be one of mi, ncc, ngf"):
        align(head, head, metric="ssd")
    with pytest.raises(InputError, match="moving image is constant"):
        align(head, empty)
    with pytest.raises(InputError, match="fixed mask is empty"):
        align(head, head, fixed_mask=empty)
    with pytest.raises(InputError, match="fixed mask is too small"):
        align(head, head, fixed_mask=head.with_data(single))
    with pytest.raises(InputError, match="do not meet under the start"):
        align(head, head, start=AffineTransform.translation([900.0, 0.0, 0.0]).matrix)
