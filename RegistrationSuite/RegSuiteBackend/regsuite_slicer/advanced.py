"""The settings of a method as a typed pack of the parameter node, and as controls; both are made from the method's own config.

The configs live beside torch, which Slicer's process never imports. So their description is a file, Resources/RegSuiteMethods.json,
written by `regsuite methods --json`; a test compares it with the configs.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import qt
from regsuite.errors import InputError
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, Maximum, Minimum, WithinRange, parameterPack

RESOURCES = Path(__file__).resolve().parents[1] / "Resources"
PRESETS = ("Preview", "Default", "Best")
_TYPES = {"bool": bool, "int": int, "float": float, "str": str}


@cache
def methods() -> dict[str, dict[str, Any]]:
    """Method key -> {title, area, summary, takes, reference, presets, settings}, as `regsuite methods --json` tells."""
    rows = json.loads((RESOURCES / "RegSuiteMethods.json").read_text(encoding="utf-8"))
    return {row["key"]: row for row in rows}


def method(key: str) -> dict[str, Any]:
    """The description of one method; raises InputError for an unknown key."""
    if key not in methods():
        raise InputError(f"Unknown method '{key}'; expected one of {', '.join(methods())}.")
    return methods()[key]


def preset_values(key: str, preset: str) -> dict[str, Any]:
    """Setting -> value of a preset; raises InputError for an unknown one."""
    presets = method(key)["presets"]
    if preset not in presets:
        raise InputError(f"Method '{key}' has no preset '{preset}'; expected one of {', '.join(presets)}.")
    return dict(presets[preset])


@cache
def settings_pack(key: str) -> Any:
    """A parameterPack class with one member for each setting of the method: type, limits and default are the config's."""
    rows = method(key)["settings"]
    name = "".join(part.capitalize() for part in key.split("-")) + "Settings"
    members = {row["name"]: row["default"] for row in rows}
    return parameterPack(type(name, (), {"__annotations__": {row["name"]: _annotation(row) for row in rows}, **members}))


def changed_settings(key: str, preset: str, pack: Any) -> dict[str, Any]:
    """The members of a pack that differ from the preset: what has to be sent besides the preset's name."""
    values = {name: pack.getValue(name) for name in preset_values(key, preset)}
    return {name: value for name, value in values.items() if not _same(value, preset_values(key, preset)[name])}


def apply_preset(key: str, preset: str, pack: Any) -> None:
    """Set every member of the pack to the preset's value."""
    for name, value in preset_values(key, preset).items():
        pack.setValue(name, _TYPES[_row(key, name)["type"]](value))


class AdvancedControls:
    """The controls of one method, in a widget of their own. `widgets`: dotted parameter name -> control."""

    def __init__(self, key: str, attribute: str, parent: Any) -> None:
        """attribute: name of the parameter node's member that is the method's pack."""
        self.key, self.page = key, qt.QWidget(parent)
        self.widgets: dict[str, Any] = {}
        form = qt.QFormLayout(self.page)
        form.setContentsMargins(0, 0, 0, 0)
        rows = method(key)["settings"]
        for row in sorted(rows, key=lambda item: bool(item["advanced"])):  # stable: what is tuned most often comes first
            control = _control(row)
            control.objectName = f"{attribute}_{row['name']}"
            control.toolTip = _tool_tip(row)
            form.addRow(f"{_label(row)}:", control)
            self.widgets[f"{attribute}.{row['name']}"] = control


def _row(key: str, name: str) -> dict[str, Any]:
    return next(row for row in method(key)["settings"] if row["name"] == name)


def _annotation(row: dict[str, Any]) -> Any:
    kind, low, high = _TYPES[row["type"]], row.get("low"), row.get("high")
    if row.get("choices"):
        return Annotated[kind, Choice(list(row["choices"]))]
    if low is not None and high is not None:
        return Annotated[kind, WithinRange(low, high)]
    if low is not None or high is not None:
        return Annotated[kind, Minimum(low) if low is not None else Maximum(high)]
    return kind


def _control(row: dict[str, Any]) -> Any:
    """The widget for a setting; limits and choices come from the parameter node when they are connected."""
    if row["type"] == "bool":
        return qt.QCheckBox()
    if row["type"] == "str":
        return qt.QComboBox() if row.get("choices") else qt.QLineEdit()
    control = qt.QSpinBox() if row["type"] == "int" else qt.QDoubleSpinBox()
    control.suffix = f" {row['unit']}" if row.get("unit") else ""
    if row["type"] == "float":
        step = 10.0 ** (math.floor(math.log10(abs(row["default"]))) - 1) if row["default"] else 0.1
        control.decimals = max(1, *(_decimals(value) for value in (step, row["default"], row.get("low") or 0)))
        control.singleStep = step
    return control


def _decimals(value: float) -> int:
    """Digits after the point: 0.25 -> 2, 8.0 -> 0."""
    return max(0, -int(Decimal(str(float(value))).normalize().as_tuple().exponent))


def _label(row: dict[str, Any]) -> str:
    """range_mm -> "Range": the unit is shown behind the number."""
    name: str = row["name"]
    unit = row.get("unit") or ""
    return (name.removesuffix(f"_{unit}") if unit else name).replace("_", " ").capitalize()


def _tool_tip(row: dict[str, Any]) -> str:
    text = f"{row['help']}."
    if row.get("low") is not None and row.get("high") is not None:
        text += " " + _("From {low:g} to {high:g}.").format(low=row["low"], high=row["high"])
    return text + " " + _("Default: {value}.").format(value=row["default"])


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) or isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return bool(a == b)
