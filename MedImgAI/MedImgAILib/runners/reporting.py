"""The context that reports to a runner: throttled progress, log lines, a cancel flag."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..core.context import Context
from .base import Curve, Event, Log, Progress

INTERVAL_S = 0.05
"""Least time between two progress events in the long run; hosts redraw no faster."""
BURST = 8
"""How many may come at once after a pause, so that the name of a step is out before a library goes silent."""


class ReportingContext(Context):
    """Sends what a task reports to ``send`` and stops the task once :meth:`cancel` was called.

    One progress event per :data:`INTERVAL_S` is sent, after a pause :data:`BURST` more; the latest one always is:
    at the latest one interval after it was reported, or with :meth:`flush`. Points of curves are gathered as long.

    Parameters
    ----------
    send : callable
        Takes :class:`Progress`, :class:`Curve` and :class:`Log`, from the task's thread or a timer's.
    device, seed
        See :class:`Context`.
    """

    def __init__(self, send: Callable[[Event], None], device: str = "auto", seed: int = 0):
        super().__init__(device, seed)
        self._send = send
        self._cancelled = threading.Event()
        self._finishing = threading.Event()
        self._lock = threading.Lock()
        self._pending: Progress | None = None
        self._points: list[tuple[str, float, float]] = []
        self._timer: threading.Timer | None = None
        self._next_at = float("-inf")

    def cancel(self):
        """Make the task stop at its next report or check; from any thread."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def finish(self):
        """Let the task end with what it has, if it can; from any thread."""
        self._finishing.set()

    def is_finishing(self) -> bool:
        return self._finishing.is_set()

    def on_progress(self, fraction: float, message: str):
        with self._lock:
            self._pending = Progress(fraction, message)
            self._send_in_time()

    def on_curve(self, name: str, x: float, y: float):
        with self._lock:
            self._points.append((name, x, y))
            self._send_in_time()

    def on_log(self, level: int, message: str):
        self.flush()
        self._send(Log(level, message))

    def flush(self):
        """Send what is held back; nothing is sent later by itself."""
        with self._lock:
            self._send_pending()

    def _send_in_time(self):
        wait = self._next_at - time.monotonic()
        if wait <= 0:
            self._send_pending()
        elif self._timer is None:
            self._timer = threading.Timer(wait, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def _send_pending(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending is not None or self._points:
            if self._points:
                self._send(Curve(tuple(self._points)))
                self._points.clear()
            if self._pending is not None:
                self._send(self._pending)
                self._pending = None
            self._next_at = max(self._next_at, time.monotonic() - BURST * INTERVAL_S) + INTERVAL_S
