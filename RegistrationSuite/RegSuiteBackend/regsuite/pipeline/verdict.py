"""The report in words: what fits, what folds, what to look at, with a traffic light. Limits are ours, stated here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regsuite.solvers.global_pose import CLEAR_CONFIDENCE, LOW_CONFIDENCE

LEVELS = ("good", "check", "poor")
HEADLINES = {
    "good": "Good: no problem was found. Confirm it in the pictures.",
    "check": "Check: usable only after the points below have been looked at.",
    "poor": "Poor: do not use this result without correction.",
}

FOLDING_CHECK_PERCENT = 0.01
FOLDING_POOR_PERCENT = 0.5
COVERED_CHECK_PERCENT = 80.0
COVERED_POOR_PERCENT = 30.0
TRE_GOOD_MM = 2.0
TRE_POOR_MM = 5.0
SIMILARITY_TOLERANCE = 0.005
CLOSE_CORRELATION = 0.9
_CONFIDENCE_WORDS = (
    (CLEAR_CONFIDENCE, "good", "The pose stands out clearly from all others"),
    (LOW_CONFIDENCE, "check", "The pose stands out from the others, but not by much: look at the runners-up"),
    (0.0, "poor", "The pose hardly stands out from others: the images may not show the same thing"),
)
_EXTREME_JACOBIAN = (0.25, 4.0)


def judge(
    before: Mapping[str, Any], after: Mapping[str, Any], status: str | None = None, confidence: float | None = None
) -> dict[str, Any]:
    """{"level", "headline", "reasons": [{"level", "text"}]} from the metrics before and after (see evaluate.measure).

    confidence: 0..1 of methods that look for a pose (Result.confidence).
    """
    reasons = [
        *_confidence(confidence),
        *_similarity(before.get("similarity"), after.get("similarity")),
        *_landmarks(before.get("landmarks_tre_mm"), after.get("landmarks_tre_mm")),
        *_labels(before.get("dice_mean"), after.get("dice_mean")),
        *_coverage(after.get("covered_percent")),
        *_folding(after.get("folding_percent"), after.get("jacobian")),
        *_motion(after.get("displacement_mm")),
    ]
    if status == "reached_limit":
        text = "The optimisation stopped at its iteration limit while still improving; a finer preset may fit better."
        reasons.append(("check", text))
    level = max((level for level, _ in reasons), key=LEVELS.index, default="check")
    return {
        "level": level,
        "headline": HEADLINES[level],
        "reasons": [{"level": item, "text": text} for item, text in reasons],
    }


Reasons = Sequence[tuple[str, str]]


def confidence_level(confidence: float | None) -> str | None:
    """good, check or poor: how far a pose stands out (Result.confidence); None for methods that do not look for one."""
    return None if confidence is None else _confidence_words(confidence)[0]


def _confidence_words(confidence: float) -> tuple[str, str]:
    return next((level, text) for least, level, text in _CONFIDENCE_WORDS if confidence >= least)


def _confidence(confidence: float | None) -> Reasons:
    if confidence is None:
        return []
    level, text = _confidence_words(confidence)
    return [(level, f"{text} (confidence {confidence:.2f}).")]


def _similarity(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Reasons:
    if not after or after.get("ncc") is None:
        return [("poor", "The images share no region in which they could be compared.")] if after else []
    ncc, information = after["ncc"], after["mutual_information"]
    if not before or before.get("ncc") is None:
        text = f"The images did not overlap before; now they do (correlation {ncc:.3f}): do they belong together?"
        return [("check", text)]
    old, old_information = before["ncc"], before["mutual_information"]
    text = f"(correlation {old:.3f} before, {ncc:.3f} after; mutual information {old_information:.3f}, {information:.3f})"
    gains = (abs(ncc) - abs(old), information - old_information)
    if max(gains) > SIMILARITY_TOLERANCE:
        if abs(ncc) >= CLOSE_CORRELATION:
            return [("good", f"The images match better than before {text}.")]
        return [("check", f"The images match better than before but not closely {text}: look for differences in the overlay.")]
    if max(gains) < -SIMILARITY_TOLERANCE:
        return [("poor", f"The images match worse than before {text}.")]
    alike = abs(old) > 0.95
    return [("good" if alike else "check", f"The match of the images hardly changed {text}.")]


def _landmarks(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Reasons:
    if not after:
        return []
    mean, old = after["mean"], before["mean"] if before else None
    text = f"{after['count']} landmarks lie {mean:.2f} mm apart on average (worst {after['max']:.1f} mm"
    text += f"; {old:.2f} mm before)." if old is not None else ")."
    if mean > TRE_POOR_MM or (old is not None and mean > old + 0.1):
        return [("poor", text)]
    return [("good" if mean <= TRE_GOOD_MM else "check", text)]


def _labels(before: float | None, after: float | None) -> Reasons:
    if after is None:
        return []
    text = f"The labelled structures overlap with a mean Dice of {after:.3f}"
    text += f" ({before:.3f} before)." if before is not None else "."
    if before is not None and after < before - SIMILARITY_TOLERANCE:
        return [("poor", text)]
    return [("good" if after >= 0.8 else "check", text)]


def _coverage(percent: float | None) -> Reasons:
    if percent is None or percent >= COVERED_CHECK_PERCENT:
        return []
    level = "poor" if percent < COVERED_POOR_PERCENT else "check"
    return [(level, f"Only {percent:.0f} % of the fixed region is covered by the moving image; the rest is extrapolated.")]


def _folding(percent: float | None, jacobian: Mapping[str, Any] | None) -> Reasons:
    if percent is None or jacobian is None:
        return []
    low, high = jacobian["p01"], jacobian["p99"]
    if percent == 0.0:
        extreme = low < _EXTREME_JACOBIAN[0] or high > _EXTREME_JACOBIAN[1]
        text = f"The deformation folds nowhere; local volume changes by factors of {low:.2f} to {high:.2f} (98 % of the region)"
        return [("check", f"{text}, which is extreme.")] if extreme else [("good", f"{text}.")]
    text = f"The deformation folds in {percent:.2g} % of the region: distances and volumes there mean nothing."
    if percent > FOLDING_POOR_PERCENT:
        return [("poor", text)]
    return [("check" if percent > FOLDING_CHECK_PERCENT else "good", text)]


def _motion(displacement: Mapping[str, Any] | None) -> Reasons:
    if displacement is None:
        return []
    return [("good", f"Tissue moves by {displacement['mean']:.1f} mm on average and {displacement['max']:.1f} mm at most.")]
