"""Data with known truth, made from a seed. `make_phantom(name)` finds its module only when asked for it."""

from __future__ import annotations

import importlib

from regsuite import check
from regsuite.errors import InputError
from regsuite.phantoms.base import Phantom

PHANTOMS: dict[str, str] = {
    "thorax": "regsuite.phantoms.thorax",
    "growth": "regsuite.phantoms.growth",
    "brain-tumour": "regsuite.phantoms.brain_tumour",
}
"""Name -> module with `make(seed, **options) -> Phantom` and `OPTIONS`, the names of its options."""

__all__ = ["PHANTOMS", "Phantom", "make_phantom"]


def make_phantom(name: str, seed: int = 0, **options: object) -> Phantom:
    """Make a phantom from a seed (0 <= seed < 2^32): the same arguments give the same bytes.

    Raises InputError on an unknown name or option, or a value out of range.
    """
    check.choice("phantom", name, tuple(PHANTOMS))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"'seed' must be a whole number in [0, 2^32), found {seed!r}.")
    module = importlib.import_module(PHANTOMS[name])
    for key in options:
        check.choice(f"option of phantom {name}", key, module.OPTIONS)
    return module.make(seed, **options)
