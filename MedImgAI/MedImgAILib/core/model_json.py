"""Read JSON objects from outside, field by field; every problem is one sentence that names the place."""

from __future__ import annotations

import math
import re

from .errors import ModelError

REQUIRED = object()
"""Default of a field that must be there."""


class Node:
    """A JSON object being read: every problem is a :class:`ModelError` that names the place."""

    def __init__(self, value, where: str):
        if not isinstance(value, dict):
            raise ModelError(f"The model card is wrong at {where or 'its top'}: an object is needed.")
        self._rest = dict(value)
        self._where = where

    def _place(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def take(self, name: str, kind, default=REQUIRED):
        """The field ``name`` of type ``kind`` (a class or tuple of classes)."""
        if name not in self._rest:
            if default is REQUIRED:
                raise ModelError(f"The model card lacks '{self._place(name)}'.")
            return default
        value = self._rest.pop(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(name, f"{type(value).__name__} is the wrong type")
        return value

    def text(self, name: str, pattern: str = r"(?s).*\S.*", default=REQUIRED) -> str:
        """A text that matches ``pattern``; not empty."""
        value = self.take(name, str, default)
        if value is not default and not re.fullmatch(pattern, value):
            self.fail(name, f"'{value[:40]}' is not allowed")
        return value

    def one_of(self, name: str, choices) -> str:
        """A text out of ``choices``."""
        value = self.take(name, str)
        if value not in choices:
            self.fail(name, f"'{value[:40]}' is not one of {', '.join(choices)}")
        return value

    def integer(self, name: str, minimum: int, default=REQUIRED) -> int:
        """A whole number of at least ``minimum``."""
        value = self.take(name, int, default)
        if value < minimum:
            self.fail(name, f"{value} is less than {minimum}")
        return value

    def numbers(self, name: str, count: int, default=REQUIRED) -> tuple[float, ...]:
        """A list of ``count`` finite numbers."""
        value = self.take(name, list, default)
        if value is default:
            return default
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        if len(value) != count or not numeric or not all(math.isfinite(v) for v in value):
            self.fail(name, f"{count} finite numbers are needed")
        return tuple(float(v) for v in value)

    def child(self, name: str) -> Node:
        """The object ``name``."""
        return Node(self.take(name, dict), self._place(name))

    def children(self, name: str) -> list[Node]:
        """The list of objects ``name``; at least one."""
        values = self.take(name, list)
        if not values:
            self.fail(name, "it is empty")
        return [Node(v, f"{self._place(name)}[{n}]") for n, v in enumerate(values)]

    def fail(self, name: str, why: str):
        raise ModelError(f"The model card is wrong at '{self._place(name)}': {why}.")

    def end(self):
        """Refuse fields that nobody took."""
        for name in self._rest:
            self.fail(str(name)[:40], "there is no such field in version 1")


def check_plain(value, where: str, depth: int = 0):
    """Refuse what is not plain JSON of sensible size, or what a configuration language would evaluate.

    Raises
    ------
    ModelError
    """
    if depth > 6:
        raise ModelError(f"The model card is wrong at '{where}': it is nested too deeply.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or key.startswith("_"):
                raise ModelError(f"The model card is wrong at '{where}': '{key}' is not allowed as a name.")
            check_plain(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list):
        if len(value) > 1000:
            raise ModelError(f"The model card is wrong at '{where}': the list is too long.")
        for number, item in enumerate(value):
            check_plain(item, f"{where}[{number}]", depth + 1)
    elif isinstance(value, str):
        if len(value) > 200 or value[:1] in ("$", "@", "%"):
            raise ModelError(f"The model card is wrong at '{where}': expressions and references are not allowed.")
    elif isinstance(value, bool) or value is None:
        return
    elif not isinstance(value, (int, float)):
        raise ModelError(f"The model card is wrong at '{where}': {type(value).__name__} is not plain JSON.")
    elif not abs(value) <= 1e6:
        raise ModelError(f"The model card is wrong at '{where}': a number of at most a million is needed.")
