"""Validators and annotations of typed parameters, under the names they have in slicer.parameterNodeWrapper."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

__all__ = ["Choice", "Decimals", "Default", "Exclude", "IsInstance", "Maximum", "Minimum", "NotNone", "SingleStep",
           "Validator", "WithinRange", "first_annotation", "split_annotations"]


class Validator:
    """Base class of limits on a parameter's value."""

    def validate(self, value: Any) -> None:
        """Raise ValueError or TypeError when the value is not allowed."""
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    def __init__(self, classtype: Any) -> None:
        self.classtype = classtype

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type {self.classtype}, is {type(value)}: {value!r}")


class WithinRange(Validator):
    """Both ends belong to the range."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices: Sequence[Any]) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value must be one of {list(self.choices)}, is {value!r}")


class Exclude(Validator):
    def __init__(self, excludedValues: Sequence[Any]) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value must not be one of {list(self.excludedValues)}, is {value!r}")


class Decimals:
    """Annotation: decimals of the spin box or slider."""

    def __init__(self, value: int) -> None:
        self.value = value


class SingleStep:
    """Annotation: step of the spin box or slider."""

    def __init__(self, value: float) -> None:
        self.value = value


class Default:
    """Annotation: default value, or a generator called for each default."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


def split_annotations(annotated: Any) -> tuple[Any, tuple[Any, ...]]:
    """Annotated[int, a, b] -> (int, (a, b)); int -> (int, ())."""
    args = get_args(Annotated[annotated, ""])
    return args[0], args[1:-1]


def first_annotation(annotations: Sequence[Any], kind: type) -> Any:
    """The first annotation of a class, or None."""
    return next((a for a in annotations if isinstance(a, kind)), None)
