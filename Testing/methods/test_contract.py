"""What every registered method keeps to, whatever it does inside."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from regsuite.errors import Cancelled, InputError
from regsuite.geometry import Image
from regsuite.methods import registry
from regsuite.methods.api import Config, Result, Status
from regsuite.phantoms.base import Phantom

KEYS = tuple(registry.METHODS)
every_method = pytest.mark.parametrize("key", KEYS)


def run(key: str, fixed: Image, moving: Image, preset: str = "Preview", **options: Any) -> Result:
    return registry.get(key).load().register(fixed, moving, registry.config_for(key, preset), **options)


def test_there_are_methods() -> None:
    assert KEYS


@every_method
def test_result_is_typed_finite_and_leaves_the_inputs_alone(key: str, chest: Phantom) -> None:
    before = chest.fixed.data.clone(), chest.moving.data.clone()
    reports: list[tuple[float, str]] = []
    result = run(key, chest.fixed, chest.moving, progress=lambda f, stage, detail: reports.append((f, stage)))
    assert torch.equal(chest.fixed.data, before[0])
    assert torch.equal(chest.moving.data, before[1])
    assert isinstance(result.status, Status)
    assert isinstance(result.config, Config)
    assert result.device == "cpu" or result.device.startswith("cuda")
    assert result.timings_s
    assert min(result.timings_s.values()) >= 0
    field = result.transform.displacement(chest.fixed.grid)
    assert torch.isfinite(field).all()
    assert not field.requires_grad
    fractions = [f for f, _ in reports]
    assert len(reports) > 5
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0.0
    assert fractions[-1] <= 1.0
    assert all(stage for _, stage in reports)


@every_method
def test_it_registers(key: str, chest: Phantom) -> None:
    result = run(key, chest.fixed, chest.moving)
    before = (chest.fixed_landmarks - chest.moving_landmarks).norm(dim=1).mean()
    after = (result.transform.map_points(chest.fixed_landmarks) - chest.moving_landmarks).norm(dim=1).mean()
    assert float(after) < 0.5 * float(before)


@every_method
def test_the_same_seed_gives_the_same_bytes(key: str, chest: Phantom) -> None:
    a, b = (run(key, chest.fixed, chest.moving, seed=3).transform.displacement(chest.fixed.grid) for _ in range(2))
    assert torch.equal(a, b)


@every_method
@pytest.mark.parametrize("after", [0, 3, 9])
def test_it_stops_when_asked(key: str, after: int, chest: Phantom) -> None:
    calls: list[float] = []

    def stop(fraction: float, stage: str, detail: str) -> bool:
        calls.append(fraction)
        return len(calls) <= after

    with pytest.raises(Cancelled):
        run(key, chest.fixed, chest.moving, progress=stop)
    assert len(calls) == after + 1


@every_method
def test_an_image_on_itself_does_not_move(key: str, chest: Phantom) -> None:
    field = run(key, chest.fixed, chest.fixed).transform.displacement(chest.fixed.grid)
    assert float(field.norm(dim=0).max()) < 0.1


@every_method
@pytest.mark.parametrize("name", registry.get(KEYS[0]).load().PRESETS)
def test_presets_are_frozen_configs_with_limits(key: str, name: str) -> None:
    config = registry.config_for(key, name.lower())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.unknown = 1
    for item in dataclasses.fields(config):
        if "high" in item.metadata:
            with pytest.raises(InputError, match=item.name):
                config.replaced(**{item.name: item.metadata["high"] * 2 + 1})
            with pytest.raises(InputError, match=item.name):
                config.replaced(**{item.name: float("nan")})
    with pytest.raises(InputError, match="Unknown setting 'smothness'"):
        config.replaced(smothness=1)


@every_method
def test_bad_images_are_refused(key: str, chest: Phantom) -> None:
    constant = chest.fixed.with_data(torch.full_like(chest.fixed.data, 7.0))
    with pytest.raises(InputError, match="constant"):
        run(key, constant, chest.moving)
    with pytest.raises(InputError, match="channel"):
        run(key, chest.fixed, chest.moving.with_data(chest.moving.data.repeat(2, 1, 1, 1)))
    broken = chest.moving.data.clone()
    broken[0, 3, 4, 5] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        run(key, chest.fixed, chest.moving.with_data(broken))
    for device in ("banana", "cuda:99"):
        with pytest.raises(InputError, match="evice"):
            run(key, chest.fixed, chest.moving, device=device)


@every_method
def test_masks_are_checked_and_change_the_answer(key: str, chest: Phantom) -> None:
    takes = registry.get(key).takes
    plain = run(key, chest.fixed, chest.moving).transform.displacement(chest.fixed.grid)
    for name, image in (("fixed_mask", chest.fixed), ("moving_mask", chest.moving)):
        if name not in takes:
            continue
        with pytest.raises(InputError, match="empty"):
            run(key, chest.fixed, chest.moving, **{name: image.with_data(torch.zeros_like(image.data))})
        part = torch.zeros_like(image.data)
        part[..., : part.shape[-1] // 2] = 1.0
        masked = run(key, chest.fixed, chest.moving, **{name: image.with_data(part)}).transform.displacement(chest.fixed.grid)
        assert not torch.equal(masked, plain), f"{name} was ignored"


@every_method
def test_images_far_apart_are_centred_with_a_warning(key: str, chest: Phantom) -> None:
    affine = chest.moving.grid.affine.copy()
    affine[:3, 3] += (900.0, -700.0, 800.0)
    far = Image(chest.moving.data, type(chest.moving.grid)(chest.moving.grid.shape, affine))
    result = run(key, chest.fixed, far)
    assert any("overlap" in text for text in result.warnings)
    moved = result.transform.map_points(chest.fixed_landmarks) - torch.from_numpy(np.array((900.0, -700.0, 800.0)))
    assert float((moved - chest.moving_landmarks).norm(dim=1).mean()) < 8.0
