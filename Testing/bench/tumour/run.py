"""Weighted metamorphosis by every variant: real patients, drawn pictures, phantoms, and speed beside demeter-metamorphosis.

    python -m Testing.bench.tumour.run DATA -o FOLDER [--only real,follow-up,drawn,speed] [--seeds 2-21] [--variants lddmm,...]

DATA holds brain-mni and brain-tumour. Every run is one JSON file in FOLDER, kept between calls; seeds go round all variants, so a
stopped run is a smaller one. Afterwards FOLDER/RESULTS.md holds the tables. `speed` needs demeter-metamorphosis.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from Testing.bench.tumour import drawn, real, report, speed

Task = tuple[str, Callable[[], dict[str, Any]]]


def main() -> None:
    """Run what is not in the cache yet, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--only", default="real,follow-up,drawn,speed")
    parser.add_argument("--seeds", default="2-21", help="first and last; settings were chosen on 0 and 1")
    parser.add_argument("--variants", default=",".join(real.VARIANTS))
    given = parser.parse_args()
    variants = given.variants.split(",")
    first, last = (int(seed) for seed in given.seeds.split("-"))
    given.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Iterator[Task]] = {
        "real": real.tasks(given.data, given.out, variants),
        "follow-up": real.follow_up(given.data, given.out, variants),
        "drawn": drawn.tasks(range(first, last + 1), variants),
        "speed": speed.tasks(),
    }
    for part in filter(None, given.only.split(",")):
        for name, task in parts[part]:
            file = given.out / f"{name}.json"
            if not file.exists():
                print(name, flush=True)
                file.write_text(json.dumps(task(), indent=1))
    (given.out / "RESULTS.md").write_text(report.tables(given.out))


if __name__ == "__main__":
    main()
