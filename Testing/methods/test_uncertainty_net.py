"""uncertainty-net beyond the contract: shipped weights, a worse field is doubted more, the same in the world whatever the axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Image
from regsuite.io.weights import load_weights, shipped
from regsuite.methods.uncertainty import net
from regsuite.ops.random_fields import SmoothNoise
from regsuite.phantoms import make_phantom
from regsuite.transforms import DisplacementField, Transform


@pytest.fixture(scope="module")
def chest() -> tuple[Image, Image, Transform, torch.Tensor]:
    """A small breathing chest that the network has never seen, the true transform, and the body."""
    made = make_phantom("thorax", 300, size=(48, 40, 44))
    return made.fixed, made.moving, made.transform, made.fixed_labels.data[0] > 0


def spoilt(chest: tuple[Image, Image, Transform, torch.Tensor], size_mm: float) -> DisplacementField:
    grid = chest[0].grid
    return DisplacementField(chest[2].displacement(grid) + size_mm * SmoothNoise(grid, 25.0).draw(1, 0), grid)


def test_the_weights_are_small_and_tell_where_they_come_from() -> None:
    path = shipped(net.KEY)
    assert path.stat().st_size < 10_000_000
    _, card = load_weights(path, net.KEY, net.VERSION)
    assert card.command.startswith("regsuite train uncertainty-net")
    assert card.figures["log_rms"] < 0.7


def test_a_worse_field_is_doubted_more(chest: tuple[Image, Image, Transform, torch.Tensor]) -> None:
    fixed, moving, _, body = chest
    means = []
    for size in (0.5, 4.0, 12.0):
        sigma = net.register(fixed, moving, initial=spoilt(chest, size)).images["sigma_magnitude"].data[0]
        means.append(float(sigma[body].mean()))
    assert means[0] < means[1] < means[2]
    assert means[2] > 1.5 * means[0]


def test_it_finds_where_a_field_is_off(chest: tuple[Image, Image, Transform, torch.Tensor]) -> None:
    fixed, moving, truth, body = chest
    field = spoilt(chest, 5.0)
    error = (field.displacement(fixed.grid) - truth.displacement(fixed.grid))[:, body]
    sigma = net.register(fixed, moving, initial=field).images["sigma"].data[:, body]
    assert 0.4 < float(error.square().mean().sqrt() / sigma.square().mean().sqrt()) < 2.0
    assert float(torch.corrcoef(torch.stack([error.norm(dim=0), sigma.norm(dim=0)]))[0, 1]) > 0.4


def test_how_the_images_are_stored_makes_no_difference(chest: tuple[Image, Image, Transform, torch.Tensor]) -> None:
    fixed, moving, _, _ = chest
    field = spoilt(chest, 5.0)
    affine = fixed.grid.affine @ np.array([[-1, 0, 0, fixed.grid.size[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    stored = Image(fixed.data.flip(3), fixed.grid.__class__(fixed.grid.shape, affine))
    one = net.register(fixed, moving, initial=field).images["sigma"].data
    other = net.register(stored, moving, initial=field).images["sigma"].data.flip(3)
    assert float((one - other).abs().mean()) < 0.02 * float(one.mean())


def test_other_weights_are_refused(chest: tuple[Image, Image, Transform, torch.Tensor], tmp_path: Path) -> None:
    fixed, moving, field, _ = chest
    with pytest.raises(InputError, match=r"absent\.safetensors"):
        net.register(fixed, moving, net.NetConfig(weights=str(tmp_path / "absent.safetensors")), initial=field)
