"""What putting a volume node into a task and its result back costs, beside a Gaussian filter on it."""

from __future__ import annotations

import statistics
import time

import numpy as np
from MedImgAILib.core import Context, Geometry, Volume, registry
from MedImgAILib.hosts.mrml import new_scene, read_node, write_node

SHAPE = (300, 512, 512)
SPACING_MM = (0.7, 0.7, 1.0)
REPETITIONS = 5
GOAL_PERCENT = 5.0


def rows() -> list[dict]:
    """One row: adapter time as a percentage of the peer's time, medians of interleaved repetitions.

    The peer is ``scipy.ndimage.gaussian_filter`` with float32 output; our Gaussian task is measured with it, and the
    faster of the two is what the adapter is held against.
    """
    scene = new_scene()
    voxels = np.random.default_rng(0).integers(-1000, 2000, SHAPE, dtype=np.int16)
    source = write_node(Volume(voxels, Geometry.from_spacing(SHAPE, SPACING_MM), "CT"), scene)
    adapter, peer, task = [], [], []
    for _ in range(REPETITIONS):
        result, seconds = _timed(lambda: _gaussian_task(source))
        task.append(seconds)
        peer.append(_timed(lambda: _gaussian_scipy(voxels))[1])
        nodes, seconds = _timed(lambda result=result: _there_and_back(source, result, scene))
        adapter.append(seconds)
        for node in nodes:
            scene.RemoveNode(node)
    ours, against = statistics.median(adapter), min(statistics.median(peer), statistics.median(task))
    value = 100.0 * ours / against
    return [
        {
            "figure": "MRML adapter, 512×512×300 int16 in and float32 out, relative to a Gaussian of 1 mm",
            "ours": f"{ours * 1000:.1f} ms",
            "peer": f"{statistics.median(peer):.2f} s scipy, {statistics.median(task):.2f} s task",
            "value": round(value, 3),
            "goal": f"< {GOAL_PERCENT:g}",
            "unit": "%",
            "met": value < GOAL_PERCENT,
        }
    ]


def _timed(call):
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def _gaussian_task(source) -> Volume:
    task = registry()["enhance.gaussian"]
    return task.execute({"image": read_node(source)}, {"sigma_mm": 1.0}, Context())["smoothed"]


def _gaussian_scipy(voxels: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(voxels, [1.0 / s for s in SPACING_MM[::-1]], output=np.float32)


def _there_and_back(source, result: Volume, scene) -> list:
    """Read the node and write the result that the task made from it into a new one."""
    read_node(source)
    node = write_node(result, scene, name="smoothed")
    return [node.GetDisplayNode(), node]


if __name__ == "__main__":
    for row in rows():
        print(row)
