"""From detector counts to line integrals, and what spoils them: dead and starved pixels, rings, cut-off objects."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import InputError

from .accelerate import parallel


def line_integrals(counts: np.ndarray, flat, dark, name: str = "The scan", context=None) -> tuple[np.ndarray, int]:
    """−log((counts − dark)/(flat − dark)), with pixels that saw no photon filled in.

    Parameters
    ----------
    counts : (views, rows, columns) ndarray
    flat, dark : (frames, rows, columns) ndarray or None
        Averaged over their frames; without flat the counts are transmissions, without dark it is 0.

    Returns
    -------
    (views, rows, columns) float32 ndarray, number of pixels filled
        A pixel without a valid count takes the value interpolated between its valid neighbours along the row.

    Raises
    ------
    InputError
        For negative or non-finite counts, or a view without any valid pixel.
    """
    shape = counts.shape[1:]
    open_beam = np.ones(shape) if flat is None else np.asarray(flat, np.float64).mean(0)
    offset = np.zeros(shape) if dark is None else np.asarray(dark, np.float64).mean(0)
    gain = open_beam - offset
    alive = gain > 1e-3 * np.median(gain)
    if not alive.any():
        raise InputError(f"{name}: the flat field is nowhere brighter than the dark field.")
    scale = np.where(alive, 1 / np.where(alive, gain, 1), 0).astype(np.float32)
    offset = offset.astype(np.float32)
    result = np.empty(counts.shape, np.float32)
    filled = np.zeros(len(counts), int)

    def one(view):
        image = np.asarray(counts[view], np.float32)
        if not np.isfinite(image).all():
            raise InputError(f"{name} has NaN or infinite counts in view {view}; repair them first.")
        if image.min() < 0:
            raise InputError(f"{name} has negative counts in view {view}; counts cannot be below 0.")
        transmission = (image - offset) * scale
        valid = alive & (transmission > 1e-7)
        if not valid.any():
            raise InputError(f"{name} has no photon in view {view}; remove the view or correct the dark field.")
        value = -np.log(np.where(valid, transmission, 1))
        filled[view] = valid.size - int(valid.sum())
        if filled[view]:
            fill_rows(value, valid)
        result[view] = value

    parallel(one, range(len(counts)), context, "Taking logarithms")
    return result, int(filled.sum())


def fill_rows(image: np.ndarray, valid: np.ndarray):
    """Replace invalid pixels, in place, by linear interpolation along the row; whole rows by the nearest valid row."""
    good_rows = np.flatnonzero(valid.any(1))
    columns = np.arange(image.shape[1])
    for row in range(len(image)):
        if not valid[row].any():
            continue
        if not valid[row].all():
            image[row] = np.interp(columns, columns[valid[row]], image[row, valid[row]])
    for row in np.flatnonzero(~valid.any(1)):
        image[row] = image[good_rows[np.argmin(np.abs(good_rows - row))]]


def remove_rings(data: np.ndarray, width: int = 15, context=None) -> np.ndarray:
    """Line integrals without the constant error of single detector pixels, which make rings.

    The mean over the views of each pixel is compared with its median-smoothed self along the row; the difference is
    taken off all views (Boin & Haibel, Opt Express 14:12071, 2006, with a median for the moving average).

    Parameters
    ----------
    width : int
        Pixels of the median; odd. Rings wider than half of it stay.
    """
    from scipy.ndimage import median_filter

    mean = data.mean(axis=0, dtype=np.float64)
    ring = mean - median_filter(mean, size=(1, width), mode="nearest")
    return data - ring.astype(np.float32)


def extend_truncated(data: np.ndarray, columns: int) -> np.ndarray:
    """(views, rows, columns + 2·n) with the cut object continued on both sides, to take the bright rim off.

    Each row goes on with its edge value falling to 0 as a cosine (Hsieh et al., Med Phys 31:2385, 2004, in spirit).

    Parameters
    ----------
    columns : int
        Width n of the continuation.
    """
    fall = (0.5 + 0.5 * np.cos(np.pi * (np.arange(columns) + 0.5) / columns)).astype(np.float32)
    edge = min(4, data.shape[2])
    left, right = data[..., :edge].mean(-1)[..., None], data[..., -edge:].mean(-1)[..., None]
    return np.concatenate([np.maximum(left, 0) * fall[::-1], data, np.maximum(right, 0) * fall], axis=-1)
