"""Look into an ONNX file before any library does: what it refers to and which operators it wants.

ONNX is a Protocol Buffers message (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). The few fields needed here
are read by their numbers; nothing is imported or run. A graph is data, but it may name files outside of its folder and
operators of foreign libraries: both are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ModelError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Where operators may come from: the standard, and those that the runtime itself brings."""
_FORBIDDEN_OPERATORS = ("EPContext", "PyOp", "PythonOp")
"""They refer to compiled code or files."""
_MOST_DEPTH = 30
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

# Fields that hold messages worth looking into, by message and field number.
_CHILDREN = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}


@dataclass
class OnnxFacts:
    """What a graph refers to: ``files`` outside of itself, ``operators`` as "domain:name"."""

    files: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)


def check_onnx(path: Path) -> OnnxFacts:
    """Look through a file; returns what it refers to.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ModelError
        If it is damaged, or refers to a file outside of its folder or to an operator that is not allowed.
    """
    facts = OnnxFacts()
    try:
        _walk("Model", memoryview(path.read_bytes()), facts, 0)
    except (IndexError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not an ONNX file that can be read ({error}).") from error
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {path}.") from error
    if not facts.operators:
        raise ModelError(f"{path} is not an ONNX file that can be read (it has no operators).")
    for name in sorted(facts.files):
        target = path.parent / name
        if not _PLAIN_NAME.fullmatch(name) or not target.resolve().is_relative_to(path.parent.resolve()):
            raise ModelError(f"{path} refers to '{name[:80]}', which does not lie in its folder; it is not loaded.")
        if not target.is_file():
            raise ModelError(f"{path} needs the file '{name[:80]}' beside it, which is missing.")
    for operator in sorted(facts.operators):
        domain, _, name = operator.partition(":")
        if domain not in DOMAINS or name in _FORBIDDEN_OPERATORS:
            raise ModelError(f"{path} uses the operator '{operator[:80]}', which MedImgAI does not load.")
    return facts


def _walk(kind: str, data: memoryview, facts: OnnxFacts, depth: int):
    if depth > _MOST_DEPTH:
        raise ValueError("it is nested too deeply")
    domain = name = key = value = ""
    for number, content in _fields(data):
        child = _CHILDREN.get(kind, {}).get(number)
        if child and not isinstance(content, int):
            _walk(child, content, facts, depth + 1)
        elif kind == "Node" and number == 4:
            name = _text(content)
        elif kind == "Node" and number == 7:
            domain = _text(content)
        elif kind == "Entry" and number == 1:
            key = _text(content)
        elif kind == "Entry" and number == 2:
            value = _text(content)
    if kind == "Node":
        facts.operators.add(f"{domain}:{name}")
    if kind == "Entry" and key == "location":
        facts.files.add(value)


def _text(content) -> str:
    if isinstance(content, int):
        raise ValueError("a text is missing")
    return bytes(content).decode("utf-8")


def _fields(data: memoryview):
    """``(number, content)`` of each field: bytes where it has a length, else an integer."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        if wire == 0:
            content, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            content, at = 0, at + size
        elif wire == 2:
            size, at = _varint(data, at)
            content, at = data[at : at + size], at + size
        else:
            raise ValueError(f"a field has the wire type {wire}")
        if at > len(data):
            raise ValueError("it ends too early")
        yield number, content


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
