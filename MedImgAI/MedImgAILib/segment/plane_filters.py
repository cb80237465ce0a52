"""Filters that work plane by plane in the processor's cache and let threads run side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..core import Context

_REACH = 3.0
"""Where the Gaussian ends, in standard deviations."""
# Abramowitz and Stegun 1964, formula 4.4.46: acos(x) = sqrt(1 - x) · polynomial, to 2e-8 on 0…1.
_ACOS = (
    -0.0012624911, 0.0066700901, -0.0170881256, 0.0308918810, -0.0501743046, 0.0889789874, -0.2145988016, 1.5707963050,
)  # fmt: skip


def for_each(function, items, context: Context):
    """``function(item)`` for all items on the machine's cores; reports progress and stops on cancel."""
    items = list(items)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for number, future in enumerate(futures):
                future.result()
                context.progress((number + 1) / len(items))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Weights 0, 1, … voxels from the middle of a Gaussian of ``sigma`` voxels; their mirrored sum is 1."""
    if sigma <= 0:
        return np.ones(1, np.float32)
    weights = np.exp(-0.5 * (np.arange(int(np.ceil(_REACH * sigma)) + 1) / sigma) ** 2)
    return (weights / (2 * weights.sum() - weights[0])).astype(np.float32)


def gaussian(array: np.ndarray, sigmas, context: Context) -> np.ndarray:
    """A (K, J, I) float32 array smoothed with ``sigmas`` voxels (k, j, i); its edges repeat; flat axes are left."""
    kernels = [gaussian_kernel(s if n > 1 else 0) for s, n in zip(sigmas, array.shape)]
    result = np.empty_like(array)

    def one(k):
        plane = kernels[0][0] * array[k]
        buffer = np.empty_like(plane)
        for step, weight in enumerate(kernels[0][1:], start=1):
            np.add(array[max(k - step, 0)], array[min(k + step, len(array) - 1)], out=buffer)
            buffer *= weight
            plane += buffer
        for axis in (0, 1):
            plane = _along(plane, kernels[1 + axis], axis, buffer)
        result[k] = plane

    for_each(one, range(len(array)), context)
    return result


def _along(plane, kernel, axis, buffer):
    reach = len(kernel) - 1
    if not reach:
        return plane
    padded = np.pad(plane, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    extent = plane.shape[axis]
    cut = (lambda n: padded[n : n + extent]) if axis == 0 else (lambda n: padded[:, n : n + extent])
    total = kernel[0] * plane
    for step in range(1, reach + 1):
        np.add(cut(reach - step), cut(reach + step), out=buffer)
        buffer *= kernel[step]
        total += buffer
    return total


def pooled(array: np.ndarray, factors) -> np.ndarray:
    """Means of blocks of ``factors`` (k, j, i) voxels; the edges repeat to fill the last blocks."""
    if max(factors) == 1:
        return array
    missing = [-n % f for n, f in zip(array.shape, factors)]
    if any(missing):
        array = np.pad(array, [(0, m) for m in missing], mode="edge")
    for axis, factor in enumerate(factors):
        if factor > 1:
            parts = [array[(slice(None),) * axis + (slice(n, None, factor),)] for n in range(factor)]
            array = sum(parts[1:], start=parts[0]) * np.float32(1 / factor)
    return array


def difference(plane: np.ndarray, axis: int, step_mm: float) -> np.ndarray:
    """Central difference in the plane, for each mm; the edge repeats."""
    result = np.empty_like(plane)
    before, after, inner = (
        (slice(None),) * axis + (s,) for s in (slice(None, -2), slice(2, None), slice(1, -1))
    )  # fmt: skip
    first, last = ((slice(None),) * axis + (s,) for s in (slice(0, 1), slice(-1, None)))
    second, but_last = ((slice(None),) * axis + (s,) for s in (slice(1, 2), slice(-2, -1)))
    if plane.shape[axis] < 2:
        result[...] = 0
        return result
    np.subtract(plane[after], plane[before], out=result[inner])
    np.subtract(plane[second], plane[first], out=result[first])
    np.subtract(plane[last], plane[but_last], out=result[last])
    result *= np.float32(0.5 / step_mm)
    return result


def second_difference(plane: np.ndarray, axis: int, step_mm: float) -> np.ndarray:
    """Second difference in the plane, for each mm²; the edge repeats."""
    result = np.zeros_like(plane)
    if plane.shape[axis] > 1:
        steps = np.diff(plane, axis=axis)
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        result[low] += steps
        result[high] -= steps
        result *= np.float32(1 / step_mm**2)
    return result


def eigenvalues(xx, yy, zz, xy, xz, yz) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues, largest first, of symmetric 3×3 matrices given by float32 arrays (Smith 1961, Commun ACM 4:168)."""
    middle = (xx + yy + zz) * np.float32(1 / 3)
    xx, yy, zz = xx - middle, yy - middle, zz - middle
    spread = np.sqrt((xx * xx + yy * yy + zz * zz + 2 * (xy * xy + xz * xz + yz * yz)) * np.float32(1 / 6))
    inverse = 1 / np.maximum(spread, np.float32(1e-12))
    xx, yy, zz, xy, xz, yz = (a * inverse for a in (xx, yy, zz, xy, xz, yz))
    half = (xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)) * np.float32(0.5)
    angle = _acos(np.clip(half, -1, 1, out=half)) * np.float32(1 / 3)
    spread *= 2
    largest = middle + spread * np.cos(angle)
    smallest = middle + spread * np.cos(angle + np.float32(2 * np.pi / 3))
    return largest, 3 * middle - largest - smallest, smallest


def _acos(x):
    """Inverse cosine to float32 precision, several times as fast as numpy's."""
    size = np.abs(x)
    total = np.full_like(size, _ACOS[0])
    for coefficient in _ACOS[1:]:
        total *= size
        total += np.float32(coefficient)
    total *= np.sqrt(1 - size)
    return np.where(x < 0, np.float32(np.pi) - total, total)
