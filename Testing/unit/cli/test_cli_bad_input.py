"""Bad input at the command line: exit code 2, one line on stderr that says what is wrong, nothing written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from regsuite import cli
from regsuite.geometry import Image

from Testing.unit.pipeline.bad_input import CASES, Case
from Testing.unit.pipeline.pairs import Pair

REPOSITORY = Path(__file__).resolve().parents[3]
INSTALL = "from Testing.unit.pipeline.shift_method import install; install(); from regsuite.cli import main; main()"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def arguments(pair: Pair, changes: dict[str, str], settings: tuple[str, ...] = ()) -> list[str]:
    values = {"method": "test-shift", "fixed": pair.path("fixed.nrrd"), "moving": pair.path("moving.nrrd")} | changes
    argv = ["register", values.pop("method"), values.pop("fixed"), values.pop("moving"), "-o", str(pair.folder.parent / "out")]
    for name, value in values.items():
        argv += [f"--{name.replace('_', '-')}", value]
    for setting in settings:
        argv += ["--set", setting]
    return [*argv, "-q"]


def said_in_one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("regsuite: ")
    return lines[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_one_line_and_exit_code_2(a_pair: Pair, case: Case, capsys):
    argv = arguments(a_pair, case.make(a_pair), case.settings)
    before = contents(a_pair.folder.parent)
    assert cli.run(argv) == 2
    line = said_in_one_line(capsys)
    for words in case.words:
        assert re.search(words, line, re.IGNORECASE), f"{words!r} is not in: {line}"
    assert contents(a_pair.folder.parent) == before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["register", "test-shift", "a", "b", "-o", "c", "--fixed-msk", "m"], ("--fixed-msk", "--fixed-mask", "--moving-mask")),
        (["register", "test-shift", "a"], ("MOVING",)),
        (["register", "test-shift", "a", "b"], ("--out|OUT",)),
        (["register", "test-shift", "a", "b", "-o", "c", "--seed", "x"], ("seed", "'x'")),
        (["register", "test-shift", "a", "b", "-o", "c", "--seed", "-1"], ("seed", "-1")),
        (["regster"], ("regster", "register", "evaluate")),
        (["phantom", "torax", "-o", "c"], ("torax", "thorax")),
        (["phantom", "thorax", "-o", "c", "--size", "1", "2", "3"], ("size",)),
        (["demo", "lnug", "-o", "c"], ("lnug", "lung")),
        (["evaluate", "-o", "r.json"], ("nothing to evaluate",)),
        (["apply", "t.h5", "i.nrrd", "--like", "f.nrrd", "-o", "o.nrrd", "--interpolation", "bilinear"], ("bilinear", "nearest")),
        (["apply", "t.h5", "i.nrrd", "--like", "f.nrrd", "-o", "o.nrrd"], ("t.h5",)),
    ],
)
def test_typing_errors_are_answered_with_the_valid_names(argv, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.run(argv) == 2
    line = said_in_one_line(capsys)
    for word in words:
        assert re.search(word, line, re.IGNORECASE), f"{word!r} is not in: {line}"
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(a_pair, capsys):
    (a_pair.folder.parent / "out").write_text("a file")
    assert cli.run(arguments(a_pair, {})) == 2
    assert "out" in said_in_one_line(capsys)
    assert (a_pair.folder.parent / "out").read_text() == "a file"


def test_apply_of_a_file_that_is_no_transform(a_pair, capsys):
    Path(a_pair.path("t.h5")).write_text("no")
    argv = ["apply", a_pair.path("t.h5"), a_pair.path("moving.nrrd"), "--like", a_pair.path("fixed.nrrd"), "-q"]
    assert cli.run([*argv, "-o", a_pair.path("o.nrrd")]) == 2
    assert "t.h5" in said_in_one_line(capsys)
    assert not Path(a_pair.path("o.nrrd")).exists()


def test_unknown_extension_of_the_output(a_pair, capsys):
    assert cli.run([*arguments(a_pair, {}), "-q"]) == 0
    argv = ["apply", str(a_pair.folder.parent / "out" / "transform.h5"), a_pair.path("moving.nrrd")]
    assert cli.run([*argv, "--like", a_pair.path("fixed.nrrd"), "-o", a_pair.path("o.jpg"), "-q"]) == 2
    assert ".nrrd" in said_in_one_line(capsys)


@pytest.mark.parametrize(("fail", "words"), [("bug", "ZeroDivisionError: on purpose"), ("memory", "Not enough memory")])
def test_our_own_errors_are_one_line_and_exit_code_1(a_pair, capsys, fail, words):
    before = contents(a_pair.folder.parent)
    assert cli.run(arguments(a_pair, {}, (f"fail={fail}",))) == 1
    line = said_in_one_line(capsys)
    assert words in line
    assert "-v" in line
    assert contents(a_pair.folder.parent) == before


def test_verbose_shows_the_traceback(a_pair):
    with pytest.raises(ZeroDivisionError):
        cli.run([*arguments(a_pair, {}, ("fail=bug",)), "-v"])


def test_inputs_are_never_touched(a_pair):
    mask = a_pair.write("mask.nrrd", Image(torch.ones(a_pair.fixed.grid.shape, dtype=torch.uint8), a_pair.fixed.grid))
    before = contents(a_pair.folder)
    assert cli.run(arguments(a_pair, {"fixed_mask": mask})) == 0
    assert contents(a_pair.folder) == before


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_in_the_middle_leaves_nothing(a_pair, how, code):
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "RegistrationSuite" / "RegSuiteBackend")])
    argv = [item for item in arguments(a_pair, {}, ("pauses=5000", "pause_s=0.02")) if item != "-q"]
    before = contents(a_pair.folder.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", INSTALL, *argv],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background inherits "ignore"
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Centring" in line:
            break
    assert contents(a_pair.folder.parent) != before  # the hidden folder it works in
    began = time.monotonic()
    process.send_signal(how)
    rest = process.communicate(timeout=20)[1]
    assert process.returncode == code
    assert time.monotonic() - began < 5
    assert "Traceback" not in rest
    if how == signal.SIGINT:
        assert rest.splitlines()[-1].startswith("regsuite: Interrupted")
    assert contents(a_pair.folder.parent) == before


def test_the_module_runs_as_a_program():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "RegistrationSuite" / "RegSuiteBackend")}
    command = [sys.executable, "-m", "regsuite.cli", "register", "no-such", "a b.nrrd", "c.nrrd", "-o", "x"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "lung-convex" in done.stderr
