"""One registration job as plain data: the command line fills it, the worker reads it from JSON."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from regsuite.errors import InputError

Request = TypeVar("Request")
EXTRA_INPUTS = ("fixed_mask", "moving_mask", "lesion_mask", "initial")


@dataclass(frozen=True)
class RegistrationRequest:
    """method, fixed, moving (paths) -> the folder `out`. Everything else is optional; paths are strings, JSON-serialisable.

    settings: config fields by name (values, or text to be parsed to the field's type). The landmarks and labels do not
    steer the registration; they only measure it, before and after, in report.json. maps: also write jacobian.nrrd and
    displacement.nrrd.
    """

    method: str
    fixed: str
    moving: str
    out: str
    fixed_mask: str | None = None
    moving_mask: str | None = None
    lesion_mask: str | None = None
    initial: str | None = None
    fixed_landmarks: str | None = None
    moving_landmarks: str | None = None
    fixed_labels: str | None = None
    moving_labels: str | None = None
    preset: str = "Default"
    settings: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    scene: bool = False
    maps: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RegistrationRequest:
        """The request held by a JSON object; raises InputError for an unknown, missing or mistyped entry."""
        return from_mapping(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for json.dumps."""
        return dataclasses.asdict(self)


def from_mapping(kind: type[Request], values: Mapping[str, Any]) -> Request:
    """A request dataclass from a JSON object; raises InputError for unknown, missing or mistyped entries."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    for name in values:
        if name not in {item.name for item in fields}:
            raise InputError(f"Unknown entry {unknown(name, [item.name for item in fields])}.")
    optional = (dataclasses.MISSING, dataclasses.MISSING)
    missing = [item.name for item in fields if (item.default, item.default_factory) == optional and item.name not in values]
    if missing:
        raise InputError(f"The request lacks {', '.join(missing)}.")
    lists = [item.name for item in fields if str(item.type).startswith("tuple")]
    request = kind(**{name: tuple(v) if name in lists and isinstance(v, list) else v for name, v in values.items()})
    check_fields(request)
    return request


def check_fields(request: Any) -> None:
    """Raise InputError for the first entry of a request dataclass that has the wrong type."""
    for item in dataclasses.fields(request):
        _check(item.name, getattr(request, item.name), str(item.type))


def _check(name: str, value: object, kind: str) -> None:
    if kind == "int":
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
        expected = "a whole number of at least 0"
    elif kind == "float":
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        expected = "a number"
    elif kind == "bool":
        good, expected = isinstance(value, bool), "true or false"
    elif kind.startswith("float"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        good, expected = number or (value is None and "None" in kind), "a number"
    elif kind.startswith("dict"):
        good, expected = isinstance(value, dict) and all(isinstance(key, str) for key in value), "an object of settings by name"
    elif kind.startswith("tuple"):
        good, expected = isinstance(value, tuple) and all(isinstance(item, str) and item != "" for item in value), "a list of texts"
    elif kind.startswith("list"):
        kinds = (int, float) if "float" in kind else str
        good = isinstance(value, list) and all(isinstance(item, kinds) and item != "" for item in value)
        good, expected = good or (value is None and "None" in kind), f"a list of {'numbers' if 'float' in kind else 'texts'}"
    else:
        good, expected = (isinstance(value, str) and value != "") or (value is None and "None" in kind), "text"
    if not good:
        raise InputError(f"'{name}' must be {expected}, found {value!r}.")


def unknown(name: str, known: Iterable[str]) -> str:
    """"'fxied'; did you mean 'fixed'? Known: ..." for one-line messages about typing errors."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    return f"'{name}'{hint} expected one of {', '.join(known)}"


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """["key=value", ...] -> {"key": "value"}; the method's config parses the text to the field's type."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.strip() or not value.strip():
            raise InputError(f"A setting is written key=value, found {pair!r}.")
        if key.strip() in settings:
            raise InputError(f"The setting '{key.strip()}' is given twice.")
        settings[key.strip()] = value.strip()
    return settings
