"""The foundation's figures: cost of going through MRML, the worker process, the demo."""

from __future__ import annotations

from . import adapter_overhead, demo_time, worker


def rows() -> list[dict]:
    """All of them."""
    return [*adapter_overhead.rows(), *worker.rows(), *demo_time.rows()]
