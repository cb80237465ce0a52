"""Sets of classes that hold the true one with a wanted probability; other than one class means "do not know".

Split conformal prediction (Vovk, Gammerman, Shafer 2005; Sadinle, Lei, Wasserman 2019, J Am Stat Assoc 114:223-234).
The guarantee holds for cases drawn like those of the calibration, whatever the model.
"""

from __future__ import annotations

import numpy as np


def nonconformity(probabilities, truth) -> np.ndarray:
    """(n,) one minus the probability of each case's true class: large where the model is wrong."""
    probabilities = np.asarray(probabilities, float)
    return 1.0 - probabilities[np.arange(len(probabilities)), np.asarray(truth, int)]


def limits(scores, truth, classes: int, coverage: float, by_class: bool = True) -> np.ndarray:
    """The largest non-conformity that a class in the set may have.

    Parameters
    ----------
    scores : (n,)
        Of calibration cases, from :func:`nonconformity`.
    truth : (n,) int
    classes : int
    coverage : float
        How often the set shall hold the true class, 0…1.
    by_class : bool
        Whether this shall hold among the cases of each class (Mondrian), not only in the mean.

    Returns
    -------
    (classes,) ndarray
        Infinite where there are too few cases to promise anything, so that the class is always in the set.
    """
    scores, truth = np.asarray(scores, float), np.asarray(truth, int)
    if not by_class:
        return np.full(classes, _quantile(scores, coverage))
    return np.array([_quantile(scores[truth == c], coverage) for c in range(classes)])


def _quantile(scores: np.ndarray, coverage: float) -> float:
    rank = int(np.ceil((len(scores) + 1) * coverage - 1e-9))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def sets(probabilities, largest) -> np.ndarray:
    """(n, classes) bool: which classes each case's set holds."""
    return 1.0 - np.asarray(probabilities, float) <= np.asarray(largest, float)[None, :] + 1e-12
