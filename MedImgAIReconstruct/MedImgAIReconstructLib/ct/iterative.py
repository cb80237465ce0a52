"""Iterative reconstruction on any :class:`.projector.Projector`.

Each function yields ``(iterate, residual)`` after every iteration: the (nz, ny, nx) float32 image, which the caller
may read until it asks for the next, and the relative residual ‖A x − b‖/‖b‖ of the image before the update (CGLS,
whose recursion knows it: after).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .grid import Grid
from .projector import Projector


def row_and_column_sums(projector: Projector) -> tuple[np.ndarray, np.ndarray]:
    """A 1 and Aᵀ 1, of one slice where all slices are alike; broadcast against projections and volume."""
    if projector.is_stack and projector.volume_shape[0] > 1 and projector.tilt is None:
        scan = replace(projector.scan, offset_mm=(0.0, projector.scan.offset_mm[1]))
        grid = Grid((1, *projector.volume_shape[1:]), projector.grid.spacing_mm, (0.0, *projector.grid.center_mm[1:]))
        projector = Projector(scan, 1, projector.columns, grid, projector.device)
    rows = projector.forward(np.ones(projector.volume_shape, np.float32))
    columns = projector.adjoint(np.ones(projector.projection_shape, np.float32))
    return rows, columns


def inverse(sums: np.ndarray) -> np.ndarray:
    """1/sums, and 0 where a ray or voxel is met by (almost) nothing."""
    limit = 1e-6 * float(sums.max(initial=0.0))
    return np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > limit)


def sirt(projector: Projector, data, start, iterations: int, relaxation: float = 1.0, nonnegative: bool = False):
    """Simultaneous iterative reconstruction, x ← x + λ C Aᵀ R (b − A x) (Gregor & Benson, IEEE TMI 27:918, 2008)."""
    rows, columns = (inverse(s) for s in row_and_column_sums(projector))
    columns *= np.float32(relaxation)
    image = start.copy()
    scale = norm(data)
    for _ in range(iterations):
        residual = data - projector.forward(image)
        size = norm(residual) / scale
        residual *= rows
        update = projector.adjoint(residual)
        update *= columns
        image += update
        if nonnegative:
            np.maximum(image, 0, out=image)
        yield image, size


def os_sart(
    projector: Projector, data, start, iterations: int, subsets: int, relaxation: float = 1.0, nonnegative: bool = True
):
    """SIRT on subsets of the views in turn, farthest first (Wang & Jiang, J X-Ray Sci Technol 12:169, 2004).

    The relaxation falls as 1/√n, so that the subsets agree in the end.
    """
    views = len(data)
    subsets = max(1, min(subsets, views))
    parts = [np.arange(n, views, subsets) for n in far_order(subsets)]
    operators = [projector.subset(part) for part in parts]
    rows, columns = row_and_column_sums(projector)
    rows, columns = inverse(rows), inverse(columns)
    image = start.copy()
    scale = norm(data)
    for iteration in range(iterations):
        step = np.float32(relaxation / np.sqrt(iteration + 1))
        total = 0.0
        for part, operator in zip(parts, operators):
            residual = data[part] - operator.forward(image)
            total += norm(residual) ** 2
            residual *= rows[part]
            update = operator.adjoint(residual)
            update *= columns * (step * np.float32(views / len(part)))
            image += update
            if nonnegative:
                np.maximum(image, 0, out=image)
        yield image, np.sqrt(total) / scale


def far_order(count: int) -> list[int]:
    """0 … count − 1 such that neighbours in the list are far apart: bits reversed."""
    bits = max(1, (count - 1).bit_length())
    reverse = [int(f"{n:0{bits}b}"[::-1], 2) for n in range(1 << bits)]
    return [n for n in reverse if n < count]


def cgls(projector: Projector, data, start, iterations: int):
    """Conjugate gradients on the normal equations (Björck, Numerical Methods for Least Squares Problems, 1996)."""
    image = start.copy()
    scale = norm(data)
    residual = data - projector.forward(image) if image.any() else np.array(data, np.float32)
    direction = projector.adjoint(residual)
    gamma = norm(direction) ** 2
    if gamma == 0:
        return
    for _ in range(iterations):
        image_of_direction = projector.forward(direction)
        step = gamma / norm(image_of_direction) ** 2
        image += np.float32(step) * direction
        residual -= np.float32(step) * image_of_direction
        gradient = projector.adjoint(residual)
        previous, gamma = gamma, norm(gradient) ** 2
        direction *= np.float32(gamma / previous)
        direction += gradient
        yield image, norm(residual) / scale
        if gamma == 0:
            return


def total_variation(projector: Projector, data, start, iterations: int, strength: float, nonnegative: bool = True):
    """min ½ Σ r²/(A 1) + λ TV(x) by the preconditioned primal-dual algorithm.

    Chambolle & Pock (J Math Imaging Vis 40:120, 2011) with the diagonal steps of Pock & Chambolle (ICCV 2011) and the
    rays weighted as in SIRT, so that neither part needs tuning. TV is isotropic, of differences in mm.

    Parameters
    ----------
    strength : float
        Contrast, in the image's unit, that is smoothed away where a voxel's neighbours do not support it;
        λ is ``strength`` times the mean of Aᵀ 1 times the smallest voxel edge.
    """
    row_sums, column_sums = row_and_column_sums(projector)
    spacing = np.array(projector.grid.spacing_mm)
    axes = [n for n in range(3) if projector.volume_shape[n] > 1]
    relative = {n: np.float32(spacing[axes].min() / spacing[n]) for n in axes}
    # The gradient block is scaled down so that it does not shorten the steps of the data block.
    share = 0.1
    mean = share * float(column_sums[column_sums > 0].mean())
    limit = np.float32(strength / share)
    steps = 1 / (column_sums + np.float32(2 * mean * sum(relative.values())))
    dual_steps = inverse(row_sums)
    image = start.copy()
    ahead = image.copy()
    dual = np.zeros(data.shape, np.float32)
    slopes = [np.zeros(image.shape, np.float32) for _ in axes]
    scale = norm(data)
    for _ in range(iterations):
        residual = projector.forward(ahead)
        residual -= data
        size = norm(residual) / scale
        # prox of the conjugate of ½ r²/(A 1) with the step 1/(A 1): the mean of old and new
        residual *= dual_steps
        dual += residual
        dual *= np.float32(0.5)
        for slope, axis in zip(slopes, axes):
            slope += difference(ahead, axis) * (np.float32(0.5) * relative[axis])
        length = np.sqrt(sum(slope * slope for slope in slopes))
        np.maximum(length / max(limit, np.float32(1e-30)), 1, out=length)
        gradient = projector.adjoint(dual)
        for slope, axis in zip(slopes, axes):
            slope /= length
            gradient -= divergence(slope, axis) * np.float32(mean * relative[axis])
        gradient *= steps
        ahead[:] = image
        image -= gradient
        if nonnegative:
            np.maximum(image, 0, out=image)
        ahead *= -1
        ahead += 2 * image
        yield image, size


def difference(image: np.ndarray, axis: int) -> np.ndarray:
    """Forward differences, 0 at the far border."""
    result = np.zeros_like(image)
    low, high = _shifted(image.ndim, axis)
    np.subtract(image[high], image[low], out=result[low])
    return result


def divergence(slope: np.ndarray, axis: int) -> np.ndarray:
    """Minus the adjoint of :func:`difference`."""
    result = np.zeros_like(slope)
    low, high = _shifted(slope.ndim, axis)
    result[low] += slope[low]
    result[high] -= slope[low]
    return result


def _shifted(ndim: int, axis: int):
    low, high = [slice(None)] * ndim, [slice(None)] * ndim
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def norm(array: np.ndarray) -> float:
    """Euclidean norm, summed in double precision."""
    flat = array.reshape(-1)
    return float(np.sqrt(sum(float(np.dot(part, part)) for part in np.array_split(flat, max(1, flat.size >> 16)))))
