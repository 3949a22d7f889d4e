"""Files that are derived from others, written anew: `python -m Testing.repo.refresh` after a file or a setting was added.

- RegSuiteBackend/CMakeLists.txt: the lists of scripts and resources to package;
- RegSuiteBackend/Resources/RegSuiteMethods.json: the methods with their settings, from which the panels are made.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from Testing.repo.sources import ROOT, files

BACKEND = ROOT / "RegistrationSuite" / "RegSuiteBackend"
LISTS = BACKEND / "CMakeLists.txt"
METHODS = BACKEND / "Resources" / "RegSuiteMethods.json"


def cmake_text() -> str:
    """The CMake file with complete lists."""
    inside = [path.relative_to(BACKEND).as_posix() for path in files() if BACKEND in path.parents and path != LISTS]
    scripts = [name for name in inside if name.endswith(".py")]
    text = LISTS.read_text(encoding="utf-8")
    for variable, names in (("SCRIPTS", scripts), ("RESOURCES", [name for name in inside if name not in scripts])):
        lines = "".join(f"  {name.replace('RegSuiteBackend.py', '${MODULE_NAME}.py')}\n" for name in sorted(names, key=_order))
        pattern = rf"set\(MODULE_PYTHON_{variable}\n.*?  \)\n"
        text = re.sub(pattern, lambda _, v=variable, body=lines: f"set(MODULE_PYTHON_{v}\n{body}  )\n", text, flags=re.DOTALL)
    return text


def _order(name: str) -> tuple[bool, str]:
    """The module itself first, then by path."""
    return "/" in name, name


def methods_text() -> str:
    """What `regsuite methods --json` says."""
    from regsuite.pipeline.describe import describe_methods

    return json.dumps(describe_methods(), indent=2) + "\n"


def derived() -> dict[Path, str]:
    """Every derived file and what it should hold."""
    return {LISTS: cmake_text(), METHODS: methods_text()}


if __name__ == "__main__":
    for target, content in derived().items():
        target.write_text(content, encoding="utf-8")
