"""Sigma fitted against sigma foretold: the same fields of several programs, true errors known; writes SIGMA.md.

    python Testing/bench/networks/sigma.py -o FOLDER [--seeds 0 1 2] [--peers-python INTERPRETER]

FOLDER holds the cases of Testing/bench/uncertainty (made where absent); none of these seeds was trained on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "uncertainty"))

from cases import PROGRAMS, cases
from regsuite.metrics.calibration import calibration
from regsuite.pipeline.uncertainty import METHODS, estimate_uncertainty

LEAST_SHARE = 0.01


def main() -> None:
    """Estimate by both methods, compare with the truth, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS))
    parser.add_argument("--motions-mm", type=float, nargs="+", default=[13.0])
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("SIGMA.md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[tuple[str, str], list[tuple[torch.Tensor, torch.Tensor, float]]] = {}
    for case in cases(args.out, args.seeds, args.programs, args.peers_python, args.motions_mm):
        body = case.labels.data[0] > 0
        for method in METHODS:
            estimate_uncertainty(case.fixed, case.moving, case.transform, method=METHODS[1])  # neither pays for a first use
            began = time.process_time()
            sigma = estimate_uncertainty(case.fixed, case.moving, case.transform, method=method).sigma
            spent = time.process_time() - began
            found.setdefault((case.program, method), []).append((case.error[:, body].T, sigma.data[:, body].T, spent))
            print(case.seed, case.motion_mm, case.program, method, f"{spent:.2f} s", file=sys.stderr)
    args.results.write_text(page(found, args), encoding="utf-8")


def page(found: dict[tuple[str, str], list[tuple[torch.Tensor, torch.Tensor, float]]], args: argparse.Namespace) -> str:
    """SIGMA.md as text."""
    lines = [
        "# Sigma fitted (uncertainty-elbo) and foretold (uncertainty-net)",
        "",
        "Made by `python Testing/bench/networks/sigma.py -o FOLDER`; thorax phantoms at 3 mm of seeds "
        f"{', '.join(map(str, args.seeds))}, mean motion {', '.join(f'{m:g}' for m in args.motions_mm)} mm, presets",
        "Default, one thread. All voxels of the body. Error: root mean square of the true error; stated: of sigma; in 90 %: share",
        "inside the 90 % ellipsoid; bins: of ten bins of sigma with more than 1 % of the voxels, those with error / stated within",
        "0.85 to 1.15.",
        "",
        "| field of | method | error mm | stated mm | ratio | correlation | in 50 % | in 90 % | in 95 % | bins | density | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    spent: dict[str, float] = {}
    for (program, method), rows in found.items():
        report = calibration(torch.cat([r[0] for r in rows]), torch.cat([r[1] for r in rows]))
        seconds = sum(r[2] for r in rows) / len(rows)
        spent[method] = spent.get(method, 0.0) + seconds
        lines.append(row(program, method, report, seconds))
    first, second = (spent[m] for m in METHODS)
    lines += ["", f"{METHODS[1]} takes 1 / {first / second:.1f} of the CPU time (reading left out, resampling to the image in)."]
    return "\n".join(lines) + "\n"


def row(program: str, method: str, report: dict, seconds: float) -> str:
    """One line of the table."""
    error, stated, covered = report["observed_rms_mm"], report["expected_rms_mm"], report["coverage"]
    bins = [item["ratio"] for item in report["reliability"] if item["share"] > LEAST_SHARE]
    good = f"{sum(0.85 <= ratio <= 1.15 for ratio in bins)} of {len(bins)}"
    cells = [program, method, f"{error:.2f}", f"{stated:.2f}", f"{error / stated:.2f}", f"{report['correlation']:.2f}"]
    cells += [f"{covered[name]:.3f}" for name in ("50", "90", "95")]
    return "| " + " | ".join([*cells, good, f"{report['log_density']:.2f}", f"{seconds:.2f}"]) + " |"


if __name__ == "__main__":
    main()
