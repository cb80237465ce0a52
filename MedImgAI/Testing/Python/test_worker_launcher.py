"""Inside Slicer ``sys.executable`` is PythonSlicer, a launcher: the real Python is its child."""

import os
import shlex
import signal
import sys
import time

import numpy as np
import pytest
from MedImgAILib.core import Geometry, Volume
from MedImgAILib.core.errors import WorkerDied
from MedImgAILib.runners import Job, WorkerRunner

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="uses a shell script and /proc")


@pytest.fixture
def worker(tmp_path, monkeypatch):
    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n{shlex.quote(sys.executable)} "$@"\nexit $?\n')
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(launcher))
    runner = WorkerRunner()
    yield runner
    runner.close()


def job():
    array = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    return Job("enhance.gaussian", {"image": Volume(array, Geometry(np.eye(4), array.shape))})


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_runs_and_ends_with_the_runner(worker):
    assert "smoothed" in worker.submit(job()).wait(timeout=60)
    pid, started = worker.worker_pid, time.monotonic()
    worker.close()
    assert time.monotonic() - started < 2.0 and not is_alive(pid)


def test_a_killed_worker_is_told_and_replaced(worker):
    worker.submit(job()).wait(timeout=60)
    os.kill(worker.worker_pid, signal.SIGKILL)
    try:
        worker.submit(job()).wait(timeout=60)
    except WorkerDied as error:
        assert "killed" in str(error)
    assert "smoothed" in worker.submit(job()).wait(timeout=60)
