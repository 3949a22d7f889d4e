"""Data with known truth, made from a seed. `make_phantom(name)` finds its module only when asked for it."""

from __future__ import annotations

import importlib
from typing import Any

from regsuite import check
from regsuite.errors import InputError
from regsuite.phantoms.base import Phantom, SlicePhantom

PHANTOMS: dict[str, str] = {
    "thorax": "regsuite.phantoms.thorax",
    "growth": "regsuite.phantoms.growth",
    "brain-tumour": "regsuite.phantoms.brain_tumour",
    "dose": "regsuite.phantoms.dose",
}
"""Name -> module with `make(seed, **options) -> Phantom` and `OPTIONS`, the names of its options."""

SLICE_PHANTOMS: dict[str, str] = {"hip-radial": "regsuite.phantoms.hip_radial"}
"""The same for phantoms of a volume and slices: `make` returns a SlicePhantom."""

__all__ = ["PHANTOMS", "SLICE_PHANTOMS", "Phantom", "SlicePhantom", "make_phantom", "make_slice_phantom"]


def make_phantom(name: str, seed: int = 0, **options: object) -> Phantom:
    """Make a phantom from a seed (0 <= seed < 2^32): the same arguments give the same bytes.

    Raises InputError on an unknown name or option, or a value out of range.
    """
    phantom: Phantom = _make(PHANTOMS, name, seed, options)
    return phantom


def make_slice_phantom(name: str, seed: int = 0, **options: object) -> SlicePhantom:
    """The same for a volume with slices of it."""
    phantom: SlicePhantom = _make(SLICE_PHANTOMS, name, seed, options)
    return phantom


def _make(homes: dict[str, str], name: str, seed: int, options: dict[str, object]) -> Any:
    check.choice("phantom", name, tuple(homes))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"'seed' must be a whole number in [0, 2^32), found {seed!r}.")
    module = importlib.import_module(homes[name])
    for key in options:
        check.choice(f"option of phantom {name}", key, module.OPTIONS)
    return module.make(seed, **options)
