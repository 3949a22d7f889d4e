"""Small phantoms, made once for all method tests: a breathing chest, and a brain with a tumour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from regsuite.methods import registry
from regsuite.phantoms import make_phantom
from regsuite.phantoms.base import Phantom


@pytest.fixture(scope="session")
def chest() -> Phantom:
    """Oblique, anisotropic, fixed and moving on different grids."""
    return make_phantom("thorax", seed=4, size=(56, 46, 40), oblique=True)


@pytest.fixture(scope="session")
def brain() -> Phantom:
    """A patient with a tumour and a healthy template; oblique, anisotropic, on different grids."""
    return make_phantom("brain-tumour", seed=4, size=(40, 44, 38), oblique=True)


@dataclass(frozen=True)
class Subject:
    """What a method is tried on: a phantom, the extra inputs without which it has nothing to do, and the share of the landmarks'
    error that it may leave."""

    phantom: Phantom
    extras: dict[str, Any]
    left: float = 0.5


@pytest.fixture
def subject(key: str, chest: Phantom, brain: Phantom) -> Subject:
    """The phantom for the method `key`: brains for the methods of lesions, else the chest."""
    if "lesion_mask" in registry.get(key).takes:
        return Subject(brain, {"lesion_mask": brain.lesion_mask}, 0.95)
    return Subject(chest, {})
