"""PythonQt's way of speaking to Qt, on top of PySide6.

Q_PROPERTYs are attributes (`w.text = "a"`), signals are connected by their C++ signature
(`w.connect("clicked(bool)", f)`), and an attribute that does not exist cannot be set. The emulation patches
the PySide6 classes of the running process, so it belongs in a test process and nowhere else.
"""
from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

# A virtual method under the same name: a descriptor there would look like a Python override to PySide6.
_VIRTUAL = {"sizeHint", "minimumSizeHint"}
_STAND_INS: set[type] = set()
# Names of the Q_PROPERTYs of each Qt class, inherited ones included. Read once, before any object exists: PySide6
# invalidates a class's staticMetaObject when an object that was asked for its meta object is deleted.
PROPERTIES: dict[type, frozenset[str]] = {}
_EXPECTED = {"bool": bool, "int": int, "double": float, "float": float, "QString": str}


def stand_in(cls: type) -> type:
    """Class decorator: hold the class to the rules of a native Qt class (no new public attributes)."""
    _STAND_INS.add(cls)
    return cls


def _is_native(cls: type) -> bool:
    return cls.__module__.startswith("PySide6") or cls in _STAND_INS


def _checked(obj: Any, name: str, value: Any) -> Any:
    """The value in the type of the Q_PROPERTY; QVariant would turn "abc" into True without a word."""
    meta = obj.metaObject()
    wanted = _EXPECTED.get(meta.property(meta.indexOfProperty(name)).typeName())
    where = f"{type(obj).__name__}.{name}"
    if wanted is None or isinstance(value, wanted):
        return value
    if wanted is bool and isinstance(value, int):
        return bool(value)
    if wanted is float and isinstance(value, int):
        return float(value)
    raise TypeError(f"{where} takes {wanted.__name__}, not {type(value).__name__} ({value!r})")


class QtProperty:
    """A Q_PROPERTY as a Python attribute. On the class itself it gives what PySide6 has under that name."""

    def __init__(self, name: str, on_class: Any) -> None:
        self.name, self._on_class = name, on_class

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self._on_class if obj is None else obj.property(self.name)

    def __set__(self, obj: Any, value: Any) -> None:
        if not obj.setProperty(self.name, _checked(obj, self.name, value)):
            raise AttributeError(f"{type(obj).__name__}.{self.name} cannot be set to {value!r}")


class _Name:
    """`obj.name`, PythonQt's alias of objectName."""

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        return self if obj is None else obj.property("objectName")

    def __set__(self, obj: Any, value: str) -> None:
        obj.setProperty("objectName", value)


def _capacity(function: Callable[..., Any]) -> int | None:
    """How many positional arguments a callable takes; None when any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _find_signal(obj: Any, text: str) -> tuple[Any, int]:
    """The PySide6 signal for a C++ signature, and its number of arguments.

    Raises:
        ValueError: the text is no signature.
        AttributeError: the class has no such signal.
    """
    if not re.fullmatch(r"\w+\s*\(.*\)", text):
        raise ValueError(f"'{text}' is not a signal signature such as 'clicked(bool)'")
    signature = bytes(QtCore.QMetaObject.normalizedSignature(text)).decode()
    declared: dict[str, str] = getattr(type(obj), "CPP_SIGNALS", {})
    if signature in declared:
        name = declared[signature]
    elif "vtk" not in signature and obj.metaObject().indexOfSignal(signature) >= 0:
        name = signature.partition("(")[0]
    else:
        raise AttributeError(f"{type(obj).__name__} has no signal '{text}'")
    instance, arguments = getattr(obj, name), signature.partition("(")[2].rstrip(")")
    if arguments and signature not in declared:
        instance = instance[arguments]      # clicked(bool), not its shorter twin clicked()
    return instance, len(arguments.split(",")) if arguments else 0


def _connect(self: Any, signal: str, receiver: Any, slot: Any = None) -> bool:
    """`obj.connect("sig(type)", callable)` or `obj.connect("sig(type)", receiver, "slot(type)")`."""
    if isinstance(signal, QtCore.QObject):      # QTimer.singleShot of PySide6: (sender, "2timeout()", callable)
        return _connect(signal, receiver[1:], slot)
    target = getattr(receiver, slot.partition("(")[0]) if slot else receiver
    if not callable(target):
        raise TypeError(f"{type(self).__name__}.connect('{signal}'): {target!r} is not callable")
    instance, count = _find_signal(self, signal)
    capacity = _capacity(target)
    limit = count if capacity is None else min(count, capacity)

    def call(*arguments: Any) -> None:
        target(*arguments[:limit])

    instance.connect(call)
    self.__dict__.setdefault("_connections", []).append((signal, target, instance, call))
    return True


def _disconnect(self: Any, signal: str, receiver: Any, slot: str | None = None) -> bool:
    """Undo one connect(); False when there was none, as in PythonQt."""
    target = getattr(receiver, slot.partition("(")[0]) if slot else receiver
    _find_signal(self, signal)
    connections = self.__dict__.get("_connections", [])
    for entry in connections:
        if entry[0] == signal and entry[1] == target:
            entry[2].disconnect(entry[3])
            connections.remove(entry)
            return True
    return False


_METHODS: dict[str, Callable[..., Any]] = {
    "connect": _connect,
    "disconnect": _disconnect,
    "className": lambda self: self.metaObject().className(),
    "delete": lambda self: self.deleteLater(),
}


def _getter(original: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """`__getattribute__` of one class on top of PySide6's own, which sorts out methods that are static too."""
    def getattribute(self: Any, name: str) -> Any:
        if name in _METHODS:
            return types.MethodType(_METHODS[name], self)
        value = original(self, name)
        return value.fget(self) if type(value) is QtCore.Property else value

    return getattribute


def _member(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


def _setattr(self: Any, name: str, value: Any) -> None:
    member = _member(type(self), name)
    if type(member) is QtCore.Property:
        if member.fset is None:
            raise AttributeError(f"{type(self).__name__}.{name} is read-only")
        member.fset(self, _checked(self, name, value))
    elif hasattr(type(member), "__set__"):
        member.__set__(self, value)
    elif isinstance(value, QtCore.SignalInstance) and isinstance(member, QtCore.Signal):
        self.__dict__[name] = value     # PySide6 itself does this, for objects that C++ made
    elif not _is_native(type(self)) or (type(self) in _STAND_INS and name.startswith("_")):
        self.__dict__[name] = value     # classes derived in Python may hold what they like, as in PythonQt
    elif member is None and isinstance(value, QtCore.QObject) and value.property("objectName") == name:
        self.__dict__[name] = value     # QUiLoader publishes children by name, as PythonQt does
    elif name.encode() in [bytes(n) for n in self.dynamicPropertyNames()]:
        self.setProperty(name, value)
    elif member is None:
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
    else:
        raise AttributeError(f"{type(self).__name__}.{name} is a method or signal and cannot be overwritten")


def _object_classes() -> Iterable[type]:
    for module in (QtCore, QtGui, QtWidgets, QtUiTools):
        for name in dir(module):        # PySide6 modules are lazy: vars() would miss most classes
            cls = getattr(module, name)
            if isinstance(cls, type) and issubclass(cls, QtCore.QObject):
                yield cls


def property_names(cls: type) -> frozenset[str]:
    """Names of all Q_PROPERTYs of a class of which no object has been made yet."""
    meta = cls.staticMetaObject
    return frozenset(meta.property(i).name() for i in range(meta.propertyCount()))


def install() -> None:
    """Patch every QObject class of PySide6. Calling it again changes nothing."""
    if isinstance(vars(QtCore.QObject).get("name"), _Name):
        return
    originals = {cls: cls.__getattribute__ for cls in _object_classes()}    # all, before the first is replaced
    PROPERTIES.update({cls: property_names(cls) for cls in originals})
    for cls, original in originals.items():
        meta = cls.staticMetaObject
        for index in range(meta.propertyOffset(), meta.propertyCount()):
            name = meta.property(index).name()
            if name not in _VIRTUAL:
                setattr(cls, name, QtProperty(name, getattr(cls, name, None)))
        cls.__getattribute__ = _getter(original)
        cls.__setattr__ = _setattr
    QtCore.QObject.name = _Name()
