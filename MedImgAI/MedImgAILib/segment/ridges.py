"""Dark lines in a plane image by elongated second derivatives at several widths."""

from __future__ import annotations

import numpy as np

from ..core import Context

ELONGATION = 4.0
"""Length of the filter along the line in units of its width."""
DIRECTIONS = 12


def field_of_view(brightness: np.ndarray) -> np.ndarray:
    """(J, I) bool: the lit disc of a fundus photograph; everything if there is no dark border."""
    from scipy.ndimage import binary_fill_holes, gaussian_filter, label

    smooth = gaussian_filter(brightness.astype(np.float32), 0.002 * max(brightness.shape), mode="nearest")
    lit = smooth > 0.15 * np.percentile(smooth, 95)
    numbers, count = label(lit)
    if count:
        lit = numbers == 1 + np.bincount(numbers.ravel())[1:].argmax()
    return binary_fill_holes(lit)


def locally_normalised(plane: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """(J, I) float32: (value - local mean) / local deviation ``inside``, 0 outside; ``sigma`` is in pixels."""
    from scipy.ndimage import gaussian_filter

    weight = inside.astype(np.float32)
    share = np.maximum(gaussian_filter(weight, sigma, mode="constant"), 1e-3)
    values = np.where(inside, plane, 0).astype(np.float32)
    mean = gaussian_filter(values, sigma, mode="constant") / share
    difference = np.where(inside, values - mean, 0)
    deviation = np.sqrt(gaussian_filter(difference**2, sigma, mode="constant") / share)
    typical = float(np.median(deviation[inside])) or 1.0
    return difference / np.maximum(deviation, 0.3 * typical)


def dark_ridges(plane: np.ndarray, sigmas, context: Context) -> np.ndarray:
    """(J, I) float32: how much like a dark line each pixel is, the mean over the widths.

    At each width the second derivative across a line, averaged along it, is taken in :data:`DIRECTIONS` directions and
    the strongest counts. It is computed in the Fourier domain, where the filter can be turned exactly.

    Parameters
    ----------
    plane : (J, I) float32 ndarray
    sigmas : sequence of float
        Half widths of the lines in pixels.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2, rfftfreq

    reach = int(np.ceil(3 * ELONGATION * max(sigmas)))
    shape = [next_fast_len(n + reach, real=True) for n in plane.shape]
    spectrum = rfft2(plane, shape)
    rows = np.fft.fftfreq(shape[0])[:, None].astype(np.float32) * np.float32(2 * np.pi)
    columns = rfftfreq(shape[1])[None].astype(np.float32) * np.float32(2 * np.pi)
    total = np.zeros(plane.shape, np.float32)
    for number, sigma in enumerate(sigmas):
        best = np.zeros(plane.shape, np.float32)
        for turn in range(DIRECTIONS):
            context.progress((number + turn / DIRECTIONS) / len(sigmas))
            angle = np.pi * turn / DIRECTIONS
            across = np.cos(angle) * columns + np.sin(angle) * rows
            along = np.cos(angle) * rows - np.sin(angle) * columns
            gain = -((sigma * across) ** 2) * np.exp(-0.5 * sigma**2 * (across**2 + (ELONGATION * along) ** 2))
            response = irfft2(spectrum * gain, shape)[: plane.shape[0], : plane.shape[1]]
            np.maximum(best, response, out=best)
        total += best
    return total / len(sigmas)
