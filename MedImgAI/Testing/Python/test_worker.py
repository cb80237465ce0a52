"""What the worker process promises while it lives: events, results, cancel, order, errors."""

import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import worker_testing as wt
from MedImgAILib.core.errors import InputError, MedImgAIError, MissingPackageError, ResourceError
from MedImgAILib.core.registry import EXTRA_LIBRARIES
from MedImgAILib.runners import Failed, Finished, Job, Log, Progress, Stopped, WorkerRunner, workspace


@pytest.fixture(scope="module")
def worker():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EXTRA_LIBRARIES, str(wt.TASKS))
        runner = WorkerRunner()
        yield runner
        roots = runner._workspace.roots
        runner.close()
        assert not any(root.exists() for root in roots)


def test_progress_is_true_ordered_and_complete(worker):
    events = wt.events_of(worker.submit(wt.job("steps", 10)))
    progress = [e for e in events if isinstance(e, Progress)]
    fractions = [e.fraction for e in progress]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    for event in progress:
        if event.message.startswith("step"):
            assert event.fraction == pytest.approx(int(event.message.split()[1]) / 10)
    assert isinstance(events[-1], Finished) and not any(isinstance(e, Finished) for e in events[:-1])


def test_progress_arrives_while_the_task_runs(worker):
    wt.assert_works(worker)
    handle = worker.submit(wt.job("steps", 20))
    time.sleep(0.5)
    fractions = [e.fraction for e in handle.poll() if isinstance(e, Progress)]
    assert 0.3 < fractions[-1] < 0.7
    handle.wait()


def test_reports_are_throttled_but_the_last_is_delivered(worker):
    wt.assert_works(worker)
    started = time.monotonic()
    events = wt.events_of(worker.submit(wt.job("many_reports", 20000)))
    seconds = time.monotonic() - started
    progress = [e for e in events if isinstance(e, Progress)]
    assert len(progress) <= 20 * seconds + 10
    assert "step 19999" in [e.message for e in progress]  # held back, sent during the pause that follows


@pytest.mark.parametrize("mode", ["steps", "hold_gil", "ignore_cancel"])
def test_cancel_within_two_seconds_and_next_job_works(worker, mode):
    wt.assert_works(worker)
    handle = worker.submit(wt.job(mode, 100))
    wt.wait_for(lambda: any(isinstance(e, Progress) and e.fraction > 0 for e in handle.poll()))
    time.sleep(0.3)
    started = time.monotonic()
    handle.cancel()
    events = wt.events_of(handle)
    assert isinstance(events[-1], Stopped)
    assert time.monotonic() - started < (0.5 if mode == "steps" else 2.0)
    wt.assert_works(worker)


def test_cancel_before_the_worker_is_up(worker):
    worker.restart()
    handle = worker.submit(wt.job("steps", 100))
    handle.cancel()
    started = time.monotonic()
    assert isinstance(wt.events_of(handle)[-1], Stopped)
    assert time.monotonic() - started < 2
    wt.assert_works(worker)


def test_cancel_after_the_end_does_nothing(worker):
    handle = worker.submit(wt.job("double"))
    handle.wait()
    handle.cancel()
    wt.assert_works(worker)
    assert handle.poll() == []


def test_queued_jobs_run_in_order_and_can_be_cancelled(worker):
    first = worker.submit(wt.job("steps", 10))
    second = worker.submit(wt.job("steps", 100))
    third = worker.submit(wt.job("double"))
    second.cancel()
    assert isinstance(wt.events_of(second, 1.0)[-1], Stopped)
    assert not first.is_over
    third.wait(timeout=10)
    assert isinstance(first.poll()[-1], Finished)  # was over before the third


def test_two_submitters_get_their_own_results(worker):
    failures = []

    def submit_some(offset):
        for n in range(15):
            image = wt.volume()
            image = image.with_array(image.array + 100 * offset + n, name="input")
            result = worker.submit(wt.job("double", image=image)).wait(timeout=30)["result"]
            if not np.array_equal(result.array, image.array * 2):
                failures.append((offset, n))

    threads = [threading.Thread(target=submit_some, args=(offset,)) for offset in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_submit_takes_a_snapshot(worker):
    blocker = worker.submit(wt.job("steps", 4))
    image = wt.volume()
    image = image.with_array(image.array.copy(), name="input")
    handle = worker.submit(wt.job("double", image=image))
    image.array[...] = -1
    blocker.wait()
    np.testing.assert_array_equal(handle.wait()["result"].array, wt.volume().array * 2)


def test_native_output_goes_to_the_log_and_harms_nothing(worker):
    events = wt.events_of(worker.submit(wt.job("noise")))
    assert isinstance(events[-1], Finished)
    np.testing.assert_array_equal(events[-1].outputs["result"].array, wt.volume().array * 2)
    # The lines come by another pipe, so some may come after the end; the tail has them all.
    process = worker._process
    for text in ("from print", '{"op": "finished"', "from puts", "from a child", "whole bar"):
        wt.wait_for(lambda t=text: any(line.startswith(t) for line in process.tail), 2)


def test_a_flood_of_output_is_cut(worker):
    events = wt.events_of(worker.submit(wt.job("flood", 30_000)))
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(e, Log) for e in events) <= 2001
    wt.assert_works(worker)


@pytest.mark.parametrize(
    ("mode", "kind", "text"),
    [
        ("value_error", MedImgAIError, "'Misbehave' stopped on an unexpected error (ValueError)"),
        ("system_exit", MedImgAIError, "(SystemExit)"),
        ("write_input", MedImgAIError, "(ValueError)"),
        ("not_task_data", MedImgAIError, "(TypeError)"),
        ("input_error", InputError, "The image is upside down."),
        ("missing_package", MissingPackageError, "It needs a package."),
        ("memory_error", ResourceError, "not enough memory for 'Misbehave'"),
        ("allocate", ResourceError, "not enough memory for 'Misbehave'"),
    ],
)
def test_errors_cross_the_pipe(worker, mode, kind, text):
    last = wt.events_of(worker.submit(wt.job(mode)))[-1]
    assert isinstance(last, Failed) and type(last.error) is kind
    assert text in str(last.error) and "\n" not in str(last.error)
    if mode == "value_error":
        assert "misbehaving.py" in last.details and "an inner matter" in last.details
    if mode == "missing_package":
        assert last.error.requirements == ("nosuch>=1",)
    wt.assert_works(worker)


def test_checks_before_running(worker):
    def error_of(job):
        return wt.events_of(worker.submit(job))[-1].error

    assert "no task 'test.nosuch'" in str(error_of(replace(wt.job("double"), task_id="test.nosuch")))
    assert "Mode must be one of" in str(error_of(wt.job("nonsense")))
    assert "cannot be sent" in str(error_of(replace(wt.job("double"), inputs={"image": object()})))


def test_results_may_be_written_and_outlive_the_runner():
    runner = WorkerRunner()
    image = wt.volume((40, 50, 60), np.float32)
    result = runner.submit(Job("enhance.gaussian", {"image": image}, {"sigma_mm": 0.0})).wait()["smoothed"]
    runner.close()
    assert type(result.array) is np.ndarray
    np.testing.assert_array_equal(result.array, image.array)
    result.array[...] += 1
    np.testing.assert_array_equal(result.array, image.array + 1)


def test_output_much_larger_than_input(worker):
    image = wt.volume((64, 64, 64), np.uint8)
    result = worker.submit(wt.job("big_output", 300, image)).wait(timeout=60)["result"].array
    assert result.shape == (64, 64, 64, 300)
    np.testing.assert_array_equal(result[..., 299], image.array * 2)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5, 0)])
def test_empty_and_tiny_arrays(worker, shape):
    last = wt.events_of(worker.submit(wt.job("double", image=wt.volume(shape))))[-1]
    assert isinstance(last, Finished), last
    assert last.outputs["result"].array.shape == shape


@pytest.mark.parametrize("layout", ["fortran", "strided", "big endian"])
def test_any_memory_layout(worker, layout):
    image = wt.volume((4, 6, 8))
    array = {
        "fortran": np.asfortranarray(image.array),
        "strided": np.repeat(image.array, 2, axis=1)[:, ::2, :],
        "big endian": image.array.astype(">i2"),
    }[layout]
    result = worker.submit(wt.job("double", image=image.with_array(array))).wait()["result"]
    np.testing.assert_array_equal(result.array, image.array * 2)


def test_seed_decides(worker):
    def draw(seed):
        return worker.submit(replace(wt.job("random"), seed=seed)).wait()["result"].array

    np.testing.assert_array_equal(draw(3), np.random.default_rng(3).random((6, 5, 4)))
    assert not np.array_equal(draw(3), draw(4))


def test_no_room_is_one_sentence(worker, monkeypatch):
    monkeypatch.setattr(workspace, "free_bytes", lambda folder: 1 << 20)
    last = wt.events_of(worker.submit(wt.job("double")))[-1]
    assert isinstance(last.error, ResourceError) and "There is no room for" in str(last.error)
    monkeypatch.undo()
    wt.assert_works(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory folder")
def test_falls_back_to_the_temporary_folder(worker, monkeypatch):
    real = workspace.free_bytes
    monkeypatch.setattr(workspace, "free_bytes", lambda f: 0 if str(f).startswith("/dev/shm") else real(f))
    handle = worker.submit(wt.job("double"))
    assert not str(handle.folder).startswith("/dev/shm")
    handle.wait()


def test_warm_up_does_not_block(monkeypatch):
    runner = WorkerRunner()
    started = time.monotonic()
    runner.warm_up()
    assert time.monotonic() - started < 0.2
    wt.wait_for(lambda: runner.worker_pid is not None)
    runner.close()
    runner.close()


def test_close_stops_jobs_and_a_later_submit_starts_anew(worker):
    jobs = [worker.submit(wt.job("hold_gil", 60)) for _ in range(2)]
    wt.wait_for(lambda: any(isinstance(e, Progress) and e.fraction > 0 for e in jobs[0].poll()))
    pid, roots = worker.worker_pid, worker._workspace.roots
    worker.close()
    assert roots and not any(root.exists() for root in roots)
    assert [type(wt.events_of(j, 1)[-1]) for j in jobs] == [Stopped, Stopped]
    assert not wt.is_alive(pid)
    wt.assert_works(worker)


def test_restart_gives_a_new_process_after_the_job(worker):
    wt.assert_works(worker)
    pid = worker.worker_pid
    handle = worker.submit(wt.job("steps", 5))
    worker.restart()
    handle.wait(timeout=10)
    wt.assert_works(worker)
    assert worker.worker_pid != pid and not wt.is_alive(pid)
