"""A small method of the tests' own: aligns centres of mass. It obeys the method contract, so the pipeline can be tested alone."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from regsuite.geometry import Image
from regsuite.methods import api
from regsuite.methods.registry import METHODS, MethodRow
from regsuite.progress import Progress
from regsuite.transforms import AffineTransform

ROW = MethodRow(
    key="test-shift",
    module=__name__,
    title="Centres of mass",
    area="lung",
    summary="Moves the centre of mass of one image onto that of the other.",
    takes=("fixed_mask", "moving_mask"),
    reference="none",
)


@dataclass(frozen=True)
class Config(api.Config):
    pauses: int = api.limited(1, 1, 10000, "How many steps to report.")
    pause_s: float = api.limited(0.0, 0.0, 10.0, "How long a step takes.", unit="s")
    fail: str = api.option("no", "Fail on purpose.", choices=("no", "memory", "bug"))
    chatty: bool = api.option(False, "Print to stdout, as a careless library would.")


PRESETS = {"Preview": Config(), "Default": Config(), "Best": Config(pauses=2)}


def _centre(image: Image, mask: Image | None) -> np.ndarray:
    weights = (image.data[0] - image.data.min()).double() * (1 if mask is None else mask.data[0])
    points = image.grid.world_points().double()
    return ((points * weights[..., None]).sum(dim=(0, 1, 2)) / weights.sum()).numpy()


def register(
    fixed, moving, config=None, *, fixed_mask=None, moving_mask=None, device="auto", seed=0, progress=None
):
    config = config or Config()
    stages = Progress(progress)
    if config.chatty:
        print("a stray line")
    if config.fail == "memory":
        raise MemoryError
    if config.fail == "bug":
        raise ZeroDivisionError("on purpose")
    with stages.stage("Centring", 0.0, 1.0):
        for number in range(config.pauses):
            stages.step(number / config.pauses, f"step {number}")
            time.sleep(config.pause_s)
    matrix = np.eye(4)
    matrix[:3, 3] = _centre(moving, moving_mask) - _centre(fixed, fixed_mask)
    transform = AffineTransform(matrix)
    return api.Result(transform, api.Status.CONVERGED, config, timings_s=stages.timings_s, device="cpu", seed=seed)


def install() -> None:
    """Add the method to the registry of this process."""
    METHODS[ROW.key] = ROW
