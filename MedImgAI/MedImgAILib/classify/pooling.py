"""One answer from the answers for several views, slices or patches (multi-instance learning)."""

from __future__ import annotations

import numpy as np

from .calibration import softmax

POOLINGS = {"mean": "Mean", "max": "Most suspicious", "noisy_or": "Any of them (noisy or)"}


def pooled(log_probabilities: np.ndarray, how: str) -> np.ndarray:
    """(classes,) probabilities from (n, classes) logarithms of probabilities.

    ========  =================================================================================================
    mean      of the logarithms: each instance is a witness of the same thing
    max       the instance with the highest probability of the last class
    noisy_or  of two classes: negative only if every instance is, as if they were independent; of more the mean
    ========  =================================================================================================
    """
    log_probabilities = np.asarray(log_probabilities, float)
    if how == "max":
        return np.exp(log_probabilities[log_probabilities[:, -1].argmax()])
    if how == "noisy_or" and log_probabilities.shape[1] == 2:
        negative = float(np.exp(log_probabilities[:, 0].sum()))
        return np.array([negative, 1 - negative])
    return softmax(log_probabilities.mean(axis=0))
