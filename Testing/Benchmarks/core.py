"""The foundation's figures: cost of going through MRML, the worker process, the demo."""

from __future__ import annotations

from . import adapter_overhead, demo_time, worker


def rows() -> list[dict]:
    """All of them."""
    # The worker first: it brings tasks of its own, which this process's registry has to find when it is made.
    return [*worker.rows(), *adapter_overhead.rows(), *demo_time.rows()]
