"""Landmark errors: direction of the transform, literal values, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regsuite.errors import InputError
from regsuite.metrics import error_summary, tre
from regsuite.transforms import AffineTransform

FIXED = torch.tensor([[0.0, 0.0, 0.0], [10.0, -20.0, 30.0]])


def test_tre_maps_the_fixed_points() -> None:
    transform = AffineTransform.translation([3.0, 4.0, 0.0])
    assert tre(transform, FIXED, FIXED + torch.tensor([3.0, 4.0, 0.0])).tolist() == [0.0, 0.0]
    assert tre(transform, FIXED, FIXED).tolist() == [5.0, 5.0]
    assert tre(transform, FIXED, FIXED - torch.tensor([3.0, 4.0, 0.0])).tolist() == [10.0, 10.0]


def test_tre_without_a_transform_is_the_distance_before() -> None:
    moving = np.array([[0.0, 0.0, 2.0], [10.0, -20.0, 29.0]])
    errors = tre(None, FIXED.numpy(), moving)
    assert errors.dtype == torch.float64
    assert errors.tolist() == [2.0, 1.0]


def test_tre_needs_corresponding_points() -> None:
    with pytest.raises(InputError, match="2 fixed and 1 moving"):
        tre(None, FIXED, FIXED[:1])
    with pytest.raises(InputError, match="at least one"):
        tre(None, FIXED[:0], FIXED[:0])
    with pytest.raises(InputError, match=r"moving landmarks.*\(N, 3\)"):
        tre(None, FIXED, FIXED[:, :2])
    with pytest.raises(InputError, match=r"fixed landmarks.*finite"):
        tre(None, FIXED / 0.0, FIXED)


def test_summary_of_known_numbers() -> None:
    summary = error_summary(torch.tensor([1.0, 2.0, 3.0, 10.0]))
    assert summary == pytest.approx({"mean": 4.0, "std": 12.5**0.5, "median": 2.5, "p95": 8.95, "max": 10.0})
    with pytest.raises(InputError, match="none"):
        error_summary(torch.zeros(0))
