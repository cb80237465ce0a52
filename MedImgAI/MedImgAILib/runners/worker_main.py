"""The worker process: does one job after the other for :mod:`.worker` and stays warm in between.

It reads JSON lines on standard input: ``{"op": "run", "number", "task", "folder", "device", "seed"}``,
``{"op": "cancel", "number"}`` and ``{"op": "finish", "number"}``, and writes JSON lines: ``ready``, ``started``,
``progress``, ``curve``, ``log``, and at the end of each job ``finished``, ``failed`` or ``stopped``, each with the
job's number. Data travel in folders; see :mod:`.workspace`.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import queue
import sys
import threading
from pathlib import Path

from .base import Curve, Event, Failed, Finished, Job, Log, Progress
from .execution import describe_error, failure, run_job
from .reporting import ReportingContext
from .workspace import RESULT, read_data, write_data


class Channel:
    """The protocol's two pipes, out of reach of libraries that print or read."""

    def __init__(self):
        self._lines = os.fdopen(os.dup(0), "rb")
        self._out = os.dup(1)
        self._lock = threading.Lock()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def __iter__(self):
        return (json.loads(line) for line in self._lines)

    def send(self, **message):
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._out, data) :]


class Worker:
    """Runs jobs on the main thread while another thread listens for cancel."""

    def __init__(self, channel: Channel, roots: list[Path]):
        self._channel = channel
        self._roots = roots
        self._jobs: queue.SimpleQueue[tuple[dict, ReportingContext]] = queue.SimpleQueue()
        self._contexts: dict[int, ReportingContext] = {}

    def listen(self):
        """Take orders until the pipe ends, which means that nobody is left to work for."""
        for order in self._channel:
            number = order["number"]
            if order["op"] == "run":
                context = ReportingContext(
                    lambda event, n=number: self._report(n, event), order["device"], order["seed"]
                )
                context.in_worker = True
                self._contexts[number] = context
                self._jobs.put((order, context))
            elif number in self._contexts:
                context = self._contexts[number]
                context.finish() if order["op"] == "finish" else context.cancel()
        os._exit(0)

    def work(self):
        """Do the jobs in order, for ever."""
        while True:
            order, context = self._jobs.get()
            self._do(order, context)
            del self._contexts[order["number"]]
            gc.collect()  # images caught in reference cycles would hold their memory until the next job

    def _do(self, order: dict, context: ReportingContext):
        number, task = order["number"], order["task"]
        self._channel.send(op="started", number=number)
        importlib.invalidate_caches()  # packages may have been installed meanwhile
        try:
            inputs, parameters = read_data(Path(order["folder"]), writable=False)
            event = run_job(Job(task, inputs, parameters), context, isolated=True)
            if isinstance(event, Finished):
                folder = write_data(event.outputs, self._roots, RESULT)
                self._channel.send(op="finished", number=number, folder=folder.name)
                return
        except Exception as error:
            event = failure(error, task)
        self._report(number, event)

    def _report(self, number: int, event: Event):
        if isinstance(event, Progress):
            self._channel.send(op="progress", number=number, fraction=event.fraction, message=event.message)
        elif isinstance(event, Curve):
            self._channel.send(op="curve", number=number, points=event.points)
        elif isinstance(event, Log):
            self._channel.send(op="log", number=number, level=event.level, message=event.message)
        elif isinstance(event, Failed):
            self._channel.send(op="failed", number=number, error=describe_error(event.error), details=event.details)
        else:
            self._channel.send(op="stopped", number=number)


def die_with_parent_and_before_it():
    """On Linux: end with the supervisor, and be the first that the kernel ends when memory runs out."""
    if sys.platform != "linux":
        return
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    Path("/proc/self/oom_score_adj").write_text("500")


def main():
    """Entry point of the process; its arguments are the folders for results."""
    channel = Channel()
    faulthandler.enable()
    die_with_parent_and_before_it()
    worker = Worker(channel, [Path(root) for root in sys.argv[1:]])
    threading.Thread(target=worker.listen, name="listener", daemon=True).start()
    from ..core.registry import registry

    registry()
    channel.send(op="ready", pid=os.getpid())
    worker.work()


if __name__ == "__main__":
    main()
