"""Fixtures: a small pair on disk, and the tests' own method in the registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from regsuite.methods.registry import METHODS

from Testing.unit.pipeline import shift_method
from Testing.unit.pipeline.pairs import Pair, make_pair


@pytest.fixture
def a_pair(tmp_path: Path) -> Pair:
    folder = tmp_path / "data of a patient"
    folder.mkdir()
    return make_pair(folder)


@pytest.fixture(autouse=True)
def shift_in_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, shift_method.ROW.key, shift_method.ROW)
