"""Typed parameters of a task, on the standard library alone.

One declaration serves the panel's form, the command line (:meth:`Parameter.parse`), the service
(:meth:`Parameter.schema`) and the documentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from .errors import ParameterError


@dataclass(frozen=True)
class Parameter:
    """A value that the user may set.

    Parameters
    ----------
    name : str
        Identifier; a unit is its suffix (``sigma_mm``).
    title : str
        Text in the form.
    default
        Must satisfy the declaration itself.
    help : str
        One or two sentences for the tooltip.
    unit : str
        Shown behind the value.
    advanced : bool
        Shown in the form's advanced section.
    enabled_when : (name, values), optional
        The parameter matters only while the parameter ``name`` has one of ``values``.
    """

    name: str
    title: str
    default: Any
    help: str = ""
    unit: str = ""
    advanced: bool = field(default=False, kw_only=True)
    enabled_when: tuple[str, tuple] | None = field(default=None, kw_only=True)

    def __post_init__(self):
        object.__setattr__(self, "default", self.check(self.default))

    def check(self, value):
        """Return ``value`` in the parameter's own type.

        Raises
        ------
        ParameterError
            If it is of another type or out of range.
        """
        raise NotImplementedError

    def parse(self, text: str):
        """The value written on a command line.

        Raises
        ------
        ParameterError
            If the text does not denote an allowed value.
        """
        return self.check(text)

    def schema(self) -> dict:
        """JSON Schema of the value (also the service's)."""
        schema = {"title": self.title, "description": self.help, "default": self.default} | self._type_schema()
        return schema | ({"unit": self.unit} if self.unit else {})

    def _type_schema(self) -> dict:
        raise NotImplementedError

    def describe_range(self) -> str:
        """The allowed values in words, for help texts."""
        return ""

    def is_enabled(self, values: dict) -> bool:
        """Whether the parameter matters given the other parameters' values."""
        return self.enabled_when is None or values.get(self.enabled_when[0]) in self.enabled_when[1]

    def _reject(self, value, expected: str):
        raise ParameterError(f"{self.title} must be {expected}, not {value!r}.")


def _with_unit(value, unit: str) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text


@dataclass(frozen=True)
class _NumberParameter(Parameter):
    minimum: float | None = field(default=None, kw_only=True)
    maximum: float | None = field(default=None, kw_only=True)
    step: float | None = field(default=None, kw_only=True)

    def _in_range(self, value):
        below = self.minimum is not None and value < self.minimum
        if below or (self.maximum is not None and value > self.maximum):
            self._reject(value, self.describe_range())
        return value

    def describe_range(self):
        low = None if self.minimum is None else _with_unit(self.minimum, self.unit)
        high = None if self.maximum is None else _with_unit(self.maximum, self.unit)
        if low and high:
            return f"between {low} and {high}"
        return f"at least {low}" if low else f"at most {high}" if high else "any number"

    def _type_schema(self):
        limits = {"minimum": self.minimum, "maximum": self.maximum}
        return {k: v for k, v in limits.items() if v is not None}


@dataclass(frozen=True)
class FloatParameter(_NumberParameter):
    """A real number; ``decimals`` are shown in the form."""

    decimals: int = field(default=2, kw_only=True)

    def check(self, value):
        try:
            number = float(value)
        except (TypeError, ValueError):
            self._reject(value, "a number")
        if isinstance(value, bool) or not math.isfinite(number):
            self._reject(value, "a finite number")
        return self._in_range(number)

    def _type_schema(self):
        return {"type": "number"} | super()._type_schema()


@dataclass(frozen=True)
class IntegerParameter(_NumberParameter):
    """A whole number."""

    def check(self, value):
        try:
            number = float(value)
        except (TypeError, ValueError):
            self._reject(value, "a whole number")
        if isinstance(value, bool) or not math.isfinite(number) or number != int(number):
            self._reject(value, "a whole number")
        return self._in_range(int(number))

    def _type_schema(self):
        return {"type": "integer"} | super()._type_schema()


@dataclass(frozen=True)
class BooleanParameter(Parameter):
    """Yes or no."""

    def check(self, value):
        if isinstance(value, str):
            lowered = value.strip().lower()
            if lowered in ("true", "yes", "on", "1"):
                return True
            if lowered in ("false", "no", "off", "0"):
                return False
        if isinstance(value, bool):
            return value
        self._reject(value, "yes or no")

    def describe_range(self):
        return "yes or no"

    def _type_schema(self):
        return {"type": "boolean"}


@dataclass(frozen=True)
class ChoiceParameter(Parameter):
    """One of several values; ``choices`` maps each value to the text in the form."""

    choices: dict[str, str] = field(default_factory=dict, kw_only=True)

    def check(self, value):
        if value not in self.choices:
            self._reject(value, "one of " + ", ".join(self.choices))
        return value

    def describe_range(self):
        return "one of " + ", ".join(self.choices)

    def _type_schema(self):
        return {"type": "string", "enum": list(self.choices)}


@dataclass(frozen=True)
class TextParameter(Parameter):
    """A text, or with ``kind`` "file", "folder" or "save" a path; ``suffixes`` as in (".json",)."""

    kind: str = field(default="text", kw_only=True)
    suffixes: tuple[str, ...] = field(default=(), kw_only=True)

    def check(self, value):
        if not isinstance(value, str):
            self._reject(value, "a text")
        return value

    def describe_range(self):
        return "" if self.kind == "text" else f"path of a {'folder' if self.kind == 'folder' else 'file'}"

    def _type_schema(self):
        return {"type": "string"}


@dataclass(frozen=True)
class RangeParameter(_NumberParameter):
    """A pair (lower, upper), inclusive.

    Without ``minimum`` and ``maximum`` the form takes them from the voxels of the input named ``bounds_from``.
    """

    bounds_from: str = field(default="", kw_only=True)
    decimals: int = field(default=2, kw_only=True)

    def check(self, value):
        if isinstance(value, str):
            value = value.replace(",", " ").split()
        try:
            lower, upper = (float(v) for v in value)
        except (TypeError, ValueError):
            self._reject(value, "two numbers")
        if not (math.isfinite(lower) and math.isfinite(upper)) or lower > upper:
            self._reject([lower, upper], "two finite numbers, the lower first")
        return (self._in_range(lower), self._in_range(upper))

    def describe_range(self):
        text = super().describe_range()
        return "two numbers, lower first" + ("" if text == "any number" else f", {text}")

    def _type_schema(self):
        return {"type": "array", "items": {"type": "number"} | super()._type_schema(), "minItems": 2, "maxItems": 2}
