"""Follows a running job from the main thread: a timer drains its events, so nothing else crosses threads."""

import logging
import time

import qt

from ..runners.base import Curve, Failed, Finished, Log, Progress, Stopped

logger = logging.getLogger("MedImgAI")

_INTERVAL_MS = 50


class JobMonitor:
    """One job at a time.

    Parameters
    ----------
    on_progress : callable
        ``on_progress(fraction, message, seconds left or None)``.
    on_log : callable
        ``on_log(level, message)``.
    on_curve : callable
        ``on_curve(points)`` with the new points of live curves; see :class:`..runners.base.Curve`.
    on_end : callable
        ``on_end(event)`` with the last event: Finished, Failed or Stopped. No other callback follows.
    """

    def __init__(self, on_progress, on_log, on_curve, on_end):
        self._on_progress, self._on_log, self._on_curve, self._on_end = on_progress, on_log, on_curve, on_end
        self._handle = None
        self._is_cancelling = self._is_finishing = False
        self._timer = qt.QTimer()
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.connect("timeout()", self.poll)

    @property
    def is_running(self) -> bool:
        return self._handle is not None

    @property
    def is_cancelling(self) -> bool:
        return self._is_cancelling

    @property
    def is_finishing(self) -> bool:
        return self._is_finishing

    def start(self, handle):
        """Follow a job that was just submitted."""
        self._handle = handle
        self._is_cancelling = self._is_finishing = False
        self._started = time.monotonic()
        self._timer.start()

    def cancel(self):
        """Ask the job to stop; its result, should it still come, is dropped."""
        if self._handle is not None and not self._is_cancelling:
            self._is_cancelling = True
            self._handle.cancel()

    def finish(self):
        """Ask the job to end with what it has."""
        if self._handle is not None and not self._is_finishing:
            self._is_finishing = True
            self._handle.finish()

    def discard(self):
        """Stop the job and hear no more of it."""
        handle, self._handle = self._handle, None
        self._timer.stop()
        if handle is not None:
            handle.cancel()

    def poll(self):
        """Act on what happened since the last call."""
        handle = self._handle
        if handle is None:
            return
        for event in handle.poll():
            if self._handle is not handle:
                return
            if isinstance(event, Progress):
                self._on_progress(event.fraction, event.message, self._remaining(event.fraction))
            elif isinstance(event, Curve):
                self._on_curve(event.points)
            elif isinstance(event, Log):
                self._on_log(event.level, event.message)
            elif isinstance(event, (Finished, Failed, Stopped)):
                self._handle = None
                self._timer.stop()
                self._on_end(Stopped() if self._is_cancelling else event)

    def _remaining(self, fraction: float) -> float | None:
        """Seconds left if the rest goes as the part done; None while that is a guess."""
        elapsed = time.monotonic() - self._started
        if elapsed < 1.0 or fraction < 0.02:
            return None
        return elapsed * (1.0 - fraction) / fraction


def duration_text(seconds: float) -> str:
    """A duration in words: ``8 s``, ``2 min 10 s``, ``1 h 5 min``."""
    seconds = max(1, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
