"""Probabilities that mean what they say: temperature, isotonic regression, another prevalence; operating points."""

from __future__ import annotations

import numpy as np

_TINY = 1e-12


def softmax(scores: np.ndarray) -> np.ndarray:
    """(n, classes) probabilities from scores."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Scores whose softmax are the probabilities; 0 counts as 1e-12."""
    return np.log(np.clip(probabilities, _TINY, 1.0))


def fit_temperature(scores, truth) -> float:
    """The temperature that makes the true classes likeliest (Guo 2017, ICML).

    Parameters
    ----------
    scores : (n, classes)
        Logits, or logarithms of probabilities.
    truth : (n,) int

    Returns
    -------
    float
        In 0.05…20; above 1 where the model was too sure.
    """
    from scipy.optimize import minimize_scalar

    scores, truth = np.asarray(scores, float), np.asarray(truth, int)

    def loss(log_temperature):
        scaled = scores / np.exp(log_temperature)
        top = scaled.max(axis=1)
        normalizer = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(np.mean(normalizer - scaled[np.arange(len(truth)), truth]))

    bounds = np.log([0.05, 20.0])
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x))


def fit_isotonic(score, truth) -> tuple[np.ndarray, np.ndarray]:
    """The rising step function nearest to the observed classes (pool adjacent violators; Barlow 1972).

    Parameters
    ----------
    score : (n,) float
    truth : (n,) bool

    Returns
    -------
    places, values : (m,) ndarray
        To be interpolated linearly, constant outside.
    """
    places, groups = np.unique(np.asarray(score, float), return_inverse=True)
    weights = np.bincount(groups).astype(float)
    means = np.bincount(groups, np.asarray(truth, float)) / weights
    blocks: list[list[float]] = []
    for mean, weight in zip(means, weights):
        blocks.append([mean, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, size, count = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + value * size) / (before[1] + size)
            before[1] += size
            before[2] += count
    values = np.repeat([b[0] for b in blocks], [int(b[2]) for b in blocks])
    # Only the ends of each step count for the interpolation.
    kept = (
        np.r_[True, (np.diff(values[:-1]) != 0) | (np.diff(values[1:]) != 0), True] if len(values) > 2 else slice(None)
    )
    return places[kept], values[kept]


def apply_isotonic(probabilities: np.ndarray, curves) -> np.ndarray:
    """(n, classes) calibrated probabilities; one curve for each class, or one alone for the last of two classes."""
    if len(curves) == 1:
        positive = np.interp(probabilities[:, 1], *curves[0])
        return np.stack([1 - positive, positive], axis=1)
    raised = np.stack([np.interp(probabilities[:, c], *curve) for c, curve in enumerate(curves)], axis=1)
    sums = raised.sum(axis=1, keepdims=True)
    return np.where(sums > 0, raised / np.maximum(sums, _TINY), 1 / raised.shape[1])


def with_prior(probabilities, trained, wanted) -> np.ndarray:
    """Probabilities for another prevalence of the classes (Saerens 2002, Neural Comput 14:21-41, eq. 2.4).

    Parameters
    ----------
    probabilities : (n, classes)
    trained, wanted : (classes,)
        Shares of the classes that the probabilities assume, and those among the patients they are meant for.
    """
    raised = np.asarray(probabilities, float) * (np.asarray(wanted, float) / np.asarray(trained, float))
    return raised / raised.sum(axis=-1, keepdims=True)


def threshold_for_sensitivity(truth, score, wanted: float) -> float:
    """The highest threshold (called positive where at least this) whose sensitivity is at least ``wanted``.

    Raises
    ------
    ValueError
        If there is no positive case.
    """
    positive = np.sort(np.asarray(score, float)[np.asarray(truth, bool)])[::-1]
    if not len(positive):
        raise ValueError("no case is positive")
    needed = int(np.ceil(wanted * len(positive) - 1e-9))
    return float(positive[max(needed, 1) - 1])


def threshold_for_specificity(truth, score, wanted: float) -> float:
    """The lowest threshold whose specificity is at least ``wanted``.

    Raises
    ------
    ValueError
        If there is no negative case.
    """
    negative = np.sort(np.asarray(score, float)[~np.asarray(truth, bool)])
    if not len(negative):
        raise ValueError("no case is negative")
    needed = int(np.ceil(wanted * len(negative) - 1e-9))
    return float(np.nextafter(negative[needed - 1], np.inf)) if needed else float(-np.inf)


def balanced_threshold(truth, score) -> float:
    """The threshold with the largest sum of sensitivity and specificity (Youden 1950), midway to the next score."""
    truth, score = np.asarray(truth, bool), np.asarray(score, float)
    if truth.all() or not truth.any():
        raise ValueError("only one class is there")
    places = np.unique(score)
    cuts = np.r_[places[0], (places[1:] + places[:-1]) / 2]
    called = score[None, :] >= cuts[:, None]
    quality = called[:, truth].mean(axis=1) - called[:, ~truth].mean(axis=1)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])


def worst_group_threshold(truth, score, groups) -> float:
    """The threshold whose mean of sensitivity and specificity is best, the worst group counting as much as all.

    Parameters
    ----------
    truth : (n,) bool
    score : (n,) float
    groups : list of int ndarray
        Positions of each group's cases; a group needs both classes.
    """
    truth, score = np.asarray(truth, bool), np.asarray(score, float)
    cuts = np.unique(np.quantile(score, np.linspace(0, 1, 401)))
    found = []
    for group in groups:
        called = score[group][None, :] >= cuts[:, None]
        positive = truth[group]
        quality = (called[:, positive].mean(axis=1) + (~called[:, ~positive]).mean(axis=1)) / 2
        found.append(quality)
    quality = np.mean(found, axis=0) + np.min(found, axis=0)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])
