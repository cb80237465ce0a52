"""Fair timing and the form of a result."""

from __future__ import annotations

import math
import operator
import statistics
import time
from collections.abc import Callable

_COMPARISONS = {"<": operator.lt, "≤": operator.le, ">": operator.gt, "≥": operator.ge, "=": operator.eq}


def row(figure: str, value: float, goal: str, unit: str, ours=None, peer=None) -> dict:
    """One line of a benchmark's table.

    Parameters
    ----------
    figure : str
        What was measured, and against whom.
    value : float
        What is compared with the goal.
    goal : str
        A comparison and a number: "< 2".
    unit : str
        Of ``value`` and the goal.
    ours, peer : float, optional
        The two measurements behind ``value``, in the same unit or, behind a ratio, in seconds; ``ours`` is ``value``
        where there is no peer.
    """
    comparison, limit = goal.split()
    met = value is not None and math.isfinite(value) and _COMPARISONS[comparison](value, float(limit))
    return {
        "figure": figure,
        "ours": value if ours is None else ours,
        "peer": peer,
        "value": value,
        "goal": goal,
        "unit": unit,
        "met": bool(met),
    }


def seconds(function: Callable) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def interleaved(ours: Callable, peer: Callable, repeats: int = 7) -> tuple[float, float]:
    """Median wall times in seconds of two functions that take turns, so that a busy moment hits both.

    Each is called once before, uncounted, and every other turn the peer goes first.
    """
    times: dict[Callable, list[float]] = {ours: [], peer: []}
    seconds(ours), seconds(peer)
    for turn in range(repeats):
        for function in (ours, peer) if turn % 2 else (peer, ours):
            times[function].append(seconds(function))
    return statistics.median(times[ours]), statistics.median(times[peer])
