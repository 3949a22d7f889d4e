"""Lungs found in a CT that was cut, clipped or resampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.ops.lungs import lung_mask
from regsuite.ops.sampling import resample


def chest(air_noise: float = 15.0) -> tuple[Image, torch.Tensor]:
    """A body of water in noisy air with two lungs that the first and last plane cut; the lungs."""
    k, j, i = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in (40, 60, 80)), indexing="ij")
    body = ((i - 40) / 34) ** 2 + ((j - 30) / 24) ** 2 < 1
    lungs = ((((i - 25) / 9) ** 2 + ((j - 30) / 14) ** 2) < 1) | ((((i - 56) / 10) ** 2 + ((j - 30) / 14) ** 2) < 1)
    noise = torch.randn(k.shape, generator=torch.Generator().manual_seed(0)) * air_noise
    values = torch.where(lungs, -780.0, torch.where(body, 30.0, -1000.0)) + noise
    return Image(values[None], Grid((40, 60, 80), np.diag([4.0, 4.0, 4.0, 1.0]))), lungs


def overlap(found: Image | None, lungs: torch.Tensor) -> float:
    assert found is not None
    inside = found.data[0] > 0
    return 2.0 * float((inside & lungs).sum()) / float(inside.sum() + lungs.sum())


def test_open_lungs_in_plain_air() -> None:
    image, lungs = chest()
    assert overlap(lung_mask(image), lungs) > 0.95


def test_air_clipped_to_one_value() -> None:
    image, lungs = chest()
    assert overlap(lung_mask(image.with_data(image.data.clamp(min=-1000.0))), lungs) > 0.95


@pytest.mark.parametrize("padding", [-1000.0, -1024.0, -3024.0])
def test_padding_on_every_side_does_not_swallow_cut_lungs(padding: float) -> None:
    image, lungs = chest()
    wide = image.grid.cropped((-6, -6, -6), (52, 72, 92))
    found = lung_mask(resample(image, wide, None, "nearest", padding))
    expected = resample(image.with_data(lungs[None].float()), wide, None, "nearest", 0.0).data[0] > 0
    assert overlap(found, expected) > 0.93


def test_a_head_in_air_has_no_lungs() -> None:
    image, lungs = chest()
    assert lung_mask(image.with_data(torch.where(lungs, 40.0, image.data[0])[None])) is None
