"""Does the answer depend on what should not matter? One table for one phantom, at a preset.

python Testing/bench/consistency.py [--seed 0] [--preset Default] [--size I,J,K] [--results CONSISTENCY.md]

Mean and 95th percentile over the lungs, mm, of: the swapped pair composed, |T_mf(T_fm(x)) - x|; the numeric inverse,
|T^-1(T(x)) - x|; the same pair with permuted and flipped axes; both images resampled (cubic) to grids turned by 20 degrees;
a second run; and the fixed image registered to itself (mean and largest displacement anywhere).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from regsuite.geometry import Grid, Image
from regsuite.methods.lung import convex
from regsuite.ops.sampling import resample
from regsuite.phantoms import make_phantom
from regsuite.transforms import AffineTransform, Transform
from scipy.spatial.transform import Rotation


def turned(image: Image) -> Image:
    """The same image with its axes stored in another order, one of them backwards."""
    axes = (2, 0, 1)
    affine = image.grid.affine[:, [*axes, 3]].copy()
    data = image.data.permute(0, *(3 - axes[w] for w in (2, 1, 0))).flip(1)
    affine[:3, 3] += affine[:3, 2] * (data.shape[1] - 1)
    affine[:3, 2] *= -1
    return Image(data.contiguous(), Grid((int(data.shape[1]), int(data.shape[2]), int(data.shape[3])), affine))


def oblique(image: Image) -> Image:
    """The image on a grid turned by 20 degrees about its middle, large enough to hold all of it; air beyond."""
    spacing = image.grid.spacing
    rotation = Rotation.from_rotvec(np.deg2rad(20.0) * np.array([0.48, 0.6, 0.64])).as_matrix() @ image.grid.direction
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(image.grid.size) - 1)
    world = corners @ image.grid.affine[:3, :3].T + image.grid.affine[:3, 3]
    local = world @ rotation
    low, high = local.min(axis=0), local.max(axis=0)
    size = np.ceil((high - low) / spacing).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = rotation @ low
    grid = Grid((int(size[2]), int(size[1]), int(size[0])), affine)
    return resample(image, grid, AffineTransform(np.eye(4)), "cubic", float(image.data.min()))


def gap(a: torch.Tensor, b: torch.Tensor) -> str:
    """Mean and 95th percentile of the distance of two point sets (N, 3)."""
    distance = (a - b).norm(dim=1)
    return f"{distance.mean():.3f} | {np.percentile(distance.numpy(), 95):.3f}"


def main() -> None:
    """Register six times and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="Default")
    parser.add_argument("--size", default="", help="voxels of the phantom, its own size when empty")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "CONSISTENCY.md")
    args = parser.parse_args()
    options = {"size": tuple(int(n) for n in args.size.split(","))} if args.size else {}
    phantom = make_phantom("thorax", seed=args.seed, **options)
    config = convex.PRESETS[args.preset]
    fixed, moving = phantom.fixed, phantom.moving

    def registered(a: Image, b: Image) -> Transform:
        return convex.register(a, b, config).transform

    inside = phantom.fixed_mask.data[0].reshape(-1) > 0
    points = fixed.grid.world_points(torch.float64).reshape(-1, 3)[inside][::5]
    forward = registered(fixed, moving)
    mapped = forward.map_points(points)
    truth = phantom.transform.map_points(points)
    itself = registered(fixed, fixed).displacement(fixed.grid).norm(dim=0)
    rows = {
        "error against the truth": gap(mapped, truth),
        "swapped pair, composed": gap(registered(moving, fixed).map_points(mapped), points),
        "numeric inverse": gap(forward.inverse_points(mapped), points),
        "axes permuted and flipped": gap(registered(turned(fixed), turned(moving)).map_points(points), mapped),
        "both resampled to oblique grids": gap(registered(oblique(fixed), oblique(moving)).map_points(points), mapped),
        "a second run": gap(registered(fixed, moving).map_points(points), mapped),
        "fixed to itself (mean, largest)": f"{itself.mean():.3f} | {itself.max():.3f}",
    }
    size = " x ".join(str(n) for n in fixed.grid.size)
    lines = [
        f"# Consistency of lung-convex, thorax phantom {args.seed} ({size}), preset {args.preset}",
        "",
        "Made by `python Testing/bench/consistency.py`; what the rows mean stands in that file.",
        "",
        "| what | mean mm | p95 mm |",
        "|---|---|---|",
        *(f"| {name} | {figures} |" for name, figures in rows.items()),
    ]
    args.results.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
