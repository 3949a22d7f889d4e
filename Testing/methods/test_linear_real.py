"""rigid on a real patient: two studies months apart, and two contrasts of one study, against the authors' transforms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from regsuite.io.transforms import read_transform
from regsuite.io.volumes import read_image
from regsuite.methods import registry
from regsuite.transforms import AffineTransform

from Testing.unit.io import samples

FOLDER = samples.DATA / "brain-longitudinal"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="real data absent")


def authors(path: Path) -> AffineTransform:
    """The authors' ITK transform as T, fixed (common or FLAIR) -> moving points, RAS."""
    given = read_transform(path)
    assert isinstance(given, AffineTransform)
    return given


def points() -> torch.Tensor:
    mask = read_image(FOLDER / "patient01-coregistered" / "brainmask.nii.gz")
    inside = mask.data[0].nonzero()[::101].flip(1).double()
    return mask.grid.index_to_world(inside)


def found(fixed: str, moving: str) -> AffineTransform:
    images = [read_image(FOLDER / "patient01" / name) for name in (fixed, moving)]
    return registry.get("rigid").load().register(*images, registry.config_for("rigid", "Preview")).transform


def test_two_studies_meet() -> None:
    one, two = (authors(FOLDER / "patient01" / f"study{n}_FLAIR_to_common_space.txt").map_points(points()) for n in (1, 2))
    assert float((one - two).norm(dim=1).mean()) > 10.0
    assert float((found("study1_FLAIR.nii.gz", "study2_FLAIR.nii.gz").map_points(one) - two).norm(dim=1).mean()) < 1.0


def test_two_contrasts_meet() -> None:
    folder = FOLDER / "patient01"
    flair = authors(folder / "study2_FLAIR_to_common_space.txt").map_points(points())
    t1 = authors(folder / "study2_T1W_intrastudy_to_FLAIR.txt").map_points(flair)
    assert float((found("study2_FLAIR.nii.gz", "study2_T1W.nii.gz").map_points(flair) - t1).norm(dim=1).mean()) < 1.0
