"""Calibration measures against errors whose distribution is known."""

from __future__ import annotations

import math

import pytest
import torch
from regsuite.errors import InputError
from regsuite.metrics import calibration as c
from scipy import stats

SIGMA = 0.3 + 5.0 * torch.rand(40_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
ERRORS = SIGMA * torch.randn(40_000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_ellipsoids_are_those_of_chi_squared() -> None:
    for name, limit in c.QUANTILES.items():
        assert stats.chi2.cdf(limit, 3) == pytest.approx(int(name) / 100, abs=1e-6)
    cut = stats.chi2.ppf(1 - c.TRIM, 3)
    assert stats.chi2.cdf(cut, 5) / (1 - c.TRIM) == pytest.approx(c._TRIMMED_MEAN, abs=1e-4)


def test_true_sigmas_are_found_calibrated() -> None:
    report = c.calibration(ERRORS, SIGMA)
    assert report["coverage"] == pytest.approx({"50": 0.5, "90": 0.9, "95": 0.95}, abs=0.01)
    assert report["scale"] == pytest.approx(1.0, abs=0.01)
    assert report["expected_rms_mm"] == pytest.approx(report["observed_rms_mm"], rel=0.02)
    assert len(report["reliability"]) == 10
    assert sum(row["count"] for row in report["reliability"]) == 40_000
    for row in report["reliability"]:
        assert row["ratio"] == pytest.approx(1.0, abs=5.0 / math.sqrt(row["count"]))


def test_wrong_sigmas_are_found_wrong_by_how_much() -> None:
    assert c.recalibration(ERRORS, SIGMA / 3.0) == pytest.approx(3.0, rel=0.01)
    assert c.coverage(ERRORS, 0.5 * SIGMA)["90"] == pytest.approx(stats.chi2.cdf(6.251389 / 4, 3), abs=0.01)
    assert all(row["ratio"] < 0.6 for row in c.reliability(ERRORS, 2.0 * SIGMA) if row["count"] > 100)
    assert c.log_density(ERRORS, SIGMA) > c.log_density(ERRORS, 1.3 * SIGMA)
    assert c.log_density(ERRORS, SIGMA) > c.log_density(ERRORS, 0.8 * SIGMA)
    assert c.correlation(ERRORS, SIGMA) > 0.3
    assert math.isnan(c.correlation(ERRORS, torch.ones_like(SIGMA)))


def test_the_density_is_the_normal_one_and_outliers_are_left_out() -> None:
    one = torch.tensor([[1.0, -2.0, 0.5]])
    expected = stats.norm.logpdf([1.0, -2.0, 0.5], scale=[2.0, 1.0, 3.0]).sum()
    assert c.log_density(one, torch.tensor([[2.0, 1.0, 3.0]])) == pytest.approx(expected)
    spoilt = ERRORS.clone()
    spoilt[:300] = 1e3
    assert c.log_density(spoilt, SIGMA) == pytest.approx(c.log_density(ERRORS, SIGMA), abs=0.05)
    assert c.recalibration(spoilt, SIGMA) == pytest.approx(1.0, abs=0.03)


def test_unusable_input_is_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        c.coverage(ERRORS[:, :2], SIGMA)
    with pytest.raises(InputError, match="N > 0"):
        c.coverage(ERRORS[:0], SIGMA[:0])
    with pytest.raises(InputError, match="above 0"):
        c.coverage(ERRORS, 0.0 * SIGMA)
