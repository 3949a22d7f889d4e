"""What `rigid` and `affine` share: settings, presets and the way from images to a Result."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from regsuite.geometry.image import Image
from regsuite.methods.api import Config, Result, Status, limited, option
from regsuite.progress import Progress, ProgressCallback
from regsuite.solvers import start
from regsuite.solvers.device import choose_device
from regsuite.solvers.intake import scaled
from regsuite.solvers.linear import LinearSettings, align
from regsuite.transforms import AffineTransform, Transform


@dataclass(frozen=True)
class LinearConfig(Config):
    """Settings of the linear methods. All defaults are ours."""

    metric: str = option(
        "mi",
        "mi: mutual information, any contrasts; ncc: correlation, the same contrast; ngf: edges",
        choices=("mi", "ncc", "ngf"),
        advanced=False,
    )
    start: str = option(
        "header",
        start.SAYS,
        choices=start.POLICIES,
        advanced=False,
    )
    finest_mm: float = limited(1.0, 0.1, 16.0, "Finest resolution used; finer images are averaged to it", "mm", advanced=False)
    levels: int = limited(4, 1, 6, "Resolution levels, each twice as coarse as the next")
    samples: int = limited(60_000, 500, 5_000_000, "Points compared on the finest level")
    iterations: int = limited(60, 1, 500, "Largest number of L-BFGS steps on each level")
    bins: int = limited(32, 8, 128, "Grey-value bins of the joint histogram of mutual information")
    turn_degrees: float = limited(
        15.0, 0.0, 45.0, "The coarsest level also starts turned by this much about each axis; 0: it does not", "degrees"
    )
    least_overlap: float = limited(0.1, 0.01, 1.0, "Share of the fixed image (or mask) that must meet the moving image")


PREVIEW: dict[str, Any] = {"finest_mm": 2.0, "levels": 3, "samples": 30_000, "iterations": 30}
BEST: dict[str, Any] = {"finest_mm": 0.5, "levels": 5, "samples": 200_000, "iterations": 100}


def run(
    fixed: Image,
    moving: Image,
    kind: str,
    config: LinearConfig,
    fixed_mask: Image | None,
    moving_mask: Image | None,
    initial: Transform | None,
    device: str,
    seed: int,
    progress: ProgressCallback | None,
) -> Result:
    """Start, align, and say how it went; see the methods' `register`."""
    reporter, where = Progress(progress), choose_device(device)
    for image, name in ((fixed, "fixed"), (moving, "moving")):
        scaled(image, name)  # refuses unusable images before any start looks at them
    target, source, *masks = (None if i is None else i.to(where) for i in (fixed, moving, fixed_mask, moving_mask))
    assert target is not None
    assert source is not None
    share = 0.6 if config.start == "csngf" and initial is None else 0.05
    with torch.no_grad():
        with reporter.stage("start", 0.0, share):
            matrix, warnings = start.initialise(
                target, source, config.start, initial=initial, fixed_mask=masks[0], moving_mask=masks[1], seed=seed,
                progress=reporter,
            )  # fmt: skip
        with reporter.stage("align", share, 1.0):
            names = [item.name for item in dataclasses.fields(LinearSettings) if hasattr(config, item.name)]
            found = align(
                target, source, kind=kind, metric=config.metric, start=matrix, fixed_mask=masks[0], moving_mask=masks[1],
                settings=LinearSettings(**{name: getattr(config, name) for name in names}), seed=seed, progress=reporter,
            )  # fmt: skip
    status = Status.CONVERGED if found.converged else Status.REACHED_LIMIT
    findings = {"linear": {"kind": kind, "metric": config.metric, "value": found.value, "overlap": found.overlap}}
    texts = (*warnings, *found.warnings)
    return Result(
        AffineTransform(found.matrix), status, config, found.history, dict(reporter.timings_s), str(where), seed, texts,
        findings=findings,
    )  # fmt: skip
