"""Images prepared for registration: a resolution pyramid in a common frame, and the points where it is compared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import Geometry, InputError, Segmentation, Volume
from MedImgAILib.core.resampling import resample_labels

COARSEST_VOXELS = 32
"""How many voxels the longest side has on the coarsest level."""


def frame_of(volume: Volume) -> np.ndarray:
    """(4, 4) matrix from RAS to the volume's own frame: origin in its middle, axes along its canonical axes.

    All computing is done in this frame, so results do not depend on how the patient lay in the scanner.
    """
    geometry = volume.canonical().geometry
    left, _, right = np.linalg.svd(geometry.directions)
    matrix = np.eye(4)
    matrix[:3, :3] = (left @ right).T
    matrix[:3, 3] = -matrix[:3, :3] @ geometry.center
    return matrix


@dataclass(frozen=True)
class Level:
    """One resolution: smoothed (K, J, I) float32 voxels, their grid in the frame, and which of them count."""

    array: np.ndarray
    geometry: Geometry
    mask: np.ndarray | None
    spacing_mm: float

    def indices(self, points: np.ndarray) -> np.ndarray:
        """(3, N) fractional (k, j, i) of (3, N) positions in the frame."""
        matrix = self.geometry.ras_to_ijk[2::-1]
        return matrix[:, :3] @ points + matrix[:, 3:]


@dataclass(frozen=True)
class Pyramid:
    """An image from coarse to fine with its robust intensity range."""

    levels: tuple[Level, ...]
    low: float
    high: float


def build(volume: Volume, mask: Segmentation | None, frame: np.ndarray, spacings_mm) -> Pyramid:
    """Levels of about the given spacings (coarse to fine), never finer than the voxels.

    Parameters
    ----------
    volume : scalar Volume
    mask : Segmentation, optional
        Any of its segments counts; resampled to the volume's grid where it lies on another.
    frame : (4, 4) RAS to the common frame
    spacings_mm : decreasing floats

    Raises
    ------
    InputError
        If the image is constant, complex or the mask does not touch it.
    """
    if np.iscomplexobj(volume.array):
        raise InputError(f"{volume.label} has complex voxels; register its magnitude.")
    inside = None if mask is None else _mask_on(mask, volume).astype(np.float32)
    if inside is not None and not inside.any():
        raise InputError(f"{mask.label} has no voxel inside {volume.in_sentence}; choose a mask that covers it.")
    if inside is not None:
        inside = Volume(inside, volume.geometry).canonical().array
    volume = volume.canonical()
    # Rounded, so that the rounding errors of an oblique frame do not send the optimiser another way.
    array, geometry = volume.array, Geometry(np.round(frame @ volume.geometry.ijk_to_ras, 9), volume.geometry.shape)
    step = tuple(slice(None, None, max(1, n // 64)) for n in array.shape)
    low, high = (float(v) for v in np.percentile(array[step], (0.1, 99.9)))
    if not high > low:
        low, high = float(array.min()), float(array.max())
    if not high > low:
        raise InputError(f"{volume.label} is constant; there is nothing to align.")
    levels = []
    array = np.clip(array, low, high).astype(np.float32)
    for spacing in reversed(spacings_mm):
        array, geometry, inside = _shrink(array, geometry, inside, spacing)
        levels.insert(0, Level(_smooth(array, geometry, 0.5 * spacing), geometry, _touched(inside), spacing))
    return Pyramid(tuple(levels), low, high)


def build_both(volumes, masks, frame: np.ndarray, spacings_mm) -> list[Pyramid]:
    """:func:`build` of two images with their masks or None, side by side."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(build, *pair, frame, spacings_mm) for pair in zip(volumes, masks, strict=True)]
        return [job.result() for job in jobs]


def build_after(fixed: Volume, moving: Volume, masks, to_moving: np.ndarray, spacings_mm) -> list[Pyramid]:
    """:func:`build_both` in RAS, the moving image where the linear start (4, 4), fixed to moving, puts it."""
    back = np.linalg.inv(to_moving)
    moved = None if masks[1] is None else masks[1].transformed(back)
    return build_both((fixed, moving.transformed(back)), (masks[0], moved), np.eye(4), spacings_mm)


def level_spacings(volume: Volume) -> list[float]:
    """Spacings in mm, coarse to fine, each half the one before."""
    extents = np.sort(np.array(volume.geometry.shape[::-1]) * volume.geometry.spacing)
    coarsest = extents[-1] / COARSEST_VOXELS
    finest = np.sort(volume.geometry.spacing)[0]
    count = int(np.clip(np.floor(np.log2(coarsest / finest) + 1.3), 1, 4))
    return [coarsest / 2**n for n in range(count)]


def _mask_on(mask: Segmentation, volume: Volume) -> np.ndarray:
    """(K, J, I) bool on the volume's grid: inside any segment."""
    covered = mask.labelmap() > 0
    if mask.geometry.same_grid(volume.geometry):
        return covered
    return resample_labels(covered, mask.geometry, volume.geometry)


def _touched(mask):
    return None if mask is None else mask > 0


def _shrink(array, geometry, mask, spacing_mm):
    """Block means: the outer rest that fills no block is dropped."""
    factors = np.maximum(1, np.rint(spacing_mm / geometry.spacing_kji * 0.8)).astype(int)
    factors = np.minimum(factors, array.shape)
    if (factors == 1).all():
        return array, geometry, mask
    shape = tuple(n // f for n, f in zip(array.shape, factors, strict=True))
    matrix = geometry.ijk_to_ras.copy()
    matrix[:3, :3] = matrix[:3, :3] * factors[::-1]
    matrix[:3, 3] = geometry.ras((factors[::-1] - 1) / 2)
    shrunk = [None if a is None else _block_mean(a, factors, shape) for a in (array, mask)]
    return shrunk[0], Geometry(matrix, shape), shrunk[1]


def _block_mean(array, factors, shape):
    for axis, (factor, count) in enumerate(zip(factors, shape, strict=True)):
        if factor > 1:
            parts = [
                array[(slice(None),) * axis + (slice(n, n + factor * (count - 1) + 1, factor),)] for n in range(factor)
            ]
            array = sum(parts[1:], start=parts[0]) * np.float32(1 / factor)
    return array


def _smooth(array, geometry, sigma_mm):
    from scipy.ndimage import gaussian_filter1d

    result = np.ascontiguousarray(array, np.float32)
    for axis, spacing in enumerate(geometry.spacing_kji):
        sigma = sigma_mm / spacing
        if sigma > 0.3 and array.shape[axis] > 1:
            result = gaussian_filter1d(result, sigma, axis=axis, mode="nearest", truncate=2.5)
    return result


def edge_strength(level: Level) -> np.ndarray:
    """(K, J, I) gradient magnitude per mm, clipped at its 99th percentile, 0 outside the mask."""
    total = np.zeros(level.array.shape, np.float32)
    for axis, spacing in enumerate(level.geometry.spacing_kji):
        if level.array.shape[axis] > 1:
            total += (np.gradient(level.array, axis=axis) / np.float32(spacing)) ** 2
    edges = np.sqrt(total)
    edges = np.minimum(edges, np.percentile(edges, 99))
    return edges if level.mask is None else edges * level.mask


def center_of_edges(level: Level) -> np.ndarray:
    """Centre of mass of the edges in the frame, mm; independent of modality, contrast and background value."""
    weights = edge_strength(level).astype(np.float64)
    total = weights.sum()
    if total == 0:
        return level.geometry.center
    kji = [
        (weights.sum(axis=tuple(a for a in range(3) if a != axis)) * np.arange(n)).sum() / total
        for axis, n in enumerate(weights.shape)
    ]
    return level.geometry.ras(kji[::-1])


def sample_points(coarsest: Level, finest: Level, count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions where the fixed image is compared: more of them where it has structure.

    Three of four are drawn from the cells of the coarsest level with a probability that grows with their edges, the
    rest evenly; each lies at a random place within its cell, which avoids the artefacts of comparing on a lattice
    (Pluim et al. 2000, CVIU 77:211).

    Parameters
    ----------
    coarsest, finest : Level
        The mask of the finest decides which points stay.
    count : int

    Returns
    -------
    (3, N) positions in the frame, mm, in storage order; N is ``count`` without a mask.
    """
    edges = edge_strength(coarsest).ravel().astype(np.float64)
    allowed = np.ones(edges.size, bool) if coarsest.mask is None else coarsest.mask.ravel()
    edges *= allowed
    chances = allowed / allowed.sum()
    if edges.any():
        chances = 0.25 * chances + 0.75 * edges / edges.sum()
    steps = np.cumsum(chances)
    # Stratified: one draw per equal share of the total chance.
    draws = (np.arange(count) + rng.random(count)) / count * steps[-1]
    cells = np.minimum(np.searchsorted(steps, draws), edges.size - 1)
    shape = np.array(coarsest.array.shape)[:, None]
    kji = np.stack(np.unravel_index(cells, coarsest.array.shape)) + (rng.random((3, count)) - 0.5)
    points = coarsest.geometry.ras(np.clip(kji, 0, shape - 1)[::-1].T)
    if finest.mask is not None:
        near = np.rint(finest.geometry.ijk(points)[:, ::-1]).astype(int)
        near = np.clip(near, 0, np.array(finest.array.shape) - 1)
        kept = finest.mask[tuple(near.T)]
        points = points[kept] if kept.any() else points
    return np.ascontiguousarray(points.T)
