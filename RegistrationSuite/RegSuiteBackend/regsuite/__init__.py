"""regsuite: medical image registration on torch. World = RAS mm; T maps fixed points to moving points; see CONVENTIONS.md.

    from regsuite import apply, read_image, register, write_image
    fixed, moving = read_image("fixed.nrrd"), read_image("moving.nrrd")
    result = register("lung-convex", fixed, moving)
    write_image(apply(result.transform, moving, like=fixed), "moved.nrrd")

Names are imported when they are first used: `import regsuite` alone does not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from regsuite.errors import InputError, RegSuiteError
    from regsuite.geometry import Grid, Image
    from regsuite.io import read_image, read_labels, read_landmarks, read_transform, write_image, write_landmarks, write_transform
    from regsuite.methods.api import Result, Status
    from regsuite.pipeline.apply import apply
    from regsuite.pipeline.register import register

_HOMES = {
    "regsuite.errors": ("InputError", "RegSuiteError"),
    "regsuite.geometry": ("Grid", "Image"),
    "regsuite.io": (
        "read_image",
        "read_labels",
        "read_landmarks",
        "read_transform",
        "write_image",
        "write_landmarks",
        "write_transform",
    ),
    "regsuite.methods.api": ("Result", "Status"),
    "regsuite.pipeline.apply": ("apply",),
    "regsuite.pipeline.register": ("register",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Grid",
    "Image",
    "InputError",
    "RegSuiteError",
    "Result",
    "Status",
    "__version__",
    "apply",
    "read_image",
    "read_labels",
    "read_landmarks",
    "read_transform",
    "register",
    "write_image",
    "write_landmarks",
    "write_transform",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'regsuite' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
