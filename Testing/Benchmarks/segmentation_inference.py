"""Streaming inference beside MONAI's inferer: time, memory, labels; and how quickly a second prompt is answered."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from MedImgAILib.core import Context, Geometry, Points, Volume
from MedImgAILib.networks.sliding_window import Plan, infer

from .measuring import interleaved, row

SHAPE, WINDOW, CLASSES = (256, 256, 192), (96, 96, 96), 40


def rows() -> list[dict]:
    """All figures of inference."""
    return [*trivial_rows(), *real_network_rows(), *prompt_rows()]


def trivial_rows() -> list[dict]:
    """A network of one pointwise layer, so that nothing but the blending takes time and memory."""
    import torch

    image, network = _image(), _trivial(CLASSES)
    plan = Plan(WINDOW, 0.5)
    with torch.inference_mode():
        different = int((infer(network, image, plan).labels != _peer(network, image)).sum())
        ours, peer = interleaved(lambda: infer(network, image, plan), lambda: _peer(network, image), 3)
        opaque = interleaved(lambda: infer(lambda x: network(x), image, plan), lambda: _peer(network, image), 1)
    what = f"trivial network, {CLASSES} classes, 256×256×192, overlap 0.5"
    return [
        row(f"{what}: voxels that differ from MONAI's", different, "= 0", "voxels"),
        row(f"{what}: MONAI's time relative to ours", peer / ours, "≥ 3", "×", ours, peer),
        row(f"{what}, given as a function whose last layer cannot be taken off: MONAI's time relative to ours",
            opaque[1] / opaque[0], "≥ 1", "×", *opaque),
        row(f"{what}: memory beyond input and network", _memory("ours", CLASSES), "≤ 100", "MB",
            peer=_memory("monai", CLASSES, 1)),
    ]  # fmt: skip


def real_network_rows() -> list[dict]:
    """SegResNet: no slower than MONAI's inferer, and memory that 120 classes do not raise.

    Of 2 classes the scores are held, from 9 classes on the 8 features before the last layer, however many there are:
    the growth is that of 6 channels in the planes under way, 25 MB here.
    """
    import torch
    from MedImgAILib.networks.precision import computes_bfloat16
    from monai.networks.nets import SegResNet

    torch.manual_seed(0)
    network = SegResNet(init_filters=8, in_channels=1, out_channels=CLASSES).eval()
    image, plan = _image()[:, :128, :128, :128], Plan((64, 64, 64), 0.5)
    fast = Plan((64, 64, 64), 0.5, cpu_bfloat16=True)
    with torch.inference_mode():
        ours, peer = interleaved(
            lambda: infer(network, image, plan), lambda: _peer(network, image, (64, 64, 64)), repeats=2
        )
        started = time.perf_counter()
        infer(network, image, fast)
        reduced = time.perf_counter() - started
    what = "SegResNet, 128³"
    growth = _memory("segresnet", 120) - _memory("segresnet", 2)
    result = [
        row(f"{what}, {CLASSES} classes: our time relative to MONAI's", ours / peer, "≤ 1", "×", ours, peer),
        row(f"{what}: memory that 120 classes take more than 2", growth, "≤ 50", "MB"),
    ]
    if computes_bfloat16():
        result.append(
            row(f"{what}, {CLASSES} classes: our time in bfloat16 relative to MONAI's", reduced / peer, "≤ 1", "×",
                reduced, peer)
        )  # fmt: skip
    return result


def prompt_rows() -> list[dict]:
    """A second point in an image of 256³ voxels against the first, through the task."""
    from MedImgAILib.networks.prompts.memory import embeddings
    from MedImgAILib.networks.prompts.task import BUILT_IN, PromptSegmentation, _example_package

    size = 256
    k, j, i = np.ogrid[:size, :size, :size]
    ball = (k - 120) ** 2 + (j - 130) ** 2 + (i - 128) ** 2 < 40**2
    noise = np.random.default_rng(0).normal(0, 10, ball.shape).astype(np.float32)
    image = Volume(100 * ball + noise, Geometry.from_spacing(ball.shape), "ball")
    model = str(BUILT_IN if BUILT_IN.is_dir() else _example_package())

    def answer(*points):
        started = time.perf_counter()
        inside = Points(image.geometry.ras(np.array(points, float)))
        PromptSegmentation().execute({"image": image, "inside": inside}, {"model": model}, Context("cpu"))
        return time.perf_counter() - started

    answer((128, 130, 120))  # imports are not part of the measurement
    firsts, seconds = [], []
    for _ in range(3):
        embeddings.clear()
        firsts.append(answer((128, 130, 120)))
        seconds.append(answer((128, 130, 120), (140, 130, 120)))
    first, second = statistics.median(firsts), statistics.median(seconds)
    return [row("second prompt in an image of 256³: time relative to the first", second / first, "≤ 0.5", "×", second,
                first)]  # fmt: skip


def _image() -> np.ndarray:
    """Values in steps of 1/16, so that no voxel is a tie up to rounding."""
    return np.random.default_rng(0).integers(-64, 64, (1, *SHAPE)).astype(np.float32) / 16


def _trivial(classes: int):
    """Class c wins where the value is near its own place: tangents of a parabola."""
    import torch

    network = torch.nn.Conv3d(1, classes, 1).eval()
    with torch.no_grad():
        places = torch.linspace(-4.03, 4.01, classes)
        network.weight[:] = 2 * places.reshape(-1, 1, 1, 1, 1)
        network.bias[:] = -(places**2)
    return network


def _peer(network, image, window=WINDOW):
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        scores = sliding_window_inference(torch.from_numpy(image[None]), window, 1, network, 0.5, "gaussian")
        return scores[0].argmax(0).numpy()


def _memory(who: str, classes: int, runs: int = 2) -> float:
    """Peak resident memory in MB beyond what input, network and a first small inference take, in a fresh process.

    The least of some runs, with one arena, so that it is what is used and not what the allocator keeps for later.
    """
    command = [sys.executable, "-m", "Benchmarks.segmentation_inference", who, str(classes)]
    settings = os.environ | {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "1000000"}
    return min(
        float(subprocess.run(command, capture_output=True, text=True, check=True, env=settings).stdout.split()[-1])
        for _ in range(runs)
    )


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main(who: str, classes: int):
    """Measure one inference in this process and print the MB."""
    image, window = _image(), WINDOW
    if who == "segresnet":
        from monai.networks.nets import SegResNet

        network, window = SegResNet(init_filters=8, in_channels=1, out_channels=classes).eval(), (64, 64, 64)
        image = np.ascontiguousarray(image[:, :128, :128, :128])
    else:
        network = _trivial(classes)
        importlib.import_module("monai.inferers")  # its import is not part of the measurement
    infer(network, image[:, :32, :32, :32].copy(), Plan((16, 16, 16)))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    before = _resident("VmRSS")
    _peer(network, image, window) if who == "monai" else infer(network, image, Plan(window, 0.5))
    print(_resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
