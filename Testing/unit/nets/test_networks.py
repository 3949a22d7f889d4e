"""The networks: published sizes, shapes for awkward inputs, composition of fields, gradients everywhere."""

from __future__ import annotations

import pytest
import torch
from regsuite.nets.blocks import parameters
from regsuite.nets.fields import composed, resized, sample
from regsuite.nets.heatmap import Backbone, HeatmapHead, candidates, expectation
from regsuite.nets.multilevel import MultilevelNet
from regsuite.nets.sigma import SigmaUNet
from regsuite.nets.unet import FieldUNet


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_published_numbers_of_parameters() -> None:
    assert parameters(Backbone()) == 901_888
    assert parameters(HeatmapHead()) == 462_417


def test_backbone_and_head_have_the_published_shapes() -> None:
    with torch.no_grad():
        features = Backbone()(noise(1, 2, 32, 48, 32))
        assert features.shape == (1, 64, 16, 24, 16)
        logits = HeatmapHead()(noise(5, 64))
    assert logits.shape == (5, 11, 11, 11)
    assert expectation(logits, 0.3).abs().max() < 0.3


def test_the_heatmap_points_where_its_peak_is() -> None:
    logits = torch.zeros(1, 11, 11, 11)
    logits[0, 10, 5, 0] = 100.0  # k last, j middle, i first
    assert torch.allclose(expectation(logits, 0.3), torch.tensor([[-0.3, 0.0, 0.3]]), atol=1e-4)
    assert float(candidates(0.3, logits).mean(dim=0).abs().max()) < 1e-6


@pytest.mark.parametrize("shape", [(13, 18, 21), (16, 16, 16)])
def test_fields_have_the_inputs_shape_and_start_small(shape: tuple[int, int, int]) -> None:
    pair = noise(1, 2, *shape)
    field = FieldUNet()(pair)
    assert field.shape == (1, 3, *shape)
    assert float(field.detach().abs().max()) < 0.5
    assert SigmaUNet(8, 3)(noise(1, 5, *shape)).shape == (1, 3, *shape)


def test_levels_refine_coarser_ones() -> None:
    net = MultilevelNet(levels=3, width=4)
    fixed, moving = noise(1, 1, 34, 40, 48), noise(1, 1, 34, 40, 48).flip(2)
    totals = net(fixed, moving)
    assert [tuple(t.shape[2:]) for t in totals] == [(8, 8, 8), (8, 10, 12), (17, 20, 24)]
    assert len(net(fixed, moving, active=2)) == 2
    sum(t.square().sum() for t in totals).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_a_level_begins_with_the_coarser_weights() -> None:
    net = MultilevelNet(levels=2, width=4)
    assert not torch.equal(net.nets[0].last.weight, net.nets[1].last.weight)
    net.carry(1)
    assert all(torch.equal(a, b) for a, b in zip(net.nets[0].parameters(), net.nets[1].parameters(), strict=True))


def test_translations_add_and_images_follow() -> None:
    one, two = torch.zeros(1, 3, 6, 7, 8), torch.zeros(1, 3, 6, 7, 8)
    one[:, 0], two[:, 2] = 1.0, 2.0
    both = composed(one, two)
    assert torch.allclose(both[0, :, 0, 0, 0], torch.tensor([1.0, 0.0, 2.0]))
    image = noise(1, 1, 6, 7, 8)
    assert torch.allclose(sample(image, both)[0, 0, 1, 3, 4], image[0, 0, 3, 3, 5], atol=1e-5)


def test_inner_map_is_applied_first() -> None:
    """outer(inner(x)): inner shifts by one voxel along i, outer stretches i by a tenth about index 0."""
    i = torch.arange(12.0).expand(4, 4, 12)
    outer, inner = torch.zeros(1, 3, 4, 4, 12), torch.zeros(1, 3, 4, 4, 12)
    outer[0, 0], inner[0, 0] = 0.1 * i, 1.0
    assert torch.allclose(composed(outer, inner)[0, 0, 2, 2, 5], torch.tensor(1.0 + 0.1 * 6.0), atol=1e-5)


def test_voxels_change_with_the_lattice() -> None:
    u = torch.ones(1, 3, 4, 6, 8)
    fine = resized(u, (8, 6, 32))
    assert torch.allclose(fine[0, :, 0, 0, 0], torch.tensor([4.0, 1.0, 2.0]))
