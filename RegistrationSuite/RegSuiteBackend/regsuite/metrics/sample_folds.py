"""How much sampled fields fold, counted while they stream by."""

from __future__ import annotations

from typing import Any

import torch

from regsuite.errors import InputError
from regsuite.geometry.grid import Grid
from regsuite.ops.derivatives import jacobian_determinant


class SampleFolds:
    """Counts voxels with det J <= 0 over samples of a field; `add` each sample, then read `statistics`.

    mask: bool (D, H, W) of the voxels that count, all without. Raises InputError for an empty mask.
    """

    def __init__(self, mask: torch.Tensor | None = None) -> None:
        if mask is not None and not bool(mask.any()):
            raise InputError("The mask is empty; expected at least one voxel to look for folds in.")
        self._mask = mask
        self._percents: list[float] = []
        self._least = float("inf")

    def add(self, field: torch.Tensor, grid: Grid) -> None:
        """Count the folds of T = id + u, u (3, D, H, W) mm on `grid`."""
        det = jacobian_determinant(field, grid)
        values = det.flatten() if self._mask is None else det[self._mask]
        self._percents.append(100.0 * float((values <= 0).double().mean()))
        self._least = min(self._least, float(values.min()))

    def statistics(self) -> dict[str, Any]:
        """samples, folding_percent_mean and _max over the samples, jacobian_min over everything. Raises InputError before `add`."""
        if not self._percents:
            raise InputError("No sample was added yet; expected at least one.")
        return {
            "samples": len(self._percents),
            "folding_percent_mean": sum(self._percents) / len(self._percents),
            "folding_percent_max": max(self._percents),
            "jacobian_min": self._least,
        }
