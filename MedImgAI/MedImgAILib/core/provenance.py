"""Where a result comes from: enough to run it again and get it again."""

from __future__ import annotations

import time
from dataclasses import is_dataclass, replace
from datetime import UTC, datetime

from .. import __version__


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
    known = {key: made[key] for key in ("source", "task", "finished") if key in made}
    return {"name": getattr(value, "name", "")} | known


def stamp(task, outputs: dict, inputs: dict, parameters: dict, context, watch: Stopwatch) -> dict:
    """``outputs`` with a JSON-able ``provenance`` each.

    Keys: task, version, parameters, inputs, seed, device, models (name → SHA-256), started, finished, seconds, output;
    ``finished_early`` where the user stopped an iteration and kept what was there.
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
    stamped = {}
    for name, value in outputs.items():
        assert is_dataclass(value)
        stamped[name] = replace(value, provenance=record | {"output": name})
    return stamped
