"""The arrows between the rooms of regsuite, read from the source: imports at the top of files and inside functions alike."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from Testing.repo.sources import PACKAGE, module_name, python_files, shown, tree_of

LEVELS: tuple[tuple[str, ...], ...] = (
    ("base",),  # check, errors, progress: one room without a folder
    ("geometry",),
    ("ops",),
    ("transforms", "losses", "nets", "metrics"),
    ("io", "solvers", "phantoms"),
    ("methods", "dose"),
    ("pipeline",),
    ("cli", "worker"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FOREIGN = {"slicer", "vtk", "qt", "ctk", "PythonQt", "regsuite_slicer", "vtkmodules", "Testing"}
EXCEPTIONS: dict[tuple[str, str], str] = {
    # (importing module, imported module): reason
}


def room_of(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1:
        return "root"
    return "base" if parts[1] in ("check", "errors", "progress") else parts[1]


def resolved(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Absolute names of the modules an import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    names = [base]
    for alias in node.names:  # "from regsuite import check" loads regsuite.check
        inside = PACKAGE.parent / Path(*base.split(".")) / alias.name
        module = base.split(".")[0] == "regsuite" and (inside.is_dir() or inside.with_suffix(".py").is_file())
        if module or (base == "regsuite" and alias.name != "__version__"):  # a name re-exported by the root hides its room
            names.append(f"{base}.{alias.name}")
    return names


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import in a file of the package, also of those inside functions."""
    module = module_name(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    # the root re-exports lazily and names its exports for type checkers only; test_imports.py proves that it stays light
    unseen = [
        n for n in ast.walk(tree_of(path)) if module == "regsuite" and isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    ]
    skipped = {id(inner) for block in unseen for inner in ast.walk(block)}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in skipped:
            found += [(node.lineno, name) for name in resolved(node, package)]
    return found


MODULES = [path for path in python_files() if PACKAGE in path.parents]


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 30
    assert "regsuite.check" in [name for _, name in imports(PACKAGE / "geometry" / "grid.py")]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    module = module_name(path)
    room = room_of(module)
    assert room == "root" or room in LEVEL, f"{shown(path)} lies in no known room; expected one of {', '.join(LEVEL)}."
    for line, name in imports(path):
        assert name.split(".")[0] not in FOREIGN, f"{shown(path)}:{line} imports {name}; regsuite runs without it."
        if name.split(".")[0] != "regsuite" or (module, name) in EXCEPTIONS:
            continue
        target = room_of(name)
        if target in (room, "root"):
            continue
        assert room != "root", f"{shown(path)}:{line} imports {name}; `import regsuite` must stay light."
        assert target in LEVEL, f"{shown(path)}:{line} imports {name}, which has no room; import it from where it is defined."
        assert LEVEL[target] < LEVEL[room], f"{shown(path)}:{line}: {room} must not import {target} ({name})."


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent.parent.name == "methods"], ids=module_name)
def test_a_method_imports_no_other_method(path: Path) -> None:
    """methods/<area>/<method>.py: what two methods share lives in a lower room, or beside it in a file with a leading _."""
    for line, name in imports(path):
        parts = name.split(".")
        if parts[:2] != ["regsuite", "methods"] or len(parts) < 4 or parts[-1].startswith("_"):
            continue
        allowed = path.name == "__init__.py" and parts[2] == path.parent.name
        assert allowed, f"{shown(path)}:{line} imports the method {name}; move what they share down."


def test_the_rules_are_felt(tmp_path: Path) -> None:
    """The same checks on made-up statements: each kind of import is seen."""
    statements = ast.parse("def f():\n    from ..methods import registry\nimport regsuite.io\nfrom regsuite import check, Grid\n")
    found = [
        name
        for node in ast.walk(statements)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in resolved(node, "regsuite.ops")
    ]
    assert {"regsuite.methods", "regsuite.methods.registry", "regsuite.io", "regsuite.check", "regsuite.Grid"} <= set(found)
    assert LEVEL[room_of("regsuite.methods.registry")] > LEVEL["ops"] > LEVEL[room_of("regsuite.check")]


def test_exceptions_are_still_needed() -> None:
    used = {(module_name(path), name) for path in MODULES for _, name in imports(path)}
    assert set(EXCEPTIONS) <= used
    assert len(EXCEPTIONS) <= 3
