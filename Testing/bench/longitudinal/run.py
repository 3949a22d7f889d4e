"""Growing brains, measured. One command for each table; every finished case is kept in FOLDER, an interrupted run goes on.

    python Testing/bench/longitudinal/run.py table    -o FOLDER [--seeds 1,2,3]   NR / RR / RAR at 1.5 and 2 mm
    python Testing/bench/longitudinal/run.py accuracy -o FOLDER [--seeds 1,2,3]   the whole command against the phantom's truth
    python Testing/bench/longitudinal/run.py cohort   -o FOLDER [--subjects 20]   kills, workers, memory, a dask scheduler

Real data are looked for in --data (default ../shared/data beside the repository); rows without them are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
sys.path[:0] = [str(HERE), str(REPOSITORY / "RegistrationSuite" / "RegSuiteBackend")]


def main() -> int:
    """Run one part and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("table", "accuracy", "cohort"))
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--size", default="", help="voxels of the phantom, i,j,k")
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--only", default="", help="parts of the cohort, comma separated")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    seeds = [int(word) for word in args.seeds.split(",")]
    size = tuple(int(n) for n in args.size.split(",")) if args.size else None
    if args.part == "table":
        import alignment

        alignment.run(args.out, seeds, args.data)
    elif args.part == "accuracy":
        import accuracy

        accuracy.run(args.out, seeds, size)
    else:
        import cohort_run

        cohort_run.run(args.out, args.subjects, size or (40, 46, 40), set(filter(None, args.only.split(","))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
