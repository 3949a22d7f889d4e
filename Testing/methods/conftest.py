"""Small phantoms, made once for all method tests: a breathing chest, a brain with a tumour, a child that grows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from regsuite.methods import registry
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom
from regsuite.phantoms.base import Phantom
from regsuite.transforms import AffineTransform
from scipy.spatial.transform import Rotation


@pytest.fixture(scope="session")
def chest() -> Phantom:
    """Oblique, anisotropic, fixed and moving on different grids."""
    return make_phantom("thorax", seed=4, size=(56, 46, 40), oblique=True)


@pytest.fixture(scope="session")
def brain() -> Phantom:
    """A patient with a tumour and a healthy template; oblique, anisotropic, on different grids."""
    return make_phantom("brain-tumour", seed=4, size=(40, 44, 38), oblique=True)


@pytest.fixture(scope="session")
def child() -> Phantom:
    """One child's head at two ages, in two poses; oblique, on different grids."""
    return make_phantom("growth", seed=4, size=(44, 50, 42), oblique=True)


@pytest.fixture(scope="session")
def posed(chest: Phantom) -> Phantom:
    """The chest's fixed image turned by 12 degrees, shifted and shown with another contrast on the grid of its moving image."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec([0.12, -0.15, 0.08]).as_matrix()
    matrix[:3, 3] = (9.0, -6.0, 12.0)
    pose = AffineTransform(matrix)
    grid = chest.moving.grid
    seen = resample(chest.fixed, grid, pose.inverse(), fill=float(chest.fixed.data.min()))
    low, high = float(seen.data.min()), float(seen.data.max())
    contrast = seen.with_data(((high - seen.data) / (high - low)) ** 2)
    return replace(chest, moving=contrast, moving_landmarks=pose.map_points(chest.fixed_landmarks))


@dataclass(frozen=True)
class Subject:
    """What a method is tried on: a phantom, the extra inputs without which it has nothing to do, and the share of the landmarks'
    error that it may leave."""

    phantom: Phantom
    extras: dict[str, Any]
    left: float = 0.5


@pytest.fixture
def subject(key: str, chest: Phantom, brain: Phantom, posed: Phantom, child: Phantom) -> Subject:
    """The phantom for the method `key`: brains for the methods of lesions, a child for the methods of growth, else the chest."""
    if registry.get(key).area == "multimodal":
        return Subject(posed, {}, 0.2)
    if registry.get(key).area == "pediatric":
        return Subject(child, {})
    if "lesion_mask" in registry.get(key).takes:
        return Subject(brain, {"lesion_mask": brain.lesion_mask})
    return Subject(chest, {})
