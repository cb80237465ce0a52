"""Runs a download or an import in a thread; a timer on the main thread tells the panel how it goes."""

import logging
import queue
import threading

import qt

from ..core import Cancelled, Context, MedImgAIError

logger = logging.getLogger("MedImgAI")

_INTERVAL_MS = 50


class _Telling(Context):
    """Puts progress and warnings into a queue; asked by the working thread whether to go on."""

    def __init__(self, events, stop):
        super().__init__("cpu")
        self._events, self._stop = events, stop

    def is_cancelled(self):
        return self._stop.is_set()

    def on_progress(self, fraction, message):
        self._events.put(("progress", fraction, message))

    def on_log(self, level, message):
        if level >= logging.WARNING:
            self._events.put(("warning", message))


class ModelJob:
    """One at a time.

    Parameters
    ----------
    on_progress : callable
        ``on_progress(fraction, message)``.
    on_end : callable
        ``on_end(result, error)``: the error is None, a :class:`MedImgAIError`, :class:`Cancelled` or something
        unexpected, which stands in the log already.
    """

    def __init__(self, on_progress, on_end):
        self._on_progress, self._on_end = on_progress, on_end
        self._thread = None
        self._timer = qt.QTimer()
        self._timer.setInterval(_INTERVAL_MS)
        self._timer.connect("timeout()", self.poll)

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def start(self, work):
        """Call ``work(context)`` in a thread."""
        self._events, self._stop = queue.Queue(), threading.Event()
        context = _Telling(self._events, self._stop)
        self._thread = threading.Thread(target=_work, args=(work, context, self._events), daemon=True)
        self._thread.start()
        self._timer.start()

    def cancel(self):
        """Ask the work to stop at its next report."""
        if self.is_running:
            self._stop.set()

    def discard(self):
        """Stop, and tell nobody."""
        self.cancel()
        self._timer.stop()
        self._thread = None

    def poll(self):
        """Handle what came since the last time."""
        progress = None
        while self.is_running:
            try:
                kind, *content = self._events.get_nowait()
            except queue.Empty:
                break
            if kind == "progress":
                progress = content
            elif kind == "warning":
                logger.warning("%s", content[0])
            else:
                self._timer.stop()
                self._thread = None
                self._on_end(*content)
                return
        if progress is not None:
            self._on_progress(*progress)


def _work(work, context, events):
    try:
        events.put(("end", work(context), None))
    except (MedImgAIError, Cancelled) as error:
        events.put(("end", None, error))
    except Exception as error:
        logger.exception("A model could not be fetched.")
        events.put(("end", None, error))
