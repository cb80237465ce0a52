"""Stacking: a logistic regression learns from cases with known truth how far to believe each classifier."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import InputError
from MedImgAILib.training.splits import folds


def features(probabilities: np.ndarray) -> np.ndarray:
    """(N, F) of (R, N, C) probabilities; the first of two classes says nothing new and is left out.

    Where a classifier said nothing, the mean of the others stands, or equal probabilities if nobody said anything.
    """
    classifiers, cases, classes = probabilities.shape
    count = np.isfinite(probabilities).sum(axis=0)
    mean = np.divide(
        np.nansum(probabilities, axis=0), count, out=np.full((cases, classes), 1 / classes), where=count > 0
    )
    filled = np.where(np.isfinite(probabilities), probabilities, mean)
    kept = filled[:, :, 1:] if classes == 2 else filled
    return kept.transpose(1, 0, 2).reshape(cases, -1)


def fit(values: np.ndarray, truth: np.ndarray, classes: int, strength: float = 1.0):
    """Multinomial logistic regression with a ridge on the slopes.

    Parameters
    ----------
    values : (N, F)
    truth : (N,) int
    classes : int
    strength : float
        Inverse of the ridge, as scikit-learn's C.

    Returns
    -------
    slopes : (C, F)
    intercepts : (C,)
    """
    from scipy.optimize import minimize

    wanted = np.eye(classes)[truth]
    # Of two classes one set of slopes says all, as of a binary logistic regression.
    free = 1 if classes == 2 else classes

    def unpack(flat):
        table = flat.reshape(free, -1)
        table = np.concatenate([np.zeros_like(table), table]) if classes == 2 else table
        return table[:, :-1], table[:, -1]

    def objective(flat):
        slopes, intercepts = unpack(flat)
        logits = values @ slopes.T + intercepts
        shift = logits.max(axis=1, keepdims=True)
        norm = np.log(np.exp(logits - shift).sum(axis=1, keepdims=True)) + shift
        loss = strength * (norm[:, 0] - (wanted * logits).sum(axis=1)).sum() + 0.5 * (slopes**2).sum()
        error = strength * (np.exp(logits - norm) - wanted)
        gradient = np.concatenate([error.T @ values + slopes, error.sum(axis=0)[:, None]], axis=1)
        return loss, gradient[-free:].ravel()

    start = np.zeros(free * (values.shape[1] + 1))
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-7, "ftol": 1e-14}
    )
    return unpack(found.x)


def predict(values, model) -> np.ndarray:
    """(N, C) probabilities."""
    logits = values @ model[0].T + model[1]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def stack(probabilities, truth, patients, count: int, strength: float, seed: int, check=None) -> np.ndarray:
    """(N, C) probabilities: by cross-validation where the truth is known, else by all cases where it is.

    Parameters
    ----------
    probabilities : (R, N, C)
    truth : (N,) int
        -1 where it is not known.
    patients : N str
        The cases of a patient stay together.
    count : int
        Folds.
    strength : float
        See :func:`fit`.
    seed : int

    Raises
    ------
    InputError
        If too few cases have a truth.
    """
    classes = probabilities.shape[2]
    known = np.flatnonzero(truth >= 0)
    if len(np.unique(truth[known])) < 2:
        raise InputError("Stacking learns from cases of at least two true classes; add a column with the truth.")
    values = features(probabilities)
    result = np.full((len(truth), classes), np.nan)
    for out in folds([patients[n] for n in known], truth[known].tolist(), count, seed):
        if check is not None:
            check()
        held, train = known[out], np.delete(known, out)
        result[held] = predict(values[held], fit(values[train], truth[train], classes, strength))
    rest = np.flatnonzero(truth < 0)
    if len(rest):
        result[rest] = predict(values[rest], fit(values[known], truth[known], classes, strength))
    return result
