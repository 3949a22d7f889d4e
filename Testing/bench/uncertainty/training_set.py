"""The data that uncertainty-net is trained on: fields of several programs, as they are and spoilt, each with its fitted sigma.

    python Testing/bench/uncertainty/training_set.py -o FOLDER [--seeds 10 11 12 13] [--breaths 14 15 16 17 18] [--spoilt 0]

writes FOLDER/pairs.csv with the columns fixed, moving, transform, truth, sigma beside the cases (cases.py); what is there is kept.
Then: regsuite train uncertainty-net --data FOLDER -o RUN
"""

from __future__ import annotations

import argparse
import csv
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from cases import MOTIONS_MM, PROGRAMS, Case, cases
from regsuite.io import write_image, write_transform
from regsuite.ops.pyramid import at_spacing
from regsuite.ops.random_fields import SmoothNoise
from regsuite.pipeline.uncertainty import estimate_uncertainty
from regsuite.transforms import DisplacementField, Transform

SIGMA_MM = 6.0  # sigma is smooth: it is kept on a grid of about this
COLUMNS = ("fixed", "moving", "transform", "truth", "sigma")


def main() -> None:
    """Make what is absent, write pairs.csv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13])
    parser.add_argument("--breaths", type=int, nargs="*", default=[14, 15, 16, 17, 18], help="further persons, a full breath only")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS))
    parser.add_argument("--spoilt", type=int, default=0, help="further fields per field, with smooth errors added")
    parser.add_argument("--peers-python", default=sys.executable)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    given = (args.programs, args.peers_python)
    for case in chain(cases(args.out, args.breaths, *given, MOTIONS_MM[:1]), cases(args.out, args.seeds, *given)):
        folder = args.out / (str(case.seed) if case.motion_mm == MOTIONS_MM[0] else f"{case.seed}-{case.motion_mm:g}mm")
        for number in range(args.spoilt + 1):
            rows.append(made(case, folder, number))
            print(*rows[-1], file=sys.stderr)
    last = f"{args.seeds[-1]}"
    rows.sort(key=lambda row: row[0].split("/")[0].split("-")[0] == last)  # trainings hold out the end of the list
    with (args.out / "pairs.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def made(case: Case, folder: Path, number: int) -> list[str]:
    """The row of field `number` of a case (0: the program's own), with its files."""
    name = case.program if number == 0 else f"{case.program}-spoilt{number}"
    field, sigma = folder / f"{name}.nrrd", folder / f"{name}-sigma.nrrd"
    if not sigma.exists():
        transform = case.transform if number == 0 else spoilt(case, number)
        if number:
            write_transform(transform, field, case.fixed.grid)
        write_image(at_spacing(estimate_uncertainty(case.fixed, case.moving, transform).sigma, SIGMA_MM), sigma)
    return [f"{folder.name}/{file}" for file in ("fixed.nrrd", "moving.nrrd", field.name, "truth.nrrd", sigma.name)]


def spoilt(case: Case, number: int) -> Transform:
    """The case's field with smooth errors of random size, that are larger here and smaller there."""
    rng = np.random.default_rng([case.seed, round(case.motion_mm), PROGRAMS.index(case.program), number])
    grid, size = case.fixed.grid, float(np.exp(rng.uniform(np.log(0.7), np.log(12.0))))
    stream = int(rng.integers(2**31))
    error = SmoothNoise(grid, float(rng.uniform(12.0, 50.0))).draw(stream, 0)
    where = SmoothNoise(grid, float(rng.uniform(30.0, 80.0))).draw(stream, 1, channels=1).exp()
    return DisplacementField(case.transform.displacement(grid) + size * error * where / where.mean(), grid)


if __name__ == "__main__":
    main()
