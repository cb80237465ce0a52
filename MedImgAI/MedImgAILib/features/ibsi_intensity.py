"""First-order features of a region: statistics, intensity histogram and intensity-volume histogram.

As defined in the manual of the Image Biomarker Standardisation Initiative (arXiv:1612.07003), whose codes stand beside
the names.
"""

from __future__ import annotations

import numpy as np

STATISTICS = {
    "stat_mean": "Q4LE",
    "stat_variance": "ECT3",
    "stat_skewness": "KE2A",
    "stat_kurtosis": "IPH6",
    "stat_median": "Y12H",
    "stat_minimum": "1GSF",
    "stat_percentile_10": "QG58",
    "stat_percentile_90": "8DWT",
    "stat_maximum": "84IY",
    "stat_interquartile_range": "SALO",
    "stat_range": "2OJQ",
    "stat_mean_absolute_deviation": "4FUA",
    "stat_robust_mean_absolute_deviation": "1128",
    "stat_median_absolute_deviation": "N72L",
    "stat_coefficient_of_variation": "7TET",
    "stat_quartile_coefficient": "9S40",
    "stat_energy": "N8CA",
    "stat_root_mean_square": "5ZWQ",
}
"""Name → code."""

HISTOGRAM = {
    "hist_mean": "X6K6",
    "hist_variance": "CH89",
    "hist_skewness": "88K1",
    "hist_kurtosis": "C3I7",
    "hist_median": "WIFQ",
    "hist_minimum": "1PR8",
    "hist_percentile_10": "GPMT",
    "hist_percentile_90": "OZ0C",
    "hist_maximum": "3NCY",
    "hist_mode": "AMMC",
    "hist_interquartile_range": "WR0O",
    "hist_range": "5Z3W",
    "hist_mean_absolute_deviation": "D2ZX",
    "hist_robust_mean_absolute_deviation": "WRZB",
    "hist_median_absolute_deviation": "4RNL",
    "hist_coefficient_of_variation": "CWYJ",
    "hist_quartile_coefficient": "SLWD",
    "hist_entropy": "TLU2",
    "hist_uniformity": "BJ5W",
    "hist_maximum_gradient": "12CE",
    "hist_maximum_gradient_level": "8E6O",
    "hist_minimum_gradient": "VQB3",
    "hist_minimum_gradient_level": "RHQZ",
}

VOLUME_HISTOGRAM = {
    "ivh_volume_at_intensity_10": "BC2M",
    "ivh_volume_at_intensity_90": "BC2M",
    "ivh_intensity_at_volume_10": "GBPN",
    "ivh_intensity_at_volume_90": "GBPN",
    "ivh_volume_difference": "DDTU",
    "ivh_intensity_difference": "CNV2",
}


def statistics(values: np.ndarray) -> dict[str, float]:
    """Features of :data:`STATISTICS` of the (N,) intensities of a region."""
    x = values.astype(np.float64)
    return dict(zip(STATISTICS, (*_moments(x), *_spread(x), float((x**2).sum()), float(np.sqrt((x**2).mean())))))


def _moments(x) -> tuple[float, ...]:
    mean = x.mean()
    centred = x - mean
    variance = (centred**2).mean()
    if variance <= 1e-12 * max(1.0, mean**2):
        return float(mean), float(variance), 0.0, 0.0
    return float(mean), float(variance), float((centred**3).mean() / variance**1.5), float(
        (centred**4).mean() / variance**2 - 3
    )  # fmt: skip


def _spread(x) -> tuple[float, ...]:
    """From the median to the quartile coefficient, in the order of :data:`STATISTICS`."""
    low, first, middle, third, high = np.percentile(x, [10, 25, 50, 75, 90])
    inner = x[(x >= low) & (x <= high)]
    mean, sigma = x.mean(), x.std()
    found = (
        middle, x.min(), low, high, x.max(), third - first, np.ptp(x), np.abs(x - mean).mean(),
        np.abs(inner - inner.mean()).mean(), np.abs(x - middle).mean(), sigma / mean if mean else np.nan,
        (third - first) / (third + first) if third + first else np.nan,
    )  # fmt: skip
    return tuple(float(v) for v in found)


def histogram(levels: np.ndarray, count: int) -> dict[str, float]:
    """Features of :data:`HISTOGRAM`.

    Parameters
    ----------
    levels : (N,) int
        Discretised intensities 1…``count`` of the region's voxels.
    count : int
        Number of grey levels.
    """
    x = levels.astype(np.float64)
    frequencies = np.bincount(levels, minlength=count + 1)[1:]
    share = frequencies[frequencies > 0] / len(x)
    moments, spread = _moments(x), list(_spread(x))
    modes = np.flatnonzero(frequencies == frequencies.max()) + 1
    # Of several modes the nearest to the mean, the lower of two.
    spread.insert(5, float(modes[np.argmin(np.round(np.abs(modes - x.mean()), 9))]))
    gradient = np.gradient(frequencies.astype(float)) if count > 1 else np.zeros(1)
    rest = (
        -(share * np.log2(share)).sum(), (share**2).sum(), gradient.max(), gradient.argmax() + 1, gradient.min(),
        gradient.argmin() + 1,
    )  # fmt: skip
    return dict(zip(HISTOGRAM, (*moments, *spread, *(float(v) for v in rest)), strict=True))


def volume_histogram(values: np.ndarray, low: float, high: float, step: float) -> dict[str, float]:
    """Features of :data:`VOLUME_HISTOGRAM`.

    Parameters
    ----------
    values : (N,) ndarray
        Intensities at the discretisation of the histogram.
    low, high, step : float
        First and last of its intensities and their distance.
    """
    count = max(1, int(round((high - low) / step)) + 1)
    intensities = low + step * np.arange(count)
    ordered = np.sort(values)
    # Half a step of rounding does not move a voxel across the intensity that it has.
    volume = 1 - np.searchsorted(ordered, intensities - 1e-6 * step, side="left") / len(ordered)
    fraction = (intensities - low) / (high - low) if count > 1 else np.zeros(1)

    def volume_at(share):
        reached = fraction >= share - 1e-9
        return float(volume[reached].max()) if reached.any() else 0.0

    def intensity_at(share):
        small = volume <= share + 1e-9
        return float(intensities[small].min()) if small.any() else float(high + step)

    volumes, found = (volume_at(0.1), volume_at(0.9)), (intensity_at(0.1), intensity_at(0.9))
    return dict(zip(VOLUME_HISTOGRAM, (*volumes, *found, volumes[0] - volumes[1], found[0] - found[1])))
