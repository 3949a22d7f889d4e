"""The real method through the real command line, on small images."""

from __future__ import annotations

import json
import re

import pytest
from regsuite import cli

from Testing.unit.pipeline.bad_input import CASES, Case
from Testing.unit.pipeline.pairs import Pair

DATA_CASES = [case for case in CASES if not case.settings and case.name not in ("mask not taken", "unknown method")]


def argv(pair: Pair, changes: dict[str, str]) -> list[str]:
    values = {"fixed": pair.path("fixed.nrrd"), "moving": pair.path("moving.nrrd")} | changes
    out = ["register", "lung-convex", values.pop("fixed"), values.pop("moving"), "-o", str(pair.folder.parent / "out"), "-q"]
    values.setdefault("preset", "Preview")
    return out + [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)]


def test_lung_convex_aligns_a_small_pair(a_pair):
    assert cli.run([*argv(a_pair, {}), "--scene"]) == 0
    out = a_pair.folder.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == ["moved.nrrd", "overview.png", "report.json", "scene.mrb", "transform.h5"]
    report = json.loads((out / "report.json").read_text())
    before, after = report["metrics"]["before"], report["metrics"]["after"]
    assert after["similarity"]["ncc"] > max(0.97, before["similarity"]["ncc"])
    assert after["folding_percent"] == 0.0


@pytest.mark.parametrize("case", DATA_CASES, ids=lambda case: case.name)
def test_lung_convex_refuses_bad_input_in_one_line(a_pair, case: Case, capsys):
    assert cli.run(argv(a_pair, case.make(a_pair))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert all(re.search(words, lines[0], re.IGNORECASE) for words in case.words)
    assert sorted(path.name for path in a_pair.folder.parent.iterdir()) == [a_pair.folder.name]
