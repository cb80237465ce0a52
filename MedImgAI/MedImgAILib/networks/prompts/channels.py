"""Prompts as images: what the promptable network is given beside the picture."""

from __future__ import annotations

import numpy as np

NEAR, FAR = 1.5, 6.0
"""Standard deviations of the two marks around a point, in voxels of the network's grid."""


def channels(shape, positive=None, negative=None, box=None) -> np.ndarray:
    """(5, K, J, I) float32: near and far marks of the positive and negative points, and the box.

    Parameters
    ----------
    shape : (K, J, I)
    positive, negative : (K, J, I) bool ndarray, optional
        Voxels that belong to the structure, and that do not: points or scribbles.
    box : three slices, optional
        Where the structure lies.
    """
    result = np.zeros((5, *shape), np.float32)
    for number, marked in enumerate((positive, negative)):
        if marked is not None and marked.any():
            squared = _squared_distance(marked)
            result[number] = np.exp(-squared / (2 * NEAR**2))
            result[number + 2] = np.exp(-squared / (2 * FAR**2))
    if box is not None:
        result[4][box] = 1
    return result


def _squared_distance(marked: np.ndarray) -> np.ndarray:
    """Squared distance in voxels to the nearest marked voxel."""
    from scipy.ndimage import distance_transform_edt

    points = np.argwhere(marked)
    if len(points) > 12:
        return distance_transform_edt(~marked).astype(np.float32) ** 2
    axes = [np.arange(n, dtype=np.float32) for n in marked.shape]
    nearest = np.full(marked.shape, np.inf, np.float32)
    for point in points:
        k, j, i = ((axis - p) ** 2 for axis, p in zip(axes, point))
        np.minimum(nearest, k[:, None, None] + j[:, None] + i, out=nearest)
    return nearest
