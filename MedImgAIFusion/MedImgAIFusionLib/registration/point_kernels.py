"""Loops over sampled points for :mod:`.compiled`; each stands beside its NumPy form in :mod:`.metric`."""

from __future__ import annotations

import numpy as np


def sample(array, mask, masked, kji, tolerance, inside, values, gradients):
    """Trilinear values and gradients of a (K, J, I) array at (3, N) indices, packed; returns how many lie inside."""
    depth, height, width = array.shape
    one = np.float32(1)
    count = 0
    for n in range(kji.shape[1]):
        z, y, x = kji[0, n], kji[1, n], kji[2, n]
        within = (
            z >= -tolerance
            and y >= -tolerance
            and x >= -tolerance
            and z <= depth - 1 + tolerance
            and y <= height - 1 + tolerance
            and x <= width - 1 + tolerance
        )
        if within:
            z = min(max(z, np.float32(0)), np.float32(depth - 1))
            y = min(max(y, np.float32(0)), np.float32(height - 1))
            x = min(max(x, np.float32(0)), np.float32(width - 1))
            if masked:
                within = mask[int(np.rint(z)), int(np.rint(y)), int(np.rint(x))]
        inside[n] = within
        if not within:
            continue
        # The last cell also serves the outermost voxel centre; an axis of one voxel has no slope.
        k0, j0, i0 = max(min(int(z), depth - 2), 0), max(min(int(y), height - 2), 0), max(min(int(x), width - 2), 0)
        k1, j1, i1 = min(k0 + 1, depth - 1), min(j0 + 1, height - 1), min(i0 + 1, width - 1)
        z, y, x = z - np.float32(k0), y - np.float32(j0), x - np.float32(i0)
        d00 = array[k0, j0, i1] - array[k0, j0, i0]
        d01 = array[k0, j1, i1] - array[k0, j1, i0]
        d10 = array[k1, j0, i1] - array[k1, j0, i0]
        d11 = array[k1, j1, i1] - array[k1, j1, i0]
        v00 = array[k0, j0, i0] + d00 * x
        v01 = array[k0, j1, i0] + d01 * x
        v10 = array[k1, j0, i0] + d10 * x
        v11 = array[k1, j1, i0] + d11 * x
        low, high = v00 + (v01 - v00) * y, v10 + (v11 - v10) * y
        values[count] = low + (high - low) * z
        gradients[0, count] = high - low
        gradients[1, count] = (v01 - v00) * (one - z) + (v11 - v10) * z
        gradients[2, count] = (d00 * (one - y) + d01 * y) * (one - z) + (d10 * (one - y) + d11 * y) * z
        count += 1
    return count


def place(linear, offset, points, kji):
    """``kji`` = linear @ points + offset."""
    for n in range(points.shape[1]):
        a, b, c = points[0, n], points[1, n], points[2, n]
        for axis in range(3):
            kji[axis, n] = linear[axis, 0] * a + linear[axis, 1] * b + linear[axis, 2] * c + offset[axis]


def moments(gradients, slopes, points, inside, by_linear, by_shift):
    """The sums over the points inside of slope · gradient ⊗ point, and of slope · gradient."""
    count = 0
    for n in range(len(inside)):
        if not inside[n]:
            continue
        for axis in range(3):
            pull = gradients[axis, count] * slopes[count]
            by_shift[axis] += pull
            for other in range(3):
                by_linear[axis, other] += pull * points[other, n]
        count += 1


def histogram(rows, inside, values, low, scale, bins, joint):
    """Add each point to the joint histogram (bins, bins + 3) by cubic B-spline weights along the moving intensity."""
    sixth = 1.0 / 6.0
    count = 0
    for n in range(len(inside)):
        if not inside[n]:
            continue
        place = min(max((values[count] - low) * scale, np.float32(0)), np.float32(bins - 1)) + np.float32(1)
        count += 1
        whole = int(place)
        u = place - np.float32(whole)
        v = np.float32(1) - u
        row = joint[rows[n]]
        row[whole - 1] += v * v * v * sixth
        row[whole] += (u * u * (3 * u - 6) + 4) * sixth
        row[whole + 1] += (v * v * (3 * v - 6) + 4) * sixth
        row[whole + 2] += u * u * u * sixth


def histogram_slopes(rows, inside, values, low, scale, bins, by_table, out):
    """The derivative by each value, from that by the joint histogram."""
    half = np.float32(0.5)
    count = 0
    for n in range(len(inside)):
        if not inside[n]:
            continue
        place = min(max((values[count] - low) * scale, np.float32(0)), np.float32(bins - 1)) + np.float32(1)
        whole = int(place)
        u = place - np.float32(whole)
        v = np.float32(1) - u
        row = by_table[rows[n]]
        out[count] = (
            -half * v * v * row[whole - 1]
            + u * (np.float32(1.5) * u - 2) * row[whole]
            + v * (2 - np.float32(1.5) * v) * row[whole + 1]
            + half * u * u * row[whole + 2]
        )
        count += 1
