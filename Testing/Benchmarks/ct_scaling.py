"""Memory of filtered back-projection, and cost against views and slices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from .measuring import row

_PEAK = """
import sys
import numpy as np
from MedImgAILib.core import Context, Projections, ScanGeometry
from MedImgAIReconstructLib.ct.fbp import FDK, FilteredBackProjection

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

def scan(views, rows, columns):
    turn = np.arange(views) / views
    if sys.argv[1] == "fbp":
        geometry = ScanGeometry("parallel", np.pi * turn)
    else:
        geometry = ScanGeometry("cone", 2 * np.pi * turn, source_to_isocenter_mm=600.0, source_to_detector_mm=900.0)
    data = np.empty((views, rows, columns), np.float32)
    data[:] = 1
    return Projections(data, geometry)

task = FilteredBackProjection() if sys.argv[1] == "fbp" else FDK()
parameters = {} if sys.argv[1] == "fbp" else {"voxel_mm": float(sys.argv[5])}
task.execute({"projections": scan(16, 4, 32)}, {}, Context("cpu"))
before = resident()
large = scan(*map(int, sys.argv[2:5]))
volume = task.execute({"projections": large}, parameters, Context("cpu"))["volume"]
print((resident() - before) / (large.array.nbytes + volume.array.nbytes))
"""


def scaling_rows() -> list[dict]:
    """Peak resident memory over input and output; linearity in views and slices."""
    result = []
    for name, size in (("fbp", ("720", "64", "512")), ("fdk", ("360", "256", "256", "0.66667"))):
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, name, *size], capture_output=True, text=True, timeout=300, check=True
        )
        figure = f"{name.upper()} peak memory over input + output ({'×'.join(size[:3])})"
        result.append(row(figure, float(done.stdout.split()[-1]), "≤ 1.25", "×"))
    return [*result, *_linear()]


def _linear() -> list[dict]:
    from MedImgAILib.core import Context, Projections, ScanGeometry
    from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection

    from .measuring import seconds

    def cost(views, slices):
        data = np.ones((views, slices, 256), np.float32)
        projections = Projections(data, ScanGeometry("parallel", np.pi * np.arange(views) / views))
        task = FilteredBackProjection()
        return min(seconds(lambda: task.execute({"projections": projections}, {}, Context("cpu"))) for _ in range(3))

    result, curves = [], {}
    for what, cases in (
        ("views", [(n, 16) for n in (180, 360, 720, 1440)]),
        ("slices", [(360, n) for n in (8, 16, 32, 64)]),
    ):
        x = np.array([case[what == "slices"] for case in cases], float)
        times = np.array([cost(*case) for case in cases])
        curves[what] = (x, times)
        slope = np.polyfit(np.log(x), np.log(times), 1)[0]
        shown = ", ".join(f"{n:.0f}: {t * 1e3:.0f} ms" for n, t in zip(x, times))
        result.append(row(f"FBP cost against {what}, power ({shown})", float(slope), "≤ 1.1", ""))
    plot_costs(curves, Path("bench-output") / "ct-cost.png")
    return result


def plot_costs(curves: dict[str, tuple[np.ndarray, np.ndarray]], path: Path):
    """Times against numbers of views and of slices, with the straight line of linear cost through the largest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    for axes, (what, (x, seconds)) in zip(figure.subplots(1, len(curves)), curves.items()):
        axes.plot(x, 1e3 * seconds, "o-", label="measured")
        axes.plot(x, 1e3 * seconds[-1] * x / x[-1], "--", color="gray", label="linear")
        axes.set(xlabel=what, ylabel="ms", xlim=(0, None), ylim=(0, None), title=f"FBP, cost against {what}")
        axes.legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)
