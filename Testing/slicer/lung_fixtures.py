"""Fixtures of the lung panel's tests."""
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import app, panel
from harness.qt import dialogs

app.start()

import lung_case  # noqa: E402
from regsuite_slicer.jobs import WorkerPool  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def workers_end() -> Iterator[None]:
    """No worker outlives the tests of a file."""
    yield
    lung_case.close_shared_pool()


@pytest.fixture(scope="session")
def phantom_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lung_case.make_phantom_files(tmp_path_factory.mktemp("thorax") / "data")


@pytest.fixture
def lung(scene: Any, workers_end: None) -> Iterator[panel.Panel]:
    dialogs.reset()
    opened = lung_case.open_panel()
    yield opened
    opened.close()
    assert lung_case.leftovers() == []


@pytest.fixture
def case(lung: panel.Panel, phantom_files: Path) -> dict[str, Any]:
    return lung_case.load_case(phantom_files)


@pytest.fixture
def slow(lung: panel.Panel) -> Iterator[WorkerPool]:
    """The panel's jobs are done by a worker that reports for ever and leaves files behind when it is killed."""
    pool = lung.logic.pool
    lung.logic.pool = WorkerPool([sys.executable, str(HERE / "fake_worker.py"), "slow"])
    yield lung.logic.pool
    lung.logic.pool.close()
    lung.logic.pool = pool
