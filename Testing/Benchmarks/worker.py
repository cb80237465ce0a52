"""How fast the worker process starts, works, stops and is found dead."""

from __future__ import annotations

import os
import signal
import statistics
import time

import numpy as np
import worker_testing as wt
from MedImgAILib.core.registry import EXTRA_LIBRARIES
from MedImgAILib.runners import InProcessRunner, Progress, WorkerRunner

from .measuring import interleaved, row, seconds


def rows() -> list[dict]:
    """Start, overhead, cancel and death."""
    os.environ[EXTRA_LIBRARIES] = str(wt.TASKS)
    runner, here = WorkerRunner(), InProcessRunner()
    try:
        return [_cold_start(), *_overhead(runner, here), *_cancel(runner), _death(runner)]
    finally:
        runner.close()
        here.close()


def _cold_start() -> dict:
    times = []
    for _ in range(5):
        runner = WorkerRunner()
        times.append(seconds(lambda: runner.submit(wt.job("double")).wait()))  # noqa: B023
        runner.close()
    return row("worker, cold: first result of a small job", statistics.median(times), "< 3", "s")


def _overhead(runner, here) -> list[dict]:
    result = []
    large = wt.volume((300, 512, 512), np.int16)
    cases = [("a small job", None, 15, "< 0.1"), ("512×512×300 int16 there and back", large, 5, "< 1")]
    for title, image, repeats, goal in cases:
        job = wt.job("double", image=image)
        ours, peer = interleaved(lambda: runner.submit(job).wait(), lambda: here.submit(job).wait(), repeats)  # noqa: B023
        result.append(row(f"worker, warm: added to {title} (peer: in process)", ours - peer, goal, "s", ours, peer))
    job = wt.job("double", image=large)
    blocked = []
    for _ in range(5):
        started = time.perf_counter()
        handle = runner.submit(job)
        blocked.append(time.perf_counter() - started)
        handle.wait()
    result.append(row("worker: caller blocked to submit 512×512×300 int16", statistics.median(blocked), "< 0.5", "s"))
    return result


def _run_until_busy(runner, mode: str):
    handle = runner.submit(wt.job(mode, 1000))
    wt.wait_for(lambda: any(isinstance(e, Progress) and e.fraction > 0 for e in handle.poll()))
    time.sleep(0.2)
    return handle


def _cancel(runner) -> list[dict]:
    result = []
    for title, mode in (("a task that listens", "steps"), ("a library that holds the interpreter", "hold_gil")):
        times = []
        for _ in range(5):
            handle = _run_until_busy(runner, mode)
            started = time.perf_counter()
            handle.cancel()
            wt.events_of(handle)
            times.append(time.perf_counter() - started)
        result.append(row(f"cancel: {title}, slowest of 5", max(times), "< 2", "s"))
    return result


def _death(runner) -> dict:
    times = []
    for _ in range(5):
        handle = _run_until_busy(runner, "steps")
        started = time.perf_counter()
        os.kill(runner.worker_pid, signal.SIGKILL)
        wt.events_of(handle)
        times.append(time.perf_counter() - started)
    return row("worker killed: time to the message, slowest of 5", max(times), "< 1", "s")
