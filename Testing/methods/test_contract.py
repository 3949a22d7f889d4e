"""What every registered method keeps to, whatever it does inside."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from regsuite.errors import Cancelled, InputError
from regsuite.geometry import Image
from regsuite.methods import registry
from regsuite.methods.api import Config, Result, Status

if TYPE_CHECKING:
    from Testing.methods.conftest import Subject

KEYS = tuple(key for key, row in registry.METHODS.items() if row.command == "register")
every_method = pytest.mark.parametrize("key", KEYS)


def run(subject: Subject, key: str, fixed: Image, moving: Image, preset: str = "Preview", **options: Any) -> Result:
    return registry.get(key).load().register(fixed, moving, registry.config_for(key, preset), **(subject.extras | options))


_PLAIN: dict[str, Result] = {}


def plain_run(subject: Subject, key: str) -> Result:
    """The method on its phantom without anything else, worked out once."""
    if key not in _PLAIN:
        _PLAIN[key] = run(subject, key, subject.phantom.fixed, subject.phantom.moving)
    return _PLAIN[key]


def test_there_are_methods() -> None:
    assert KEYS


@every_method
def test_result_is_typed_finite_and_leaves_the_inputs_alone(key: str, subject: Subject) -> None:
    phantom = subject.phantom
    before = phantom.fixed.data.clone(), phantom.moving.data.clone()
    reports: list[tuple[float, str]] = []
    result = run(subject, key, phantom.fixed, phantom.moving, progress=lambda f, stage, detail: reports.append((f, stage)))
    assert torch.equal(phantom.fixed.data, before[0])
    assert torch.equal(phantom.moving.data, before[1])
    assert isinstance(result.status, Status)
    assert isinstance(result.config, Config)
    assert result.device == "cpu" or result.device.startswith("cuda")
    assert result.timings_s
    assert min(result.timings_s.values()) >= 0
    field = result.transform.displacement(phantom.fixed.grid)
    assert torch.isfinite(field).all()
    assert not field.requires_grad
    fractions = [f for f, _ in reports]
    assert len(reports) > 5
    assert fractions == sorted(fractions)
    assert fractions[0] >= 0.0
    assert fractions[-1] <= 1.0
    assert all(stage for _, stage in reports)


@every_method
def test_it_registers(key: str, subject: Subject) -> None:
    phantom, result = subject.phantom, plain_run(subject, key)
    before = (phantom.fixed_landmarks - phantom.moving_landmarks).norm(dim=1).mean()
    after = (result.transform.map_points(phantom.fixed_landmarks) - phantom.moving_landmarks).norm(dim=1).mean()
    assert float(after) < subject.left * float(before)


@every_method
def test_the_same_seed_gives_the_same_bytes(key: str, subject: Subject) -> None:
    phantom = subject.phantom
    a, b = (run(subject, key, phantom.fixed, phantom.moving, seed=3).transform.displacement(phantom.fixed.grid) for _ in range(2))
    assert torch.equal(a, b)


@every_method
@pytest.mark.parametrize("after", [0, 3, 9])
def test_it_stops_when_asked(key: str, after: int, subject: Subject) -> None:
    phantom = subject.phantom
    calls: list[float] = []

    def stop(fraction: float, stage: str, detail: str) -> bool:
        calls.append(fraction)
        return len(calls) <= after

    with pytest.raises(Cancelled):
        run(subject, key, phantom.fixed, phantom.moving, progress=stop)
    assert len(calls) == after + 1


@every_method
def test_an_image_on_itself_does_not_move(key: str, subject: Subject) -> None:
    phantom = subject.phantom
    field = run(subject, key, phantom.fixed, phantom.fixed).transform.displacement(phantom.fixed.grid)
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
def test_bad_images_are_refused(key: str, subject: Subject) -> None:
    phantom = subject.phantom
    constant = phantom.fixed.with_data(torch.full_like(phantom.fixed.data, 7.0))
    with pytest.raises(InputError, match="constant"):
        run(subject, key, constant, phantom.moving)
    with pytest.raises(InputError, match="channel"):
        run(subject, key, phantom.fixed, phantom.moving.with_data(phantom.moving.data.repeat(2, 1, 1, 1)))
    broken = phantom.moving.data.clone()
    broken[0, 3, 4, 5] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        run(subject, key, phantom.fixed, phantom.moving.with_data(broken))
    for device in ("banana", "cuda:99"):
        with pytest.raises(InputError, match="evice"):
            run(subject, key, phantom.fixed, phantom.moving, device=device)


@every_method
def test_masks_are_checked_and_change_the_answer(key: str, subject: Subject) -> None:
    phantom = subject.phantom
    takes = registry.get(key).takes
    plain = plain_run(subject, key).transform.displacement(phantom.fixed.grid)
    for name, image in (("fixed_mask", phantom.fixed), ("moving_mask", phantom.moving)):
        if name not in takes:
            continue
        with pytest.raises(InputError, match="empty"):
            run(subject, key, phantom.fixed, phantom.moving, **{name: image.with_data(torch.zeros_like(image.data))})
        part = torch.zeros_like(image.data)
        part[..., : part.shape[-1] // 2] = 1.0
        masked = run(subject, key, phantom.fixed, phantom.moving, **{name: image.with_data(part)})
        assert not torch.equal(masked.transform.displacement(phantom.fixed.grid), plain), f"{name} was ignored"


@every_method
def test_images_far_apart_are_centred_with_a_warning(key: str, subject: Subject) -> None:
    phantom = subject.phantom
    affine = phantom.moving.grid.affine.copy()
    affine[:3, 3] += (900.0, -700.0, 800.0)
    far = Image(phantom.moving.data, type(phantom.moving.grid)(phantom.moving.grid.shape, affine))
    result = run(subject, key, phantom.fixed, far)
    assert any("overlap" in text for text in result.warnings)
    moved = result.transform.map_points(phantom.fixed_landmarks) - torch.from_numpy(np.array((900.0, -700.0, 800.0)))
    assert float((moved - phantom.moving_landmarks).norm(dim=1).mean()) < 8.0
