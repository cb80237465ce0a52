"""Intervals of figures: Wilson's for shares, the bootstrap for anything else; McNemar's test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .metrics import ratio


def wilson(successes: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson EB. J Am Stat Assoc 1927; 22:209-212); NaN of nothing."""
    from scipy.stats import norm

    if total <= 0:
        return float("nan"), float("nan")
    z2 = norm.ppf((1 + level) / 2) ** 2
    share = successes / total
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = np.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def resamples(count: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """(samples, count) int: cases drawn with replacement; the order of draws is that of scipy.stats.bootstrap."""
    return rng.integers(0, count, (samples, count))


def bootstrap(
    figures: Callable[[np.ndarray], dict[str, float]], count: int, samples: int, rng: np.random.Generator,
    groups=None, check: Callable[[float], None] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Figures of bootstrap samples.

    Parameters
    ----------
    figures : callable
        Gives the figures for (count,) weights, how often each case was drawn.
    groups : (count,) int ndarray, optional
        Patient of each case: whole patients are drawn then, because images of one patient are alike.
    check : callable, optional
        Called with the fraction done; may raise to stop.

    Returns
    -------
    dict
        Name → (samples,) values.
    """
    units = count if groups is None else int(np.max(groups)) + 1
    results: dict[str, list[float]] = {}
    for number in range(samples):
        if check is not None and number % 20 == 0:
            check(number / samples)
        drawn = np.bincount(resamples(units, 1, rng)[0], minlength=units)
        for name, value in figures(drawn if groups is None else drawn[groups]).items():
            results.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in results.items()}


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Bounds that hold the middle ``level`` of the bootstrap values, without the samples where it is undefined."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = 50 * (1 - level)
    return tuple(float(v) for v in np.percentile(values, (tail, 100 - tail)))


def bca_interval(values: np.ndarray, estimate: float, left_out: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds (Efron B. J Am Stat Assoc 1987; 82:171-185).

    Parameters
    ----------
    values : (samples,)
        Of the bootstrap samples.
    estimate : float
        Of the cases themselves.
    left_out : (n,)
        The figure with each case left out once.
    """
    from scipy.special import ndtr, ndtri

    values = values[np.isfinite(values)]
    deviations = left_out.mean() - left_out
    spread = (deviations**2).sum()
    if not len(values) or spread <= 0 or np.ptp(values) == 0:
        return percentile_interval(values, level)
    below = ((values < estimate).sum() + (values <= estimate).sum()) / (2 * len(values))
    bias, acceleration = ndtri(below), (deviations**3).sum() / (6 * spread**1.5)
    shifted = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    shares = ndtr(bias + shifted / (1 - acceleration * shifted))
    return tuple(float(v) for v in np.percentile(values, 100 * shares))


def mcnemar(first_right, second_right) -> dict[str, float]:
    """Whether two classifiers err equally often on the same cases (McNemar Q. Psychometrika 1947; 12:153-157).

    Returns
    -------
    dict
        ``only first`` and ``only second`` (cases that only that one got right), ``statistic`` with continuity
        correction (NaN without disagreement), its ``p``, and the ``exact p`` of the binomial test.
    """
    from scipy.stats import binom, chi2

    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    statistic = ratio((abs(b - c) - 1) ** 2, b + c)
    exact = min(1.0, 2 * binom.cdf(min(b, c), b + c, 0.5)) if b + c else 1.0
    return {
        "only first": b, "only second": c, "statistic": statistic,
        "p": float(chi2.sf(statistic, 1)) if b + c else 1.0, "exact p": float(exact),
    }  # fmt: skip
