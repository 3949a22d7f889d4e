"""What a network adds to its training-free neighbour: error and processor seconds of both on the same held-out pairs, in turn.

    python -m Testing.bench.networks.accuracy lung|brain [--data DATA] [--seeds 3] [--motion MM] -o FOLDER

Phantoms that no training has seen (seeds from 2,000,001; oblique, fixed and moving on different grids; MM: mean motion in the
lungs) and, with DATA (the folder of optional data), random deformations with known truth of real scans: lungs breathe and slide
(one, two and three times as much as in a training without variety), brains grow (half as much, and as much). FOLDER keeps every
result, so a stopped run goes on; the table is printed and written to FOLDER/AREA.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from regsuite.geometry import Image
from regsuite.io import read_image
from regsuite.methods import registry
from regsuite.nets.pair import world_mm
from regsuite.ops.lungs import lung_mask
from regsuite.ops.pyramid import at_spacing
from regsuite.phantoms import make_phantom
from regsuite.phantoms.synthetic import streamed_pair
from regsuite.solvers.frame import canonical
from regsuite.solvers.intake import scaled

FIRST_SEED = 2_000_001
REAL = {
    "lung": ("lung-4dct/exhale_t50.nii.gz",),
    "brain": ("brain-infant/Template-Month12-T1w.nii.gz",),
}
HU = (-1000.0, 350.0)  # what 0 and 1 stand for in a chest CT: the methods find lungs by their Hounsfield units
STRENGTHS = {"lung": (1.0, 2.0, 3.0), "brain": (0.5, 1.0)}
WORKING_MM = {"lung": 3.0, "brain": 2.2}


@dataclass(frozen=True)
class Case:
    """A pair and the true displacement (3, D, H, W) mm at the voxels of the fixed image; inside: where it is judged."""

    fixed: Image
    moving: Image
    truth: torch.Tensor
    inside: torch.Tensor


@dataclass(frozen=True)
class Way:
    """A method with settings of its own."""

    method: str
    preset: str = "Default"
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """As in the table."""
        return ", ".join([f"{self.method} {self.preset}", *(f"{k} = {v}" for k, v in self.settings)])


_NETWORK_ONLY = (("coarse_iterations", 0), ("fine_iterations", 0))
_HALF = (("fine_iterations", 10),)
_MORE_STEPS = (("coarse_iterations", 18), ("fine_iterations", 18))
_FEW_LEVELS = (("levels", 2), ("coarse_iterations", 8), ("fine_iterations", 6))
_ONE_LEVEL = (("levels", 1), ("fine_iterations", 4))
WAYS: dict[str, tuple[Way, ...]] = {
    "lung": (
        Way("lung-convex"),
        Way("lung-convex", "Default", (("levels", 1),)),
        Way("lung-convex", "Default", (("search", False), ("levels", 3))),
        Way("lung-convex", "Default", (("search", False), ("levels", 1))),
        Way("lung-mlvirnet", "Default", _NETWORK_ONLY),
        Way("lung-mlvirnet", "Default", _HALF),
        Way("lung-mlvirnet"),
        Way("lung-mlvirnet", "Default", _MORE_STEPS),
        Way("lung-vxmpp", "Default", _NETWORK_ONLY),
        Way("lung-vxmpp", "Default", _HALF),
        Way("lung-vxmpp"),
        Way("lung-keypoints"),
    ),
    "brain": (
        Way("brain-svf"),
        Way("brain-svf", "Default", _FEW_LEVELS),
        Way("brain-svf", "Default", _ONE_LEVEL),
        Way("pediatric-unet", "Default", _NETWORK_ONLY),
        Way("pediatric-unet", "Default", _FEW_LEVELS),
        Way("pediatric-unet", "Default", _ONE_LEVEL),
    ),
}


def cases(area: str, seeds: int, data: Path | None, motion: float) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Phantoms, then deformed real scans: name, and what makes the case."""
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        yield f"phantom {seed}", partial(phantom, area, seed, motion)
    for name in REAL[area] if data is not None else ():
        for strength in STRENGTHS[area]:
            yield f"{Path(name).name.split('.')[0]} x {strength:g}, deformed", partial(deformed, area, data / name, strength)


def phantom(area: str, seed: int, motion: float) -> Case:
    """A phantom that no training has seen."""
    if area == "lung":
        made = make_phantom("thorax", seed, size=(113, 87, 100), oblique=True, motion_mm=motion)
    else:
        made = make_phantom("growth", seed, size=(80, 93, 80), oblique=True, pose_mm=3.0)
    return Case(made.fixed, made.moving, made.transform.displacement(made.fixed.grid), made.fixed_mask.data[0] > 0)


def deformed(area: str, path: Path, strength: float) -> Case:
    """A scan under a random deformation with known truth."""
    whole = canonical(read_image(path))
    mask = lung_mask(whole) if area == "lung" else None
    small = at_spacing(scaled(whole, path.name), WORKING_MM[area])
    if mask is not None:
        part = at_spacing(mask.with_data(mask.data.float()), WORKING_MM[area])
        mask = part.with_data((part.data > 0.5).float())
    kind = "breathing" if area == "lung" else "growth"
    pair = streamed_pair(small, FIRST_SEED, round(strength), kind, mask, strength=strength)
    assert pair.truth is not None
    inside = pair.fixed[0, 0] > 0.1 if pair.fixed_mask is None else pair.fixed_mask[0, 0] > 0.5
    low, high = HU if area == "lung" else (0.0, 1.0)
    fixed, moving = (Image(low + (high - low) * x[0], small.grid) for x in (pair.fixed, pair.moving))
    return Case(fixed, moving, world_mm(pair.truth, small.grid), inside)


def measured(way: Way, case: Case) -> dict[str, float]:
    """Error (mm) inside, and processor seconds of one registration."""
    config = registry.config_for(way.method, way.preset, dict(way.settings))
    register: Callable[..., Any] = registry.get(way.method).load().register
    began = time.process_time()
    result = register(case.fixed, case.moving, config, device="cpu")
    spent = time.process_time() - began
    u = result.transform.displacement(case.fixed.grid)
    error = (u - case.truth).norm(dim=0)[case.inside]
    before = case.truth.norm(dim=0)[case.inside].mean()
    return {"before_mm": float(before), "mm": float(error.mean()), "p95_mm": float(error.quantile(0.95)), "cpu_s": spent}


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """One row per way: mean error of each kind of case (95th percentile) and processor seconds."""
    lines = ["| method | mean error mm (95 %), phantoms | deformed real scans | CPU s |", "|---|---|---|---|"]
    for way, found in rows.items():
        cells = []
        for real in (False, True):
            own = [r for name, r in found.items() if name.endswith("deformed") == real]
            means = [sum(r[k] for r in own) / len(own) for k in ("mm", "p95_mm", "before_mm")] if own else None
            cells.append("" if means is None else f"{means[0]:.2f} ({means[1]:.2f}), from {means[2]:.1f}")
        lines.append(f"| {way} | {cells[0]} | {cells[1]} | {sum(r['cpu_s'] for r in found.values()) / len(found):.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Every way on every case that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", choices=list(WAYS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--motion", type=float, default=13.0)
    parser.add_argument("--only", action="append", help="name of a way, as in the table; all when never given")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / f"{args.area}.json"
    found: dict[str, dict[str, dict[str, float]]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    ways = [way for way in WAYS[args.area] if not args.only or way.name in args.only]
    for name, make in cases(args.area, args.seeds, args.data, args.motion):
        left = [way for way in ways if name not in found.setdefault(way.name, {})]
        case = make() if left else None
        for way in left:
            assert case is not None
            found[way.name][name] = measured(way, case)
            kept.write_text(json.dumps(found, indent=1), encoding="utf-8")
            print(name, way.name, found[way.name][name], flush=True)
    text = table(found)
    (args.out / f"{args.area}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
