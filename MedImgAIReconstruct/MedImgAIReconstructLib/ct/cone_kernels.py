"""Loops of fan- and cone-beam back-projection; compiled by numba when it is there (:mod:`.accelerate`)."""

from __future__ import annotations

import numpy as np


def back_project_rows(filtered, angles, step, scan, x, y, z, y_start, y_stop, curved, out):
    """Add the views' back-projection to rows ``y_start`` … ``y_stop`` − 1 of ``out``.

    Parameters
    ----------
    filtered : (views, columns, rows) float32 ndarray
        Weighted and filtered; detector rows are contiguous, because a voxel column z projects onto one detector column.
    angles, step : (views,) float64 ndarray
        View angles and half angular steps in rad.
    scan : (R, D, axis shift, first u, 1/u pitch, first v, 1/v pitch) float64 ndarray, mm
    x, y, z : float64 ndarrays
        Voxel centres in mm.
    out : (nz, ny, nx) float32 ndarray
    """
    views, columns, rows = filtered.shape
    nz, nx = z.shape[0], x.shape[0]
    block = 16
    z0 = z[0]
    dz = z[1] - z[0] if nz > 1 else 1.0
    line = np.empty(rows + 2, np.float32)
    column_sum = np.empty((block, nz), np.float32)
    source, detector, shift, first_u, per_u, first_v, per_v = (
        scan[0],
        scan[1],
        scan[2],
        scan[3],
        scan[4],
        scan[5],
        scan[6],
    )
    for j in range(y_start, y_stop):
        for i0 in range(0, nx, block):
            width = min(block, nx - i0)
            column_sum[:] = 0.0
            for view in range(views):
                cos, sin = np.cos(angles[view]), np.sin(angles[view])
                image = filtered[view]
                for b in range(width):
                    xi = x[i0 + b]
                    s = xi * cos + y[j] * sin + shift
                    t = source - xi * sin + y[j] * cos
                    if t <= 0.0:
                        continue
                    if curved:
                        distance2 = s * s + t * t
                        u = detector * np.arctan2(s, t)
                        scale = detector / np.sqrt(distance2)
                        weight = np.float32(step[view] / distance2)
                    else:
                        u = detector * s / t
                        scale = detector / t
                        weight = np.float32(step[view] * detector / (t * t))
                    position = (u - first_u) * per_u
                    if position < -0.5 or position >= columns - 0.5:
                        continue
                    position = min(max(position, 0.0), columns - 1.000001) if columns > 1 else 0.0
                    low = int(position)
                    high = low + 1 if columns > 1 else low
                    part = np.float32(position - low)
                    weight_high = weight * part
                    weight_low = weight - weight_high
                    row0 = (z0 * scale - first_v) * per_v
                    row_step = dz * scale * per_v
                    # Slices whose ray meets the detector: -0.5 <= row0 + k row_step <= rows - 0.5.
                    if row_step > 0.0:
                        first, last = (-0.5 - row0) / row_step, (rows - 0.5 - row0) / row_step
                    else:
                        first, last = (rows - 0.5 - row0) / row_step, (-0.5 - row0) / row_step
                    start = int(np.ceil(min(max(first, 0.0), nz * 1.0)))
                    stop = int(np.floor(min(max(last, -1.0), nz - 1.0))) + 1
                    if start >= stop:
                        continue
                    left, right = image[low], image[high]
                    for r in range(rows):
                        line[r + 1] = weight_low * left[r] + weight_high * right[r]
                    line[0] = line[1]
                    line[rows + 1] = line[rows]
                    total = column_sum[b]
                    base = np.float32(row0 + 1.0)
                    step_row = np.float32(row_step)
                    for k in range(start, stop):
                        row = base + np.float32(np.int32(k)) * step_row
                        index = np.uint32(np.int32(row))
                        fraction = row - np.float32(np.int32(row))
                        below = line[index]
                        total[k] += below + fraction * (line[index + np.uint32(1)] - below)
            for k in range(nz):
                for b in range(width):
                    out[k, j, i0 + b] += column_sum[b, k]
