"""Nothing in the repository points into somebody's machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from Testing.repo.sources import shown, text_files

FOLDERS = ("work", "home", "root", "Users", "mnt", "scratch", "tmp", "private")
MACHINE_PATH = re.compile(r"(?<![\w./~$}\])])/(?:" + "|".join(FOLDERS) + r")/[\w.-]|[A-Z]:\\\\?Users\\")


@pytest.mark.parametrize("path", text_files(), ids=shown)
def test_no_absolute_path_of_a_machine(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        found = MACHINE_PATH.search(line)
        assert found is None, f"{shown(path)}:{number} holds a path of one machine: {line.strip()[:100]}"


def test_the_pattern_sees_paths_and_not_urls_or_relative_paths() -> None:
    slash = "/"
    for bad in (f"'{slash}home{slash}me'", f"open({slash}tmp{slash}x)", f"{slash}work{slash}data", "C:" + "\\Users\\me"):
        assert MACHINE_PATH.search(bad)
    for good in ("https://example.org/home/x", "../shared/work/x", "a/tmp/b", "$HOME/tmp/x", "/usr/bin/env"):
        assert not MACHINE_PATH.search(good)
