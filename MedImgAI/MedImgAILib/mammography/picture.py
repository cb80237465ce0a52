"""A mammogram as it hangs: rows from top to bottom, the chest wall on the left, at a working resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import InputError, Volume
from ..core.geometry import inverse_order
from ..core.intensity import otsu_threshold

PLAUSIBLE_MM = (0.02, 0.5)
"""Pixel sizes of mammographic detectors and their reduced copies."""
ASSUMED_MM = 0.07
"""Taken where the image does not tell: the pixel of a common selenium detector."""
LEAST_FIELD_MM, FIELD_MM = 100.0, 200.0
"""A picture lower than the first with that pixel is a reduced copy; it is then taken to be as high as the second."""
AIRLESS = 0.2
"""Least over highest value from which a picture seems to show no air."""
RAW_CONTRAST = 6.0
"""Ground over tissue: beyond this the values are transmission, not yet its logarithm."""


@dataclass(frozen=True)
class Picture:
    """A mammogram and the way back to its volume.

    Parameters
    ----------
    array : (rows, columns) float32 ndarray
        Chest wall on the left, dense tissue bright.
    pixel_mm : float
    wall_was_right : bool
        Whether it was mirrored.
    volume : Volume
    """

    array: np.ndarray
    pixel_mm: float
    wall_was_right: bool
    volume: Volume

    def restored(self, values: np.ndarray) -> np.ndarray:
        """(rows, columns) values in the voxel order of the volume."""
        order = self.volume.geometry.canonical_order()
        ordered = self.volume.reordered(*order)
        flat = int(np.argmin(ordered.geometry.shape))
        plane = values[:, ::-1] if self.wall_was_right else values
        stack = ordered.with_array(np.expand_dims(plane[::-1, ::-1], flat))
        return np.ascontiguousarray(stack.reordered(*inverse_order(*order)).array)

    def ras(self, row: float, column: float) -> np.ndarray:
        """(3,) RAS in mm of a place in the picture."""
        ordered = self.volume.geometry.reordered(*self.volume.geometry.canonical_order())
        rows, columns = self.array.shape
        if self.wall_was_right:
            column = columns - 1 - column
        index = [rows - 1 - row, columns - 1 - column]
        index.insert(int(np.argmin(ordered.shape)), 0.0)
        return ordered.ras(np.array([index[::-1]], float))[0]


def picture_of(volume: Volume, pixel_mm: float, context) -> Picture:
    """The mammogram as it hangs.

    A picture with a bright ground (MONOCHROME1) is inverted, and one for processing, whose ground is many times
    brighter than tissue, is turned into attenuation by the logarithm.

    Parameters
    ----------
    volume : Volume
        A single slice; colours only if they are grey.
    pixel_mm : float
        0 takes the volume's spacing where it is plausible.

    Raises
    ------
    InputError
        If it is not one grey picture with something in it.
    """
    ordered = volume.reordered(*volume.geometry.canonical_order())
    shape = ordered.geometry.shape
    flat = int(np.argmin(shape))
    if shape[flat] != 1:
        raise InputError(f"{volume.label} has several slices; a mammogram is a single one.")
    if sorted(shape)[1] < 64:
        raise InputError(f"{volume.label} is too small for a mammogram; at least 64 × 64 pixels are needed.")
    spacing = np.delete(ordered.geometry.spacing_kji, flat)
    if spacing.max() > 1.02 * spacing.min():
        raise InputError(f"{volume.label} has pixels that are not square; resample it first.")
    # Pictures run to the left and to the back, the canonical order to the right and to the front.
    plane = _grey(ordered.array, volume).squeeze(flat).astype(np.float32)[::-1, ::-1]
    if not np.isfinite(plane).all():
        raise InputError(f"{volume.label} has NaN or infinite values; repair them first.")
    low, high = np.percentile(plane[::4, ::4], [1, 99.5])
    if not high > low:
        raise InputError(f"{volume.label} is the same everywhere; choose a mammogram.")
    if _ground_is_bright(plane, low, high):
        plane = _inverted(plane, volume, context)
    elif low > AIRLESS * high:
        context.warn(
            f"There is no dark air beside the breast in {volume.in_sentence}; if it was cut out, give it whole."
        )
    plane = _without_frame(plane)
    pixel_mm = pixel_mm or _pixel_size(float(spacing[0]), plane.shape[0], volume, context)
    wall_is_right = _wall_is_right(plane)
    array = np.ascontiguousarray(plane[:, ::-1] if wall_is_right else plane)
    return Picture(array, pixel_mm, wall_is_right, volume)


def _grey(array: np.ndarray, volume: Volume) -> np.ndarray:
    if array.ndim == 3:
        return array
    colors = array[..., :3].astype(np.float32)
    if np.ptp(colors, axis=-1).mean() > 0.02 * max(1e-6, float(np.ptp(colors))):
        raise InputError(f"{volume.label} is in colour, so it is no mammogram.")
    return colors.mean(-1)


def _ground_is_bright(plane: np.ndarray, low: float, high: float) -> bool:
    """By the rim of the picture, a little inside, where a frame would be."""
    inset, width = (max(1, round(share * min(plane.shape))) for share in (0.02, 0.03))
    inner = plane[inset:-inset, inset:-inset]
    rim = np.concatenate(
        [part.ravel() for part in (inner[:width], inner[-width:], inner[:, :width], inner[:, -width:])]
    )
    dark, bright = (rim < low + 0.15 * (high - low)).mean(), (rim > low + 0.85 * (high - low)).mean()
    return bool(bright > max(dark, 0.25))


def _inverted(plane: np.ndarray, volume: Volume, context) -> np.ndarray:
    ground = float(np.percentile(plane, 99.5))
    tissue = plane[plane < 0.9 * ground]
    contrast = ground / max(float(np.median(tissue)), 1e-6) if tissue.size and plane.min() >= 0 else 1.0
    header = volume.provenance.get("dicom", {}).get("mammography", {})
    if header.get("for_processing", contrast > RAW_CONTRAST):
        context.warn(
            f"The ground of {volume.in_sentence} is {contrast:.1f} times brighter than tissue, as in images for "
            "processing; its logarithm is taken, but measures are meant for images for presentation."
        )
        floor = max(float(np.percentile(plane[plane > 0], 0.5)) if (plane > 0).any() else 1.0, 1e-6 * ground, 1e-6)
        return np.log(ground / np.clip(plane, floor, ground))
    context.log(f"{volume.label} has a bright ground (MONOCHROME1); it is inverted.")
    return np.maximum(ground - plane, 0)


def _without_frame(plane: np.ndarray) -> np.ndarray:
    """Lines at the borders that are bright from end to end, as scanners draw them, replaced by the next one inside."""
    low, high = np.percentile(plane[::4, ::4], [1, 99.5])
    level = low + 0.85 * (high - low)
    plane = plane.copy()
    for turned in (plane, plane[::-1], plane.T, plane.T[::-1]):
        most = max(1, round(0.03 * len(turned)))
        count = next((n for n in range(most) if np.percentile(turned[n], 5) < level), 0)
        turned[:count] = turned[count]
    return plane


def _pixel_size(spacing_mm: float, rows: int, volume: Volume, context) -> float:
    if PLAUSIBLE_MM[0] <= spacing_mm <= PLAUSIBLE_MM[1]:
        return spacing_mm
    assumed = ASSUMED_MM if rows * ASSUMED_MM >= LEAST_FIELD_MM else round(FIELD_MM / rows, 3)
    context.warn(
        f"The pixels of {volume.in_sentence} are said to be {spacing_mm:g} mm, which no mammogram has; "
        f"{assumed:g} mm are assumed, so areas and sizes may be wrong."
    )
    return assumed


def _wall_is_right(plane: np.ndarray) -> bool:
    """The side along which the largest bright region leans; letters and markers are other regions."""
    from scipy.ndimage import gaussian_filter, label

    small = reduced(plane, max(1, min(plane.shape) // 128))
    level = np.log1p(np.maximum(gaussian_filter(small, 1.0) - np.percentile(small, 1), 0))
    numbers, count = label(level > 0.75 * otsu_threshold(level))
    if not count:
        return False
    region = numbers == int(np.argmax(np.bincount(numbers.ravel())[1:])) + 1
    columns = np.flatnonzero(region.any(0))
    strip = max(1, round(0.04 * (columns[-1] - columns[0] + 1)))
    left, right = (region[:, n].any(1).sum() for n in (slice(columns[0], columns[0] + strip),
                                                       slice(columns[-1] + 1 - strip, columns[-1] + 1)))  # fmt: skip
    if left == right:
        half = small.shape[1] // 2
        left, right = small[:, :half].mean(), small[:, -half:].mean()
    return bool(right > left)


def reduced(array: np.ndarray, factor: int) -> np.ndarray:
    """Means of ``factor`` × ``factor`` pixels; what is left over at the far borders is dropped."""
    if factor <= 1:
        return array
    rows, columns = (n // factor * factor for n in array.shape)
    return array[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor).mean((1, 3))


def enlarged(mask: np.ndarray, factor: int, shape) -> np.ndarray:
    """A reduced array at full size again, each value repeated."""
    full = np.repeat(np.repeat(mask, factor, 0), factor, 1)[: shape[0], : shape[1]]
    return np.pad(full, [(0, shape[n] - full.shape[n]) for n in range(2)], mode="edge")
