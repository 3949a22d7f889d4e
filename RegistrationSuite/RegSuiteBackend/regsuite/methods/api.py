"""The contract between a method and everything that calls it."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from regsuite import check
from regsuite.errors import InputError
from regsuite.geometry.image import Image
from regsuite.transforms.base import Transform
from regsuite.transforms.linear import AffineTransform


class Status(str, Enum):
    """How a registration ended."""

    CONVERGED = "converged"
    REACHED_LIMIT = "reached_limit"

    @property
    def message(self) -> str:
        """One sentence for a report."""
        return {
            Status.CONVERGED: "The registration converged.",
            Status.REACHED_LIMIT: "The registration used all its iterations; the last ones still improved it.",
        }[self]


@dataclass(frozen=True)
class Candidate:
    """One of several answers: its transform (fixed -> moving points, RAS mm) and its score, higher is better."""

    transform: AffineTransform
    score: float


@dataclass(frozen=True)
class Result:
    """What a method returns. `transform` maps fixed points to moving points, RAS mm.

    history: rows of {"stage", "level", "iteration", "energy"}; timings_s: seconds by stage; warnings: sentences for the user.
    images: what else the method shows, written as NAME.nrrd; series: the same over time, one channel per time, written as
    NAME.seq.nrrd; findings: numbers and tables (lists of rows) for the report. inverse: moving -> fixed points, when the
    method has worked it out.
    candidates: the answer and its runners-up, best first, of methods that look for a pose; confidence: how far the answer stands
    out from them, 0 to 1 (see regsuite.solvers.global_pose), None where a method cannot tell.
    """

    transform: Transform
    status: Status
    config: Any
    history: tuple[dict[str, float | str], ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    seed: int = 0
    warnings: tuple[str, ...] = ()
    images: Mapping[str, Image] = field(default_factory=dict)
    series: Mapping[str, Image] = field(default_factory=dict)
    findings: Mapping[str, Any] = field(default_factory=dict)
    inverse: Transform | None = None
    candidates: tuple[Candidate, ...] = ()
    confidence: float | None = None


def limited(default: Any, low: float, high: float, help: str, unit: str = "", advanced: bool = True) -> Any:
    """A numeric config field with limits; the panel and the command line read the same metadata."""
    return field(default=default, metadata={"low": low, "high": high, "help": help, "unit": unit, "advanced": advanced})


def option(default: Any, help: str, choices: tuple[str, ...] = (), advanced: bool = True) -> Any:
    """A bool or string config field."""
    return field(default=default, metadata={"choices": choices, "help": help, "unit": "", "advanced": advanced})


@dataclass(frozen=True)
class Config:
    """Base of all method configs: frozen, limits checked on construction, units in the field names."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):
            _check_field(item, hints[item.name], getattr(self, item.name))

    def replaced(self, **changes: Any) -> Any:
        """A copy with other values; an unknown name raises InputError listing the known ones."""
        known = [item.name for item in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise InputError(f"Unknown setting '{name}'; expected one of {', '.join(known)}.")
        return dataclasses.replace(self, **changes)

    @classmethod
    def parse(cls, name: str, text: str) -> Any:
        """Turn command-line text into the field's type; raises InputError naming field, type and text."""
        hints = typing.get_type_hints(cls)
        if name not in hints:
            raise InputError(f"Unknown setting '{name}'; expected one of {', '.join(hints)}.")
        kind = hints[name]
        if kind is bool:
            if text.lower() in ("true", "yes", "on", "1"):
                return True
            if text.lower() in ("false", "no", "off", "0"):
                return False
            raise InputError(f"'{name}' must be true or false, found {text!r}.")
        if kind is str:
            return text
        try:
            return int(text) if kind is int else float(text)
        except ValueError:
            raise InputError(f"'{name}' must be a {'whole ' if kind is int else ''}number, found {text!r}.") from None


def _check_field(item: dataclasses.Field, kind: Any, value: Any) -> None:
    meta: types.MappingProxyType = item.metadata
    if kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"'{item.name}' must be true or false, found {value!r}.")
    elif kind in (int, float):
        number = check.finite_number(item.name, value, meta.get("low", -float("inf")), meta.get("high", float("inf")))
        if kind is int and number != int(number):
            raise InputError(f"'{item.name}' must be a whole number, found {value!r}.")
    elif meta.get("choices"):
        check.choice(item.name, value, meta["choices"])
