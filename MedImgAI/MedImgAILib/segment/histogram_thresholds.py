"""Thresholds found from an image's values alone."""

from __future__ import annotations

import numpy as np

from ..core import InputError
from ..core.intensity import histogram, otsu_threshold

MOST_BINS = 4096
"""Integer values spanning more than this share bins, so that the search for several thresholds stays short."""


def find_thresholds(array: np.ndarray, method: str, classes: int, label: str) -> list[float]:
    """The thresholds between the classes, ascending; a class holds the values above its lower threshold.

    Parameters
    ----------
    array : ndarray
    method : "otsu", "multi_otsu", "li" or "triangle"
    classes : int
        For ``multi_otsu``: how many, the darkest included.
    label : str
        How messages call the image.

    Raises
    ------
    InputError
        If the image has too few different values.
    """
    if method == "otsu":
        return [otsu_threshold(array, label)]
    if array.size == 0 or array.min() == array.max():
        raise InputError(f"{label} has the same value everywhere, so no threshold can separate it.")
    if method == "multi_otsu":
        return multi_otsu(array, classes, label)
    return [{"li": li, "triangle": triangle}[method](array)]


def multi_otsu(array: np.ndarray, classes: int, label: str = "The volume") -> list[float]:
    """The ``classes`` − 1 thresholds that maximise the variance between classes (Liao et al. 2001).

    The search is a dynamic programme over the histogram, O(classes · bins²), and exact.
    """
    counts, centers = histogram(array)
    if len(counts) > MOST_BINS:
        counts, edges = np.histogram(centers, MOST_BINS, weights=counts)
        centers = (edges[:-1] + edges[1:]) / 2
    if np.count_nonzero(counts) < classes:
        raise InputError(f"{label} has fewer than {classes} different values; choose fewer classes.")
    share = counts / counts.sum()
    weight = np.concatenate([[0.0], np.cumsum(share)])
    # Moments about the middle lose fewer digits; the criterion does not depend on the origin.
    moment = np.concatenate([[0.0], np.cumsum(share * (centers - centers @ share))])
    bins = len(share)
    best = np.full((classes, bins), -np.inf)
    cut = np.zeros((classes, bins), int)
    for last in range(bins):
        mass = weight[last + 1] - weight[: last + 1]
        spread = np.divide((moment[last + 1] - moment[: last + 1]) ** 2, mass, out=np.zeros(last + 1), where=mass > 0)
        best[0, last] = spread[0]
        for k in range(1, min(classes, last + 1)):
            gain = best[k - 1, :last] + spread[1:]
            cut[k, last] = gain.argmax()
            best[k, last] = gain[cut[k, last]]
    thresholds, last = [], bins - 1
    for k in range(classes - 1, 0, -1):
        last = cut[k, last]
        thresholds.append(float(centers[last]))
    return thresholds[::-1]


def li(array: np.ndarray) -> float:
    """The threshold of least cross-entropy, by Li and Tam's iteration (1998) from the mean."""
    if array.dtype.kind in "iu":
        counts, values = histogram(array)
        tolerance = 0.5
    else:
        values = np.sort(array, axis=None).astype(np.float64)
        counts = np.ones(1)
        steps = np.diff(values)
        tolerance = steps[steps > 0].min() / 2
    low = float(values[0])
    values = values - low  # the logarithm needs means that are not negative
    weight = np.cumsum(np.broadcast_to(counts, values.shape).astype(np.float64))
    moment = np.cumsum(counts * values)
    following, current = moment[-1] / weight[-1], -np.inf
    while abs(following - current) > tolerance:
        current = following
        dark = np.searchsorted(values, current, side="right") - 1
        below = moment[dark] / weight[dark]
        above = (moment[-1] - moment[dark]) / (weight[-1] - weight[dark])
        if below == 0:
            break
        following = (below - above) / (np.log(below) - np.log(above))
    return float(following + low)


def triangle(array: np.ndarray) -> float:
    """The histogram's bin farthest from the line between its peak and its longer tail's end (Zack et al. 1977)."""
    counts, centers = histogram(array)
    counts = counts.astype(np.float64)
    filled = np.flatnonzero(counts)
    peak, first, last = int(counts.argmax()), filled[0], filled[-1]
    reversed_ = peak - first < last - peak
    if reversed_:
        counts = counts[::-1]
        peak, first = len(counts) - 1 - peak, len(counts) - 1 - last
    distance = counts[peak] * np.arange(peak - first) - (peak - first) * counts[first:peak]
    level = first + int(distance.argmax()) if distance.size else peak
    return float(centers[len(counts) - 1 - level if reversed_ else level])
