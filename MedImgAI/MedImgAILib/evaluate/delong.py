"""Variance of the area under the ROC curve without resampling, and the comparison of two on the same cases.

DeLong ER, DeLong DM, Clarke-Pearson DL. Biometrics 1988; 44:837-845, by the fast algorithm of Sun X, Xu W. IEEE
Signal Process Lett 2014; 21:1389-1393: mid-ranks instead of all pairs.
"""

from __future__ import annotations

import numpy as np


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; tied values share the mean of theirs."""
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])
    sizes = np.diff(np.r_[starts, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return ranks


def aucs_with_covariance(truth, scores) -> tuple[np.ndarray, np.ndarray]:
    """Areas of several scores of the same cases, and their covariance.

    Parameters
    ----------
    truth : (n,) bool
    scores : (n,) or (k, n) float
        Higher means more likely positive.

    Returns
    -------
    areas : (k,) ndarray
        NaN without a positive or without a negative case.
    covariance : (k, k) ndarray
        NaN with fewer than two of either.
    """
    truth, scores = np.asarray(truth, bool), np.atleast_2d(np.asarray(scores, float))
    positive, negative = scores[:, truth], scores[:, ~truth]
    m, n = positive.shape[1], negative.shape[1]
    if not m or not n:
        return np.full(len(scores), np.nan), np.full((len(scores),) * 2, np.nan)
    among_all = np.stack([midranks(row) for row in np.concatenate([positive, negative], axis=1)])
    within = [np.stack([midranks(row) for row in part]) for part in (positive, negative)]
    areas = among_all[:, :m].sum(axis=1) / m / n - (m + 1) / 2 / n
    if m < 2 or n < 2:
        return areas, np.full((len(scores),) * 2, np.nan)
    of_positive = (among_all[:, :m] - within[0]) / n
    of_negative = 1 - (among_all[:, m:] - within[1]) / m
    return areas, np.atleast_2d(np.cov(of_positive)) / m + np.atleast_2d(np.cov(of_negative)) / n


def auc_interval(truth, score, level: float = 0.95) -> tuple[float, float, float]:
    """Area under the ROC curve with the bounds of its DeLong interval, cut to 0…1."""
    from scipy.stats import norm

    areas, covariance = aucs_with_covariance(truth, score)
    half = norm.ppf((1 + level) / 2) * np.sqrt(covariance[0, 0])
    return float(areas[0]), float(np.clip(areas[0] - half, 0, 1)), float(np.clip(areas[0] + half, 0, 1))


def compare_aucs(truth, first, second, level: float = 0.95) -> dict[str, float]:
    """Difference of two areas on the same cases, its interval, z and two-sided p."""
    from scipy.stats import norm

    areas, covariance = aucs_with_covariance(truth, np.stack([first, second]))
    difference = areas[0] - areas[1]
    error = np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0))
    z = difference / error if error > 0 else (0.0 if difference == 0 else np.copysign(np.inf, difference))
    if np.isnan(covariance).any():
        error = z = np.nan
    half = norm.ppf((1 + level) / 2) * error
    return {
        "first": float(areas[0]), "second": float(areas[1]), "difference": float(difference),
        "lower": float(difference - half), "upper": float(difference + half),
        "z": float(z), "p": float(2 * norm.sf(abs(z))),
    }  # fmt: skip
