"""What the command says on standard error: progress, warnings, errors, as text or as JSON lines."""

from __future__ import annotations

import json
import logging
import math
import sys

from ..runners import Curve, Log, Progress


class Reporter:
    """Writes events to standard error.

    On a terminal the per cent are rewritten in place; elsewhere a line appears for every ten per cent.

    Parameters
    ----------
    quiet : bool
        Errors only.
    as_json : bool
        One JSON object a line instead of text.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False, stream=None):
        self._quiet, self._as_json = quiet, as_json
        self._stream = sys.stderr if stream is None else stream
        # Slicer's replacement of standard error has no isatty.
        self._terminal = bool(getattr(self._stream, "isatty", bool)()) and not as_json
        self._shown = -1
        self._open_line = False

    def event(self, event):
        """Report a runner's event."""
        if isinstance(event, Progress):
            self._progress(event.fraction, event.message)
        elif isinstance(event, Curve) and self._as_json and not self._quiet:
            for name, x, y in event.points:
                self._line({"event": "curve", "name": name, "x": x, "y": y if math.isfinite(y) else None})
        elif isinstance(event, Log) and not self._quiet:
            level = logging.getLevelName(event.level).lower()
            if self._as_json:
                self._line({"event": "log", "level": level, "message": event.message})
            elif event.level >= logging.WARNING:
                self._line(f"{level.capitalize()}: {event.message}")

    def _progress(self, fraction: float, message: str):
        if self._quiet:
            return
        percent = int(100 * fraction + 1e-9)
        if self._as_json:
            self._line({"event": "progress", "fraction": round(fraction, 4), "message": message})
        elif self._terminal and percent != self._shown:
            self._stream.write(f"\r\x1b[K{percent:3d} % {message}")
            self._stream.flush()
            self._shown, self._open_line = percent, True
        elif not self._terminal and percent // 10 > self._shown // 10:
            self._line(f"{percent:3d} % {message}".rstrip())
            self._shown = percent

    def end(self):
        """Finish a line of progress."""
        if self._open_line:
            self._stream.write("\n")
            self._stream.flush()
            self._open_line = False

    def written(self, path):
        """Report a file."""
        if self._as_json and not self._quiet:
            self._line({"event": "written", "path": str(path)})

    def error(self, message: str):
        """Report the sentence of an error."""
        self._line({"event": "error", "message": message} if self._as_json else f"Error: {message}")

    def _line(self, content):
        self.end()
        text = json.dumps(content, ensure_ascii=False) if isinstance(content, dict) else content
        self._stream.write(text + "\n")
        self._stream.flush()
