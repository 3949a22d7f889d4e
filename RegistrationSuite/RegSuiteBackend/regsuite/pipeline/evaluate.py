"""How well a transform lays one image on another: the numbers of report.json, before and after."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regsuite.errors import InputError
from regsuite.geometry import Grid, Image
from regsuite.io import read_image, read_transform
from regsuite.io.atomic import staged_file
from regsuite.losses import image as similarity
from regsuite.metrics import dice, error_summary, hd95, jacobian_statistics, tre
from regsuite.ops.derivatives import jacobian_determinant
from regsuite.ops.sampling import resample, sample_world
from regsuite.pipeline.inputs import Truth, check_image, load_truth
from regsuite.pipeline.region import FOREGROUND, foreground
from regsuite.pipeline.verdict import judge
from regsuite.progress import Progress, ProgressCallback
from regsuite.transforms import AffineTransform, DisplacementField, Transform

_SIMILARITY_VOXELS = 400_000
_FEWEST_VOXELS = 64
_QUANTILE_VOXELS = 200_000
_SLAB_VOXELS = 1_000_000
Index = tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """Where image and field metrics are taken: bool (D, H, W) on the fixed grid, and its name for the report."""

    inside: torch.Tensor
    name: str

    @classmethod
    def of(cls, fixed: Image, mask: Image | None = None) -> Region:
        """The given mask (1, D, H, W), or the body found in the fixed image."""
        return cls(mask.data[0].bool(), "fixed mask") if mask is not None else cls(foreground(fixed), FOREGROUND)


def image_similarity(fixed: Image, moving: Image, transform: Transform | None, region: Region) -> dict[str, Any]:
    """{"ncc", "mutual_information" (nats)} of fixed(x) and moving(T(x)), T the identity for None.

    Taken over the region's voxels that map inside the moving image, of large images every n-th along each axis. Both are
    None where nothing overlaps.
    """
    step = max(1, math.ceil((fixed.grid.voxels / _SIMILARITY_VOXELS) ** (1 / 3)))
    index = tuple(slice(None, None, min(step, max(1, n // 8))) for n in fixed.grid.shape)
    inside = region.inside[index].reshape(-1)
    world = _strided(fixed.grid, index).world_points(torch.float64).view(-1, 3)[inside]
    mapped = world if transform is None else transform.map_points(world)
    covered = moving.grid.contains(mapped)
    if int(covered.sum()) < _FEWEST_VOXELS:
        return {"ncc": None, "mutual_information": None}
    a = fixed.data[0][index].reshape(-1)[inside][covered].double()
    b = sample_world(moving, mapped[covered])[0].double()
    correlation = 1.0 - float(similarity.ncc(a.view(1, 1, 1, -1), b.view(1, 1, 1, -1)))
    information = mutual_information(a.numpy(), b.numpy(), _robust_range(fixed), _robust_range(moving))
    return {"ncc": correlation, "mutual_information": information}


def mutual_information(
    a: np.ndarray, b: np.ndarray, a_range: tuple[float, float], b_range: tuple[float, float], bins: int = 32
) -> float:
    """Mutual information in nats of paired values (N,), from their plain joint histogram; values are clamped to the ranges."""
    joint, _, _ = np.histogram2d(np.clip(a, *a_range), np.clip(b, *b_range), bins=bins, range=(a_range, b_range))
    joint /= joint.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / independent[filled])).sum())


def _strided(grid: Grid, index: tuple[slice, ...]) -> Grid:
    steps = np.array([part.step for part in index])
    affine = grid.affine.copy()
    affine[:3, :3] = affine[:3, :3] * steps[::-1]
    shape = tuple(len(range(0, n, s)) for n, s in zip(grid.shape, steps, strict=True))
    return Grid((shape[0], shape[1], shape[2]), affine)


def _robust_range(image: Image) -> tuple[float, float]:
    values = _thinned(image.data.flatten()).double().cpu().numpy()
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return (low, high) if low < high else (float(values.min()), float(values.max()) + 1e-6)


def _thinned(values: torch.Tensor) -> torch.Tensor:
    return values[:: max(1, math.ceil(values.numel() / _QUANTILE_VOXELS))]


def _displacement(transform: Transform, grid: Grid, start: Index, stop: Index) -> torch.Tensor:
    """(3, D, H, W) mm at the voxels [start, stop) (k, j, i) of `grid`; read off directly when the field lies on that grid."""
    if isinstance(transform, DisplacementField) and transform.grid == grid:
        return transform.field[:, start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    return transform.displacement(grid.cropped(start, (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])))


def field_statistics(
    transform: Transform, grid: Grid, moving: Grid | None, region: Region, tick: Callable[[float], None] = lambda fraction: None
) -> dict[str, Any]:
    """Folding, Jacobian and displacement within the region, and the share of it that maps into the `moving` grid.

    The Jacobian is taken by central differences between neighbouring voxels of `grid`. Works in slabs of the region's
    bounding box; tick(fraction) is called after each.
    """
    start, stop = _bounding_box(region.inside, margin=1)
    slab = max(1, _SLAB_VOXELS // ((stop[1] - start[1]) * (stop[2] - start[2])))
    determinants, lengths, covered = [], [], 0
    for k in range(start[0], stop[0], slab):
        first, last = (k, start[1], start[2]), (min(k + slab, stop[0]), stop[1], stop[2])
        halo = (max(0, k - 1), start[1], start[2]), (min(last[0] + 1, stop[0]), stop[1], stop[2])
        u = _displacement(transform, grid, *halo)
        box = grid.cropped(halo[0], (u.shape[1], u.shape[2], u.shape[3]))
        planes = slice(k - halo[0][0], last[0] - halo[0][0])
        inside = region.inside[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]
        determinants.append(jacobian_determinant(u, box)[planes][inside])
        move = u[:, planes][:, inside].T
        lengths.append(move.norm(dim=1))
        if moving is not None:
            world = box.index_to_world(inside.nonzero().flip(1).double() + torch.tensor([0.0, 0.0, planes.start]))
            covered += int(moving.contains(world + move).sum())
        tick((last[0] - start[0]) / (stop[0] - start[0]))
    statistics, length = jacobian_statistics(torch.cat(determinants)), error_summary(torch.cat(lengths))
    metrics: dict[str, Any] = {
        "folding_percent": statistics["folding_percent"],
        "jacobian": {key: statistics[key] for key in ("min", "p01", "p99", "max")},
        "displacement_mm": {key: length[key] for key in ("mean", "p95", "max")},
        "region": region.name,
    }
    if moving is not None:
        metrics["covered_percent"] = 100.0 * covered / int(region.inside.sum())
    return metrics


def _bounding_box(inside: torch.Tensor, margin: int) -> tuple[Index, Index]:
    """First and one past the last voxel (k, j, i) of the region, widened by `margin` within the image."""
    low, high = [], []
    for axis, n in enumerate(inside.shape):
        others = [other for other in range(3) if other != axis]
        found = inside.any(dim=others[1]).any(dim=others[0]).nonzero()
        low.append(max(0, int(found.min()) - margin))
        high.append(min(n, int(found.max()) + 1 + margin))
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def truth_metrics(transform: Transform, truth: Truth) -> dict[str, Any]:
    """Landmark errors in mm, Dice and HD95 of each label; only those for which there is truth."""
    metrics: dict[str, Any] = {}
    if truth.fixed_landmarks is not None and truth.moving_landmarks is not None:
        errors = tre(transform, truth.fixed_landmarks, truth.moving_landmarks)
        metrics["landmarks_tre_mm"] = {"count": len(errors), **error_summary(errors)}
    if truth.fixed_labels is not None and truth.moving_labels is not None:
        moved = resample(truth.moving_labels, truth.fixed_labels.grid, transform, "nearest", fill=0)
        scores = dice(truth.fixed_labels, moved)
        metrics["dice"] = scores
        metrics["dice_mean"] = float(np.mean(list(scores.values())))
        metrics["hd95_mm"] = hd95(truth.fixed_labels, moved)
    return metrics


IDENTITY = AffineTransform(np.eye(4))


@dataclass(frozen=True)
class EvaluationRequest:
    """Paths of what `regsuite evaluate` measures. Without a transform the identity is measured: the data as they lie."""

    out: str
    transform: str | None = None
    fixed_landmarks: str | None = None
    moving_landmarks: str | None = None
    fixed_labels: str | None = None
    moving_labels: str | None = None
    fixed: str | None = None
    moving: str | None = None


def run_evaluation(request: EvaluationRequest, progress: ProgressCallback | None = None) -> dict[str, Any]:
    """Measure, write the report (JSON) to `request.out` and return it. Raises InputError on unusable or missing input."""
    from regsuite.pipeline.report import SCHEMA_VERSION, clean, geometry, versions

    stages = Progress(progress)
    if not any((request.transform, request.fixed_landmarks, request.fixed_labels, request.fixed)):
        raise InputError("Nothing to evaluate: give a transform with --fixed, a pair of landmarks, of label maps or of images.")
    if request.moving and not request.fixed:
        raise InputError("The moving image is given without the fixed image; expected both.")
    with staged_file(Path(request.out)) as target:
        with stages.stage("Reading", 0.0, 0.2):
            transform = read_transform(request.transform) if request.transform else IDENTITY
            truth = load_truth(request.fixed_landmarks, request.moving_landmarks, request.fixed_labels, request.moving_labels)
            images = [read_image(path) if path else None for path in (request.fixed, request.moving)]
        with stages.stage("Measuring", 0.2, 1.0):
            before, after = _evaluate(transform, images[0], images[1], truth, request, stages)
        paths = {name: path for name, path in vars(request).items() if path and name != "out"}
        report = {
            "schema_version": SCHEMA_VERSION,
            "kind": "evaluation",
            "files": {name: Path(path).name for name, path in paths.items()},
            "inputs": {name: geometry(image) for name, image in zip(("fixed", "moving"), images, strict=True) if image},
            "versions": versions(),
            "metrics": {"before": before, "after": after},
            "verdict": judge(before, after),
        }
        report = clean(report)
        target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _evaluate(
    transform: Transform, fixed: Image | None, moving: Image | None, truth: Truth, request: EvaluationRequest, stages: Progress
) -> tuple[dict[str, Any], dict[str, Any]]:
    before, after = truth_metrics(IDENTITY, truth), truth_metrics(transform, truth)
    stages.step(0.3)
    for path, image in ((request.fixed, fixed), (request.moving, moving)):
        if path and image:
            check_image(f"'{Path(path).name}'", image)
    lattice = fixed or truth.fixed_labels
    if fixed and moving:
        region = Region.of(fixed)
        for metrics, used in ((before, None), (after, transform)):
            metrics["similarity"] = image_similarity(fixed, moving, used, region)
            stages.step(0.5)
    elif lattice:
        region = Region.of(fixed) if fixed else Region(torch.ones(lattice.grid.shape, dtype=torch.bool), "whole grid")
    if lattice and request.transform:
        moving_grid = moving.grid if moving else None
        after |= field_statistics(transform, lattice.grid, moving_grid, region, lambda f: stages.step(0.5 + f / 2))
    return before, after
