"""Loops over voxels for :mod:`.compiled`; each stands beside its NumPy form in :mod:`.fields` or :mod:`.forces`.

Fields are (3, K, J, I) float32 in voxels along k, j, i. Every loop fills the slices ``first`` to ``stop`` of its
result, so that several threads can share the work; the results do not depend on how they share it.
"""

from __future__ import annotations

import numpy as np


def warp(array, field, out, first, stop):
    """``out`` = the (K, J, I) ``array`` read linearly where the field carries each voxel; its border goes on."""
    depth, height, width = array.shape
    for k in range(first, stop):
        for j in range(height):
            for i in range(width):
                z = min(max(np.float32(k) + field[0, k, j, i], np.float32(0)), np.float32(depth - 1))
                y = min(max(np.float32(j) + field[1, k, j, i], np.float32(0)), np.float32(height - 1))
                x = min(max(np.float32(i) + field[2, k, j, i], np.float32(0)), np.float32(width - 1))
                k0, j0, i0 = int(z), int(y), int(x)
                k1, j1, i1 = min(k0 + 1, depth - 1), min(j0 + 1, height - 1), min(i0 + 1, width - 1)
                z, y, x = z - np.float32(k0), y - np.float32(j0), x - np.float32(i0)
                a = array[k0, j0, i0] + x * (array[k0, j0, i1] - array[k0, j0, i0])
                b = array[k0, j1, i0] + x * (array[k0, j1, i1] - array[k0, j1, i0])
                c = array[k1, j0, i0] + x * (array[k1, j0, i1] - array[k1, j0, i0])
                d = array[k1, j1, i0] + x * (array[k1, j1, i1] - array[k1, j1, i0])
                a += y * (b - a)
                c += y * (d - c)
                out[k, j, i] = a + z * (c - a)


def compose(outer, inner, out, first, stop):
    """``out`` = the field of x ↦ outer(inner(x))."""
    _, depth, height, width = outer.shape
    for k in range(first, stop):
        for j in range(height):
            for i in range(width):
                z = min(max(np.float32(k) + inner[0, k, j, i], np.float32(0)), np.float32(depth - 1))
                y = min(max(np.float32(j) + inner[1, k, j, i], np.float32(0)), np.float32(height - 1))
                x = min(max(np.float32(i) + inner[2, k, j, i], np.float32(0)), np.float32(width - 1))
                k0, j0, i0 = int(z), int(y), int(x)
                k1, j1, i1 = min(k0 + 1, depth - 1), min(j0 + 1, height - 1), min(i0 + 1, width - 1)
                z, y, x = z - np.float32(k0), y - np.float32(j0), x - np.float32(i0)
                for n in range(3):
                    a = outer[n, k0, j0, i0] + x * (outer[n, k0, j0, i1] - outer[n, k0, j0, i0])
                    b = outer[n, k0, j1, i0] + x * (outer[n, k0, j1, i1] - outer[n, k0, j1, i0])
                    c = outer[n, k1, j0, i0] + x * (outer[n, k1, j0, i1] - outer[n, k1, j0, i0])
                    d = outer[n, k1, j1, i0] + x * (outer[n, k1, j1, i1] - outer[n, k1, j1, i0])
                    a += y * (b - a)
                    c += y * (d - c)
                    out[n, k, j, i] = inner[n, k, j, i] + a + z * (c - a)


def inverse(field, w, iterations, tolerance, first, stop):
    """Bring ``w`` to w(x) = −u(x + w(x)) by fixed-point iteration, full steps first and half steps from the third."""
    _, depth, height, width = field.shape
    r = np.empty(3, np.float32)
    for k in range(first, stop):
        for j in range(height):
            for i in range(width):
                for step in range(iterations):
                    z = min(max(np.float32(k) + w[0, k, j, i], np.float32(0)), np.float32(depth - 1))
                    y = min(max(np.float32(j) + w[1, k, j, i], np.float32(0)), np.float32(height - 1))
                    x = min(max(np.float32(i) + w[2, k, j, i], np.float32(0)), np.float32(width - 1))
                    k0, j0, i0 = int(z), int(y), int(x)
                    k1, j1, i1 = min(k0 + 1, depth - 1), min(j0 + 1, height - 1), min(i0 + 1, width - 1)
                    z, y, x = z - np.float32(k0), y - np.float32(j0), x - np.float32(i0)
                    worst = np.float32(0)
                    for n in range(3):
                        a = field[n, k0, j0, i0] + x * (field[n, k0, j0, i1] - field[n, k0, j0, i0])
                        b = field[n, k0, j1, i0] + x * (field[n, k0, j1, i1] - field[n, k0, j1, i0])
                        c = field[n, k1, j0, i0] + x * (field[n, k1, j0, i1] - field[n, k1, j0, i0])
                        d = field[n, k1, j1, i0] + x * (field[n, k1, j1, i1] - field[n, k1, j1, i0])
                        a += y * (b - a)
                        c += y * (d - c)
                        r[n] = w[n, k, j, i] + a + z * (c - a)
                        worst = max(worst, abs(r[n]))
                    share = np.float32(1) if step < 2 else np.float32(0.5)
                    for n in range(3):
                        w[n, k, j, i] -= share * r[n]
                    if worst <= tolerance:
                        break


def convolve(array, weights, axis, out, first, stop):
    """``out`` = the (K, J, I) ``array`` convolved along an axis with symmetric weights, centre first."""
    depth, height, width = array.shape
    radius = len(weights) - 1
    line = np.empty(width + 2 * radius, np.float32)
    for k in range(first, stop):
        for j in range(height):
            row = out[k, j]
            if axis == 2:
                source = array[k, j]
                for i in range(radius):
                    line[i] = source[0]
                    line[radius + width + i] = source[width - 1]
                for i in range(width):
                    line[radius + i] = source[i]
                for i in range(width):
                    row[i] = weights[0] * source[i]
                for t in range(1, radius + 1):
                    for i in range(width):
                        row[i] += weights[t] * (line[radius + i - t] + line[radius + i + t])
            else:
                for i in range(width):
                    row[i] = weights[0] * array[k, j, i]
                for t in range(1, radius + 1):
                    if axis == 0:
                        before, after = array[max(k - t, 0), j], array[min(k + t, depth - 1), j]
                    else:
                        before, after = array[k, max(j - t, 0)], array[k, min(j + t, height - 1)]
                    for i in range(width):
                        row[i] += weights[t] * (before[i] + after[i])


def advance(field, step, out, first, stop):
    """``out`` = u + v + (v·∇)u, with central differences that are one-sided at the border."""
    _, depth, height, width = field.shape
    half = np.float32(0.5)
    for n in range(3):
        for k in range(first, stop):
            ka, kb = max(k - 1, 0), min(k + 1, depth - 1)
            wk = half if kb - ka == 2 else np.float32(1)
            for j in range(height):
                ja, jb = max(j - 1, 0), min(j + 1, height - 1)
                wj = half if jb - ja == 2 else np.float32(1)
                row, before_k, after_k = field[n, k, j], field[n, ka, j], field[n, kb, j]
                before_j, after_j = field[n, k, ja], field[n, k, jb]
                into, vz, vy, vx = out[n, k, j], step[0, k, j], step[1, k, j], step[2, k, j]
                for i in range(width):
                    into[i] = (
                        row[i]
                        + step[n, k, j, i]
                        + vz[i] * (wk * (after_k[i] - before_k[i]))
                        + vy[i] * (wj * (after_j[i] - before_j[i]))
                    )
                if width > 1:
                    for i in range(1, width - 1):
                        into[i] += vx[i] * (half * (row[i + 1] - row[i - 1]))
                    into[0] += vx[0] * (row[1] - row[0])
                    into[width - 1] += vx[width - 1] * (row[width - 1] - row[width - 2])


def gradient_times(image, slopes, scale, out, first, stop):
    """``out`` = the (3, K, J, I) gradient of ``image`` per voxel, times ``slopes`` and one factor for each axis."""
    depth, height, width = image.shape
    half = np.float32(0.5)
    for k in range(first, stop):
        ka, kb = max(k - 1, 0), min(k + 1, depth - 1)
        wk = scale[0] * (half if kb - ka == 2 else np.float32(1))
        for j in range(height):
            ja, jb = max(j - 1, 0), min(j + 1, height - 1)
            wj = scale[1] * (half if jb - ja == 2 else np.float32(1))
            row, slope = image[k, j], slopes[k, j]
            before_k, after_k, before_j, after_j = image[ka, j], image[kb, j], image[k, ja], image[k, jb]
            oz, oy, ox = out[0, k, j], out[1, k, j], out[2, k, j]
            for i in range(width):
                oz[i] = slope[i] * wk * (after_k[i] - before_k[i])
                oy[i] = slope[i] * wj * (after_j[i] - before_j[i])
            ox[0] = ox[width - 1] = np.float32(0)
            if width > 1:
                for i in range(1, width - 1):
                    ox[i] = slope[i] * scale[2] * half * (row[i + 1] - row[i - 1])
                ox[0] = slope[0] * scale[2] * (row[1] - row[0])
                ox[width - 1] = slope[width - 1] * scale[2] * (row[width - 1] - row[width - 2])
