"""Starts the worker process through its supervisor, and ends it; the parent's side of the pipes."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..core.registry import LIBRARIES
from . import worker_supervisor

_MOST_LINES = 2000
"""Lines of native output passed on per job; a library that prints more is heard no further."""
_LONGEST_LINE = 2000
_SUPERVISOR_FLAGS = () if os.name == "nt" else ("-S",)
"""Without site-packages it starts sooner; on Windows Slicer's sitecustomize is what makes ctypes find its libraries."""


def environment() -> dict[str, str]:
    """This process's environment with the MedImgAI libraries on the Python path."""
    folders = []
    for library in LIBRARIES:
        spec = importlib.util.find_spec(library)
        for location in spec.submodule_search_locations if spec else ():
            folders.append(str(Path(location).resolve().parent))
    if os.environ.get("PYTHONPATH"):
        folders.append(os.environ["PYTHONPATH"])
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(folders)), "PYTHONUNBUFFERED": "1"}


class WorkerProcess:
    """A running worker.

    Parameters
    ----------
    roots : list of Path
        Folders for exchange; the supervisor removes them when this process is gone.
    on_message, on_output, on_end : callable
        Called from reader threads with each message, with each line that a library printed, and at the end.

    Raises
    ------
    OSError
        If the process cannot be started.
    """

    def __init__(self, roots: list[Path], on_message: Callable, on_output: Callable, on_end: Callable):
        self.worker_pid: int | None = None
        self.tail: deque[str] = deque(maxlen=60)
        """The last lines that the worker printed."""
        self.lines_left = _MOST_LINES
        options = {"creationflags": 0x08000000} if os.name == "nt" else {"start_new_session": True}
        self._popen = subprocess.Popen(
            [sys.executable, *_SUPERVISOR_FLAGS, worker_supervisor.__file__, *map(str, roots)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment(),
            **options,
        )
        self._on_message, self._on_output, self._on_end = on_message, on_output, on_end
        self._stderr_reader = threading.Thread(target=self._read_output, name="MedImgAI worker output", daemon=True)
        self._stderr_reader.start()
        threading.Thread(target=self._read_messages, name="MedImgAI worker messages", daemon=True).start()

    def send(self, **order):
        """Send one line; OSError where the process is gone. Lines are short, so this does not block."""
        self._popen.stdin.write(json.dumps(order).encode() + b"\n")

    def allow_output(self):
        """Begin to pass on printed lines anew, for the next job."""
        self.lines_left = _MOST_LINES

    def kill(self):
        """End the worker and all that it started; returns when that is done, in well under a second."""
        with suppress(OSError):  # the supervisor has gone already
            self._popen.stdin.write(worker_supervisor.KILL)
        try:
            self._popen.wait(0.4)
        except subprocess.TimeoutExpired:
            self._kill_by_force()
            self._popen.wait(1)
        self._popen.stdin.close()

    def _kill_by_force(self):
        if os.name == "nt":
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(self._popen.pid)], capture_output=True, check=False)
            return
        for group in filter(None, (self.worker_pid, self._popen.pid)):
            try:
                os.killpg(group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue  # gone already

    def _read_messages(self):
        with self._popen.stdout as lines:
            buffered = open(lines.fileno(), "rb", closefd=False)  # noqa: SIM115
            for line in buffered:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # an empty line, or one that the worker was writing when it died
                if message["op"] == "ready":
                    self.worker_pid = message["pid"]
                elif message["op"] == "died":
                    self._stderr_reader.join(0.2)
                self._on_message(self, message)
        self._popen.wait()
        self._on_end(self)

    def _read_output(self):
        with self._popen.stderr as stream:
            rest = b""
            while chunk := os.read(stream.fileno(), 1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    lines, rest = [*lines, rest], b""
                self._pass_on(lines)
            self._pass_on([rest])

    def _pass_on(self, lines: list[bytes]):
        for raw in lines:
            # Progress bars rewrite their line after a carriage return: what stands last counts.
            line = raw.rstrip().rsplit(b"\r", 1)[-1][-_LONGEST_LINE:].decode(errors="replace")
            if not line:
                continue
            self.tail.append(line)
            self.lines_left -= 1
            if self.lines_left > 0:
                self._on_output(self, line)
            elif self.lines_left == 0:
                self._on_output(self, "(further output is left out)")
