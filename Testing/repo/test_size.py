"""Files stay short enough to read in one go, functions short enough to see at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from Testing.repo.sources import ROOT, python_files, shown, tree_of

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PANEL_LINES = 400, 50, 300
LONG_FILES: dict[str, str] = {
    # "path": "reason"
}
LONG_FUNCTIONS: dict[str, str] = {
    # "path::function": "reason"
}


def functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines from def to the last line) of every function and method, nested ones included."""
    nodes = [n for n in ast.walk(tree_of(path)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in nodes]


@pytest.mark.parametrize("path", python_files(), ids=shown)
def test_lines(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    panel = path.parent.parent == ROOT / "RegistrationSuite" and path.stem == path.parent.name
    limit = MAX_PANEL_LINES if panel else MAX_FILE_LINES
    assert lines <= limit or shown(path) in LONG_FILES, f"{shown(path)} has {lines} lines; the limit is {limit}."
    for name, length in functions(path):
        known = f"{shown(path)}::{name}" in LONG_FUNCTIONS
        assert length <= MAX_FUNCTION_LINES or known, (
            f"{shown(path)}: {name} has {length} lines; the limit is {MAX_FUNCTION_LINES}."
        )


def test_exceptions_are_few_explained_and_still_needed() -> None:
    long = {shown(p) for p in python_files() if len(p.read_text(encoding="utf-8").splitlines()) > MAX_PANEL_LINES}
    long_functions = {f"{shown(p)}::{name}" for p in python_files() for name, length in functions(p) if length > MAX_FUNCTION_LINES}
    assert set(LONG_FILES) <= long
    assert set(LONG_FUNCTIONS) <= long_functions
    assert all(len(reason) > 20 for reason in (*LONG_FILES.values(), *LONG_FUNCTIONS.values()))
    assert len(LONG_FILES) + len(LONG_FUNCTIONS) <= 6
