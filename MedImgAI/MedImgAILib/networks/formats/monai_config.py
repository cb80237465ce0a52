"""Values of a MONAI bundle's configuration, without the evaluation that MONAI's own parser does.

The language (https://docs.monai.io/en/stable/config_syntax.html): ``@name#part`` refers to another entry, ``$…`` is a
Python expression, ``%file#name`` another file. References are followed. Of expressions only arithmetic, comparison,
choice and lists of plain values and references are understood; whatever else one says is not run but refused.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from pathlib import Path

from ...core import MissingPackageError, ModelError

_REFERENCE = re.compile(r"@([A-Za-z_][\w]*(?:(?:#|::)[\w]+)*)")
_MOST_DEPTH = 40
_MOST_STEPS = 200_000
_LARGEST = 4 << 20
_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARE = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_LONGEST = 100_000
"""Length of a text or list, and size of a number, that an expression may make."""


class Config:
    """A configuration file's entries; :meth:`get` gives their plain values.

    Parameters
    ----------
    content : dict
    where : str
        For messages.
    """

    def __init__(self, content: dict, where: str):
        self.content, self.where, self._steps = content, where, 0

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read JSON or YAML (only its plain values).

        Raises
        ------
        ModelError
            If the file is damaged or is no object.
        MissingPackageError
            If it is YAML and PyYAML is not installed.
        """
        try:
            if path.stat().st_size > _LARGEST:
                raise ModelError(f"The configuration {path} is larger than 4 MB.")
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix == ".json" else _yaml(text)
        except FileNotFoundError as error:
            raise ModelError(f"The bundle has no {path.name}.") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The configuration {path} cannot be read ({str(error)[:120]}).") from error
        if not isinstance(content, dict):
            raise ModelError(f"The configuration {path} is not an object.")
        return cls(content, path.name)

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def get(self, name: str, default=None):
        """The entry ``name`` with all references followed."""
        return self.value(self.content[name]) if name in self.content else default

    def value(self, value, depth: int = 0):
        """``value`` with references and simple expressions replaced.

        Raises
        ------
        ModelError
            If it takes an expression that is not understood.
        """
        self._steps += 1
        if depth > _MOST_DEPTH or self._steps > _MOST_STEPS:
            raise ModelError(f"The bundle's {self.where} refers to itself or is too large.")
        if isinstance(value, dict):
            return {k: self.value(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(v, depth + 1) for v in value]
        if not isinstance(value, str):
            return value
        if value.startswith("%"):
            self._refuse(value)
        if value.startswith("$"):
            return self._expression(value, depth)
        match = _REFERENCE.fullmatch(value)
        return self._follow(match.group(1), depth) if match else value

    def _follow(self, reference: str, depth: int):
        found = self.content
        for part in re.split("#|::", reference):
            if isinstance(found, str):
                found = self.value(found, depth + 1)
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise ModelError(f"The bundle's {self.where} refers to '{reference}', which is not there.") from error
        return self.value(found, depth + 1)

    def _expression(self, text: str, depth: int):
        names = {}

        def named(match):
            names[f"_{len(names)}_"] = match.group(1)
            return f"_{len(names) - 1}_"

        try:
            tree = ast.parse(_REFERENCE.sub(named, text[1:].strip()), mode="eval").body
            return self._node(tree, names, text, depth)
        except (SyntaxError, ValueError, RecursionError, ArithmeticError, TypeError, LookupError):
            self._refuse(text)

    def _node(self, node, names: dict, text: str, depth: int):
        def of(child):
            return self._node(child, names, text, depth)

        match node:
            case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
                return value
            case ast.Name(id=name) if name in names:
                return self._follow(names[name], depth)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [of(item) for item in items]
            case ast.IfExp(test=test, body=body, orelse=otherwise):
                return of(body) if of(test) else of(otherwise)
            case ast.BinOp(left=left, op=kind, right=right) if type(kind) in _BINARY:
                values = of(left), of(right)
                if not isinstance(kind, ast.Add) and not all(isinstance(v, (int, float)) for v in values):
                    self._refuse(text)
                return self._bounded(_BINARY[type(kind)](*values), text)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -of(operand)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not of(operand)
            case ast.Compare(left=left, ops=[kind], comparators=[right]) if type(kind) in _COMPARE:
                return _COMPARE[type(kind)](of(left), of(right))
            case ast.Subscript(value=value, slice=key):
                return of(value)[of(key)]
            case ast.Call(func=ast.Name(id="len"), args=[argument], keywords=[]):
                return len(of(argument))
        self._refuse(text)

    def _bounded(self, value, text: str):
        size = len(value) if isinstance(value, (str, list)) else abs(value) if isinstance(value, (int, float)) else 0
        if size > _LONGEST:
            self._refuse(text)
        return value

    def _refuse(self, text: str):
        raise ModelError(f"The bundle's {self.where} says '{text[:80]}', which MedImgAI does not run.")


def _yaml(text: str):
    try:
        import yaml
    except ImportError as error:
        raise MissingPackageError(
            "Configurations in YAML need PyYAML, which is not installed.", ("pyyaml>=6",)
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
