"""What a scan goes through before it is compared over time, against what was done to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.ops.sampling import resample
from regsuite.phantoms import Phantom, make_phantom
from regsuite.phantoms.base import TimePoint
from regsuite.pipeline.preparation import correct_bias, find_brain, match_brightness, without_slopes
from regsuite.progress import Progress
from regsuite.solvers.intake import scaled
from regsuite.solvers.prealign import prealign
from regsuite.transforms import AffineTransform


@pytest.fixture(scope="module")
def child() -> Phantom:
    return make_phantom("growth", 5, size=(56, 64, 56), ages=(3.0, 4.0), bias=0.0, pose_mm=8.0)


@pytest.fixture(scope="module")
def scan(child: Phantom) -> TimePoint:
    return child.series[0]


def spread(ratio: torch.Tensor) -> float:
    return float(ratio.log().std())


def test_bias_is_taken_away(scan: TimePoint) -> None:
    points = scan.image.grid.world_points(torch.float32)
    field = torch.exp(0.25 * torch.sin(points[..., 0] / 70.0) + 0.25 * torch.cos(points[..., 1] / 80.0))[None]
    uneven = scan.image.with_data(scan.image.data * field)
    inside = scan.mask.data > 0
    mended = correct_bias(uneven, scan.mask)
    assert spread(mended.data[inside] / scan.image.data[inside]) < 0.5 * spread(field[inside])
    assert mended.grid == scan.image.grid


def test_an_even_image_stays_about_even(scan: TimePoint) -> None:
    inside = scan.mask.data > 0
    assert spread(correct_bias(scan.image, scan.mask).data[inside] / scan.image.data[inside]) < 0.06


def test_brightness_comes_to_one_scale(scan: TimePoint) -> None:
    other = scan.image.with_data(40.0 + 3.0 * scan.image.data.clamp(min=0.0) ** 0.9)
    first, second = match_brightness([scan.image, other], [scan.mask, scan.mask])
    inside = scan.mask.data > 0
    quantiles = [np.quantile(image.data[inside].numpy(), [0.02, 0.25, 0.5, 0.75, 0.98]) for image in (first, second)]
    assert np.allclose(quantiles[0], quantiles[1], atol=0.03)
    for before, after in ((scan.image, first), (other, second)):  # by a straight line, which bends no edge
        slope, shift = np.polyfit(before.data[inside].double().numpy(), after.data[inside].double().numpy(), 1)
        assert slope > 0 and torch.allclose(after.data, slope * before.data + shift, atol=1e-4)


def test_slopes_go_and_edges_stay() -> None:
    grid = Grid((60, 50, 70), np.diag([2.0, 3.0, 2.5, 1.0]))
    x, y, z = grid.world_points(torch.float32).unbind(-1)
    slope, edge = 0.004 * x - 0.002 * y + 0.003 * z, (x > 70.0).float()
    flat, both, step = (without_slopes(Image(data[None], grid)).data[0] for data in (slope, slope + edge, edge))
    inner = (slice(20, -20), slice(18, -18), slice(24, -24))
    assert float(slope[inner].std()) > 0.04 and float(flat[inner].abs().max()) < 2e-3
    assert torch.allclose(both, flat + step, atol=1e-5)
    jump = step[inner][..., 1:] - step[inner][..., :-1]
    assert float(jump.max()) > 0.85 and bool((jump[..., jump.amax(dim=(0, 1)) < 0.5] < 0).all())  # nearly as high, in its place


def test_doubts_about_a_mask_name_the_scan(scan: TimePoint) -> None:
    d, h, w = scan.image.grid.shape
    half = Image(scan.image.data[:, : d // 2].contiguous(), scan.image.grid.cropped((0, 0, 0), (d // 2, h, w)))
    warnings: list[str] = []
    find_brain(half, "'visit2.nii.gz'", warnings)
    assert warnings and all("'visit2.nii.gz'" in text and "uncertain" in text for text in warnings)
    find_brain(scan.image, "'visit1.nii.gz'", sure := [])
    assert sure == []


@pytest.mark.parametrize(("kind", "metric", "limit_mm"), [("rigid", "ncc", 1.2), ("affine", "ncc", 1.0), ("affine", "mi", 1.2)])
def test_prealign_finds_a_pose(child: Phantom, kind: str, metric: str, limit_mm: float) -> None:
    matrix, said = prealign(scaled(child.fixed, "a"), scaled(child.moving, "b"), kind, Progress(), metric=metric)
    before, after = (
        float((t.map_points(child.fixed_landmarks) - child.moving_landmarks).norm(dim=1).mean())
        for t in (AffineTransform(np.eye(4)), AffineTransform(matrix))
    )
    assert before > 5.0 and after < limit_mm
    assert said == []
    if kind == "rigid":
        assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)


def test_prealign_refuses_what_it_must(child: Phantom) -> None:
    image = scaled(child.fixed, "a")
    with pytest.raises(InputError, match="align"):
        prealign(image, image, "elastic", Progress())
    assert np.allclose(prealign(image, image, "none", Progress())[0], np.eye(4))
    twice = Image(image.data, image.grid.__class__(image.grid.shape, image.grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0])))
    with pytest.raises(InputError, match="one head"):
        prealign(image, resample(twice, twice.grid), "affine", Progress())
