"""A small breathing chest, made once for all method tests."""

from __future__ import annotations

import pytest
from regsuite.phantoms import make_phantom
from regsuite.phantoms.base import Phantom


@pytest.fixture(scope="session")
def chest() -> Phantom:
    """Oblique, anisotropic, fixed and moving on different grids."""
    return make_phantom("thorax", seed=4, size=(56, 46, 40), oblique=True)
