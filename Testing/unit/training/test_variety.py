"""Variety of training pairs: what is known of a pair stays true on another grid, and an amount of 0 changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from regsuite.geometry import Grid, Image
from regsuite.nets.fields import sample
from regsuite.nets.pair import world_mm
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.ops.sampling import sample_index
from regsuite.phantoms import variety
from regsuite.phantoms.synthetic import streamed_pair
from regsuite.solvers import foretell

from Testing.unit.training import scans


def block() -> tuple[Image, Image]:
    """A smooth image and the part of it that slides, 5 mm voxels."""
    image = scans.image(3, (30, 34, 32))
    grid = Grid(image.grid.shape, np.diag([5.0, 5.0, 5.0, 1.0]))
    mask = torch.zeros(1, *grid.shape)
    mask[:, 7:21, 10:24, 7:22] = 1.0
    return Image(0.4 + 0.2 * image.data.clamp(-2, 2), grid), Image(mask, grid)


def test_a_view_keeps_the_truth() -> None:
    image, mask = block()
    pair = streamed_pair(image, 0, 0, "breathing", mask)
    assert pair.truth is not None
    pair = replace(pair, fixed=sample(image.data[None], pair.truth), moving=image.data[None])  # one contrast, no noise
    rng = np.random.default_rng(0)
    seen = variety.viewed(pair, rng, 20.0, 1.0)
    assert seen.grid.voxels < 0.8 * pair.grid.voxels
    assert not np.allclose(seen.grid.spacing, pair.grid.spacing)
    assert seen.truth is not None
    assert seen.fixed_mask is not None
    before = float((seen.fixed - seen.moving).abs().mean())
    assert float((seen.fixed - sample(seen.moving, seen.truth)).abs().mean()) < 0.4 * before
    points = seen.grid.world_points().reshape(-1, 3).double()
    there = sample_index(world_mm(pair.truth, pair.grid), pair.grid.world_to_index(points))
    assert float((world_mm(seen.truth, seen.grid).reshape(3, -1) - there).norm(dim=0).max()) < 1e-3


def test_without_variety_the_view_is_the_box_around_the_mask() -> None:
    image, mask = block()
    pair = streamed_pair(image, 0, 0, "growth", mask)
    assert pair.fixed_mask is not None
    seen = variety.viewed(pair, np.random.default_rng(0), 10.0, 0.0)
    index = pair.fixed_mask[0, 0].nonzero()
    assert list(seen.grid.shape) == (index.amax(dim=0) - index.amin(dim=0) + 5).tolist()  # two voxels more on either side
    assert np.allclose(seen.grid.spacing, pair.grid.spacing)
    assert seen.fixed_mask is not None
    assert float(seen.fixed_mask.sum()) == float(pair.fixed_mask.sum())


@pytest.mark.parametrize("kind", ["breathing", "growth"])
def test_strength_makes_the_motion_larger(kind: str) -> None:
    image, mask = block()
    weak, strong = (world_mm(streamed_pair(image, 0, 3, kind, mask, strength=s).truth, image.grid) for s in (1.0, 2.0))
    ratio = float(strong.norm(dim=0).mean() / weak.norm(dim=0).mean())
    assert 1.6 < ratio < 2.4
    assert float((jacobian_determinant(strong, image.grid) <= 0).float().mean()) < 0.02


def test_filled_lungs_are_brighter_and_no_longer_lungs() -> None:
    image, mask = block()
    dark = image.with_data(torch.where(mask.data > 0, 0.1, image.data))
    filled = [variety.partly_filled(dark, mask, np.random.default_rng(n), 1.0) for n in range(12)]
    some = [(i, m) for i, m in filled if 0 < float(m.data.sum()) < float(mask.data.sum())]
    assert some
    for other, left in some:
        lost = (mask.data > 0) & (left.data == 0)
        assert float(other.data[lost].mean()) > 0.3
        assert torch.equal(other.data[mask.data == 0], dark.data[mask.data == 0])


def test_nothing_changes_for_an_amount_of_zero() -> None:
    image, mask = block()
    rng = np.random.default_rng(0)
    assert variety.strength(rng, 0.0) == 1.0
    shaped, _ = variety.other_shape(image, mask, rng, 0.0)
    assert torch.allclose(shaped.data, image.data, atol=1e-5)
    assert variety.partly_filled(image, mask, rng, 0.0)[0] is image


def test_a_field_on_a_part_fills_the_box() -> None:
    image, _ = block()
    part = image.grid.cropped((4, 5, 6), (12, 14, 10))
    field = torch.tensor([1.0, -2.0, 3.0]).view(3, 1, 1, 1).expand(3, 12, 14, 10).contiguous()
    whole = foretell.widened(Image(field, part), image.grid)
    assert whole.shape == (3, *image.grid.shape)
    assert torch.allclose(whole, torch.tensor([1.0, -2.0, 3.0]).view(3, 1, 1, 1).expand_as(whole))
