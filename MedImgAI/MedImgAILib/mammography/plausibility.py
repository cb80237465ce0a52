"""Whether a bright region is a breast at all, and what makes its measures doubtful."""

from __future__ import annotations

import numpy as np

from ..core import InputError

LEAST_CM2, MOST_CM2 = 5.0, 1500.0
_WALL = 0.5
"""A breast leans on the chest wall along at least this share of its height."""
_ACROSS = 0.6
"""Share of its height along which a breast cannot reach the other border, too."""
_CUT = 0.05
_SOLIDITY = 0.75
"""Least share of its convex hull that a breast fills."""
_EXTENT = 0.95
"""Share of its bounding box that no breast fills: its skin is curved."""
_IMPLANT_CM2 = 40.0


def check_breast(label: str, mask: np.ndarray, pixel_mm: float, context):
    """Refuse what is no breast; warn of one that is cut off.

    Parameters
    ----------
    label : str
        What messages call the image.
    mask : (rows, columns) bool ndarray
        The bright region, chest wall on the left.
    pixel_mm : float

    Raises
    ------
    InputError
        That says what is wrong.
    """
    area = mask.sum() * pixel_mm**2 / 100
    if not LEAST_CM2 < area < MOST_CM2:
        raise InputError(
            f"{label}: the bright region has {area:.0f} cm², which is no breast; check the image and the size of its "
            "pixels."
        )
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    strip = max(1, round(0.03 * (columns[-1] - columns[0] + 1)))
    leaning = mask[:, columns[0] : columns[0] + strip].any(1).sum() / len(rows)
    far = mask[:, -max(1, mask.shape[1] // 100) :].any(1).sum() / len(rows)
    if far > _ACROSS:
        raise InputError(
            f"{label}: the bright region reaches from the left to the right border, so this is no mammogram, or one "
            "that is cropped too closely; give the whole picture."
        )
    extent = mask.sum() / (len(rows) * len(columns))
    if leaning < _WALL or solidity(mask) < _SOLIDITY or extent > _EXTENT:
        raise InputError(
            f"{label}: the bright region does not have the shape of a breast that leans on one side of the picture; "
            "this is no mammogram, or it is turned."
        )
    if far > _CUT:
        context.warn(f"The breast in {label[0].lower()}{label[1:]} is cut off at the side of the nipple.")


def solidity(mask: np.ndarray) -> float:
    """Share of its convex hull that a region fills, 0…1."""
    from scipy.spatial import ConvexHull, QhullError

    rows = np.flatnonzero(mask.any(1))
    ends = [(r, c) for r in rows for c in (np.argmax(mask[r]), mask.shape[1] - np.argmax(mask[r, ::-1]))]
    corners = np.array([(r + d, c) for r, c in ends for d in (0, 1)], float)
    try:
        return float(min(1.0, mask.sum() / ConvexHull(corners).volume))
    except QhullError:
        return 0.0


def shows_implant(image: np.ndarray, breast: np.ndarray, pixel_mm: float) -> bool:
    """Whether a large, even, sharply bright and round region lies in the breast."""
    from scipy.ndimage import binary_opening, gaussian_filter, label

    smooth = gaussian_filter(image, 0.8 / pixel_mm)
    low, high = np.percentile(smooth[breast], [2, 99])
    bright = binary_opening(breast & (smooth > low + 0.7 * (high - low)), iterations=max(1, round(2 / pixel_mm)))
    numbers, count = label(bright)
    if not count:
        return False
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    region = numbers == int(np.argmax(sizes))
    if region.sum() * pixel_mm**2 / 100 < _IMPLANT_CM2 or solidity(region) < 0.9:
        return False
    inside = np.percentile(smooth[region], [10, 90])
    rest = smooth[breast & ~region]
    return bool(np.ptp(inside) < 0.12 * (high - low) and rest.size and np.median(rest) < low + 0.5 * (high - low))
