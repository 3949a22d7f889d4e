"""regsuite imports on a bare Python: no application, no window system, and the package itself without torch."""

from __future__ import annotations

import os
import subprocess
import sys

from Testing.repo.sources import PACKAGE, module_name, python_files

BLOCKED = ("slicer", "vtk", "vtkmodules", "qt", "ctk", "PythonQt", "PySide6", "regsuite_slicer", "mrml")
BLOCK = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, env=environment, timeout=300)


def test_the_block_works() -> None:
    done = run("import vtk")
    assert done.returncode != 0
    assert "blocked: vtk" in done.stderr


def test_import_regsuite_is_light() -> None:
    done = run(
        "import regsuite\n"
        "heavy = {'torch', 'numpy', 'scipy', 'SimpleITK', 'matplotlib', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(regsuite.__version__)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().count(".") == 2


def test_every_module_imports_without_the_application_and_says_nothing() -> None:
    names = [module_name(p) for p in python_files() if PACKAGE in p.parents and p.name != "__main__.py"]
    assert len(names) > 30
    done = run(f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
