"""Pairs with known truth and the fields of several programs between them; everything is kept in a folder and made once.

FOLDER/SEED/ (a full breath) and FOLDER/SEED-MOTIONmm/: fixed, moving, labels, truth (.nrrd, truth as LPS
displacements), and one displacement volume per program.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "RegistrationSuite" / "RegSuiteBackend")]

from regsuite.geometry import Image  # noqa: E402
from regsuite.io import read_image, read_labels, read_transform, write_image, write_transform  # noqa: E402
from regsuite.phantoms import make_phantom  # noqa: E402
from regsuite.pipeline.register import register  # noqa: E402
from regsuite.transforms import Transform  # noqa: E402

SIZE = (116, 88, 100)  # voxels of 3 mm
PROGRAMS = ("ours", "greedy", "demons")
MOTIONS_MM = (13.0, 6.0, 3.0)
"""Mean motion in the lungs: a full breath, a shallow one, two scans of the same state of breathing."""


@dataclass(frozen=True)
class Case:
    """One field of one program between one pair, and its true error (3, D, H, W) mm on the fixed grid."""

    seed: int
    motion_mm: float
    program: str
    fixed: Image
    moving: Image
    labels: Image
    transform: Transform
    error: torch.Tensor


def make_pair(folder: Path, seed: int, motion_mm: float) -> None:
    """Draw the thorax of a seed unless it is there."""
    if (folder / "truth.nrrd").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    phantom = make_phantom("thorax", seed, size=SIZE, motion_mm=motion_mm)
    for name, image in (("fixed", phantom.fixed), ("moving", phantom.moving), ("labels", phantom.fixed_labels)):
        write_image(image, folder / f"{name}.nrrd")
    write_transform(phantom.transform, folder / "truth.nrrd", phantom.fixed.grid)


def make_field(folder: Path, program: str, peers_python: str) -> None:
    """Register with a program unless its field is there."""
    out = folder / f"{program}.nrrd"
    if out.exists():
        return
    pair = [str(folder / f"{side}.nrrd") for side in ("fixed", "moving")]
    if program == "ours":
        write_transform(register("lung-convex", *pair).transform, out, read_image(pair[0]).grid)
    else:
        subprocess.run(
            [peers_python, str(ROOT / "Testing/bench/peers.py"), program, *pair, str(out)], check=True, stdout=subprocess.DEVNULL
        )


def cases(
    folder: Path, seeds: list[int], programs: list[str], peers_python: str, motions_mm: Sequence[float] = MOTIONS_MM
) -> Iterator[Case]:
    """Every case, made where it is absent."""
    for motion_mm, seed in itertools.product(motions_mm, seeds):
        here = folder / (str(seed) if motion_mm == MOTIONS_MM[0] else f"{seed}-{motion_mm:g}mm")
        make_pair(here, seed, motion_mm)
        fixed, moving = read_image(here / "fixed.nrrd"), read_image(here / "moving.nrrd")
        labels, truth = read_labels(here / "labels.nrrd"), read_transform(here / "truth.nrrd").displacement(fixed.grid)
        for program in programs:
            make_field(here, program, peers_python)
            transform = read_transform(here / f"{program}.nrrd")
            yield Case(seed, motion_mm, program, fixed, moving, labels, transform, transform.displacement(fixed.grid) - truth)
