"""Where a result comes from: enough to run it again and get it again."""

from __future__ import annotations

import hashlib
import time
from dataclasses import is_dataclass, replace
from datetime import UTC, datetime

import numpy as np

from .. import __version__
from .geometry import Geometry
from .transforms import Transform


class Stopwatch:
    """Start time (UTC) and elapsed seconds."""

    def __init__(self):
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self._tick = time.perf_counter()

    @property
    def seconds(self) -> float:
        return round(time.perf_counter() - self._tick, 3)


def _source(value):
    """What identifies an input: its name, its node or file if a host told, and the task that made it."""
    if isinstance(value, (list, tuple)):
        return [_source(v) for v in value]
    made = getattr(value, "provenance", {})
    known = {"transform": describe_transform(value)} if isinstance(value, Transform) else {}
    known |= {key: made[key] for key in ("source", "task", "finished") if key in made}
    return {"name": getattr(value, "name", "")} | known


def describe_transform(transform: Transform) -> dict:
    """What tells a transform from others: ``{"matrix": 4 × 4 numbers}``, moving RAS to fixed RAS, or ``{"sha256": …}``.

    The hash is that of the vectors, grids and directions that the transform is made of.
    """
    from .resampling import affine_of

    matrix = affine_of(transform)
    if matrix is not None:
        return {"matrix": np.asarray(matrix, float).tolist()}
    digest = hashlib.sha256()
    for part in _parts(transform):
        digest.update(type(part).__name__.encode())
        for value in vars(part).values():
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
            elif isinstance(value, Geometry):
                digest.update(np.ascontiguousarray(value.ijk_to_ras).tobytes())
            elif isinstance(value, bool):
                digest.update(bytes([value]))
    return {"sha256": digest.hexdigest()}


def _parts(transform):
    parts = getattr(transform, "parts", None)
    return [transform] if parts is None else [leaf for part in parts for leaf in _parts(part)]


def stamp(task, outputs: dict, inputs: dict, parameters: dict, context, watch: Stopwatch) -> dict:
    """``outputs`` with a JSON-able ``provenance`` each.

    Keys: task, version, parameters, inputs, seed, device, models (name → SHA-256), started, finished, seconds, output;
    ``finished_early`` where the user stopped an iteration and kept what was there; ``transforms`` (output name →
    :func:`describe_transform`) where the task found any.
    """
    record = {
        "task": task.id,
        "version": __version__,
        "parameters": {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()},
        "inputs": {k: _source(v) for k, v in inputs.items() if v is not None},
        "seed": context.seed,
        "device": context.device_used,
        "models": dict(context.models),
        "started": watch.started,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": watch.seconds,
    }
    if context.finished_early:
        record["finished_early"] = True
    found = {name: describe_transform(value) for name, value in outputs.items() if isinstance(value, Transform)}
    if found:
        record["transforms"] = found
    stamped = {}
    for name, value in outputs.items():
        assert is_dataclass(value)
        stamped[name] = replace(value, provenance=record | {"output": name})
    return stamped
