"""Bad input of multimodal-csngf at the command line: one sentence, exit code 2, nothing written. Headers far apart are fine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from regsuite import cli
from regsuite.geometry import Grid, Image
from regsuite.io import write_transform
from regsuite.transforms import AffineTransform

from Testing.unit.pipeline.pairs import Pair

QUICK = ("rotations=240", "poses=4", "levels=1", "iterations=2", "refine=none")


def mask_of(pair: Pair, side: str, part: tuple[slice, slice, slice]) -> str:
    image = getattr(pair, side)
    data = torch.zeros(image.grid.shape, dtype=torch.uint8)
    data[part] = 1
    return pair.write(f"{side}_mask.nrrd", Image(data, image.grid))


def constant(pair: Pair) -> dict[str, str]:
    image = Image(torch.full(pair.moving.grid.shape, 7.0), pair.moving.grid)
    return {"moving": pair.write("flat.nrrd", image)}


def tiny_mask(pair: Pair) -> dict[str, str]:
    return {"fixed-mask": mask_of(pair, "fixed", (slice(6, 8), slice(8, 10), slice(10, 12)))}


def bar_and_plate(pair: Pair) -> dict[str, str]:
    """A bar 11 mm thick cannot lie in a plate of half of that."""
    (d, h, _), thin = pair.fixed.grid.shape, 2
    bar = (slice(d // 2 - 2, d // 2 + 2), slice(h // 2 - 2, h // 2 + 2), slice(None))
    middle = pair.moving.grid.shape[0] // 2
    plate = (slice(middle, middle + thin), slice(None), slice(None))
    return {"fixed-mask": mask_of(pair, "fixed", bar), "moving-mask": mask_of(pair, "moving", plate), "set": "least_overlap=0.9"}


def argv(pair: Pair, method: str, changes: dict[str, str], settings: tuple[str, ...]) -> list[str]:
    values = {"fixed": pair.path("fixed.nrrd"), "moving": pair.path("moving.nrrd")} | changes
    out = ["register", method, values.pop("fixed"), values.pop("moving"), "-o", str(pair.folder.parent / "out"), "-q"]
    out += [word for name, value in values.items() for word in (f"--{name}", value)]
    return out + [word for setting in settings for word in ("--set", setting)]


def refused(pair: Pair, line: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(line) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert all(re.search(word, said[0]) for word in words), said[0]
    assert [path.name for path in pair.folder.parent.iterdir()] == [pair.folder.name]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (constant, ("flat.nrrd", "constant", "7")),
        (tiny_mask, ("fixed mask covers", "expected at least 64")),
        (bar_and_plate, ("No pose", "90 %", "overlap")),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    make: Callable[[Pair], dict[str, str]], words: tuple[str, ...], a_pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(a_pair, argv(a_pair, "multimodal-csngf", make(a_pair), QUICK), words, capsys)


def test_no_overlap_under_a_given_start_is_one_sentence(a_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    far = a_pair.path("far.h5")
    write_transform(AffineTransform.translation([900.0, 0.0, 0.0]), far)
    refused(a_pair, argv(a_pair, "rigid", {"initial": far, "preset": "Preview"}, ()), ("overlap|meet",), capsys)


def test_headers_that_do_not_overlap_are_told_of_and_overcome(a_pair: Pair) -> None:
    affine = a_pair.moving.grid.affine.copy()
    affine[:3, 3] += 900.0
    far = a_pair.write("far.nrrd", Image(a_pair.moving.data, Grid(a_pair.moving.grid.shape, affine)))
    assert cli.run(argv(a_pair, "multimodal-csngf", {"moving": far}, QUICK)) == 0
    report = json.loads((a_pair.folder.parent / "out" / "report.json").read_text())
    assert any("do not overlap" in text for text in report["warnings"])
    assert np.array(report["candidates"][0]["matrix_ras"]).shape == (4, 4)
