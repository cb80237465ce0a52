"""How good a reconstruction is: errors against a reference, modulation transfer, noise power."""

from __future__ import annotations

import numpy as np


def rmse(image: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square difference."""
    difference = np.asarray(image, np.float64) - reference
    return float(np.sqrt(np.mean(difference**2)))


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the reference's range."""
    error, peak = rmse(image, reference), float(np.ptp(reference))
    return float(20 * np.log10(peak / error)) if error and peak else float("inf")


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity of slices: Gaussian window of 1.5 voxels (Wang et al., IEEE TIP 13:600, 2004)."""
    from scipy.ndimage import gaussian_filter

    scale = float(np.ptp(reference)) or 1.0
    c1, c2 = (0.01 * scale) ** 2, (0.03 * scale) ** 2

    def smooth(array):
        return gaussian_filter(array, (0, 1.5, 1.5), truncate=3.5)

    x, y = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    mx, my = smooth(x), smooth(y)
    vx, vy, cov = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
    value = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    inner = tuple(slice(5, -5) if n > 10 else slice(None) for n in value.shape[1:])
    return float(value[(slice(None), *inner)].mean())


def edge_profile(image: np.ndarray, spacing_mm, center, radius_mm: float, reach_mm: float, bin_mm: float):
    """Mean of a slice against the distance from a circular edge.

    Parameters
    ----------
    image : (ny, nx) ndarray
    spacing_mm : (dy, dx)
    center : (row, column)
        Of the circle, fractional.
    radius_mm, reach_mm, bin_mm : float
        Edge radius, how far to look on both sides, width of the bins.

    Returns
    -------
    (distance in mm, mean value) : two 1-D ndarrays
    """
    y, x = np.indices(image.shape)
    distance = np.hypot((y - center[0]) * spacing_mm[0], (x - center[1]) * spacing_mm[1]) - radius_mm
    near = np.abs(distance) <= reach_mm
    count = int(np.ceil(2 * reach_mm / bin_mm))
    number = np.minimum(((distance[near] + reach_mm) / bin_mm).astype(int), count - 1)
    total = np.bincount(number, image[near], count)
    members = np.bincount(number, minlength=count)
    place = -reach_mm + (np.arange(count) + 0.5) * bin_mm
    full = members > 0
    return place, np.interp(place, place[full], total[full] / members[full])


def modulation_transfer(profile: np.ndarray, bin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequency in 1/mm and modulation transfer of an edge profile (Richard et al., Med Phys 39:4115, 2012)."""
    taper = np.minimum(1, np.hanning(len(profile)) * 2)
    spread = np.gradient(np.asarray(profile, np.float64)) * taper
    transfer = np.abs(np.fft.rfft(spread, 4 * len(spread)))
    # A derivative by central differences damps frequency f by sinc(2 f bin).
    frequency = np.fft.rfftfreq(4 * len(spread), bin_mm)
    damping = np.maximum(np.sinc(2 * frequency * bin_mm), 0.1)
    return frequency, transfer / max(transfer[0], 1e-30) / damping


def edge_width(distance: np.ndarray, profile: np.ndarray) -> float:
    """Distance in mm between 10 % and 90 % of an edge, by linear interpolation."""
    count = max(2, len(profile) // 8)
    inner, outer = profile[:count].mean(), profile[-count:].mean()
    relative = (profile - inner) / (outer - inner)
    crossings = []
    for level in (0.1, 0.9):
        above = np.flatnonzero((relative[:-1] < level) & (relative[1:] >= level))
        nearest = above[np.argmin(np.abs(above - len(profile) / 2))] if len(above) else len(profile) // 2
        step = relative[nearest + 1] - relative[nearest]
        part = (level - relative[nearest]) / step if step else 0.5
        crossings.append(distance[nearest] + part * (distance[1] - distance[0]))
    return float(abs(crossings[1] - crossings[0]))


def noise_power(region: np.ndarray, spacing_mm: float, bins: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Radial noise power spectrum of (slices, n, n) voxels of a uniform region: 1/mm, value² mm² (ICRU 87).

    The mean plane of every slice is taken off; spectra of the slices are averaged.
    """
    region = np.asarray(region, np.float64)
    count = region.shape[1]
    y, x = np.indices((count, count)) - (count - 1) / 2
    basis = np.stack([np.ones(count * count), x.ravel(), y.ravel()], 1)
    flat = region.reshape(len(region), -1).T
    flat = flat - basis @ np.linalg.lstsq(basis, flat, rcond=None)[0]
    spectrum = np.abs(np.fft.fft2(flat.T.reshape(region.shape), axes=(1, 2))) ** 2
    power = spectrum.mean(0) * (spacing_mm / count) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(count, spacing_mm)] * 2))
    top = 0.5 / spacing_mm
    number = (frequency / top * bins).astype(int)
    inside = number < bins
    members = np.maximum(np.bincount(number[inside], minlength=bins), 1)
    total = np.bincount(number[inside], power[inside], bins)
    return (np.arange(bins) + 0.5) * top / bins, total / members
