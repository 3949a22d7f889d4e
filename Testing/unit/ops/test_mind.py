"""MIND-SSC against a direct transcription of its definition, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.ops.mind import PAIRS, mind_ssc

SHAPE = (5, 6, 8)


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_twelve_pairs_of_neighbours_at_squared_distance_two() -> None:
    assert len({frozenset(pair) for pair in PAIRS}) == 12
    for a, b in PAIRS:
        assert sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) == 2
        assert sum(x * x for x in a) == sum(x * x for x in b) == 1


@pytest.mark.parametrize(("radius", "dilation"), [((1, 1, 1), (2, 2, 2)), ((1, 0, 2), (1, 2, 3)), ((2, 2, 2), (1, 1, 1))])
def test_equals_the_definition(radius: tuple[int, int, int], dilation: tuple[int, int, int]) -> None:
    data = image()[0].numpy()
    index = np.indices(SHAPE)

    def at(offset: tuple[int, int, int]) -> np.ndarray:
        places = [np.clip(index[a] + offset[a] * dilation[a], 0, SHAPE[a] - 1) for a in range(3)]
        return data[tuple(places)]

    m = np.empty((12, *SHAPE))
    for channel, (a, b) in enumerate(PAIRS):
        square = (at(a) - at(b)) ** 2
        for voxel in np.ndindex(*SHAPE):
            box = tuple(slice(max(0, p - r), p + r + 1) for p, r in zip(voxel, radius, strict=True))
            m[(channel, *voxel)] = square[box].mean()
    m -= m.min(axis=0)
    v = m.mean(axis=0)
    expected = np.exp(-m / np.clip(v, 0.001 * v.mean(), 1000 * v.mean()))
    np.testing.assert_allclose(mind_ssc(image(), radius, dilation).numpy(), expected, atol=1e-9)


def test_values_lie_in_zero_one_with_one_reached_at_every_voxel() -> None:
    feature = mind_ssc(image().float())
    assert feature.shape == (12, *SHAPE)
    assert float(feature.min()) >= 0.0
    torch.testing.assert_close(feature.amax(dim=0), torch.ones(SHAPE))
    assert float(feature.std()) > 0.1


def test_contrast_and_offset_do_not_matter() -> None:
    torch.testing.assert_close(mind_ssc(-3.0 * image() + 100.0), mind_ssc(image()))


@pytest.mark.parametrize("value", [0.0, 1.0, -1000.0])
def test_a_constant_image_is_finite(value: float) -> None:
    """Known defect of the published code: 0 / 0 = NaN."""
    assert torch.equal(mind_ssc(torch.full((1, *SHAPE), value)), torch.ones(12, *SHAPE))
    half = torch.full((1, *SHAPE), value)
    half[..., 6:] += 1.0  # mostly constant
    assert bool(torch.isfinite(mind_ssc(half)).all())


def test_one_slice_and_the_input_untouched() -> None:
    data = image()[:, :1].clone()
    before = data.clone()
    assert bool(torch.isfinite(mind_ssc(data)).all())
    assert torch.equal(data, before)
