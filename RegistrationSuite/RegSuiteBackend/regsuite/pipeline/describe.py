"""The registry with presets and settings as plain data, for `regsuite methods --json` and for other programs."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from regsuite.methods.registry import METHODS, MethodRow


def describe_methods() -> list[dict[str, Any]]:
    """One object per method: the registry row, its presets, and every setting with type, default, limits, unit and help."""
    return [_describe(row) for row in METHODS.values()]


def _describe(row: MethodRow) -> dict[str, Any]:
    module = row.load()
    presets = {name: dataclasses.asdict(config) for name, config in module.PRESETS.items()}
    return {
        "key": row.key,
        "title": row.title,
        "area": row.area,
        "summary": row.summary,
        "takes": list(row.takes),
        "command": row.command,
        "reference": row.reference,
        "presets": presets,
        "settings": settings_of(module.PRESETS["Default"]),
    }


def settings_of(config: Any) -> list[dict[str, Any]]:
    """name, type, default and the metadata (low, high, choices, unit, help, advanced) of each field of a config."""
    hints = typing.get_type_hints(type(config))
    rows = []
    for item in dataclasses.fields(config):
        limits = {key: None if value in (float("inf"), float("-inf")) else value for key, value in item.metadata.items()}
        kind = getattr(hints[item.name], "__name__", str(hints[item.name]))
        rows.append({"name": item.name, "type": kind, "default": getattr(config, item.name), **limits})
    return rows
