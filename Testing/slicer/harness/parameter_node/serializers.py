"""Typed values <-> the strings and node references of a vtkMRMLScriptedModuleNode, stored as Slicer stores them."""
from __future__ import annotations

import enum
import pathlib
import types
import typing
from typing import Any

import slicer

from .validators import IsInstance, NotNone, Validator, split_annotations


class Serializer:
    """Reads and writes one parameter of a node."""

    def __init__(self, validators: list[Validator]) -> None:
        self.validators = validators

    def default(self) -> Any:
        raise NotImplementedError

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        raise NotImplementedError

    def read(self, node: Any, name: str) -> Any:
        raise NotImplementedError

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class TextSerializer(Serializer):
    """int, float, str and paths: str(value) and back."""

    def __init__(self, kind: type, validators: list[Validator]) -> None:
        allowed = (int, float) if kind is float else kind
        super().__init__([NotNone(), IsInstance(allowed), *validators])
        self.kind = kind

    def default(self) -> Any:
        return self.kind()

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, str(value))

    def read(self, node: Any, name: str) -> Any:
        return self.kind(node.GetParameter(name))


class BoolSerializer(Serializer):
    def __init__(self, validators: list[Validator]) -> None:
        super().__init__([NotNone(), IsInstance(bool), *validators])

    def default(self) -> bool:
        return False

    def write(self, node: Any, name: str, value: bool) -> None:
        self.validate(value)
        node.SetParameter(name, "True" if value else "False")

    def read(self, node: Any, name: str) -> bool:
        return bool(node.GetParameter(name) == "True")


class EnumSerializer(Serializer):
    """The name of the member; the default is the first one."""

    def __init__(self, kind: type[enum.Enum], validators: list[Validator]) -> None:
        super().__init__([NotNone(), IsInstance(kind), *validators])
        self.kind = kind

    def default(self) -> enum.Enum:
        return next(iter(self.kind))

    def write(self, node: Any, name: str, value: enum.Enum) -> None:
        self.validate(value)
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> enum.Enum:
        return self.kind[node.GetParameter(name)]


class NodeSerializer(Serializer):
    """A node reference; the empty parameter of the same name says that it has been written."""

    def __init__(self, kind: type, validators: list[Validator]) -> None:
        super().__init__([IsInstance(kind), *validators])

    def default(self) -> None:
        return None

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class NoneSerializer(BoolSerializer):
    def validate(self, value: Any) -> None:
        if value is not None:
            raise TypeError(f"Value must be None, is {value!r}")

    def read(self, node: Any, name: str) -> Any:
        return None


class UnionSerializer(Serializer):
    """Union[A, B, None]: the first member that accepts the value keeps it, under name_<index of the member>."""

    def __init__(self, members: list[Serializer], validators: list[Validator]) -> None:
        super().__init__(validators)
        self._members = members

    def default(self) -> Any:
        return None if isinstance(self._members[-1], NoneSerializer) else self._members[0].default()

    def _index(self, value: Any) -> int:
        for index, member in enumerate(self._members):
            # a node serializer accepts None too, but Slicer leaves None to the None member
            if value is None and isinstance(member, NodeSerializer):
                continue
            try:
                member.validate(value)
                return index
            except (TypeError, ValueError):
                continue
        raise TypeError(f"no member of the union takes {value!r}")

    def is_in(self, node: Any, name: str) -> bool:
        return any(member.is_in(node, f"{name}_{i}") for i, member in enumerate(self._members))

    def write(self, node: Any, name: str, value: Any) -> None:
        self.validate(value)
        index = self._index(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self._members[index].write(node, f"{name}_{index}", value)

    def read(self, node: Any, name: str) -> Any:
        for index, member in enumerate(self._members):
            if member.is_in(node, f"{name}_{index}"):
                return member.read(node, f"{name}_{index}")
        raise KeyError(name)

    def remove(self, node: Any, name: str) -> None:
        for index, member in enumerate(self._members):
            member.remove(node, f"{name}_{index}")


def create(annotated: Any) -> Serializer:
    """The serializer for a (possibly annotated) type.

    Raises:
        TypeError: a type that the stand-in does not store (Slicer's own wrapper also takes lists, dicts and tuples).
    """
    from .pack import PackSerializer, is_pack
    kind, annotations = split_annotations(annotated)
    validators = [a for a in annotations if isinstance(a, Validator)]
    if typing.get_origin(kind) is types.UnionType:
        raise TypeError(f"Slicer's parameter node knows Optional[A] and Union[A, B], not A | B: {annotated!r}")
    if typing.get_origin(kind) is typing.Union:
        return UnionSerializer([create(member) for member in typing.get_args(kind)], validators)
    if kind is type(None):
        return NoneSerializer(validators)
    if kind is bool:
        return BoolSerializer(validators)
    if is_pack(kind):
        return PackSerializer(kind, validators)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return EnumSerializer(kind, validators)
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeSerializer(kind, validators)
    if kind in (int, float, str) or (isinstance(kind, type) and issubclass(kind, pathlib.PurePath)):
        return TextSerializer(kind, validators)
    raise TypeError(f"the parameter node stand-in cannot store {annotated!r}")
