"""Environment of the headless Slicer; it must be set before vtk and PySide6 are imported."""
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
os.environ["QT_QPA_PLATFORM"] = "offscreen"
sys.path.insert(0, str(Path(__file__).parent))

_MISSING = [name for name in ("slicer_core", "PySide6") if importlib.util.find_spec(name) is None]
if _MISSING:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str:
    return f"headless Slicer: not run, missing {', '.join(_MISSING)}" if _MISSING else "headless Slicer: available"


@pytest.fixture(autouse=True)
def slot_errors() -> Iterator[None]:
    """A test fails when a slot or observer raised during it, whatever it asserts itself."""
    from harness import errors
    errors.take()
    yield
    errors.raise_slot_errors()


@pytest.fixture
def scene() -> Iterator[object]:
    """The emptied scene of the headless Slicer."""
    from harness import app
    app.start()
    yield app.reset_scene()
    app.reset_scene()


@pytest.fixture(scope="session")
def photo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where photographs go: the folder named by SLICER_HARNESS_PHOTOS (kept by CI), else a temporary one."""
    named = os.environ.get("SLICER_HARNESS_PHOTOS")
    folder = Path(named) if named else tmp_path_factory.mktemp("photos")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
