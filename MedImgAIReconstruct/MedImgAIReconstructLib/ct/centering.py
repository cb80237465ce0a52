"""Centre of rotation from the data of a parallel-beam scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import Context, InputError, Projections

from .accelerate import has
from .filters import padded_length, ramp_filter
from .grid import Grid
from .parallel_fbp import interpolate_back
from .weights import angular_steps


def find_axis_shift(projections: Projections, search_mm: float = 0.0, context=None) -> float:
    """The axis shift in mm that makes the reconstruction of a middle slice sharpest.

    The mean absolute value of the slice is least at the true centre: a wrong one turns edges into pairs of arcs and
    undershoots (Donath, Beckmann & Schreyer, J Opt Soc Am A 23:1048, 2006, their metric Q_IA). A search over the
    whole range in steps of two pixels on a coarse image, then to a twentieth of a pixel on the full one.

    Parameters
    ----------
    search_mm : float
        Greatest shift looked for; 0 takes an eighth of the detector.

    Raises
    ------
    InputError
        For diverging beams.
    """
    scan = projections.scan
    if scan.kind != "parallel":
        raise InputError(f"{projections.label} has a {scan.kind} beam; its centre is found for parallel beams only.")
    views, rows, columns = projections.array.shape
    pitch = scan.pixel_mm[1]
    search = search_mm or columns / 8 * pitch
    sinogram = np.ascontiguousarray(projections.array[:, rows // 2 : rows // 2 + 1], np.float32)
    context = context or Context("cpu")
    start = scan.axis_shift_mm
    coarse = max(1, columns // 256)
    binned = sinogram[..., : columns // coarse * coarse].reshape(views, 1, -1, coarse).mean(-1)
    middle = scan.offset_mm[1] - (columns - binned.shape[2] * coarse) / 2 * pitch
    small = replace(scan, pixel_mm=(1.0, pitch * coarse), offset_mm=(0.0, middle))
    guess = _least(binned, small, start + np.arange(-search, search + pitch, pitch * max(1, coarse)), context)
    full = replace(scan, pixel_mm=(1.0, pitch), offset_mm=(0.0, scan.offset_mm[1]))
    for step in (0.5, 0.1, 0.05):
        reach = max(2, coarse) if step == 0.5 else 6 * step
        guess = _least(sinogram, full, guess + np.arange(-reach, reach + step / 2, step) * pitch, context)
    return float(guess)


def _least(sinogram, scan, shifts, context) -> float:
    columns = sinogram.shape[2]
    pitch = scan.pixel_mm[1]
    length = padded_length(columns)
    response = ramp_filter(length, pitch)
    steps = angular_steps(scan.angles_rad, np.pi)
    count = min(columns, 384)
    size = columns * pitch / count * 0.95
    grid = Grid((1, count, count), (1.0, size, size))
    x, y = np.meshgrid(grid.axis(2), grid.axis(1))
    inside = np.hypot(x, y) < 0.95 * columns * pitch / 2
    scores = []
    back_project = interpolate_back
    if has("finufft"):
        from .fourier import fourier_back_projection as back_project
    for shift in shifts:
        context.check()
        image = back_project(sinogram, replace(scan, axis_shift_mm=shift), grid, response, steps, np.ones(columns))
        scores.append(np.abs(image[0][inside]).mean())
    best = int(np.argmin(scores))
    return float(shifts[best])
