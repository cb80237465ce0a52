"""How ``slicer.parameterNodeWrapper`` keeps typed values in a node, and the annotations it understands.

The parameter names and texts are those of Slicer, so that a scene saved there is read here and the other way round.
"""

from __future__ import annotations

import enum
import pathlib
import types
import typing

import slicer
import slicer.util


class Default:
    """Annotation: the value of a parameter that the node does not have yet."""

    def __init__(self, value=None, *, generator=None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator else self._value


class Decimals:
    """Annotation: decimals of the spin box."""

    def __init__(self, value):
        self.value = value


class SingleStep(Decimals):
    """Annotation: step of the spin box."""


class Label(Decimals):
    """Annotation: label in generated forms."""


class Validator:
    """Base of the annotations that refuse a value."""

    def validate(self, value):
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value):
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    def __init__(self, classtype):
        self.classtype = classtype

    def validate(self, value):
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type {self.classtype}, is {type(value)}: {value!r}")


class WithinRange(Validator):
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum):
        self.minimum = minimum

    def validate(self, value):
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum):
        self.maximum = maximum

    def validate(self, value):
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices):
        self.choices = choices

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"Value must be one of {self.choices}, is {value}")


class Exclude(Validator):
    def __init__(self, excludedValues):
        self.excludedValues = excludedValues

    def validate(self, value):
        if value in self.excludedValues:
            raise ValueError(f"Value must not be {value}")


class TextValue:
    """A value stored as one text parameter."""

    def __init__(self, kinds, to_text, from_text, default):
        self.checks = [NotNone(), IsInstance(kinds)]
        self.to_text, self.from_text, self.default = to_text, from_text, default

    def is_in(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        for check in self.checks:
            check.validate(value)
        node.SetParameter(name, self.to_text(value))

    def read(self, node, name):
        return self.from_text(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)


class NodeValue:
    """A node, as a node reference of the parameter's name."""

    default = None

    def __init__(self, kind):
        self.checks = [IsInstance(kind)]

    def is_in(self, node, name):
        return node.HasParameter(name)

    def write(self, node, name, value):
        for check in self.checks:
            check.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class OptionalValue:
    """``X | None``: the parameter ``name.0`` for a value, ``name.1`` for None."""

    default = None

    def __init__(self, inner):
        self.inner = inner

    def is_in(self, node, name):
        return self.inner.is_in(node, f"{name}.0") or node.HasParameter(f"{name}.1")

    def write(self, node, name, value):
        with slicer.util.NodeModify(node):
            if value is not None:
                self.inner.write(node, f"{name}.0", value)
                node.UnsetParameter(f"{name}.1")
            else:
                self.inner.remove(node, f"{name}.0")
                node.SetParameter(f"{name}.1", "True")

    def read(self, node, name):
        return self.inner.read(node, f"{name}.0") if self.inner.is_in(node, f"{name}.0") else None

    def remove(self, node, name):
        self.inner.remove(node, f"{name}.0")
        node.UnsetParameter(f"{name}.1")


class ListValue:
    """``name.len`` and ``name.0``, ``name.1``, …; reading gives a list that writes back when it is changed."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def default(self):
        return []

    def is_in(self, node, name):
        return node.HasParameter(f"{name}.len")

    def length(self, node, name):
        return int(node.GetParameter(f"{name}.len")) if self.is_in(node, name) else 0

    def write(self, node, name, values):
        values, before = list(values), self.length(node, name)
        with slicer.util.NodeModify(node):
            for index, value in enumerate(values):
                self.inner.write(node, f"{name}.{index}", value)
            node.SetParameter(f"{name}.len", str(len(values)))
            for index in range(len(values), before):
                self.inner.remove(node, f"{name}.{index}")

    def read(self, node, name):
        values = [self.inner.read(node, f"{name}.{index}") for index in range(self.length(node, name))]
        return ObservedList(values, lambda changed: self.write(node, name, changed))

    def remove(self, node, name):
        for index in range(self.length(node, name)):
            self.inner.remove(node, f"{name}.{index}")
        node.UnsetParameter(f"{name}.len")


def _writing(method):
    def call(self, *arguments):
        result = getattr(list, method)(self, *arguments)
        self._write(list(self))
        return result

    return call


class ObservedList(list):
    """A list whose changes go to the node."""

    def __init__(self, values, write):
        super().__init__(values)
        self._write = write

    append, extend, insert, remove, pop, clear, sort, reverse, __setitem__, __delitem__, __iadd__ = map(
        _writing,
        ["append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"]
        + ["__setitem__", "__delitem__", "__iadd__"],
    )


def value_for(kind):
    """What stores a value of an annotated type.

    Raises
    ------
    TypeError
        A type the stand-in does not store; Slicer may.
    """
    annotations = ()
    if typing.get_origin(kind) is typing.Annotated:
        kind, annotations = typing.get_args(kind)[0], kind.__metadata__
    stored = _plain_value(kind)
    checks = [entry() if isinstance(entry, type) else entry for entry in annotations if _is_validator(entry)]
    if checks:
        stored.checks = stored.checks + checks
    return stored


def _is_validator(entry) -> bool:
    return isinstance(entry, Validator) or (isinstance(entry, type) and issubclass(entry, Validator))


def _plain_value(kind):
    arguments = typing.get_args(kind)
    if kind is list or typing.get_origin(kind) is list:
        return ListValue(value_for(arguments[0] if arguments else str))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        if len(others) == 1 and len(arguments) == 2:
            return OptionalValue(value_for(others[0]))
    elif kind is bool:
        return TextValue(bool, lambda value: "True" if value else "False", lambda text: text == "True", False)
    elif kind is int:
        return TextValue(int, str, int, 0)
    elif kind is float:
        return TextValue((int, float), str, float, 0.0)
    elif kind is str:
        return TextValue(str, str, str, "")
    elif isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return TextValue(pathlib.PurePath, str, kind, kind())
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        return TextValue(kind, lambda value: value.name, lambda text: kind[text], next(iter(kind)))
    elif isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeValue(kind)
    raise TypeError(f"the stand-in's parameterNodeWrapper does not store {kind}")
