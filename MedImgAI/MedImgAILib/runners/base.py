"""What every runner takes and gives.

A runner never touches MRML, Qt or the user's files: it takes a :class:`Job`, and its :class:`Handle` yields
events that the host drains on its own thread and acts upon.
"""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field

from ..core.errors import Cancelled, MedImgAIError


@dataclass(frozen=True)
class Job:
    """One call of a task: everything that is needed to run it, and to run it again."""

    task_id: str
    inputs: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0


class Event:
    """Base of what a handle reports."""


@dataclass(frozen=True)
class Progress(Event):
    """True fraction done, 0…1, and what is being done."""

    fraction: float
    message: str = ""


@dataclass(frozen=True)
class Log(Event):
    """A line for the log; ``level`` as in :mod:`logging`. Warnings are meant for the user."""

    level: int
    message: str


@dataclass(frozen=True)
class Curve(Event):
    """Points of curves to watch, in the order they came: ``(name, x, y)``; see :meth:`Context.curve`."""

    points: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Finished(Event):
    """The last event of a job that succeeded: ``{output name: data}``."""

    outputs: dict


@dataclass(frozen=True)
class Failed(Event):
    """The last event of a job that failed: a sentence for the user (the error's text), the traceback for the log."""

    error: MedImgAIError
    details: str = ""


@dataclass(frozen=True)
class Stopped(Event):
    """The last event of a job that the user cancelled."""


class Handle:
    """A job under way. Its runner calls :meth:`put` from any thread; the host calls the rest."""

    def __init__(self, job: Job):
        self.job = job
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.is_over = False
        """Whether the last event was handed out."""

    def put(self, event: Event):
        self._events.put(event)

    def poll(self) -> list[Event]:
        """The events since the last call, oldest first, without waiting."""
        events = []
        while not self.is_over:
            try:
                events.append(self._take(block=False))
            except queue.Empty:
                break
        return events

    def cancel(self):
        """Ask the job to stop; :class:`Stopped` follows, from a process of its own within 2 s, whatever it is doing.

        Nothing happens if the job is over.
        """
        raise NotImplementedError

    def finish(self):
        """Ask a task that can to end now with its latest whole result; nothing happens if the job is over."""
        raise NotImplementedError

    def wait(self, on_event=None, timeout: float | None = None) -> dict:
        """Block until the job is over and return its outputs.

        Parameters
        ----------
        on_event : callable, optional
            Gets every event as it comes.
        timeout : float, optional
            Seconds after which TimeoutError is raised; the job goes on.

        Raises
        ------
        MedImgAIError
            If the job failed.
        Cancelled
            If it was cancelled.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                event = self._take(timeout=None if end is None else max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise TimeoutError("The job is still running.") from None
            if on_event is not None:
                on_event(event)
            if isinstance(event, Finished):
                return event.outputs
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Stopped):
                raise Cancelled

    def _take(self, block=True, timeout=None) -> Event:
        event = self._events.get(block, timeout)
        self.is_over = isinstance(event, (Finished, Failed, Stopped))
        return event


class Runner:
    """A place where jobs are done."""

    name = ""
    """Identifier stored in settings and offered in the panel."""
    title = ""
    """What the panel shows."""

    def submit(self, job: Job) -> Handle:
        """Start a job and return at once. A job that cannot even start reports :class:`Failed` on its handle."""
        raise NotImplementedError

    def close(self):
        """Stop whatever runs and give back processes and connections; may be called twice."""
