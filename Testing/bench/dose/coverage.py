"""Does the 5-95 % band of a carried dose hold the true dose? Phantom `dose`, several seeds and programs; writes COVERAGE.md."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "RegistrationSuite" / "RegSuiteBackend")]

from regsuite.dose.carry import Fraction, finer, total_on_grid  # noqa: E402
from regsuite.io import read_image, read_labels, read_transform, write_image, write_landmarks, write_transform  # noqa: E402
from regsuite.phantoms import make_phantom  # noqa: E402
from regsuite.phantoms.person import LABELS  # noqa: E402
from regsuite.pipeline.dose import DoseRequest, run_dose  # noqa: E402
from regsuite.pipeline.register import register  # noqa: E402
from regsuite.pipeline.uncertainty import UncertaintyRequest, run_uncertainty  # noqa: E402

STRUCTURES = {name: number for number, name in LABELS.items() if name not in ("body",)}
LEAST_GY = 1.0


@dataclass(frozen=True)
class Cover:
    """Of one structure: share of its volume with the true dose inside the band; likewise of what gets dose; error and width."""

    name: str
    share: float
    irradiated: float
    irradiated_cc: float
    error_gy: float
    width_gy: float


def main() -> None:
    """Make what is absent, carry the dose, compare with the truth, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--programs", nargs="+", default=["ours", "greedy", "demons"])
    parser.add_argument("--fractions", type=int, default=1)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--recalibrate", action="store_true", help="scale sigma by the factor that fits the phantom's landmarks")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("COVERAGE.md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[int, list[Cover]]] = {name: {} for name in args.programs}
    for seed in args.seeds:
        here = args.out / f"{seed}-{args.fractions}"
        make_case(here, seed, args.fractions)
        for program in args.programs:
            found[program][seed] = cover(here, program, args)
            for item in found[program][seed]:
                print(seed, program, item, file=sys.stderr, flush=True)
    args.results.write_text(page(found, args), encoding="utf-8")


def make_case(here: Path, seed: int, fractions: int) -> None:
    """Write the phantom of a seed unless it is there."""
    if (here / "planned_target.nrrd").exists():
        return
    here.mkdir(parents=True, exist_ok=True)
    phantom = make_phantom("dose", seed, fractions=fractions)
    write_image(phantom.fixed, here / "fixed.nrrd")
    write_image(phantom.fixed_labels, here / "labels.nrrd")
    for name, image in phantom.images.items():
        if name != "planned_target":
            write_image(image, here / f"{name}.nrrd")
    write_landmarks(phantom.fixed_landmarks, here / "landmarks.csv")
    for name, transform in phantom.maps.items():
        write_landmarks(transform.map_points(phantom.fixed_landmarks), here / f"{name.removesuffix('_transform')}_landmarks.csv")
        write_transform(transform, here / f"{name.removesuffix('_transform')}_true.nrrd", phantom.fixed.grid)
    write_image(phantom.images["planned_target"], here / "planned_target.nrrd")


def cover(here: Path, program: str, args: argparse.Namespace) -> list[Cover]:
    """Register every fraction, estimate, carry, compare."""
    work = here / program
    rows = []
    for number in range(1, args.fractions + 1):
        name = f"fraction_{number:02d}"
        field = work / f"{name}_field.nrrd"
        make_field(here, field, name, program, args.peers_python)
        found = work / (f"{name}-recalibrated" if args.recalibrate else name)
        if not (found / "sigma.nrrd").exists():
            pair = (str(here / "fixed.nrrd"), str(here / f"{name}.nrrd"))
            marks = (str(here / "landmarks.csv"), str(here / f"{name}_landmarks.csv")) if args.recalibrate else (None, None)
            request = UncertaintyRequest(*pair, str(field), str(found), 0, False, *marks, recalibrate=args.recalibrate)
            run_uncertainty(request)
        rows.append((str(here / f"{name}_dose.nrrd"), str(field), str(found / "sigma.nrrd")))
    further = None
    if len(rows) > 1:
        further = work / "fractions.csv"
        lines = [",".join([*(str(Path(p).resolve()) for p in row), "1"]) for row in rows[1:]]
        further.write_text("\n".join(["dose,transform,sigma,weight", *lines]) + "\n")
    out = work / f"dose-{args.samples}"
    shutil.rmtree(out, ignore_errors=True)
    run_dose(
        DoseRequest(
            rows[0][0], rows[0][1], str(here / "fixed.nrrd"), str(out), rows[0][2], args.samples,
            fractions=None if further is None else str(further), errors="shared",
        )
    )  # fmt: skip
    return compare(here, out, args.fractions)


def make_field(here: Path, field: Path, name: str, program: str, peers_python: str) -> None:
    """Register the planning scan with a repeat scan unless the field is there."""
    if field.exists():
        return
    field.parent.mkdir(parents=True, exist_ok=True)
    pair = [str(here / "fixed.nrrd"), str(here / f"{name}.nrrd")]
    if program == "ours":
        write_transform(register("lung-convex", *pair).transform, field, read_image(pair[0]).grid)
    else:
        call = [peers_python, str(ROOT / "Testing/bench/peers.py"), program, *pair, str(field)]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL)


def compare(here: Path, out: Path, fractions: int) -> list[Cover]:
    """The true dose (the same planned dose through the true map) against the band, structure by structure."""
    labels = read_labels(here / "labels.nrrd")
    names = [f"fraction_{n:02d}" for n in range(1, fractions + 1)]
    parts = [
        Fraction(finer(read_image(here / f"{name}_dose.nrrd")), read_transform(here / f"{name}_true.nrrd")) for name in names
    ]
    truth = total_on_grid(parts, [p.transform for p in parts], labels.grid)
    low, high, nominal = (read_image(out / f"dose_{n}.nrrd").data[0] for n in ("p05", "p95", "nominal"))
    inside = (truth >= low - 1e-4) & (truth <= high + 1e-4)
    gets = (torch.maximum(truth, high)) > LEAST_GY
    masks = {name: labels.data[0] == number for name, number in STRUCTURES.items()}
    masks["planned target"] = read_image(here / "planned_target.nrrd").data[0] > 0
    found = []
    for name, mask in masks.items():
        hit = mask & gets
        if not bool(hit.any()):
            continue
        voxel = labels.grid.voxel_volume / 1000.0
        found.append(
            Cover(
                name, float(inside[mask].double().mean()), float(inside[hit].double().mean()), float(hit.sum()) * voxel,
                float((truth - nominal)[hit].square().mean().sqrt()), float((high - low)[hit].mean()),
            )
        )  # fmt: skip
    return found


def page(found: dict[str, dict[int, list[Cover]]], args: argparse.Namespace) -> str:
    """COVERAGE.md as text."""
    facts = json.dumps({"seeds": args.seeds, "fractions": args.fractions, "samples": args.samples, "recalibrate": args.recalibrate})
    call = f"--seeds {' '.join(map(str, args.seeds))} --programs {' '.join(args.programs)} --fractions {args.fractions}"
    made = f"Made by `python Testing/bench/dose/coverage.py -o FOLDER {call}`: {facts}."
    lines = ["# True dose inside the 5-95 % band", "", made, ""]
    lines += ["% of each structure's volume; in brackets: where truth or band pass 1 Gy. Last: all seeds together.", ""]
    lines += ["Asked: 86 to 94 % of every structure. Outside of that (brackets, all seeds together):", *short(found), ""]
    for program, seeds in found.items():
        names = list(dict.fromkeys(item.name for rows in seeds.values() for item in rows))
        titles = ["structure", *(f"seed {s}" for s in seeds), "all", "error Gy", "width Gy"]
        lines += [f"## Field of {program}", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
        for name in names:
            items = [next((i for i in rows if i.name == name), None) for rows in seeds.values()]
            cells = ["-" if i is None else f"{100 * i.share:.0f} ({100 * i.irradiated:.0f})" for i in items]
            kept = [i for i in items if i is not None]
            weights = np.array([i.irradiated_cc for i in kept])
            names_of = ("irradiated", "error_gy", "width_gy")
            mean = [np.average([getattr(i, key) for i in kept], weights=weights) for key in names_of]
            plain = np.mean([i.share for i in kept])
            cells += [f"{100 * plain:.0f} ({100 * mean[0]:.0f})", f"{mean[1]:.2f}", f"{mean[2]:.2f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def short(found: dict[str, dict[int, list[Cover]]]) -> list[str]:
    """Structures whose share is outside, program by program."""
    lines = []
    for program, seeds in found.items():
        rows = [item for items in seeds.values() for item in items]
        out = []
        for name in dict.fromkeys(item.name for item in rows):
            weights = [item.irradiated_cc for item in rows if item.name == name]
            share = float(np.average([item.irradiated for item in rows if item.name == name], weights=weights))
            if not 0.86 <= share <= 0.94:
                out.append(f"{name} {100 * share:.0f}")
        lines.append(f"- {program}: {', '.join(out) or 'none'}")
    return lines


if __name__ == "__main__":
    main()
