"""How sure the place of each slice is."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch

from regsuite.solvers.slice_match import SliceLevel, emulate, information, rigid
from regsuite.solvers.slice_stack import Stack

_FAR_MM = (6.0, 12.0)
GOOD, POOR = 0.5, 0.2
"""Confidence from which on a place is called good, and below which poor (ours)."""


def measure(
    level: SliceLevel, stack: Stack, poses: torch.Tensor, slots: np.ndarray, sides: np.ndarray, tick: Callable[[float], None]
) -> list[dict[str, float | str]]:
    """One row per slice at poses (S, 4, 4).

    information (nats); margin = 1 - (largest information 6 or 12 mm, or as many sixtieths of a radian, away) / information;
    other_slot: the same margin against the best other order or side (1 when the order was given); covered_percent: share of the
    slice inside the volume; confidence 0..1 = min(1, 2 margin) * covered * min(1, 4 other_slot); level: good, check or poor.
    """
    here = information(level, poses[None])[0]
    centres = (poses @ level.centres)[:, :3, 3]
    offsets = [_axis(axis, sign * far) for axis, sign, far in itertools.product(range(6), (-1, 1), _FAR_MM)]
    away = []
    for number, offset in enumerate(offsets):
        away.append(information(level, (rigid(offset.expand(level.count, 6), centres) @ poses)[None])[0])
        tick(0.8 * (number + 1) / len(offsets))
    margin = 1.0 - torch.stack(away).amax(dim=0) / here.clamp(min=1e-9)
    covered = _covered(level, poses)
    other = _other_slots(level, stack, poses, here, slots, sides)
    rows: list[dict[str, float | str]] = []
    for m in range(level.count):
        sure = float((2.0 * margin[m]).clamp(0.0, 1.0) * covered[m]) * min(1.0, 4.0 * max(0.0, other[m]))
        name = "good" if sure >= GOOD else "check" if sure >= POOR else "poor"
        rows.append(
            {
                "confidence": sure,
                "level": name,
                "information": float(here[m]),
                "margin": float(margin[m]),
                "other_slot": other[m],
                "covered_percent": 100.0 * float(covered[m]),
            }
        )
    return rows


def _axis(axis: int, length: float) -> torch.Tensor:
    offset = torch.zeros(6, dtype=torch.float64)
    offset[axis] = length
    return offset


def _covered(level: SliceLevel, poses: torch.Tensor) -> torch.Tensor:
    _, inside = emulate(level, poses[None])
    return (inside[0] * level.weights).sum(dim=1)


def _other_slots(
    level: SliceLevel, stack: Stack, poses: torch.Tensor, here: torch.Tensor, slots: np.ndarray, sides: np.ndarray
) -> list[float]:
    if stack.variants is None:
        return [1.0] * level.count
    variants = torch.from_numpy(stack.variants)
    best = torch.full((level.count,), -1.0)
    for slot, side in itertools.product(range(level.count), range(2)):
        other = torch.stack(
            [poses[m] @ torch.linalg.inv(variants[m, slots[m], sides[m]]) @ variants[m, slot, side] for m in range(level.count)]
        )
        taken = torch.tensor([slot == slots[m] and side == sides[m] for m in range(level.count)])
        best = torch.maximum(best, torch.where(taken, torch.tensor(-1.0), information(level, other[None])[0]))
    return [float(v) for v in 1.0 - best / here.clamp(min=1e-9)]
