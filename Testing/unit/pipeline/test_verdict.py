"""The verdict in words: each limit tips the light, and the light is the worst of the reasons."""

from __future__ import annotations

import copy

import pytest
from regsuite.pipeline.verdict import confidence_level, judge
from regsuite.solvers.global_pose import CLEAR_CONFIDENCE, LOW_CONFIDENCE

BEFORE = {
    "similarity": {"ncc": 0.6, "mutual_information": 0.5},
    "landmarks_tre_mm": {"count": 9, "mean": 8.0, "max": 20.0},
    "dice_mean": 0.7,
}
AFTER = {
    "similarity": {"ncc": 0.95, "mutual_information": 1.1},
    "landmarks_tre_mm": {"count": 9, "mean": 1.2, "max": 3.0},
    "dice_mean": 0.93,
    "folding_percent": 0.0,
    "jacobian": {"min": 0.6, "p01": 0.8, "p99": 1.3, "max": 1.6},
    "displacement_mm": {"mean": 7.0, "p95": 15.0, "max": 22.0},
    "covered_percent": 98.0,
}


def judged(status: str = "converged", **changes: object) -> dict:
    after = copy.deepcopy(AFTER)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place: dict = after
        for parent in parents:
            place = place[parent]
        place[last] = value
    return judge(BEFORE, after, status)


def test_nothing_wrong_is_good_and_every_reason_is_good():
    verdict = judged()
    assert verdict["level"] == "good"
    assert {reason["level"] for reason in verdict["reasons"]} == {"good"}
    assert verdict["headline"].startswith("Good")


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"folding_percent": 0.005}, "good", "folds in 0.005 %"),
        ({"folding_percent": 0.05}, "check", "folds in 0.05 %"),
        ({"folding_percent": 2.0}, "poor", "folds in 2 %"),
        ({"jacobian__p01": 0.05}, "check", "extreme"),
        ({"landmarks_tre_mm__mean": 3.0}, "check", "3.00 mm apart"),
        ({"landmarks_tre_mm__mean": 6.0}, "poor", "6.00 mm apart"),
        ({"dice_mean": 0.72}, "check", "0.720"),
        ({"dice_mean": 0.5}, "poor", "0.500"),
        ({"covered_percent": 60.0}, "check", "60 %"),
        ({"covered_percent": 10.0}, "poor", "10 %"),
        ({"similarity": {"ncc": 0.6, "mutual_information": 0.5}}, "check", "hardly changed"),
        ({"similarity": {"ncc": 0.5, "mutual_information": 0.3}}, "poor", "worse"),
        ({"similarity": {"ncc": None, "mutual_information": None}}, "poor", "no region"),
        ({"similarity": {"ncc": 0.8, "mutual_information": 0.9}}, "check", "not closely"),
        ({"similarity": {"ncc": -0.9, "mutual_information": 0.9}}, "good", "better"),
    ],
)
def test_each_limit_tips_the_light(change, level, words):
    verdict = judged(**change)
    assert verdict["level"] == level
    assert any(words in reason["text"] and reason["level"] == level for reason in verdict["reasons"])


def test_a_worse_landmark_error_is_poor_however_small():
    after = {"landmarks_tre_mm": {"count": 4, "mean": 1.4, "max": 2.0}}
    assert judge({"landmarks_tre_mm": {"count": 4, "mean": 0.9, "max": 2.0}}, after)["level"] == "poor"


def test_used_up_iterations_ask_for_a_look():
    assert judged("reached_limit")["level"] == "check"


def test_nothing_measured_is_never_good():
    assert judge({}, {})["level"] == "check"


@pytest.mark.parametrize(
    ("confidence", "level"),
    [(0.0, "poor"), (LOW_CONFIDENCE - 0.01, "poor"), (LOW_CONFIDENCE, "check"), (CLEAR_CONFIDENCE, "good"), (1.0, "good")],
)
def test_a_pose_that_hardly_stands_out_tips_the_light(confidence, level):
    assert confidence_level(confidence) == level
    assert judge(BEFORE, copy.deepcopy(AFTER), "converged", confidence)["level"] == level


def test_methods_that_look_for_no_pose_have_no_level():
    assert confidence_level(None) is None
