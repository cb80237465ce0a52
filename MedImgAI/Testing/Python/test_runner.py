"""In process and in the worker: the same events and, bit for bit, the same results."""

import sys
import threading
import time
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import worker_testing as wt
from MedImgAILib.core.errors import InputError, ResourceError
from MedImgAILib.core.registry import EXTRA_LIBRARIES, Registry, registry
from MedImgAILib.runners import (
    Failed,
    Finished,
    InProcessRunner,
    Job,
    Progress,
    Stopped,
    WorkerRunner,
    runner,
    runners,
    shared_worker,
)
from MedImgAILib.runners.execution import describe_error, rebuild_error


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setenv(EXTRA_LIBRARIES, str(wt.TASKS))
    monkeypatch.setattr(sys.modules["MedImgAILib.core.registry"], "_registry", None)
    here = InProcessRunner()
    yield here
    here.close()


@pytest.fixture(scope="module")
def both():
    runners = InProcessRunner(), WorkerRunner()
    yield runners
    for each in runners:
        each.close()


def _assert_same(one, other, path=""):
    assert type(one) is type(other), path
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.shape == other.shape, path
        assert one.tobytes() == other.tobytes(), path
    elif is_dataclass(one):
        for field in fields(one):
            if field.name != "provenance":
                _assert_same(getattr(one, field.name), getattr(other, field.name), f"{path}.{field.name}")
    elif isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            _assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            _assert_same(a, b, f"{path}[{number}]")
    else:
        assert one == other, path


@pytest.mark.parametrize("task", list(registry()), ids=lambda task: task.id)
def test_worker_equals_in_process(task, both):
    if task.missing_packages():
        pytest.skip(f"needs {', '.join(task.missing_packages())}")
    if task.isolated:
        pytest.skip("runs in the worker only")
    inputs, parameters = task.example()
    job = Job(task.id, inputs, parameters, device="cpu", seed=5)
    if task.id.startswith(("train.", "classify.train_robust")):  # only one may work in a training's folder at a time
        here, there = (each.submit(job).wait(timeout=120) for each in both)
    else:
        here, there = (handle.wait(timeout=120) for handle in [each.submit(job) for each in both])
    _assert_same(here, there)
    for name, value in there.items():
        changing = {"started", "finished", "seconds"}
        mine, theirs = ({k: v for k, v in d.provenance.items() if k not in changing} for d in (here[name], value))
        assert mine == theirs


def test_in_process_events(in_process):
    events = wt.events_of(in_process.submit(wt.job("steps", 10)))
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    np.testing.assert_array_equal(events[-1].outputs["result"].array, wt.volume().array * 2)


def test_in_process_submit_does_not_wait_and_keeps_order(in_process):
    started = time.monotonic()
    first, second = (in_process.submit(wt.job("steps", 5)) for _ in range(2))
    assert time.monotonic() - started < 0.1
    second.wait(timeout=10)
    assert isinstance(first.poll()[-1], Finished)


def test_in_process_cancel_running_and_waiting(in_process):
    running, waiting = (in_process.submit(wt.job("steps", 100)) for _ in range(2))
    wt.wait_for(lambda: any(isinstance(e, Progress) for e in running.poll()))
    started = time.monotonic()
    waiting.cancel()
    running.cancel()
    assert isinstance(wt.events_of(running)[-1], Stopped) and isinstance(wt.events_of(waiting)[-1], Stopped)
    assert time.monotonic() - started < 0.5
    wt.assert_works(in_process)


def test_in_process_inputs_cannot_be_written_and_are_not_copied(in_process):
    image = wt.volume()
    last = wt.events_of(in_process.submit(wt.job("write_input", image=image)))[-1]
    assert isinstance(last, Failed) and image.array.flags.writeable
    np.testing.assert_array_equal(image.array, wt.volume().array)


def test_in_process_errors(in_process):
    last = wt.events_of(in_process.submit(wt.job("input_error")))[-1]
    assert type(last.error) is InputError and "upside down" in str(last.error)
    last = wt.events_of(in_process.submit(wt.job("system_exit")))[-1]
    assert "(SystemExit)" in str(last.error)
    wt.assert_works(in_process)


def test_isolated_tasks_are_refused_in_process(in_process):
    registry()["test.misbehave"].isolated = True
    last = wt.events_of(in_process.submit(wt.job("double")))[-1]
    assert isinstance(last.error, ResourceError) and "only in the worker process" in str(last.error)


def test_in_process_close_then_submit(in_process):
    before = set(threading.enumerate())
    handle = in_process.submit(wt.job("steps", 100))
    in_process.close()
    in_process.close()
    assert isinstance(wt.events_of(handle)[-1], Stopped)
    wt.assert_works(in_process)
    in_process.close()
    wt.wait_for(lambda: not {t for t in threading.enumerate() if t.name == "MedImgAI"} - before)


def test_lookup():
    assert list(runners())[0] == "worker"
    assert runner("worker") is shared_worker() is runners()["worker"]
    assert runner("in_process").name == "in_process"
    with pytest.raises(InputError, match="no place to run called 'moon'"):
        runner("moon")


def test_unknown_error_classes_become_the_base_class():
    error = rebuild_error({"kind": "Cancelled", "text": "x"})
    assert type(error).__name__ == "MedImgAIError" and str(error) == "x"
    assert type(rebuild_error(describe_error(InputError("y")))) is InputError


def test_registry_of_extra_folders(monkeypatch, tmp_path, caplog):
    (tmp_path / "broken_tasks").mkdir()
    (tmp_path / "broken_tasks" / "__init__.py").write_text("import nosuchmodule")
    folders = [wt.TASKS, tmp_path / "broken_tasks", tmp_path / "absent"]
    monkeypatch.setenv(EXTRA_LIBRARIES, ":".join(map(str, folders)))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Registry()
    assert found["test.misbehave"].library == "worker_tasks" and "enhance.gaussian" in found.tasks
    assert str(tmp_path / "broken_tasks") in found.failures and str(tmp_path / "absent") in found.failures
