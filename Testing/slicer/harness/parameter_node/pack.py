"""@parameterPack: several typed parameters under one name; members are stored as "pack.member"."""
from __future__ import annotations

import typing
from typing import Any

import slicer

from .serializers import Serializer, create
from .validators import Default, IsInstance, NotNone, Validator, split_annotations


class Member:
    """One typed parameter of a pack or of a parameter node wrapper."""

    def __init__(self, owner: type, name: str, annotated: Any) -> None:
        self.name, self.annotated = name, annotated
        self.kind, annotations = split_annotations(annotated)
        self.serializer = create(annotated)
        marked = next((a for a in annotations if isinstance(a, Default)), None)
        if name in vars(owner):
            self._default = Default(vars(owner)[name])
        else:
            self._default = marked or Default(generator=self.serializer.default)

    @property
    def default(self) -> Any:
        return self._default.value


def members_of(cls: type) -> dict[str, Member]:
    """The typed parameters of a class body, in order, with their defaults checked.

    Raises:
        TypeError, ValueError: a type that cannot be stored, or a default outside its limits.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {}
    for name, annotated in hints.items():
        member = Member(cls, name, annotated)
        member.serializer.validate(member.default)
        found[name] = member
    return found


def is_pack(obj: Any) -> bool:
    return getattr(obj, "_is_parameterPack", False) is True


class _PackProperty:
    """A member of a pack: validated on assignment, and written to the node when the pack belongs to one."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def __get__(self, pack: Any, owner: type | None = None) -> Any:
        return self if pack is None else pack.__dict__[self._member.name]

    def __set__(self, pack: Any, value: Any) -> None:
        self._member.serializer.validate(value)
        pack.__dict__[self._member.name] = value
        observer = pack.__dict__.get("_observer")
        if observer is not None:
            observer(self._member, value)


def _init(self: Any, *values: Any, **named: Any) -> None:
    members = type(self).allParameters
    if len(values) > len(members):
        raise TypeError(f"{type(self).__name__} takes {len(members)} values, {len(values)} were given")
    given = dict(zip(members, values, strict=False))
    for name, value in named.items():
        if name not in members or name in given:
            raise TypeError(f"{type(self).__name__}: unexpected or repeated argument '{name}'")
        given[name] = value
    for name, member in members.items():
        setattr(self, name, given.get(name, member.default))


def _equal(self: Any, other: Any) -> bool:
    return type(self) is type(other) and all(getattr(self, n) == getattr(other, n) for n in self.allParameters)


def _repr(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in self.allParameters)})"


def _strict_setattr(self: Any, name: str, value: Any) -> None:
    if name not in self.allParameters and name != "_observer":
        raise AttributeError(f"{type(self).__name__} has no parameter '{name}'")
    object.__setattr__(self, name, value)


def split_name(name: str) -> tuple[str, str | None]:
    """"a.b.c" -> ("a", "b.c"); "a" -> ("a", None)."""
    top, _, rest = name.partition(".")
    return top, rest or None


def get_value(self: Any, name: str) -> Any:
    """The value of "member" or "pack.member"."""
    top, rest = split_name(name)
    check_name(type(self), name)
    value = getattr(self, top)
    return value if rest is None else value.getValue(rest)


def set_value(self: Any, name: str, value: Any) -> None:
    """Set "member" or "pack.member"."""
    top, rest = split_name(name)
    check_name(type(self), name)
    if rest is None:
        setattr(self, top, value)
    else:
        getattr(self, top).setValue(rest, value)


def check_name(cls: type, name: str) -> Member:
    """The member that a dotted name means.

    Raises:
        ValueError: there is none.
    """
    top, rest = split_name(name)
    members: dict[str, Member] = cls.allParameters
    if top not in members:
        raise ValueError(f"{cls.__name__} has no parameter '{top}'; it has {list(members)}")
    if rest is None:
        return members[top]
    if not is_pack(members[top].kind):
        raise ValueError(f"{cls.__name__}.{top} is not a parameterPack, so it has no '{rest}'")
    return check_name(members[top].kind, rest)


def parameterPack(cls: type | None = None) -> Any:
    """Class decorator: typed members with defaults and limits."""
    if cls is None:
        return parameterPack
    members = members_of(cls)
    if not members:
        raise ValueError(f"parameterPack {cls.__name__} has no typed members")
    for name, member in members.items():
        setattr(cls, name, _PackProperty(member))
    for name, value in (("allParameters", members), ("_is_parameterPack", True), ("getValue", get_value),
                        ("setValue", set_value), ("__setattr__", _strict_setattr),
                        ("dataType", staticmethod(lambda n: check_name(cls, n).annotated))):
        setattr(cls, name, value)
    for name, method in (("__init__", _init), ("__eq__", _equal), ("__repr__", _repr)):
        if name not in vars(cls) or name == "__eq__":
            setattr(cls, name, method)
    return cls


class PackSerializer(Serializer):
    """Reads packs that write every later change of a member back to the node."""

    def __init__(self, kind: Any, validators: list[Validator]) -> None:
        super().__init__([NotNone(), IsInstance(kind), *validators])
        self.kind = kind

    def default(self) -> Any:
        return self.kind()

    def is_in(self, node: Any, name: str) -> bool:
        return all(m.serializer.is_in(node, f"{name}.{n}") for n, m in self.kind.allParameters.items())

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        with slicer.util.NodeModify(node):
            for member_name, member in self.kind.allParameters.items():
                member.serializer.write(node, f"{name}.{member_name}", getattr(value, member_name))

    def read(self, node: Any, name: str) -> Any:
        values = {n: m.serializer.read(node, f"{name}.{n}") for n, m in self.kind.allParameters.items()}
        pack = self.kind(**values)
        pack._observer = lambda member, value: member.serializer.write(node, f"{name}.{member.name}", value)
        return pack

    def remove(self, node: Any, name: str) -> None:
        for member_name, member in self.kind.allParameters.items():
            member.serializer.remove(node, f"{name}.{member_name}")
