"""Nothing is lost or left behind when the worker, its supervisor or the parent dies."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import worker_testing as wt
from MedImgAILib.core.errors import WorkerDied
from MedImgAILib.core.registry import EXTRA_LIBRARIES
from MedImgAILib.runners import Failed, Log, Progress, WorkerRunner, worker_supervisor
from MedImgAILib.runners.worker_process import environment
from MedImgAILib.runners.workspace import PREFIX, Workspace, remove_data, sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@pytest.fixture(autouse=True)
def tasks(monkeypatch):
    monkeypatch.setenv(EXTRA_LIBRARIES, str(wt.TASKS))


@pytest.fixture
def worker():
    runner = WorkerRunner()
    wt.assert_works(runner)
    yield runner
    runner.close()


def _kill(pid):
    import os

    os.kill(pid, signal.SIGKILL)


def _files(runner):
    return [p for root in runner._workspace.roots for p in root.iterdir() if p.name != "lock"]


@pytest.mark.parametrize(
    ("mode", "count", "text"),
    [("exit", 3, "exit code 3"), ("exit", 0, "exit code 0"), ("segfault", 0, "crashed (SIGSEGV)")],
)
def test_crash_is_one_sentence_and_the_next_job_works(worker, mode, count, text):
    started = time.monotonic()
    last = wt.events_of(worker.submit(wt.job(mode, count)))[-1]
    assert time.monotonic() - started < 1
    assert isinstance(last, Failed) and isinstance(last.error, WorkerDied) and text in str(last.error)
    if mode == "segfault":
        assert "_segfault" in last.details  # the Python stack at the crash
    assert _files(worker) == []
    wt.assert_works(worker)


def test_kill_at_twenty_random_moments(worker):
    image = wt.volume((64, 64, 64), np.float32)
    before = image.array.copy()
    chance = random.Random(20)
    interrupted = 0
    for _ in range(20):
        wt.assert_works(worker)
        handle = worker.submit(wt.job("steps", 12, image))
        time.sleep(chance.uniform(0.0, 0.5))
        started = time.monotonic()
        _kill(worker.worker_pid)
        last = wt.events_of(handle)[-1]
        if isinstance(last, Failed):
            interrupted += 1
            assert isinstance(last.error, WorkerDied) and "was killed" in str(last.error)
            assert time.monotonic() - started < 1
        np.testing.assert_array_equal(image.array, before)
        assert _files(worker) == []
    assert interrupted >= 12  # a kill before the task began is made good with a new worker
    wt.assert_works(worker)


def test_kill_while_idle(worker):
    pid = worker.worker_pid
    _kill(pid)
    wt.wait_for(lambda: worker.worker_pid != pid)
    wt.assert_works(worker)


def test_a_job_handed_to_a_dying_worker_is_given_to_the_next(worker):
    for _ in range(5):
        _kill(worker.worker_pid)
        wt.assert_works(worker)


def test_kill_while_results_are_written(worker):
    image = wt.volume((64, 64, 64), np.uint8)
    chance = random.Random(3)
    for _ in range(6):
        wt.assert_works(worker)
        handle = worker.submit(wt.job("big_output", 600, image))
        wt.wait_for(lambda: any(isinstance(e, Progress) and e.fraction == 1 for e in handle.poll()))  # noqa: B023
        time.sleep(chance.uniform(0.0, 0.1))
        _kill(worker.worker_pid)
        wt.events_of(handle)
        assert _files(worker) == []


def test_queued_jobs_survive_a_crash(worker):
    crash = worker.submit(wt.job("exit", 1))
    later = [worker.submit(wt.job("double")) for _ in range(2)]
    assert isinstance(wt.events_of(crash)[-1], Failed)
    for handle in later:
        np.testing.assert_array_equal(handle.wait(timeout=10)["result"].array, wt.volume().array * 2)


def test_children_of_the_task_end_with_it(worker):
    for cancel in (True, False):
        handle = worker.submit(wt.job("child", 60))
        events = []
        wt.wait_for(lambda: events.extend(handle.poll()) or any("child " in str(e) for e in events))  # noqa: B023
        child = int(next(e.message for e in events if isinstance(e, Log) and "child " in e.message).split()[1])
        assert wt.is_alive(child)
        if cancel:
            handle.cancel()
        else:
            _kill(worker.worker_pid)
        wt.events_of(handle)
        wt.wait_for(lambda: not wt.is_alive(child), 1)  # noqa: B023


def test_supervisor_killed(worker):
    handle = worker.submit(wt.job("hold_gil", 60))
    wt.wait_for(lambda: any(isinstance(e, Progress) and e.fraction > 0 for e in handle.poll()))
    pid = worker.worker_pid
    _kill(worker._process._popen.pid)
    last = wt.events_of(handle, 2)[-1]
    assert isinstance(last.error, WorkerDied)
    assert not wt.is_alive(pid)
    wt.assert_works(worker)


def _parent():
    """A process that runs a job which holds the worker's GIL; its output tells when and where."""
    code = """if True:
        import time
        import worker_testing as wt
        from MedImgAILib.runners import Progress, shared_worker

        runner = shared_worker()
        handle = runner.submit(wt.job("hold_gil", 100))
        while not any(isinstance(e, Progress) and e.fraction > 0 for e in handle.poll()):
            time.sleep(0.01)
        time.sleep(0.3)
        roots = [str(root) for root in runner._workspace.roots]
        print(runner.worker_pid, runner._process._popen.pid, *roots, flush=True)
        input()
    """
    path = str(wt.TASKS.parent)
    env = environment()
    env["PYTHONPATH"] += ":" + path
    parent = subprocess.Popen([sys.executable, "-c", code], env=env, stdin=-1, stdout=-1, text=True)
    worker, supervisor, *roots = parent.stdout.readline().split()
    return parent, int(worker), int(supervisor), [wt.Path(root) for root in roots]


def test_no_process_and_no_file_outlives_a_killed_parent():
    parent, worker, supervisor, roots = _parent()
    assert wt.is_alive(worker) and wt.is_alive(supervisor) and all(root.exists() for root in roots)
    parent.kill()
    parent.communicate()
    wt.wait_for(lambda: not wt.is_alive(worker) and not wt.is_alive(supervisor), 2)
    assert wt.processes_mentioning(str(roots[0])) == []
    assert not any(root.exists() for root in roots)


def test_no_process_and_no_file_outlives_a_parent_that_exits():
    parent, worker, supervisor, roots = _parent()
    parent.communicate("\n", timeout=10)
    assert parent.returncode == 0
    assert not wt.is_alive(worker) and not wt.is_alive(supervisor)
    assert not any(root.exists() for root in roots)


def test_nothing_outside_the_exchange_folders_is_ever_removed(worker, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data.json").write_text('{"arrays": 0, "value": 1}')
    workspace = worker._workspace
    for name in (str(precious), "../precious", "result-../x", "", ".", "lock", "job-1", "result-absent"):
        assert workspace.result_folder(name) is None
    with pytest.raises(ValueError, match="not an exchange folder"):
        remove_data(precious)
    supervisor = [sys.executable, worker_supervisor.__file__, str(precious)]
    subprocess.run(supervisor, stdin=subprocess.DEVNULL, env=environment(), timeout=20, check=True)
    link = workspace.roots[0].parent / f"{PREFIX}link-to-precious"
    link.symlink_to(precious)
    try:
        sweep()
        assert link.is_symlink()
    finally:
        link.unlink()
    assert (precious / "data.json").exists()
    wt.assert_works(worker)


def test_leftovers_are_swept_at_the_next_start_and_others_are_not():
    other = Workspace()
    parent, worker, supervisor, roots = _parent()
    _kill(supervisor)
    parent.kill()
    parent.communicate()
    wt.wait_for(lambda: not wt.is_alive(worker), 2)
    assert all(root.exists() for root in roots)
    mine = Workspace()
    assert not any(root.exists() for root in roots)
    assert all(root.exists() for root in other.roots)
    mine.close()
    other.close()
    assert not any(root.exists() for root in (*mine.roots, *other.roots))
