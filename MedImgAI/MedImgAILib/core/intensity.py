"""Intensity statistics that several tasks share."""

from __future__ import annotations

import numpy as np

from .errors import InputError


def histogram(values: np.ndarray, bins: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Counts and bin centres over the values' range; integers spanning fewer than 65536 values get a bin each."""
    low, high = values.min(), values.max()
    if values.dtype.kind in "iu" and int(high) - int(low) < 65536:
        counts = np.bincount(values.ravel().astype(np.int64) - int(low))
        return counts, np.arange(int(low), int(high) + 1, dtype=np.float64)
    counts, edges = np.histogram(values, bins=bins)
    return counts, (edges[:-1] + edges[1:]) / 2


def otsu_threshold(values: np.ndarray, label: str = "The volume") -> float:
    """The threshold that best separates dark and bright voxels; bright ones lie above it.

    Maximises the variance between the classes (Otsu 1979, IEEE Trans SMC 9:62).

    Raises
    ------
    InputError
        If all values are the same.
    """
    if values.size == 0 or values.min() == values.max():
        raise InputError(f"{label} has the same value everywhere, so no threshold can separate it.")
    counts, centers = histogram(values)
    weight = np.cumsum(counts, dtype=np.float64)
    total = np.cumsum(counts * centers)
    below, above = weight[:-1], weight[-1] - weight[:-1]
    between = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(centers[:-1][np.argmax(between)])
