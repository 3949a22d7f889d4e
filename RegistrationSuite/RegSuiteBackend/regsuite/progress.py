"""How long work talks to whoever waits for it, and how it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager

from regsuite.errors import Cancelled

ProgressCallback = Callable[[float, str, str], object]
"""progress(fraction 0..1, stage, detail); returning False (exactly) asks the work to stop."""


class Progress:
    """Forwards progress to an optional callback, keeps the time spent in each stage, raises Cancelled on request.

    `stage(name, start, end)` maps local fractions 0..1 to the stage's share of the whole. Call `step` at least every second.
    """

    def __init__(self, callback: ProgressCallback | None = None) -> None:
        self._callback = callback
        self._name, self._start, self._end = "", 0.0, 1.0
        self.timings_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, start: float, end: float):
        """Within the block, step(f) reports start + f * (end - start) under this name."""
        outer = (self._name, self._start, self._end)
        self._name, self._start, self._end = name, start, end
        began = time.perf_counter()
        try:
            self.step(0.0)
            yield self
        finally:
            self.timings_s[name] = self.timings_s.get(name, 0.0) + time.perf_counter() - began
            self._name, self._start, self._end = outer

    @contextmanager
    def share(self, start: float, end: float):
        """Within the block, step(f) reports start + f * (end - start) of the whole, under the same stage name."""
        outer = (self._start, self._end)
        self._start, self._end = start, end
        try:
            yield self
        finally:
            self._start, self._end = outer

    @contextmanager
    def part(self, start: float, end: float):
        """Within the block, step(f) reports start + f * (end - start) of what step would have reported outside it."""
        low, span = self._start, self._end - self._start
        with self.share(low + start * span, low + end * span):
            yield self

    def step(self, fraction: float, detail: str = "") -> None:
        """Report; raises Cancelled when the callback returned False."""
        if self._callback is None:
            return
        overall = self._start + min(max(fraction, 0.0), 1.0) * (self._end - self._start)
        if self._callback(overall, self._name, detail) is False:
            raise Cancelled("Cancelled by the user.")
