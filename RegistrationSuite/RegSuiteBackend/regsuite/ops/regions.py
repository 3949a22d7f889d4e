"""Tables of values by region, and what partial volume does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regsuite.geometry.image import Image
from regsuite.ops.sampling import sample_index
from regsuite.ops.scatter import passed

PURE, LEAST_SHARE = 0.95, 1.0 / 3.0
"""Share of its own label from which on a voxel counts as pure; the purest part of a region that is taken at least (ours)."""
_FEWEST = 20.0  # voxels a neighbour must fill in all before its value is solved for

Row = dict[str, float | int | str]


@dataclass(frozen=True, eq=False)
class LabelShares:
    """For voxels (N, 3) = (k, j, i) that slices pass: which share of what the slices see there bears each label. labels (L,)
    holds 0 for no label; shares (N, L) sum to 1."""

    voxels: torch.Tensor
    labels: torch.Tensor
    shares: torch.Tensor


def label_shares(labels: Image, weights: Image, slices: Sequence[Image], poses: Sequence[np.ndarray]) -> LabelShares:
    """What the slices' pixels see where `weights` (of `scatter`, on the labels' grid) and the labels are above 0.

    A pixel sees a box of its own size and thickness; as values are interpolated, half a pixel more to each side. Where slices
    cross, shares are averaged with the weights of `scatter`.
    """
    known = (weights.data[0] > 0) & (labels.data[0] > 0)
    voxels = known.nonzero()
    row = torch.full(labels.grid.shape, -1, dtype=torch.long)
    row[known] = torch.arange(len(voxels))
    kinds, column = _columns(labels)
    total = torch.zeros(len(voxels), len(kinds))
    across, through = torch.tensor([-0.75, 0.0, 0.75]), (torch.arange(5) + 0.5) / 5 - 0.5
    box = torch.cartesian_prod(across, across, through).double()
    for image, pose in zip(slices, poses, strict=True):
        to_labels = torch.from_numpy(labels.grid.inverse_affine() @ pose @ image.grid.affine)
        for near in passed(image.grid, pose, labels.grid):
            mine = row[near.voxels]
            keep = mine >= 0
            mine, index, share = mine[keep], near.index[keep], near.share[keep] / len(box)
            for offset in box:
                places = (index + offset) @ to_labels[:3, :3].T + to_labels[:3, 3]
                seen = column(sample_index(labels.data, places, "nearest", 0.0)[0])
                total.view(-1).index_add_(0, mine * len(kinds) + seen, share)
    return LabelShares(voxels, kinds, total / total.sum(dim=1, keepdim=True).clamp(min=1e-9))


def _columns(labels: Image) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    kinds = torch.unique(torch.cat([torch.zeros(1, dtype=torch.long), labels.data.flatten().long()]))
    return kinds, lambda seen: torch.searchsorted(kinds, seen.long())


def region_rows(
    values: Image, weights: Image, labels: Image, names: dict[int, str] | None = None, shares: LabelShares | None = None
) -> list[Row]:
    """One row per label (above 0) that a slice passes: voxels with data, volume (mm^3), mean, std, median, p05, p95.

    values and weights (1, D, H, W), labels on the same grid. Mean and std are weighted. With shares four columns more,
    pure_voxels, pure_share, pure_mean and pure_std: see `pure_part`.
    """
    known = (weights.data[0] > 0) & (labels.data[0] > 0)
    found, value, weight = labels.data[0][known].long(), values.data[0][known].double(), weights.data[0][known].double()
    rows: list[Row] = []
    for label in found.unique().tolist():
        pick = found == label
        v, w = value[pick], weight[pick]
        mean, std = mean_and_std(v, w)
        row: Row = {
            "label": int(label),
            "name": (names or {}).get(int(label), f"label {int(label)}"),
            "voxels": len(v),
            "volume_mm3": len(v) * values.grid.voxel_volume,
            "mean": mean,
            "std": std,
            "median": float(v.median()),
            "p05": float(np.quantile(v.numpy(), 0.05)),
            "p95": float(np.quantile(v.numpy(), 0.95)),
        }
        if shares is not None:
            clean, keep, least = pure_part(v, w, shares.shares[pick].double(), int((shares.labels == label).nonzero()[0, 0]))
            mean, std = mean_and_std(clean[keep], w[keep])
            row |= {"pure_voxels": int(keep.sum()), "pure_share": least, "pure_mean": mean, "pure_std": std}
        rows.append(row)
    return rows


def mean_and_std(v: torch.Tensor, w: torch.Tensor) -> tuple[float, float]:
    """Weighted mean and standard deviation of values (N,) with weights (N,)."""
    mean = float((v * w).sum() / w.sum())
    return mean, float((((v - mean) ** 2 * w).sum() / w.sum()).sqrt())


def pure_part(v: torch.Tensor, w: torch.Tensor, shares: torch.Tensor, own: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(values less what neighbours add (N,), the pure voxels (N,) bool, the smallest share of the own label among them).

    Of one region's voxels, values v (N,), weights w and shares (N, L) of the labels with column `own`: least squares of
    v = sum_l shares_l m_l gives what each neighbour measures at this region's border (what lies beside it there, not the
    neighbour's own mean); sum_l shares_l (m_l - m_own) is taken off. Pure is a share of 0.95 or more, or the purest third of the
    region where fewer reach it. The region-based correction of Rousset et al. (1998), solved region by region.
    """
    filled = shares.sum(dim=0) >= _FEWEST
    filled[own] = True
    root = w.sqrt()[:, None]
    means = torch.linalg.lstsq(shares[:, filled] * root, v[:, None] * root, driver="gelsd").solution[:, 0]
    here = means[int(filled[:own].sum())]
    clean = v - shares[:, filled] @ (means - here)
    mine = shares[:, own]
    least = min(PURE, float(np.quantile(mine.numpy(), 1.0 - LEAST_SHARE)))
    keep = mine >= least
    return clean, keep, float(mine[keep].min())
