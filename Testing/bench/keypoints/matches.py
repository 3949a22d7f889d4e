"""How far the matches of lung-keypoints are off, on thorax phantoms of 3 mm with known truth.

    python -m Testing.bench.keypoints.matches [--seeds 2]

Oblique, fixed and moving on different grids, 13 mm mean motion in the lungs; all matches in the lungs, and those that are trusted
(confidence above one half); then the field at every voxel of the lungs, before and after a refinement of six and five steps.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from regsuite.methods import registry
from regsuite.phantoms import make_phantom
from regsuite.transforms import Transform

FIRST_SEED = 2_000_001


def shown(error: np.ndarray) -> str:
    """Median, mean and 95th percentile."""
    return f"{np.median(error):.2f} | {error.mean():.2f} | {np.quantile(error, 0.95):.2f}"


def field_error(transform: Transform, truth: torch.Tensor, inside: torch.Tensor, grid) -> np.ndarray:
    """mm at the voxels inside."""
    return (transform.displacement(grid) - truth).norm(dim=0)[inside].numpy()


def main() -> None:
    """One row for each kind of point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    module = registry.get("lung-keypoints").load()
    print("| phantom | what | number | median mm | mean mm | 95 % mm | CPU s |\n|---|---|---|---|---|---|---|", flush=True)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        made = make_phantom("thorax", seed, size=(113, 87, 100), oblique=True)
        grid, inside = made.fixed.grid, made.fixed_mask.data[0] > 0
        truth = made.transform.displacement(grid)
        print(f"| {seed} | no registration | {int(inside.sum())} voxels | {shown(truth.norm(dim=0)[inside].numpy())} | |")
        for changes in ({}, {"coarse_iterations": 6, "fine_iterations": 5}):
            began = time.process_time()
            config = registry.config_for("lung-keypoints", "Default", changes)
            result = module.register(made.fixed, made.moving, config, device="cpu")
            spent = time.process_time() - began
            if not changes:
                rows = torch.tensor([[float(v) for v in row.split()] for row in result.findings["matches"]["rows"]])
                index = grid.world_to_index(rows[:, :3].double()).round().long()
                within = inside[index[:, 2], index[:, 1], index[:, 0]]
                off = (made.transform.map_points(rows[:, :3].double()) - rows[:, 3:6]).norm(dim=1)
                for name, chosen in (("matches in the lungs", within), ("of them trusted", within & (rows[:, 6] > 0.5))):
                    print(f"| {seed} | {name} | {int(chosen.sum())} | {shown(off[chosen].numpy())} | |", flush=True)
            error = field_error(result.transform, truth, inside, grid)
            name = "field, refined" if changes else "field"
            print(f"| {seed} | {name} | {len(error)} voxels | {shown(error)} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()
