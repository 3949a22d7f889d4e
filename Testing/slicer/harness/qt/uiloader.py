"""Loads .ui files as Slicer does: stand-in widgets, and connections that carry MRML types made in Python."""
from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from .emulation import PROPERTIES, property_names
from .mrml_widgets import ALL_WIDGETS


class UiError(ValueError):
    """The .ui file names a class, property, signal or slot that does not exist."""


PROPERTIES.update({cls: property_names(cls) for cls in ALL_WIDGETS})
_CUSTOM = {cls.__name__: cls for cls in ALL_WIDGETS}
# Properties that Qt Designer writes but that no class declares.
_DESIGNER_ONLY = {"geometry", "sizePolicy", "leftMargin", "topMargin", "rightMargin", "bottomMargin", "margin",
                  "horizontalSpacing", "verticalSpacing", "spacing", "sizeHint", "sizeType", "orientation"}


def _class_of(name: str) -> type:
    cls = _CUSTOM.get(name) or getattr(QtWidgets, name, None)
    if cls is None:
        raise UiError(f"the stand-in knows no widget class '{name}'")
    return cls


def _check_properties(widget: ElementTree.Element) -> None:
    cls = _class_of(widget.get("class", ""))
    for prop in widget.findall("property"):
        name = prop.get("name", "")
        if prop.get("stdset") == "0" or name in _DESIGNER_ONLY:
            continue
        if name not in PROPERTIES[cls]:
            raise UiError(f"{widget.get('class')} '{widget.get('name')}' has no property '{name}'")


def _split_flags(widget: ElementTree.Element) -> list[tuple[str, str, int]]:
    """Take out <set>ctkX::A|ctkX::B</set> properties, which QUiLoader cannot read: (widget, property, value)."""
    taken = []
    for prop in widget.findall("property"):
        flags = prop.findtext("set") or prop.findtext("enum") or ""
        if widget.get("class") in _CUSTOM and "ctk" in flags:
            value = 0
            for flag in flags.split("|"):
                value |= int(getattr(_class_of(widget.get("class", "")), flag.rpartition("::")[2]))
            taken.append((widget.get("name", ""), prop.get("name", ""), value))
            widget.remove(prop)
    return taken


def _split_connections(root: ElementTree.Element) -> list[tuple[str, str, str, str]]:
    """Take out the connections that QUiLoader cannot make: (sender, signal, receiver, slot)."""
    taken = []
    connections = root.find("connections")
    for connection in list(connections) if connections is not None else []:
        parts = [connection.findtext(key) or "" for key in ("sender", "signal", "receiver", "slot")]
        taken.append((parts[0], parts[1], parts[2], parts[3]))
        connections.remove(connection)
    return taken


class QUiLoader(QtUiTools.QUiLoader):
    """qt.QUiLoader that knows the stand-ins and refuses what Slicer would pass over in silence."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        for cls in ALL_WIDGETS:
            self.registerCustomWidget(cls)

    def load(self, file: Any, parent: Any = None) -> Any:
        """The widget of an open QFile.

        Raises:
            UiError: unknown widget class, property, signal, slot or object name.
        """
        root = ElementTree.fromstring(bytes(file.readAll().data()))
        flags: list[tuple[str, str, int]] = []
        for widget in root.iter("widget"):
            _check_properties(widget)
            flags += _split_flags(widget)
        connections = _split_connections(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        top = super().load(buffer, parent)
        if top is None:
            raise UiError(f"QUiLoader: {self.errorString()}")
        named = {obj.property("objectName"): obj for obj in [top, *top.findChildren(QtCore.QObject)]}
        for name, prop, value in flags:
            setattr(named[name], prop, value)
        for sender, signal, receiver, slot in connections:
            self._connect(named, sender, signal, receiver, slot)
        return top

    @staticmethod
    def _connect(named: dict[str, Any], sender: str, signal: str, receiver: str, slot: str) -> None:
        for name in (sender, receiver):
            if name not in named:
                raise UiError(f"connection {sender}.{signal} -> {receiver}.{slot}: there is no object '{name}'")
        target = getattr(named[receiver], slot.partition("(")[0], None)
        if not callable(target):
            raise UiError(f"connection {sender}.{signal}: {named[receiver].className()} has no slot '{slot}'")
        try:
            named[sender].connect(signal, target)
        except AttributeError as error:
            raise UiError(f"connection to {receiver}.{slot}: {error}") from error
