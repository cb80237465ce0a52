"""Task data as JSON plus arrays, for pipes, memory maps and the network.

Only the classes named here can be decoded, so a description from outside cannot run code.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from . import data, raw, terminology, transforms
from .errors import InputError
from .geometry import Geometry

_CLASSES = {
    c.__name__: c
    for c in (
        Geometry,
        data.Display,
        data.Volume,
        data.Segment,
        data.Segmentation,
        data.Points,
        data.Table,
        data.Series,
        data.Plot,
        data.Text,
        data.Sequence,
        terminology.Code,
        terminology.Terminology,
        transforms.LinearTransform,
        transforms.DisplacementTransform,
        transforms.BSplineTransform,
        transforms.CompositeTransform,
        raw.ScanGeometry,
        raw.Projections,
        raw.KSpace,
    )
}
_SMALL = 64
"""Arrays of at most this many float64 or integer elements stand in the JSON itself."""


def encode(value, arrays: list[np.ndarray]):
    """JSON-able description of ``value``; its large arrays are appended to ``arrays``.

    Raises
    ------
    TypeError
        For anything but task data, containers, text, numbers and None.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.size <= _SMALL and value.dtype in (np.float64, np.int64):
            return {"$numbers": value.tolist(), "dtype": value.dtype.name, "shape": list(value.shape)}
        if value.dtype.hasobject:
            raise TypeError("Arrays of Python objects cannot be sent.")
        arrays.append(value)
        return {"$array": len(arrays) - 1}
    if isinstance(value, tuple):
        return {"$tuple": [encode(v, arrays) for v in value]}
    if isinstance(value, list):
        return [encode(v, arrays) for v in value]
    if isinstance(value, dict):
        return {"$dict": [[str(k), encode(v, arrays)] for k, v in value.items()]}
    if _CLASSES.get(type(value).__name__) is type(value):
        return {"$type": type(value).__name__} | {f.name: encode(getattr(value, f.name), arrays) for f in fields(value)}
    raise TypeError(f"A {type(value).__name__} cannot be sent.")


def decode(description, arrays: list[np.ndarray]):
    """The value that :func:`encode` described.

    Raises
    ------
    InputError
        If the description is damaged or names anything outside the allowed classes.
    """
    try:
        return _decode(description, arrays)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"A data description is damaged ({error}).") from error


def _decode(node, arrays):
    if isinstance(node, list):
        return [_decode(v, arrays) for v in node]
    if not isinstance(node, dict):
        return node
    if "$numbers" in node:
        if node["dtype"] not in ("float64", "int64"):
            raise ValueError("unexpected number type")
        return np.array(node["$numbers"], dtype=node["dtype"]).reshape(node["shape"])
    if "$array" in node:
        return arrays[int(node["$array"])]
    if "$tuple" in node:
        return tuple(_decode(v, arrays) for v in node["$tuple"])
    if "$dict" in node:
        return {k: _decode(v, arrays) for k, v in node["$dict"]}
    cls = _CLASSES[node["$type"]]
    return cls(**{k: _decode(v, arrays) for k, v in node.items() if k != "$type"})
