"""Fit the constants of methods/uncertainty/_network.py on phantoms of their own seeds, and write that file.

1. a linear part and a small bounded network (`_calibration`): minimise mean [log s + e^2 / (2 s^2)] over voxels and components
   (Adam);
2. a rising curve of the length of s: the mean square error in bins of equal count, of voxels of persons (seeds) that the network
   was not fitted on, made rising by pooling neighbours that are not (isotonic regression).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from cases import PROGRAMS, Case, cases
from regsuite.geometry import Image
from regsuite.methods.uncertainty import _calibration, elbo
from regsuite.methods.uncertainty._terms import LINEAR, NAMES
from regsuite.ops.sampling import resample
from regsuite.solvers.intake import scaled

PER_CASE, BINS, HIDDEN, STEPS, BATCH, DECAY, FOLDS = 12_000, 40, 16, 1500, 4096, 1e-4, 7
TARGET = Path(_calibration.__file__).with_name("_network.py")


def main() -> None:
    """Write _network.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 20, 21, 22])
    parser.add_argument("--calm-seeds", type=int, nargs="+", default=[10, 11, 12], help="persons also seen with 3 mm of motion")
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS))
    parser.add_argument("--peers-python", default=sys.executable)
    args = parser.parse_args()
    groups: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for motion_mm, seeds in ((13.0, args.seeds), (3.0, args.calm_seeds)):
        for case in cases(args.out, seeds, args.programs, args.peers_python, [motion_mm]):
            with torch.no_grad():
                groups.setdefault(case.seed, []).append(drawn(case, args.out / "terms"))
            print(case.seed, case.motion_mm, case.program, file=sys.stderr, flush=True)
    parts = [(torch.cat([p[0] for p in g], 1), torch.cat([p[1] for p in g])) for g in groups.values()]
    TARGET.write_text(as_module(fitted(parts)), encoding="utf-8")


def drawn(case: Case, kept: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(K, N, 3) terms and (N, 3) squared errors of random body voxels of one case, made once."""
    path = kept / f"{case.seed}-{case.motion_mm:g}-{case.program}.pt"
    if not path.exists():
        pair = scaled(case.fixed, "fixed"), scaled(case.moving, "moving")
        found, grid, _ = elbo.terms_of(*pair, case.transform, elbo.PRESETS["Default"])
        error = resample(Image(case.error, case.fixed.grid), grid, None, "nearest").data
        body = resample(case.labels, grid, None, "nearest").data[0] > 0
        pick = torch.randint(int(body.sum()), (PER_CASE,), generator=torch.Generator().manual_seed(0))
        kept.mkdir(parents=True, exist_ok=True)
        torch.save((found[:, :, body][:, :, pick].transpose(1, 2).contiguous(), error[:, body][:, pick].T.square()), path)
    terms, squares = torch.load(path)
    return terms, squares


def fitted(parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, object]:
    """The constants by name, from terms (K, N, 3) and squared errors (N, 3) of each person."""
    lengths, squares = [], []
    for fold in range(FOLDS):
        others = network([p for n, p in enumerate(parts) if n % FOLDS != fold])
        for terms, errors in (p for n, p in enumerate(parts) if n % FOLDS == fold):
            lengths.append(0.5 * (2.0 * log_sigma(others, terms)).exp().sum(dim=1).log())
            squares.append(errors.sum(dim=1))
    return network(parts) | {"KNOTS": rising(torch.cat(lengths), torch.cat(squares))}


def network(parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, object]:
    """The constants of the part before the curve."""
    terms = torch.cat([p[0].reshape(len(NAMES), -1) for p in parts], dim=1)
    squares = torch.cat([p[1].reshape(-1) for p in parts])
    generator = torch.Generator().manual_seed(0)
    weights = [torch.zeros(()), torch.zeros(LINEAR), 0.3 * torch.randn(HIDDEN, len(NAMES), generator=generator)]
    weights += [torch.zeros(HIDDEN), 0.1 * torch.randn(HIDDEN, generator=generator), torch.zeros(())]
    weights[0] += 0.5 * float(squares.mean().log())
    scale = {"MEANS": terms.mean(dim=1), "SPREADS": terms.std(dim=1)}
    optimiser = torch.optim.Adam([w.requires_grad_() for w in weights], 5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        pick = torch.randint(terms.shape[1], (BATCH,), generator=generator)
        found = log_sigma(scale | dict(zip(_WEIGHTS, weights, strict=True)), terms[:, pick])
        loss = (found + 0.5 * squares[pick] * (-2.0 * found).exp()).mean() + DECAY * weights[2].square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return scale | {name: w.detach() for name, w in zip(_WEIGHTS, weights, strict=True)}


_WEIGHTS = ("OFFSET", "SLOPES", "HIDDEN_WEIGHTS", "HIDDEN_BIAS", "OUTPUT_WEIGHTS", "OUTPUT_BIAS")


def log_sigma(constants: dict, terms: torch.Tensor) -> torch.Tensor:
    """As `_calibration.before_curve`, differentiable: terms (K, ...) -> (...)."""
    c, flat = constants, terms.reshape(len(terms), -1)
    inputs = ((flat - c["MEANS"][:, None]) / c["SPREADS"][:, None]).clamp(-_calibration.CUT, _calibration.CUT)
    hidden = torch.tanh(c["HIDDEN_WEIGHTS"] @ inputs + c["HIDDEN_BIAS"][:, None])
    bounded = _calibration.BOUND * torch.tanh((c["OUTPUT_WEIGHTS"] @ hidden + c["OUTPUT_BIAS"]) / _calibration.BOUND)
    return (c["OFFSET"] + c["SLOPES"] @ flat[:LINEAR] + bounded).view(terms.shape[1:])


def rising(lengths: torch.Tensor, squares: torch.Tensor) -> list[tuple[float, float]]:
    """(before, after) knots of the logarithm of the length of s, both rising."""
    blocks: list[list[float]] = []  # weight, mean square, mean of the logarithm
    for part in lengths.argsort().chunk(BINS):
        blocks.append([float(len(part)), float(squares[part].mean()), float(lengths[part].mean())])
        while len(blocks) > 1 and blocks[-2][1] > 0.999 * blocks[-1][1]:
            b, a = blocks.pop(), blocks.pop()
            total = a[0] + b[0]
            blocks.append([total, *((a[0] * x + b[0] * y) / total for x, y in zip(a[1:], b[1:], strict=True))])
    return [(x, 0.5 * math.log(square)) for _, square, x in blocks]


def as_module(constants: dict[str, object]) -> str:
    """The text of _network.py."""
    lines = [
        '"""Constants of `_calibration`, written by Testing/bench/uncertainty/fit_calibration.py."""',
        "",
        "# fmt: off",
    ]
    for name, value in constants.items():
        plain = value.tolist() if isinstance(value, torch.Tensor) else value
        kind = "float" if isinstance(plain, float) else "tuple[tuple[float, ...], ...]" if _nested(plain) else "tuple[float, ...]"
        lines.append(f"{name}: {kind} = {_text(plain)}")
    return "\n".join(lines) + "\n"


def _nested(value: object) -> bool:
    return isinstance(value, (list, tuple)) and isinstance(value[0], (list, tuple))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    assert isinstance(value, (list, tuple))
    if _nested(value):
        return "(\n" + "".join(f"    ({', '.join(f'{v:.4g}' for v in row)}),\n" for row in value) + ")"
    cells = [f"{v:.4g}" for v in value]
    rows = [", ".join(cells[n : n + 12]) for n in range(0, len(cells), 12)]
    return f"({', '.join(cells)})" if len(rows) == 1 else "(\n" + "".join(f"    {row},\n" for row in rows) + ")"


if __name__ == "__main__":
    main()
