"""A network meets a pair: its grid, its field in millimetres along the axes of fixed, and the door for fields that do not help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io.weights import Card, save_weights
from regsuite.methods import registry, trainable
from regsuite.nets.pair import Pair
from regsuite.nets.truth import both_errors_mm, error_mm
from regsuite.progress import Progress
from regsuite.solvers import foretell
from regsuite.solvers.training import Task
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation
from torch import nn

SHIFT_MM = (6.0, -4.0, 8.0)


class Shift(Task):
    """Answers one displacement everywhere, in millimetres along the axes."""

    key = "shift"

    def __init__(self, mm: tuple[float, float, float]) -> None:
        self.mm = mm

    def build(self) -> nn.Module:
        return nn.Identity()

    def loss(self, model: nn.Module, pair: Pair, stage: int) -> tuple[torch.Tensor, dict[str, float]]:
        raise NotImplementedError

    def displacement(self, model: nn.Module, pair: Pair) -> torch.Tensor:
        voxels = torch.tensor(self.mm) / torch.as_tensor(pair.grid.spacing.copy()).float()
        return voxels.view(1, 3, 1, 1, 1).expand(1, 3, *pair.grid.shape)


def pair() -> tuple[Image, Image]:
    """A textured oblique, anisotropic image, and the same further along its own axes by SHIFT_MM."""
    generator = torch.Generator().manual_seed(0)
    data = torch.nn.functional.interpolate(torch.rand(1, 1, 7, 8, 9, generator=generator), size=(28, 32, 45), mode="trilinear")[0]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec([0.2, -0.1, 0.3]).as_matrix() @ np.diag([3.0, 4.0, 5.0])
    moved = affine.copy()
    moved[:3, 3] += (affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)) @ np.array(SHIFT_MM)
    return Image(data, Grid((28, 32, 45), affine)), Image(data, Grid((28, 32, 45), moved))


def test_the_grid_has_the_network_s_voxels_and_the_box_of_fixed() -> None:
    fixed, moving = pair()
    seen = foretell.on_network_grid(fixed, moving, np.eye(4), 8.0)
    assert np.allclose(seen.grid.spacing, 8.0, rtol=0.05)
    assert np.allclose(seen.grid.centre, fixed.grid.centre)
    assert seen.fixed.shape == seen.moving.shape == (1, 1, *seen.grid.shape)
    start = AffineTransform(moving.grid.affine @ np.linalg.inv(fixed.grid.affine)).matrix
    same = foretell.on_network_grid(fixed, moving, start, 8.0)
    assert float((same.fixed - same.moving).abs().max()) < 1e-3


@pytest.mark.parametrize(("sign", "helps"), [(1.0, True), (-1.0, False)])
def test_a_field_is_taken_only_where_it_helps(sign: float, helps: bool) -> None:
    fixed, moving = pair()
    seen = foretell.on_network_grid(fixed, moving, np.eye(4), 4.0)
    warnings: list[str] = []
    mm = (sign * SHIFT_MM[0], sign * SHIFT_MM[1], sign * SHIFT_MM[2])
    found = foretell.foretold(Shift(mm), nn.Identity(), seen, Progress(), warnings)
    expected = torch.tensor(SHIFT_MM) if helps else torch.zeros(3)
    assert torch.allclose(found.data, expected.view(3, 1, 1, 1).expand_as(found.data), atol=1e-4)
    assert warnings == ([] if helps else [foretell.NO_HELP])


def test_the_error_counts_the_mask_ten_times() -> None:
    grid = Grid((8, 8, 8), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = torch.zeros(1, 1, 8, 8, 8)
    mask[..., 4:] = 1.0
    zero, u = torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 3, 8, 8, 8)
    u[:, 0, ..., 4:] = 4.0  # 8 mm off inside, nothing outside
    value = error_mm(u, Pair(mask, mask, grid, fixed_mask=mask, truth=zero))
    assert float(value) == pytest.approx((65.0**0.5 - 1.0) * 1.1 / 1.2, rel=1e-5)
    with pytest.raises(InputError, match="true motion"):
        error_mm(u, Pair(mask, mask, grid))


@pytest.mark.parametrize("key", [key for key in trainable.TRAINABLE if key in registry.METHODS and key.startswith(("lung", "ped"))])
def test_weights_of_another_network_are_refused_before_any_work(key: str, tmp_path: Path) -> None:
    fixed, moving = pair()
    other = tmp_path / "other.safetensors"
    save_weights(other, {"a": torch.ones(1)}, Card("another", 1, "none", 0, "none"))
    config = registry.config_for(key, "Preview", {"weights": str(other)})
    calls: list[float] = []
    with pytest.raises(InputError, match=f"expected weights of '{key}', found those of 'another'"):
        registry.get(key).load().register(fixed, moving, config, progress=lambda f, stage, detail: calls.append(f))
    assert not calls


def test_the_way_back_must_undo_the_truth() -> None:
    grid = Grid((8, 8, 8), np.diag([2.0, 2.0, 2.0, 1.0]))
    there = torch.zeros(1, 3, 8, 8, 8)
    there[:, 0] = 1.5
    image = torch.zeros(1, 1, 8, 8, 8)
    pair = Pair(image, image, grid, truth=there)
    assert float(both_errors_mm(torch.cat([there, -there]), pair)) == pytest.approx(0.0, abs=1e-6)
    wrong = 0.5 * ((1.0 + 6.0**2) ** 0.5 - 1.0)  # 3 voxels of 2 mm off, on one of the two ways
    assert float(both_errors_mm(torch.cat([there, 1.0 * there]), pair)) == pytest.approx(wrong, rel=1e-5)
