"""Widgets <-> typed parameters; which widget class goes with which type is as strict as in Slicer."""
from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer

from .validators import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, first_annotation, split_annotations

# widget class -> its signal and property
_PATH_WIDGETS = {ctk.ctkPathLineEdit: ("currentPathChanged", "currentPath"),
                 ctk.ctkDirectoryButton: ("directoryChanged", "directory")}
_INT_LIMITS = (-(2 ** 31), 2 ** 31 - 1)


class GuiConnector:
    """One widget bound to one parameter: `read` and `write` values, `on_changed` tells of the user's changes."""

    def __init__(self, widget: Any, signal: str, read: Callable[[], Any], write: Callable[[Any], None]) -> None:
        self.widget, self.read, self.write = widget, read, write
        self._signal = signal
        self._slot: Callable[..., None] | None = None

    def on_changed(self, callback: Callable[[], None] | None) -> None:
        """Call back after changes of the widget; None ends it."""
        signal = getattr(self.widget, self._signal)
        if self._slot is not None:
            signal.disconnect(self._slot)
            self._slot = None
        if callback is not None:
            def slot(*_: Any) -> None:
                callback()
            self._slot = slot
            signal.connect(slot)


def _by_attribute(widget: Any, signal: str, name: str, convert: Callable[[Any], Any]) -> GuiConnector:
    return GuiConnector(widget, signal, lambda: convert(getattr(widget, name)),
                        lambda value: setattr(widget, name, value))


def _limit(widget: Any, annotations: tuple[Any, ...], unbounded: tuple[float, float] | None) -> None:
    """Give a spin box or slider the decimals, step and range that the annotations ask for."""
    decimals = first_annotation(annotations, Decimals)
    step = first_annotation(annotations, SingleStep)
    within = first_annotation(annotations, WithinRange)
    low, high = first_annotation(annotations, Minimum), first_annotation(annotations, Maximum)
    if decimals is not None:
        widget.decimals = decimals.value
    if step is not None:
        widget.singleStep = step.value
    bounds = [within.minimum, within.maximum] if within is not None else [
        low.minimum if low is not None else None, high.maximum if high is not None else None]
    if None in bounds and unbounded is None:
        raise RuntimeError(f"a {type(widget).__name__} needs a parameter with a range")
    widget.minimum, widget.maximum = (b if b is not None else unbounded[i]
                                      for i, b in enumerate(bounds))


def _choices(widget: Any, pairs: list[tuple[str, Any]]) -> GuiConnector:
    widget.clear()
    widget.addItems([label for label, _ in pairs])
    values = [value for _, value in pairs]
    return GuiConnector(widget, "currentIndexChanged", lambda: values[widget.currentIndex],
                        lambda value: widget.setCurrentIndex(values.index(value)))


def _node_types(kind: Any) -> list[str]:
    """Class names of a node type or of a Union of node types and None; empty for any other type."""
    members = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    members = tuple(split_annotations(m)[0] for m in members if m is not type(None))
    if not all(isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode) for m in members):
        return []
    return [m().GetClassName() for m in members]


def _node_connector(widget: Any, types: list[str]) -> GuiConnector:
    widget.nodeTypes = types
    return GuiConnector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)


def _number_connector(widget: Any, kind: Any, annotations: tuple[Any, ...]) -> GuiConnector | None:
    if kind is int and type(widget) in (qt.QSlider, qt.QSpinBox):
        _limit(widget, annotations, None if type(widget) is qt.QSlider else _INT_LIMITS)
    elif kind is float and type(widget) in (qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        _limit(widget, annotations, None if type(widget) is ctk.ctkSliderWidget else (-1e300, 1e300))
    else:
        return None
    return _by_attribute(widget, "valueChanged", "value", kind)


def _combo_connector(widget: Any, kind: Any, annotations: tuple[Any, ...]) -> GuiConnector | None:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda member: member.name)
        return _choices(widget, [(label(member), member) for member in kind])
    choice = first_annotation(annotations, Choice)
    if kind in (int, float, str, bool):
        if choice is None:
            raise RuntimeError("a QComboBox needs an Enum parameter or the Choice annotation")
        return _choices(widget, [(str(value), value) for value in choice.choices])
    return None


def create_connector(widget: Any, annotated: Any) -> GuiConnector:
    """The connector for a widget and a (possibly annotated) type.

    Raises:
        RuntimeError: Slicer has no connector for the pair.
    """
    kind, annotations = split_annotations(annotated)
    cls = type(widget)
    connector: GuiConnector | None = None
    if kind is bool and cls is qt.QCheckBox:
        connector = _by_attribute(widget, "toggled", "checked", bool)
    elif kind is bool and cls is qt.QPushButton:
        widget.checkable = True
        connector = _by_attribute(widget, "toggled", "checked", bool)
    elif cls is qt.QComboBox:
        connector = _combo_connector(widget, kind, annotations)
    elif kind is str and cls is qt.QLineEdit:
        connector = _by_attribute(widget, "textChanged", "text", str)
    elif kind is str and cls is qt.QTextEdit:
        connector = GuiConnector(widget, "textChanged", widget.toPlainText, widget.setPlainText)
    elif cls in _PATH_WIDGETS and isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        signal, name = _PATH_WIDGETS[cls]
        connector = GuiConnector(widget, signal, lambda: kind(getattr(widget, name)),
                                 lambda value: setattr(widget, name, str(value)))
    elif cls is slicer.qMRMLNodeComboBox and _node_types(kind):
        connector = _node_connector(widget, _node_types(kind))
    else:
        connector = _number_connector(widget, kind, annotations)
    if connector is None:
        raise RuntimeError(f"Unable to create GUI connector from datatype '{annotated}' to widget type '{cls}'")
    return connector
