"""Breast, pectoral muscle and dense tissue of a mammogram whose chest wall is on the left."""

from __future__ import annotations

import numpy as np

from ..core.intensity import otsu_threshold

SKIN_MM = 4.0
"""Rim of the breast that is skin and under-exposed fat."""


def breast_mask(image: np.ndarray, pixel_mm: float) -> np.ndarray:
    """(rows, columns) bool: the largest bright region that touches the chest wall, without labels and markers.

    Otsu's threshold of the logarithm separates air from tissue; a morphological opening cuts off what is thin.
    """
    from scipy.ndimage import binary_fill_holes, binary_opening, gaussian_filter, label

    smooth = gaussian_filter(image, max(0.5, 0.4 / pixel_mm))
    smooth = smooth - np.percentile(smooth, 0.5)
    level = np.log1p(np.maximum(smooth, 0))
    tissue = level > 0.75 * otsu_threshold(level)
    steps = max(1, round(1.5 / pixel_mm))
    tissue = binary_opening(np.pad(tissue, steps, mode="edge"), disc(steps))[steps:-steps, steps:-steps]
    numbers, count = label(tissue)
    if not count:
        return tissue
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    wall = np.bincount(numbers[:, : max(1, image.shape[1] // 50)].ravel(), minlength=count + 1)
    sizes[(wall == 0) & (np.arange(count + 1) > 0)] //= 10
    # Closed at the wall, so that air pockets of the pectoral fold count as breast.
    breast = numbers == int(np.argmax(sizes))
    return binary_fill_holes(np.pad(breast, ((0, 0), (1, 0)), constant_values=True))[:, 1:]


def disc(radius: int) -> np.ndarray:
    """A round structuring element."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius + 0.5


def top_share(breast: np.ndarray) -> float:
    """Width of the breast at the upper border over its greatest width: large in oblique views."""
    widths = breast.sum(1)
    rows = max(1, len(breast) // 50)
    return float(widths[:rows].mean() / max(1, widths.max()))


def pectoral_muscle(image: np.ndarray, breast: np.ndarray, pixel_mm: float) -> np.ndarray:
    """(rows, columns) bool: the pectoral muscle of an oblique view; empty if no edge stands out.

    The straight line from the upper border to the chest wall with the strongest fall of brightness across it
    (Karssemeijer, Phys Med Biol 43:365, 1998), then the best path within 12 mm of it by dynamic programming.
    """
    from scipy.ndimage import gaussian_filter

    rows, columns = image.shape
    smooth = gaussian_filter(image, 1.2 / pixel_mm)
    inside = smooth[breast]
    if inside.size < 100:
        return np.zeros_like(breast)
    smooth = (smooth - np.percentile(inside, 2)) / max(np.ptp(np.percentile(inside, [2, 98])), 1e-6)
    best, line = 0.0, None
    strip = max(2, round(4 / pixel_mm))
    top_row = round(3 / pixel_mm)
    top_width = int(breast[min(top_row, rows - 1)].sum())
    for top in np.linspace(0.25 * top_width, 0.98 * top_width, 24):
        walls = np.linspace(0.2 * rows, 0.95 * rows, 32)
        angles = np.arctan2(walls, top)
        walls = walls[(angles > np.deg2rad(35)) & (angles < np.deg2rad(82))]
        if walls.size:
            scores = _edge_strengths(smooth, breast, top, walls, strip)
            if scores.max() > best:
                best, line = float(scores.max()), (top, float(walls[int(scores.argmax())]))
    if line is None or best < 0.06:
        return np.zeros_like(breast)
    return _refined(smooth, breast, *line, pixel_mm)


def _samples(top: float, wall, count: int, offset):
    """Rows and columns of points on lines from the upper border to the wall, moved by ``offset`` to the breast."""
    t = (np.arange(count) + 0.5) / count
    wall = np.asarray(wall, float)[..., None]
    length = np.hypot(top, wall)
    return t * wall + offset * top / length, top * (1 - t) + offset * wall / length


def _edge_strengths(smooth, breast, top: float, walls, strip) -> np.ndarray:
    """For each line: brightness just inside less just outside, on average; −inf where it leaves the breast."""
    means = []
    for sign in (-1, 1):
        values = []
        for distance in np.linspace(0.3, 1.0, 3) * strip:
            row, column = (np.rint(n).astype(int) for n in _samples(top, walls, 60, sign * distance))
            valid = (row >= 0) & (row < smooth.shape[0]) & (column >= 0) & (column < smooth.shape[1])
            row, column = np.where(valid, row, 0), np.where(valid, column, 0)
            # A point whose strip leaves the breast anywhere is unknown.
            values.append(np.where(valid & breast[row, column], smooth[row, column], np.nan))
        means.append(np.mean(values, axis=0))
    difference = means[0] - means[1]
    known = np.isfinite(difference)
    count = known.sum(1)
    # A muscle's edge is there along most of the line; one bright spot is not enough.
    clipped = np.where(known, np.clip(np.nan_to_num(difference), -0.1, 0.25), 0.0)
    strength = clipped.sum(1) / np.maximum(count, 1) * np.hypot(top, walls) ** 0.25 / 4
    return np.where(count >= 0.7 * known.shape[1], strength, -np.inf)


def _refined(smooth, breast, top, wall, pixel_mm) -> np.ndarray:
    """The region above the path of strongest fall near the line."""
    reach, count = max(2, round(12 / pixel_mm)), 120
    offsets = np.arange(-reach, reach + 1)
    fall = np.zeros((count, len(offsets)))
    half = max(1.0, 1.5 / pixel_mm)
    for n, offset in enumerate(offsets):
        before, after = (_at(smooth, *_samples(top, wall, count, offset + side * half)) for side in (-1, 1))
        fall[:, n] = before - after
    fall -= 0.1 * np.abs(offsets) / reach
    cost, back = -fall[0], np.zeros(fall.shape, int)
    for n in range(1, count):
        choices = np.stack([np.roll(cost, shift) + 0.01 * abs(shift) for shift in (-2, -1, 0, 1, 2)])
        choices[0, -2:] = choices[1, -1:] = choices[3, :1] = choices[4, :2] = np.inf
        pick = np.argmin(choices, 0)
        back[n] = np.arange(len(offsets)) - (pick - 2)
        cost = np.take_along_axis(choices, pick[None], 0)[0] - fall[n]
    path = np.empty(count, int)
    path[-1] = int(np.argmin(cost))
    for n in range(count - 1, 0, -1):
        path[n - 1] = back[n, path[n]]
    row, column = _samples(top, wall, count, offsets[path].astype(float))
    order = np.argsort(row)
    border = np.interp(np.arange(smooth.shape[0]), row[order], column[order], left=column[order][0], right=-1.0)
    muscle = np.arange(smooth.shape[1])[None] <= border[:, None]
    return muscle & breast


def _at(image, row, column):
    from scipy.ndimage import map_coordinates

    return map_coordinates(image, [row, column], order=1, mode="nearest")


def dense_tissue(image: np.ndarray, breast: np.ndarray, pixel_mm: float) -> np.ndarray:
    """(rows, columns) bool: fibroglandular tissue of a breast without its muscle, by Otsu's threshold.

    The rim of skin is left out. Where the two classes differ by less than a quarter of the breast's range of
    brightness there is no second class, and only what is brighter than that counts.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    interior = distance_transform_edt(np.pad(breast, ((1, 1), (0, 1))))[1:-1, :-1] * pixel_mm > SKIN_MM
    if interior.sum() < 100:
        return np.zeros_like(breast)
    smooth = gaussian_filter(image, 0.8 / pixel_mm)
    values = smooth[interior]
    low, high = np.percentile(smooth[breast], [2, 99.5])
    threshold = otsu_threshold(np.clip(values, low, high))
    bright, dark = values[values > threshold].mean(), values[values <= threshold].mean()
    if bright - dark < 0.25 * (high - low):
        threshold = max(threshold, dark + 0.25 * (high - low))
    return interior & (smooth > threshold)
