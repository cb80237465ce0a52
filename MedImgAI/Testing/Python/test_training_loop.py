"""The training loop: exact resuming, failures that leave the last good checkpoint, several processes."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedImgAILib.core import Cancelled, Context, OutputError  # noqa: E402
from MedImgAILib.training import checkpoints  # noqa: E402
from MedImgAILib.training.averaging import MovingAverage  # noqa: E402
from MedImgAILib.training.checkpoints import LAST, TrainingError, load_state, save_state  # noqa: E402
from MedImgAILib.training.loading import Batch, prefetched  # noqa: E402
from MedImgAILib.training.loop import Settings, train  # noqa: E402
from MedImgAILib.training.losses import classification_loss  # noqa: E402
from MedImgAILib.training.sampling import sample_rng  # noqa: E402
from MedImgAILib.training.schedules import SCHEDULES, rate_factor  # noqa: E402

SCRIPT = Path(__file__).parent / "training_process.py"
SETTINGS = Settings(steps=30, batch=8, rate=1e-2, validate_every=10, precision="full", save_every_s=0.0, average=0.9)


def network(seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Dropout(0.3)
    return torch.nn.Sequential(*layers, torch.nn.Linear(16, 2))


def batch(samples):
    x = np.stack([sample_rng(0, n).normal(size=6) for n in samples]).astype(np.float32)
    y = np.eye(2, dtype=np.float32)[(x.sum(axis=1) > 0).astype(int)]
    return Batch(torch.from_numpy(x), torch.from_numpy(y), tuple(f"case {n}" for n in samples))


def validate(net):
    held = batch(range(10_000, 10_100))
    return {"score": float((net(held.inputs).argmax(1) == held.targets.argmax(1)).float().mean())}


def run(folder, settings=SETTINGS, context=None, make=batch, net=None, identity="a"):
    net = net or network()
    return train(net, make, classification_loss(), settings, validate, folder, context or Context("cpu"), identity)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stops(Context):
    """Ends a training after some steps."""

    def __init__(self, after, error=Cancelled):
        super().__init__("cpu")
        self.after, self.error = after, error

    def on_progress(self, fraction, message):
        if fraction >= self.after:
            raise self.error


def test_it_learns(tmp_path):
    from dataclasses import replace

    done = run(tmp_path, replace(SETTINGS, steps=200, validate_every=50))
    assert done.history[-1]["score"] > 0.9 and done.history[-1]["loss"] < done.history[0]["loss"]


@pytest.mark.parametrize("after", [0.1, 0.5, 0.97])
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, after):
    whole = run(tmp_path / "whole")
    with pytest.raises(Cancelled):
        run(tmp_path / "cut", context=Stops(after))
    again = run(tmp_path / "cut", net=network(seed=5))
    assert same(whole.state, again.state) and whole.history == again.history


def test_loading_in_the_background_changes_nothing(tmp_path):
    from dataclasses import replace

    assert same(run(None, replace(SETTINGS, workers=0)).state, run(None, replace(SETTINGS, workers=3)).state)


def test_portions_give_the_gradient_of_the_whole_batch():
    from dataclasses import replace

    plain = torch.nn.Sequential(torch.nn.Linear(6, 2))
    start = {k: v.clone() for k, v in plain.state_dict().items()}
    settings = replace(SETTINGS, steps=5, average=0.0)
    one = run(None, settings, net=plain).state
    plain.load_state_dict(start)
    four = run(None, replace(settings, portions=4), net=plain).state
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-5, atol=1e-6)


def test_finished_training_is_not_repeated(tmp_path):
    done = run(tmp_path)
    assert same(done.state, run(tmp_path, net=network(3), make=lambda samples: 1 / 0).state)


def test_a_folder_of_another_training_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(TrainingError, match="holds a training of other data"):
        run(tmp_path, identity="b")


def test_killed_at_any_time_and_resumed(tmp_path):
    """kill -9 at three moments; the process that ends writes the weights of one that was never killed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    whole = [sys.executable, SCRIPT, tmp_path / "whole", tmp_path / "wanted.pt"]
    subprocess.run(whole, env=environment, check=True, capture_output=True)
    command = [sys.executable, SCRIPT, tmp_path / "cut", tmp_path / "result.pt"]
    for seconds in (0.0, 0.25, 0.6):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        process.stdout.readline()  # it says when training begins
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    wanted, result = (load_state(tmp_path / f"{name}.pt")["state"] for name in ("wanted", "result"))
    assert same(wanted, result)


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(tmp_path):
    def poisoned(samples):
        made = batch(samples)
        if 16 * 8 in samples:
            made.inputs[0, 0] = float("nan")
        return made

    with pytest.raises(TrainingError, match=r"not a number at step 17 \(the image of 'case 128' is not finite\)"):
        run(tmp_path, make=poisoned)
    assert load_state(tmp_path / LAST)["step"] == 16
    assert same(run(tmp_path).state, run(None).state)  # goes on from there once the data are repaired


def test_weights_that_are_no_numbers_are_never_stored(tmp_path):
    from dataclasses import replace

    with pytest.raises(TrainingError):
        run(tmp_path, replace(SETTINGS, rate=1e30, clip=0.0, average=0.0))
    if (tmp_path / LAST).exists():
        state = load_state(tmp_path / LAST)["network"]
        assert all(bool(torch.isfinite(v).all()) for v in state.values() if v.is_floating_point())


def test_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    with pytest.raises(Cancelled):
        run(tmp_path, context=Stops(0.5))
    before = files(tmp_path)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full; the one before it is unchanged"):
        run(tmp_path)
    assert files(tmp_path) == before
    monkeypatch.undo()
    assert same(run(tmp_path).state, run(None).state)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_really_full_device(tmp_path, monkeypatch):
    save_state(tmp_path / "a.pt", {"step": 1})
    real = checkpoints.os.fdopen

    def on_full(handle, mode):
        real(handle, mode).close()
        return open("/dev/full", mode, buffering=0)

    monkeypatch.setattr(checkpoints.os, "fdopen", on_full)
    with pytest.raises(OutputError, match="disk is full"):
        save_state(tmp_path / "a.pt", {"step": 2})
    assert load_state(tmp_path / "a.pt") == {"step": 1} and len(list(tmp_path.iterdir())) == 1


def test_damaged_checkpoint_is_named(tmp_path):
    run(tmp_path)
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:100])
    with pytest.raises(TrainingError, match="is damaged"):
        run(tmp_path)


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"identity": "a", "evil": Evil()}, tmp_path / LAST)
    with pytest.raises(TrainingError):
        run(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_early_end_keeps_what_is_there(tmp_path):
    class Finishing(Context):
        def is_finishing(self):
            return self.seen >= 0.4

        seen = 0.0

        def on_progress(self, fraction, message):
            self.seen = fraction

    done = run(tmp_path, context=Finishing("cpu"))
    assert done.ended == "user" and done.history[-1]["step"] == 12 and done.best_step == 12


def test_patience_ends_and_keeps_the_best(tmp_path):
    from dataclasses import replace

    scores = iter([0.5, 0.9, 0.7, 0.6, 0.5, 0.4])
    settings = replace(SETTINGS, steps=60, patience=2, keep_best=True)
    done = train(network(), batch, classification_loss(), settings, lambda net: {"score": next(scores)}, tmp_path)
    assert done.ended == "patience" and done.best_step == 20 and done.history[-1]["step"] == 40
    best = run(None, replace(settings, steps=60, patience=0, keep_best=False))
    assert not same(done.state, best.state)


def test_two_processes_give_what_one_gives(tmp_path):
    """torchrun with two processes on the processor, beside one process with the same batches; and after a kill."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", "2", "--master-addr",
        "127.0.0.1", "--master-port", str(free_port()), SCRIPT, tmp_path / "team", tmp_path / "team.pt", "team",
    ]  # fmt: skip
    subprocess.run(launch, env=environment, check=True, capture_output=True, timeout=300)
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "one", tmp_path / "one.pt", "team"], env=environment, check=True,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0
    team, one = load_state(tmp_path / "team.pt"), load_state(tmp_path / "one.pt")
    assert team["size"] == 2 and one["size"] == 1
    for name, value in one["state"].items():
        torch.testing.assert_close(team["state"][name], value, rtol=1e-4, atol=1e-5)


def test_moving_average_against_its_formula():
    net = torch.nn.Linear(2, 1)
    average, expected = MovingAverage(net, 0.9), net.weight.detach().clone()
    for n in range(1, 40):
        with torch.no_grad():
            net.weight += 0.1
        average.update(net)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * net.weight.detach()
    torch.testing.assert_close(average.state["weight"], expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_begin_and_end_as_they_should(schedule):
    rates = [rate_factor(schedule, n, 100, 10) for n in range(100)]
    assert max(rates) <= 1 + 1e-9 and min(rates) > 0
    assert schedule == "constant" or rates[-1] < 0.06
    assert rates[0] < 0.2


def test_one_cycle_is_torchs():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    peer = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=50, final_div_factor=1e4 / 25)
    for step in range(50):
        assert rate_factor("one_cycle", step, 50) == pytest.approx(peer.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        peer.step() if step < 49 else None


def test_batches_come_in_order_and_errors_at_their_turn():
    def make(n):
        time.sleep(0.002 * (n % 3))
        if n == 7:
            raise ValueError("seven")
        return n

    got = []
    with pytest.raises(ValueError, match="seven"):
        for value in prefetched(make, range(10), workers=3, ahead=4):
            got.append(value)
    assert got == list(range(7))


def test_loading_leaves_the_cores_to_others():
    """A loading thread computes on one core, the one that trains and later ones on as many as before."""
    from threading import Thread

    seen, before = {}, torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        loading = list(prefetched(lambda n: torch.get_num_threads(), range(6), workers=2))
        later = Thread(target=lambda: seen.update(later=torch.get_num_threads()))
        later.start()
        later.join()
        assert set(loading) == {1} and torch.get_num_threads() == 3 and seen["later"] == 3
    finally:
        torch.set_num_threads(before)


def test_tensorboard_files(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = run(tmp_path)
    accumulator = events.EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    assert [e.step for e in accumulator.Scalars("loss")] == [row["step"] for row in done.history]
