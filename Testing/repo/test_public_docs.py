"""Everything public in regsuite says what it is."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from Testing.repo.sources import PACKAGE, module_name, python_files

MODULES = [p for p in python_files() if PACKAGE in p.parents and p.name != "__main__.py"]


def undocumented(module: ModuleType) -> list[str]:
    """Public functions, classes, methods and properties defined in the module that have no docstring of their own or inherited."""
    missing = [] if module.__doc__ else [module.__name__]
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) and not inspect.getdoc(thing):
            missing.append(f"{module.__name__}.{name}")
        if inspect.isclass(thing):
            if not thing.__doc__ or thing.__doc__.startswith(f"{name}("):  # what a dataclass makes up by itself
                missing.append(f"{module.__name__}.{name}")
            missing += [f"{module.__name__}.{name}.{m}" for m in public_members(thing) if not inspect.getdoc(getattr(thing, m))]
    return missing


def public_members(kind: type) -> list[str]:
    """Names of the methods and properties that a class itself defines."""
    wanted = (staticmethod, classmethod, property)
    return [n for n, m in vars(kind).items() if not n.startswith("_") and (inspect.isfunction(m) or isinstance(m, wanted))]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_public_names_have_docstrings(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip():
        pytest.fail(f"{module_name(path)} is empty; expected a docstring that says what the room is for.")
    assert undocumented(importlib.import_module(module_name(path))) == []


def test_a_bare_function_would_be_noticed() -> None:
    module = ModuleType("made_up", "A module.")
    exec("def f(): ...\nclass C:\n    'A class.'\n    def g(self): ...\n    def _h(self): ...", module.__dict__)
    assert undocumented(module) == ["made_up.f", "made_up.C.g"]
