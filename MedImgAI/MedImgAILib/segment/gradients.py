"""Derivatives at a scale in mm."""

from __future__ import annotations

import numpy as np

from ..core import InputError, Volume


def gradient_magnitude(image: Volume, scale_mm: float) -> np.ndarray:
    """(K, J, I) float32: length of the gradient of the image smoothed with ``scale_mm``, in its unit for each mm.

    Raises
    ------
    InputError
        If the axes are sheared.
    """
    from scipy.ndimage import gaussian_filter1d

    if not image.geometry.is_orthogonal:
        raise InputError(f"{image.label} has sheared axes; resample it to right angles first.")
    smooth = image.array.astype(np.float32)
    axes = [(axis, s) for axis, s in enumerate(image.geometry.spacing_kji) if image.array.shape[axis] > 1]
    for axis, spacing in axes:
        smooth = gaussian_filter1d(smooth, scale_mm / spacing, axis=axis, mode="nearest")
    total = np.zeros_like(smooth)
    for axis, spacing in axes:
        total += (np.gradient(smooth, spacing, axis=axis)) ** 2
    return np.sqrt(total)
