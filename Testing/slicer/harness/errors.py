"""Exceptions that Qt and VTK would swallow: collected here, raised again on request."""
from __future__ import annotations

import sys
import traceback
from types import TracebackType


class SlotError(AssertionError):
    """One or more slots, virtual Qt methods or VTK observers raised; the message holds every traceback."""


_collected: list[BaseException] = []


def _collect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _collected.append(error.with_traceback(trace))
    traceback.print_exception(kind, error, trace)


def install() -> None:
    """Route exceptions that C++ callers report through `sys.excepthook` into the collection."""
    sys.excepthook = _collect


def add(error: BaseException) -> None:
    """Collect an error that was caught elsewhere in the harness."""
    _collected.append(error)


def pending() -> bool:
    """Whether an exception is waiting in the collection."""
    return bool(_collected)


def take() -> list[BaseException]:
    """Collected exceptions, oldest first; the collection is empty afterwards."""
    taken = list(_collected)
    _collected.clear()
    return taken


def raise_slot_errors() -> None:
    """Raise SlotError when any slot or observer has raised since the last call.

    Raises:
        SlotError: with the traceback of every collected exception.
    """
    taken = take()
    if taken:
        text = "\n".join("".join(traceback.format_exception(type(e), e, e.__traceback__)) for e in taken)
        raise SlotError(f"{len(taken)} exception(s) in slots or observers:\n{text}") from taken[0]
