"""Runners: the same job description in, the same events out, wherever the work is done.

A host asks for a runner by name. Another place to run is a :class:`Runner` subclass and a line in ``_FACTORIES``;
neither tasks nor panels change.
"""

from __future__ import annotations

import atexit

from ..core.errors import InputError
from .base import Curve, Event, Failed, Finished, Handle, Job, Log, Progress, Runner, Stopped
from .inprocess import InProcessRunner
from .worker import WorkerRunner

__all__ = [
    "Curve",
    "Event",
    "Failed",
    "Finished",
    "Handle",
    "InProcessRunner",
    "Job",
    "Log",
    "Progress",
    "Runner",
    "Stopped",
    "WorkerRunner",
    "runner",
    "runners",
    "shared_worker",
]

_FACTORIES = {factory.name: factory for factory in (WorkerRunner, InProcessRunner)}
_shared: dict[str, Runner] = {}


def runners() -> dict[str, Runner]:
    """This process's runners by name, the default first; none starts anything before it is used."""
    if not _shared:
        _shared.update({name: factory() for name, factory in _FACTORIES.items()})
        atexit.register(_close)
    return dict(_shared)


def runner(name: str) -> Runner:
    """The runner of this name, shared by all who ask in this process.

    Raises
    ------
    InputError
        If there is none.
    """
    known = runners()
    if name not in known:
        raise InputError(f"There is no place to run called '{name}' (there are: {', '.join(known)}).")
    return known[name]


def shared_worker() -> WorkerRunner:
    """The worker process that all panels share."""
    return runner(WorkerRunner.name)


def _close():
    for each in _shared.values():
        each.close()
