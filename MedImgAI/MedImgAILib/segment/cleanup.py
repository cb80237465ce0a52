"""Boundary clean-up of masks with lengths in mm; independent of the axis order, and right for sheared grids."""

from __future__ import annotations

import numpy as np

from ..core import Geometry, InputError

_LARGEST_BALL = 1 << 23
"""Voxels of the box around a ball; more would take gigabytes and minutes."""


def ball(geometry: Geometry, radius_mm: float) -> np.ndarray:
    """(k, j, i) bool: the voxels whose centres lie within ``radius_mm`` of the middle one.

    Raises
    ------
    InputError
        If that is an absurd number of voxels, as millimetres are in micro-CT.
    """
    # Bound each index by the ball's extent along it; rows of the inverse are the index gradients (1/mm).
    reach = np.floor(radius_mm * np.linalg.norm(geometry.ras_to_ijk[:3, :3], axis=1) + 1e-6).astype(int)
    if np.prod(2.0 * reach + 1) > _LARGEST_BALL:
        raise InputError(
            f"A radius of {radius_mm:g} mm is {reach.max()} voxels of this image, too many to compute with; choose a "
            f"smaller one (the voxels measure {geometry.spacing.min():.3g} mm)."
        )
    i, j, k = (np.arange(-r, r + 1) for r in reach)
    kk, jj, ii = np.meshgrid(k, j, i, indexing="ij")
    offsets = np.stack([ii, jj, kk], axis=-1) @ geometry.ijk_to_ras[:3, :3].T
    return np.linalg.norm(offsets, axis=-1) <= radius_mm * (1 + 1e-9)


def bounding_box(mask: np.ndarray, margin=(0, 0, 0)) -> tuple[slice, ...]:
    """The slices that hold all true voxels, grown by ``margin`` (k, j, i) voxels within the array."""
    slices = []
    for axis in range(3):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = line[0] - margin[axis], line[-1] + 1 + margin[axis]
        slices.append(slice(max(0, int(low)), min(mask.shape[axis], int(high))))
    return tuple(slices)


def neighbours(mask: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """How many true voxels of ``mask`` the footprint around each voxel covers; nothing lies outside the array."""
    from scipy.signal import oaconvolve

    return np.rint(oaconvolve(mask.astype(np.float32), footprint.astype(np.float32), mode="same"))


def smooth(mask: np.ndarray, geometry: Geometry, method: str, radius_mm: float) -> np.ndarray:
    """A mask with a smoother boundary.

    Parameters
    ----------
    mask : (K, J, I) bool
    method : "median", "closing" or "opening"
        Median: a voxel becomes what most of the ball around it is. Closing fills gaps narrower than the ball,
        opening removes bridges narrower than it (Serra 1982).
    radius_mm : float
    """
    footprint = ball(geometry, radius_mm)
    if footprint.size == 1 or not mask.any():
        return mask.copy()
    reach = tuple(n // 2 for n in footprint.shape)
    inside = bounding_box(mask, reach)
    # Padded so that the ball meets background, not the array's end, where the mask touches the edge.
    padded = np.pad(mask[inside], [(r, r) for r in reach])
    size = footprint.sum()
    if method == "median":
        result = neighbours(padded, footprint) > size / 2
    elif method == "closing":
        result = neighbours(neighbours(padded, footprint) > 0, footprint) == size
        # What the padding cuts off at the border of the array never was background.
        result |= padded
    elif method == "opening":
        result = neighbours(neighbours(padded, footprint) == size, footprint) > 0
    else:
        raise ValueError(f"unknown smoothing '{method}'")
    smoothed = np.zeros_like(mask)
    smoothed[inside] = result[tuple(slice(r, r + n) for r, n in zip(reach, mask[inside].shape))]
    return smoothed


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """The mask with every background region that does not reach the array's border; in the plane for one slice."""
    from scipy.ndimage import binary_fill_holes

    flat = [axis for axis, extent in enumerate(mask.shape) if extent == 1]
    filled = binary_fill_holes(mask.squeeze(tuple(flat)) if flat else mask)
    return filled.reshape(mask.shape)


def components_at(mask: np.ndarray, indices) -> np.ndarray:
    """The face-connected components of ``mask`` that hold one of the (k, j, i) ``indices``."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    wanted = {int(labels[tuple(index)]) for index in indices} - {0}
    return np.isin(labels, list(wanted)) if wanted else np.zeros_like(mask)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest component, connected by faces, edges or corners; of equals the first in the array."""
    from scipy.ndimage import label

    labels, count = label(mask, structure=np.ones((3, 3, 3)))
    if count == 0:
        return mask.copy()
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def voxels_within(geometry: Geometry, center_kji, radius_mm: float):
    """(N, 3) indices (k, j, i) of the grid's voxels whose centres lie within ``radius_mm`` of a voxel's."""
    footprint = np.argwhere(ball(geometry, radius_mm))
    extent = footprint.max(axis=0) // 2
    indices = footprint - extent + np.asarray(center_kji)
    return indices[np.all((indices >= 0) & (indices < geometry.shape), axis=1)]


def with_margin(mask: np.ndarray, geometry: Geometry, margin_mm: float) -> np.ndarray:
    """The mask grown by (or, if negative, shrunk by) ``margin_mm``, measured between voxel centres.

    Nothing lies outside the array, so that shrinking also takes away from the array's faces.
    """
    footprint = ball(geometry, abs(margin_mm))
    if footprint.size == 1 or not mask.any():
        return mask.copy()
    reach = tuple(n // 2 for n in footprint.shape)
    inside = bounding_box(mask, reach)
    counts = neighbours(mask[inside], footprint)
    result = np.zeros_like(mask)
    result[inside] = counts > 0 if margin_mm > 0 else counts == footprint.sum()
    return result


def without_islands(mask: np.ndarray, geometry: Geometry, smallest_mm3: float) -> np.ndarray:
    """The mask without its face-connected components smaller than ``smallest_mm3``."""
    from scipy.ndimage import label

    labels, _ = label(mask)
    sizes = np.bincount(labels.ravel()) * geometry.voxel_volume_mm3
    keep = sizes >= smallest_mm3 * (1 - 1e-9)
    keep[0] = False
    return keep[labels]


def joint_smooth(labels: np.ndarray, geometry: Geometry, sigma_mm: float) -> np.ndarray:
    """A label image whose boundaries were all smoothed at once.

    Every label, the background included, is smoothed as an image of its own; each voxel goes to the largest. So two
    labels that touched still touch, without a gap or an overlap; one label alone is cut at one half.

    Parameters
    ----------
    labels : (K, J, I) unsigned integer ndarray
        0 is background.
    geometry : Geometry
        With axes at right angles.
    sigma_mm : float
        Standard deviation of the Gaussian.
    """
    present = [int(n) for n in np.unique(labels) if n]
    if not present or sigma_mm <= 0:
        return labels.copy()
    reach = np.ceil(4 * sigma_mm / geometry.spacing_kji).astype(int) + 1
    inside = bounding_box(labels > 0, reach)
    part = labels[inside]
    best = np.full(part.shape, -1.0, np.float32)
    result = np.zeros_like(part)
    # The background comes last, so that a tie leaves the voxel to a segment.
    for value in (*present, 0):
        share = gaussian_mm((part == value).astype(np.float32), geometry, sigma_mm)
        wins = share > best + 1e-6
        result[wins] = value
        best[wins] = share[wins]
    smoothed = np.zeros_like(labels)
    smoothed[inside] = result
    return smoothed


def gaussian_mm(array: np.ndarray, geometry: Geometry, sigma_mm: float) -> np.ndarray:
    """(K, J, I) float32: the array smoothed by a Gaussian of ``sigma_mm``; its edges repeat."""
    from scipy.ndimage import gaussian_filter1d

    for axis, spacing in enumerate(geometry.spacing_kji):
        if array.shape[axis] > 1:
            array = gaussian_filter1d(array, sigma_mm / spacing, axis=axis, mode="nearest", output=np.float32)
    return array
