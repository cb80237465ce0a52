"""Helpers of the runner tests."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from MedImgAILib.core import Geometry, Volume
from MedImgAILib.runners import Finished, Job

TASKS = Path(__file__).with_name("worker_tasks")


def volume(shape=(6, 5, 4), dtype=np.int16) -> Volume:
    """Consecutive numbers on a plain grid."""
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    return Volume(array, Geometry.from_spacing(shape[:3], (1.0, 1.0, 2.0)), name="input")


def job(mode: str, count: int = 20, image: Volume | None = None) -> Job:
    """A job for the misbehaving task."""
    return Job("test.misbehave", {"image": image or volume()}, {"mode": mode, "count": count})


def events_of(handle, timeout: float = 30.0) -> list:
    """All events of a job, waiting for the last."""
    events = []
    end = time.monotonic() + timeout
    while not handle.is_over:
        events += handle.poll()
        assert time.monotonic() < end, f"no last event within {timeout} s, only {events}"
        time.sleep(0.002)
    return events


def wait_for(condition, timeout: float = 10.0):
    """Poll until ``condition()`` is true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def assert_works(runner):
    """The runner does a job rightly."""
    last = events_of(runner.submit(job("double")))[-1]
    assert isinstance(last, Finished), last
    np.testing.assert_array_equal(last.outputs["result"].array, volume().array * 2)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def processes_mentioning(text: str) -> list[int]:
    """Ids of live processes that have ``text`` in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if text in command and is_alive(int(folder.name)):
                found.append(int(folder.name))
    return found
