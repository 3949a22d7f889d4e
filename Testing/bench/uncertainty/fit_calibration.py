"""Fit the constants of methods/uncertainty/_calibration.py on phantoms of their own seeds, and print them.

1. log-linear: minimise mean [log s + e^2 / (2 s^2)] over voxels and components (Newton's method);
2. monotone: the pooled mean square error in bins of equal count of log s, made rising by pooling neighbours that are not (isotonic
regression).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch
from cases import PROGRAMS, Case, cases
from regsuite.geometry import Image
from regsuite.methods.uncertainty import _calibration, elbo
from regsuite.ops.sampling import resample
from regsuite.progress import Progress
from regsuite.solvers.intake import scaled
from regsuite.solvers.sigma_evidence import gather

PER_CASE, BINS = 12_000, 24


def main() -> None:
    """Print OFFSET, SLOPE, NEAR, WIDE and KNOTS."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13])
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS))
    parser.add_argument("--peers-python", default=sys.executable)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    parts = [drawn(case, generator) for case in cases(args.out, args.seeds, args.programs, args.peers_python)]
    terms, squares = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    weights = log_linear(terms, squares)
    print("OFFSET, SLOPE, NEAR, WIDE =", ", ".join(f"{w:.3f}" for w in weights.tolist()))
    knots = rising(weights[0] + terms.double() @ weights[1:], squares)
    print("KNOTS =", tuple((round(a, 3), round(b, 3)) for a, b in knots))


def drawn(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3) terms and (N,) squared errors of random body voxels of one case, all components."""
    config = elbo.PRESETS["Default"]
    pair = scaled(case.fixed, "fixed"), scaled(case.moving, "moving")
    evidence = gather(*pair, case.transform, config.finest_mm, config.lattice_mm, lambda fraction: None)
    log_sigma, _ = elbo._bound_minimum(evidence, config, Progress(), [])
    near, wide = elbo.calibration_terms(evidence)
    near = 0.5 * (near + _calibration.NEAR_FLOOR_MM2).log()
    wide = 0.5 * (wide + _calibration.WIDE_FLOOR_MM2).log()
    error = resample(Image(case.error, case.fixed.grid), evidence.grid, None, "nearest").data
    body = resample(case.labels, evidence.grid, None, "nearest").data[0] > 0
    pick = torch.randint(int(body.sum()), (PER_CASE,), generator=generator)
    terms = torch.stack([log_sigma[:, body], near[:, body], wide[:, body]], dim=-1)[:, pick]
    return terms.reshape(-1, 3), error[:, body][:, pick].square().reshape(-1)


def log_linear(terms: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """(4,) float64: constant and weights of the terms that make the errors most probable."""
    design = torch.cat([torch.ones(len(terms), 1), terms], dim=1).double()
    target = squares.double()
    weights = torch.zeros(4, dtype=torch.float64)
    weights[0] = 0.5 * target.mean().log()
    for _ in range(60):
        ratio = target * torch.exp(-2.0 * (design @ weights))
        slope = ((1.0 - ratio)[:, None] * design).mean(dim=0)
        curvature = (2.0 * ratio[:, None] * design).T @ design / len(design)
        step = torch.linalg.solve(curvature + 1e-6 * torch.eye(4, dtype=torch.float64), slope)
        weights -= step * min(1.0, 1.5 / max(float((design @ step).abs().max()), 1e-9))
    return weights


def rising(log_sigma: torch.Tensor, squares: torch.Tensor) -> list[tuple[float, float]]:
    """(before, after) knots of log sigma, both rising."""
    blocks: list[list[float]] = []  # weight, mean square, mean of log sigma
    for part in log_sigma.argsort().chunk(BINS):
        blocks.append([float(len(part)), float(squares[part].mean()), float(log_sigma[part].mean())])
        while len(blocks) > 1 and blocks[-2][1] > 0.999 * blocks[-1][1]:
            b, a = blocks.pop(), blocks.pop()
            total = a[0] + b[0]
            blocks.append([total, *((a[0] * x + b[0] * y) / total for x, y in zip(a[1:], b[1:], strict=True))])
    return [(x, 0.5 * math.log(square)) for _, square, x in blocks]


if __name__ == "__main__":
    main()
