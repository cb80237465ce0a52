"""Texture features from the matrices of :mod:`.ibsi_matrices`.

As defined in the manual of the Image Biomarker Standardisation Initiative (arXiv:1612.07003), whose codes stand beside
the names.
"""

from __future__ import annotations

import numpy as np

from . import ibsi_matrices as matrices

COOCCURRENCE = {
    "glcm_joint_maximum": "GYBY",
    "glcm_joint_average": "60VM",
    "glcm_joint_variance": "UR99",
    "glcm_joint_entropy": "TU9B",
    "glcm_difference_average": "TF7R",
    "glcm_difference_variance": "D3YU",
    "glcm_difference_entropy": "NTRS",
    "glcm_sum_average": "ZGXS",
    "glcm_sum_variance": "OEEB",
    "glcm_sum_entropy": "P6QZ",
    "glcm_angular_second_moment": "8ZQL",
    "glcm_contrast": "ACUI",
    "glcm_dissimilarity": "8S9J",
    "glcm_inverse_difference": "IB1Z",
    "glcm_normalised_inverse_difference": "NDRX",
    "glcm_inverse_difference_moment": "WF0Z",
    "glcm_normalised_inverse_difference_moment": "1QCO",
    "glcm_inverse_variance": "E8JP",
    "glcm_correlation": "NI2N",
    "glcm_autocorrelation": "QWB0",
    "glcm_cluster_tendency": "DG8W",
    "glcm_cluster_shade": "7NFM",
    "glcm_cluster_prominence": "AE86",
    "glcm_information_correlation_1": "R8DG",
    "glcm_information_correlation_2": "JN9H",
}
"""Name → code."""


def _emphasis_table(prefix, small, large, unit, codes):
    """The names of the 16 features that runs, zones and dependences share, with their codes."""
    names = (
        f"{small}_emphasis", f"{large}_emphasis", "low_grey_level_emphasis", "high_grey_level_emphasis",
        f"{small}_low_grey_level_emphasis", f"{small}_high_grey_level_emphasis", f"{large}_low_grey_level_emphasis",
        f"{large}_high_grey_level_emphasis", "grey_level_non_uniformity", "normalised_grey_level_non_uniformity",
        f"{unit}_non_uniformity", f"normalised_{unit}_non_uniformity", "percentage", "grey_level_variance",
        f"{unit}_variance", f"{unit}_entropy",
    )  # fmt: skip
    return {f"{prefix}_{name}": code for name, code in zip(names, codes.split(), strict=True)}


RUNS = _emphasis_table(
    "glrlm", "short_run", "long_run", "run_length",
    "22OV W4KF V3SW G3QZ HTZT GD3A IVPO 3KUM R5YN OVBL W92Y IC23 9ZK5 8CE5 SXLW HJ9O",
)  # fmt: skip
SIZE_ZONES = _emphasis_table(
    "glszm", "small_zone", "large_zone", "zone_size",
    "9SAK 48P8 XMSY 5GN9 5RAI HW1V YH51 J17V JNSA Y1RO 4JP3 VB3A P30P BYLV 3NSA GU8N",
)  # fmt: skip
DISTANCE_ZONES = _emphasis_table(
    "gldzm", "small_distance", "large_distance", "zone_distance",
    "0GBI MB4I S1RA K26C RUVG DKNJ A7WM KLTH VFT7 7HP3 V294 IATH VIWW QK93 7WT1 GBDU",
)  # fmt: skip
TONE_DIFFERENCES = {
    "ngtdm_coarseness": "QCDE",
    "ngtdm_contrast": "65HE",
    "ngtdm_busyness": "NQ30",
    "ngtdm_complexity": "HDEZ",
    "ngtdm_strength": "1X9X",
}
DEPENDENCES = _emphasis_table(
    "ngldm", "low_dependence", "high_dependence", "dependence_count",
    "SODN IMOQ TL9H OAE7 EQ3F JA6D NBZI 9QMG FP8K 5SPA Z87G OKJI 6XV8 1PFV DNX2 FCBV",
) | {"ngldm_dependence_count_energy": "CAS9"}  # fmt: skip


def texture(levels: np.ndarray, shape_mask: np.ndarray, count: int, aggregation: str) -> dict[str, float]:
    """All texture features of a region.

    Parameters
    ----------
    levels : (K, J, I) int
        Grey levels 1…``count``, 0 outside; slices are those of the first axis.
    shape_mask : (K, J, I) bool
        The region with the voxels whose intensities do not count; distances to the edge are measured in it.
    count : int
    aggregation : one of :data:`.ibsi_matrices.AGGREGATIONS`
    """
    pairs = [_cooccurrence(m) for m in matrices.cooccurrence(levels, count, aggregation)]
    result = dict(zip(COOCCURRENCE, _mean(pairs, len(COOCCURRENCE))))
    tables = (
        (RUNS, matrices.run_lengths(levels, aggregation)),
        (SIZE_ZONES, matrices.size_zones(levels, aggregation)),
        (DISTANCE_ZONES, matrices.distance_zones(levels, shape_mask, aggregation)),
    )
    for names, found in tables:
        result |= dict(zip(names, _mean([_emphases(*m)[:16] for m in found], 16)))
    tones = matrices.tone_differences(levels, count, aggregation)
    tones = [_tone_differences(*m) for m in tones if m[0].any()]
    result |= dict(zip(TONE_DIFFERENCES, _mean(tones, len(TONE_DIFFERENCES))))
    return result | dict(
        zip(DEPENDENCES, _mean([_emphases(*m) for m in matrices.dependences(levels, aggregation)], 17))
    )


def _mean(rows, count) -> list[float]:
    """Mean over the matrices of a feature; NaN if there is none (a region of one voxel has no pair)."""
    if not rows:
        return [float("nan")] * count
    return [float(v) for v in np.mean(np.array(rows, float), axis=0)]


def _entropy(shares) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _cooccurrence(matrix) -> tuple:
    """The features of one symmetric matrix, in the order of :data:`COOCCURRENCE`."""
    count = len(matrix)
    p = matrix / matrix.sum()
    i, j = np.arange(1, count + 1)[:, None], np.arange(1, count + 1)[None]
    row = p.sum(axis=1)
    grey = np.arange(1, count + 1)
    mean = float((grey * row).sum())
    variance = float(((grey - mean) ** 2 * row).sum())
    apart, total = np.abs(i - j), i + j
    differences = np.bincount(apart.ravel(), p.ravel(), minlength=count)
    sums = np.bincount(total.ravel(), p.ravel(), minlength=2 * count + 1)
    k, s = np.arange(count), np.arange(2 * count + 1)
    difference_mean, sum_mean = float((k * differences).sum()), float((s * sums).sum())
    joint, single = _entropy(p), _entropy(row)
    product = np.outer(row, row)
    some = product > 0
    first = float(-(p[some] * np.log2(product[some])).sum())
    second = float(-(product[some] * np.log2(product[some])).sum())
    different = apart > 0
    cluster = total - 2 * mean
    return (
        p.max(), mean, variance, joint, difference_mean, (((k - difference_mean) ** 2) * differences).sum(),
        _entropy(differences), sum_mean, (((s - sum_mean) ** 2) * sums).sum(), _entropy(sums), (p**2).sum(),
        (apart**2 * p).sum(), (apart * p).sum(), (p / (1 + apart)).sum(), (p / (1 + apart / count)).sum(),
        (p / (1 + apart**2)).sum(), (p / (1 + (apart / count) ** 2)).sum(),
        (p[different] / apart[different] ** 2).sum(),
        ((i - mean) * (j - mean) * p).sum() / variance if variance > 1e-12 else 1.0, (i * j * p).sum(),
        (cluster**2 * p).sum(), (cluster**3 * p).sum(), (cluster**4 * p).sum(),
        (joint - first) / single if single > 0 else 0.0,
        np.sqrt(max(0.0, 1 - np.exp(-2 * (second - joint)))),
    )  # fmt: skip


def _emphases(grey, length, times, voxels) -> tuple:
    """The 16 features that matrices of runs and zones share, and the energy."""
    total = times.sum()
    i, j = grey.astype(float), length.astype(float)
    p = times / total
    levels, lengths = np.bincount(grey, times), np.bincount(np.unique(length, return_inverse=True)[1], times)
    level_mean, length_mean = (i * p).sum(), (j * p).sum()
    return (
        (p / j**2).sum(), (p * j**2).sum(), (p / i**2).sum(), (p * i**2).sum(), (p / (i * j) ** 2).sum(),
        (p * i**2 / j**2).sum(), (p * j**2 / i**2).sum(), (p * i**2 * j**2).sum(), (levels**2).sum() / total,
        (levels**2).sum() / total**2, (lengths**2).sum() / total, (lengths**2).sum() / total**2, total / voxels,
        ((i - level_mean) ** 2 * p).sum(), ((j - length_mean) ** 2 * p).sum(), _entropy(p), (p**2).sum(),
    )  # fmt: skip


def _tone_differences(numbers, sums) -> tuple:
    """The features of one matrix, in the order of :data:`TONE_DIFFERENCES`."""
    total = numbers.sum()
    present = numbers > 0
    i, p, s = (np.flatnonzero(present) + 1).astype(float), numbers[present] / total, sums[present]
    weighted = float((p * s).sum())
    apart = np.abs(i[:, None] - i)
    spread, different = (p[:, None] * p * apart**2).sum(), len(i)
    contrast = spread / (different * (different - 1)) * s.sum() / total if different > 1 else 0.0
    busy = np.abs((i * p)[:, None] - i * p).sum()
    mixed = (p * s)[:, None] + p * s
    return (
        min(1 / weighted, 1e6) if weighted > 0 else 1e6, contrast,
        weighted / busy if different > 1 and busy > 0 else 0.0,
        (apart * mixed / (p[:, None] + p)).sum() / total,
        ((p[:, None] + p) * apart**2).sum() / s.sum() if s.sum() > 0 else 0.0,
    )  # fmt: skip
