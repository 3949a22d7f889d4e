"""The project's own files, as the repository tests see them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "RegistrationSuite" / "RegSuiteBackend" / "regsuite"
TREES = ("RegistrationSuite", "Testing", "Resources", ".ci")
TEXT = {".py", ".md", ".toml", ".txt", ".cfg", ".ini", ".json", ".yml", ".yaml", ".ui", ".cmake", ".csv", ".svg", ".sh", ".in", ""}
MADE_BY_TOOLS = {"__pycache__", ".hypothesis", ".pytest_cache", ".mypy_cache", ".ruff_cache", "build", "dist"}


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project's trees and of its top level, without what tools leave behind."""
    found = [p for p in ROOT.iterdir() if p.is_file()]
    for tree in TREES:
        found += [p for p in (ROOT / tree).rglob("*") if p.is_file()]
    return tuple(sorted(p for p in found if not _made_by_tools(p)))


def _made_by_tools(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(part in MADE_BY_TOOLS or part.endswith(".egg-info") for part in parts)


@cache
def python_files() -> tuple[Path, ...]:
    """Every Python file of RegistrationSuite/ and Testing/."""
    return tuple(p for p in files() if p.suffix == ".py")


@cache
def text_files() -> tuple[Path, ...]:
    """Every file that people read or tools parse."""
    return tuple(p for p in files() if p.suffix in TEXT)


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path) -> str:
    """The path as a message should show it."""
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """Dotted name of a file of the package regsuite."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
