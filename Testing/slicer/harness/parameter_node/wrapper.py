"""@parameterNodeWrapper: typed, persistent attributes on a parameter node, and their connection to widgets."""
from __future__ import annotations

import logging
from typing import Any

import qt
import slicer
import vtk

from .gui import GuiConnector, create_connector
from .pack import Member, check_name, get_value, members_of, set_value

SlicerParameterNamePropertyName = "SlicerParameterName"


class _NodeProperty:
    """A typed attribute that lives in the parameter node."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def __get__(self, wrapper: Any, owner: type | None = None) -> Any:
        return self if wrapper is None else self._member.serializer.read(wrapper.parameterNode, self._member.name)

    def __set__(self, wrapper: Any, value: Any) -> None:
        with slicer.util.NodeModify(wrapper.parameterNode):
            self._member.serializer.write(wrapper.parameterNode, self._member.name, value)


class _Methods:
    """What the decorator adds to the class."""

    parameterNode: Any
    allParameters: dict[str, Member]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        if prefix:
            raise ValueError("the stand-in has no prefixed parameters")
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, GuiConnector], int]] = {}
        self._next_tag = 0
        self._writing_gui = False
        with slicer.util.NodeModify(parameterNode):
            for name, member in self.allParameters.items():
                if not member.serializer.is_in(parameterNode, name):
                    member.serializer.write(parameterNode, name, member.default)

    def default(self, name: str) -> Any:
        return check_name(type(self), name)._default

    getValue = get_value
    setValue = set_value

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, was: Any) -> Any:
        return self.parameterNode.EndModify(was)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def connectGui(self, gui: Any) -> int:
        """Connect the widgets that have the dynamic property SlicerParameterName.

        `gui` is a widget, whose children are searched, or the result of slicer.util.childWidgetVariables.
        """
        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else list(vars(gui).values())
        named = {w.property(SlicerParameterNamePropertyName): w for w in widgets
                 if w.property(SlicerParameterNamePropertyName)}
        return self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Connect widgets to parameters by (dotted) name; returns the tag for disconnectGui."""
        connectors = {name: widget if isinstance(widget, GuiConnector)
                      else create_connector(widget, check_name(type(self), name).annotated)
                      for name, widget in mapping.items()}
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.on_changed(lambda name=name, connector=connector: self._gui_changed(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._update_gui())
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag: int) -> None:
        """Undo connectGui; an unknown tag changes nothing, as in Slicer."""
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.on_changed(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def _gui_changed(self, name: str, connector: GuiConnector) -> None:
        if not self._writing_gui:
            self.setValue(name, connector.read())

    def _update_gui(self) -> None:
        if self._writing_gui:
            return
        self._writing_gui = True
        try:
            for connectors, _ in list(self._guis.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._writing_gui = False


_RESERVED = tuple(n for n in vars(_Methods) if not n.startswith("__") or n == "__init__")


def parameterNodeWrapper(cls: type | None = None) -> Any:
    """Class decorator: typed class annotations become attributes kept in the node given to the constructor."""
    if cls is None:
        return parameterNodeWrapper
    members = members_of(cls)
    for name in _RESERVED:
        if name != "__init__" and name in members:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, vars(_Methods)[name])
    for name, member in members.items():
        setattr(cls, name, _NodeProperty(member))
    cls.allParameters = members
    cls.dataType = staticmethod(lambda name: check_name(cls, name).annotated)
    cls._is_parameter_node_wrapper = True
    return cls


def isParameterNodeWrapper(obj: Any) -> bool:
    return getattr(obj, "_is_parameter_node_wrapper", False) is True


def findChildWidgetForParameter(widget: Any, name: str) -> Any:
    """The child connected to a parameter by its SlicerParameterName, or None."""
    found = [w for w in widget.findChildren(qt.QWidget) if w.property(SlicerParameterNamePropertyName) == name]
    if len(found) > 1:
        logging.warning("%d widgets carry SlicerParameterName '%s'", len(found), name)
    return found[0] if found else None
