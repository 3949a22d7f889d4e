"""The brain mask: found in a head on any grid, doubted where it should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.ops.brain import brain_mask
from regsuite.phantoms import make_phantom
from regsuite.phantoms.base import TimePoint
from scipy import ndimage


@pytest.fixture(scope="module")
def head() -> TimePoint:
    return make_phantom("growth", 4, size=(60, 70, 60), ages=(3.0, 5.0), oblique=True).series[0]


def tissue(head: TimePoint) -> torch.Tensor:
    """Grey and white matter with the fluid between them: what the mask is meant to be."""
    drawn = np.isin(head.labels.data[0].numpy(), (1, 2, 3, 4, 5, 6, 7))
    return torch.from_numpy(ndimage.binary_fill_holes(ndimage.binary_closing(drawn, iterations=3)))[None]


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2.0 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum()))


def test_a_head_without_doubts(head: TimePoint) -> None:
    found = brain_mask(head.image)
    assert found.sure and found.doubts == ()
    assert found.mask.grid == head.image.grid and found.mask.data.dtype == torch.uint8
    assert dice(found.mask.data, tissue(head)) > 0.93


@pytest.mark.parametrize("spacing_mm", [3.0, 4.0])
def test_a_coarser_search_finds_the_same(head: TimePoint, spacing_mm: float) -> None:
    assert dice(brain_mask(head.image, spacing_mm).mask.data, tissue(head)) > 0.9


def test_the_scale_of_the_values_does_not_matter(head: TimePoint) -> None:
    louder = brain_mask(head.image.with_data(head.image.data * 7.0))
    assert dice(louder.mask.data, brain_mask(head.image).mask.data) > 0.999


def test_an_image_without_its_skull_is_taken_as_it_is(head: TimePoint) -> None:
    inside = (head.mask.data > 0).float()
    found = brain_mask(head.image.with_data(head.image.data * inside))
    assert dice(found.mask.data, inside) > 0.95


def test_a_head_that_is_cut_off_is_doubted(head: TimePoint) -> None:
    d, h, w = head.image.grid.shape
    half = head.image.grid.cropped((0, 0, 0), (d // 2, h, w))
    found = brain_mask(Image(head.image.data[:, : d // 2].contiguous(), half))
    assert not found.sure
    assert any("border of the image" in doubt for doubt in found.doubts)


def test_a_flat_image_is_doubted() -> None:
    grid = Grid((4, 40, 40), np.diag([2.0, 2.0, 2.0, 1.0]))
    found = brain_mask(Image(torch.rand(1, 4, 40, 40, generator=torch.Generator().manual_seed(0)), grid))
    assert found.doubts == ("the image is too flat to tell",)
