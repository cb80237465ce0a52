"""A mammogram as it hangs: rows from top to bottom, the chest wall on the left, at a working resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import InputError, Volume
from ..core.geometry import inverse_order

PLAUSIBLE_MM = (0.02, 0.5)
"""Pixel sizes of mammographic detectors and their reduced copies."""
ASSUMED_MM = 0.07
"""Taken where the image does not tell: the pixel of a common selenium detector."""


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

    Parameters
    ----------
    volume : Volume
        A single slice.
    pixel_mm : float
        0 takes the volume's spacing where it is plausible.

    Raises
    ------
    InputError
        If it is not one grey picture with something bright on a dark ground.
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
    plane = ordered.array.squeeze(flat).astype(np.float32)[::-1, ::-1]
    if not np.isfinite(plane).all():
        raise InputError(f"{volume.label} has NaN or infinite values; repair them first.")
    low, high = np.percentile(plane[::4, ::4], [1, 99.5])
    if not high > low:
        raise InputError(f"{volume.label} is the same everywhere; choose a mammogram.")
    border = np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])
    if np.median(border) > (low + high) / 2:
        raise InputError(f"{volume.label} has a bright ground: invert it (MONOCHROME1) before it is used.")
    if not pixel_mm:
        pixel_mm = float(spacing[0])
        if not PLAUSIBLE_MM[0] <= pixel_mm <= PLAUSIBLE_MM[1]:
            context.warn(
                f"The pixels of {volume.in_sentence} are said to be {pixel_mm:g} mm, which no mammogram has; "
                f"{ASSUMED_MM} mm are assumed."
            )
            pixel_mm = ASSUMED_MM
    tissue = plane > low + 0.05 * (high - low)
    width = max(2, plane.shape[1] // 50)
    wall_is_right = bool(tissue[:, -width:].mean() > tissue[:, :width].mean())
    array = np.ascontiguousarray(plane[:, ::-1] if wall_is_right else plane)
    return Picture(array, pixel_mm, wall_is_right, volume)


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
