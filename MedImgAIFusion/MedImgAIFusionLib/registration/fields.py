"""Displacement fields on a grid: sampling, composing, inverting, and how much they stretch.

A field is (3, K, J, I) float32: by how many voxels along k, j and i each voxel is displaced.
"""

from __future__ import annotations

import numpy as np

from . import kernels
from .compiled import compiled, spread


def places(field: np.ndarray) -> np.ndarray:
    """(3, K, J, I) float32 indices to which the field carries each voxel."""
    result = field.astype(np.float32, copy=True)
    for axis, count in enumerate(field.shape[1:]):
        shape = [1, 1, 1]
        shape[axis] = count
        result[axis] += np.arange(count, dtype=np.float32).reshape(shape)
    return result


def sample(array: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(K, J, I) ``array`` read linearly at (3, …) indices; beyond the grid its outermost voxels go on."""
    from scipy.ndimage import map_coordinates

    return map_coordinates(array, where, order=1, mode="nearest", output=np.float32, prefilter=False)


def warp(array: np.ndarray, field: np.ndarray) -> np.ndarray:
    """(K, J, I) ``array`` read linearly where the field carries each voxel of the same grid; its border goes on."""
    if kernel := compiled(kernels.warp):
        return spread(kernel, array.shape, array, field)
    return sample(array, places(field))


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The field of x ↦ outer(inner(x))."""
    if kernel := compiled(kernels.compose):
        return spread(kernel, inner.shape, outer, inner)
    where = places(inner)
    return np.stack([part + sample(other, where) for part, other in zip(inner, outer, strict=True)])


def advance(field: np.ndarray, step: np.ndarray) -> np.ndarray:
    """``compose(field, step)`` to first order, u + v + (v·∇)u: a few times faster, for steps below half a voxel."""
    if kernel := compiled(kernels.advance):
        return spread(kernel, field.shape, field, step)
    result = field + step
    for axis, count in enumerate(field.shape[1:]):
        if count > 1:
            result += difference(field, axis + 1) * step[axis]
    return result


def difference(array: np.ndarray, axis: int) -> np.ndarray:
    """Central difference per voxel, one-sided at the ends; as ``numpy.gradient``, in the array's type and faster."""
    result = np.empty_like(array)
    view, source = np.moveaxis(result, axis, 0), np.moveaxis(array, axis, 0)
    if len(source) == 1:
        result[...] = 0
        return result
    np.subtract(source[2:], source[:-2], out=view[1:-1])
    view[1:-1] *= array.dtype.type(0.5)
    view[0], view[-1] = source[1] - source[0], source[-1] - source[-2]
    return result


def inverse(field: np.ndarray, guess: np.ndarray | None = None, iterations: int = 40, tolerance: float = 0.01):
    """The field w with w(x) = −u(x + w(x)), by fixed-point iteration (Chen et al. 2008, Med Phys 35:81).

    Only voxels still off by more than ``tolerance`` voxels go on; from the third round by half steps, which converge
    wherever the field stretches less than fourfold (full steps: less than twofold).
    """
    w = (-field if guess is None else guess).reshape(3, -1).copy()
    if kernel := compiled(kernels.inverse):
        whole = w.reshape(field.shape)
        spread(kernel, field.shape, field, into=whole, numbers=(iterations, np.float32(tolerance)))
        return whole
    base = places(np.zeros_like(field)).reshape(3, -1)
    active = np.arange(w.shape[1])
    for n in range(iterations):
        where = base[:, active] + w[:, active]
        residual = w[:, active] + np.stack([sample(part, where) for part in field])
        w[:, active] -= residual if n < 2 else np.float32(0.5) * residual
        active = active[np.abs(residual).max(axis=0) > tolerance]
        if not len(active):
            break
    return w.reshape(field.shape)


def smooth(field: np.ndarray, sigma_voxels) -> np.ndarray:
    """Each component convolved with a Gaussian of (k, j, i) standard deviations; mirrored at the borders."""
    axes = [(axis, sigma) for axis, sigma in enumerate(sigma_voxels) if sigma > 0.2 and field.shape[axis + 1] > 1]
    kernel = compiled(kernels.convolve)
    if kernel is None:
        from scipy.ndimage import gaussian_filter1d

        for axis, sigma in axes:
            field = gaussian_filter1d(field, sigma, axis=axis + 1, mode="nearest", truncate=_REACH)
        return field
    parts = []
    for part in field:
        for axis, sigma in axes:
            part = spread(kernel, part.shape, part, gaussian(sigma), axis)
        parts.append(part)
    return np.stack(parts)


_REACH = 3.0
"""Standard deviations at which the Gaussian ends."""


def gaussian(sigma: float) -> np.ndarray:
    """The weights from the centre outwards, float32; both sides together sum to 1."""
    weights = np.exp(-0.5 * (np.arange(int(_REACH * sigma + 0.5) + 1) / sigma) ** 2)
    return (weights / (2 * weights.sum() - weights[0])).astype(np.float32)


def pull(image: np.ndarray, slopes: np.ndarray, scale) -> np.ndarray:
    """The (3, K, J, I) gradient of ``image`` per voxel, times ``slopes`` and one factor for each axis."""
    if kernel := compiled(kernels.gradient_times):
        return spread(kernel, (3, *image.shape), image, slopes, np.asarray(scale, np.float32))
    force = np.stack([difference(image, axis) for axis in range(3)])
    force *= slopes
    force *= np.asarray(scale, np.float32)[:, None, None, None]
    return force


def on_grid(field: np.ndarray, shape) -> np.ndarray:
    """The field on a grid of ``shape`` voxels that fills the same box, in that grid's voxels."""
    from scipy.ndimage import map_coordinates

    if field.shape[1:] == tuple(shape):
        return field
    ratio = np.array(field.shape[1:]) / np.array(shape)
    axes = [(np.arange(n) + 0.5) * r - 0.5 for n, r in zip(shape, ratio, strict=True)]
    where = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    return np.stack(
        [
            map_coordinates(part, where, order=1, mode="nearest", output=np.float32, prefilter=False) / np.float32(r)
            for part, r in zip(field, ratio, strict=True)
        ]
    )


def jacobian(field: np.ndarray) -> np.ndarray:
    """(K, J, I) determinant of the map's derivative: local volume ratio, ≤ 0 where it folds."""
    rows = [[difference(part, axis) + np.float32(n == axis) for axis in range(3)] for n, part in enumerate(field)]
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def faded(field: np.ndarray, margin) -> np.ndarray:
    """The field continued by ``margin`` (k, j, i) voxels on each side, where it runs out smoothly to zero."""
    result = np.pad(field, [(0, 0), *((m, m) for m in margin)], mode="edge")
    for axis, m in enumerate(margin):
        if m:
            ramp = np.float32(0.5) - np.cos(np.arange(m, dtype=np.float32) * np.float32(np.pi / m)) / 2
            profile = np.concatenate([ramp, np.ones(field.shape[axis + 1], np.float32), ramp[::-1]])
            shape = [1, 1, 1, 1]
            shape[axis + 1] = len(profile)
            result *= profile.reshape(shape)
    return result
