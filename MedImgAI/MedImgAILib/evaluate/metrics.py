"""Figures of a classifier's predictions. Every one takes weights, so that a bootstrap sample is a weighting.

``truth`` is (n,) bool or int, ``probability`` (n,) in 0…1, ``weights`` (n,) counts or None. A figure that is not
defined (no diseased case, say) is NaN.
"""

from __future__ import annotations

import numpy as np


def ratio(numerator: float, denominator: float) -> float:
    """The quotient, NaN for 0 / 0."""
    return float(numerator) / float(denominator) if denominator > 0 else float("nan")


def counts(truth, called, weights=None) -> tuple[float, float, float, float]:
    """True positives, false positives, false negatives and true negatives of boolean arrays."""
    truth, called = np.asarray(truth, bool), np.asarray(called, bool)
    w = np.ones(len(truth)) if weights is None else np.asarray(weights, float)
    tp, fp, fn = w[truth & called].sum(), w[~truth & called].sum(), w[truth & ~called].sum()
    return float(tp), float(fp), float(fn), float(w.sum() - tp - fp - fn)


def threshold_figures(tp: float, fp: float, fn: float, tn: float) -> dict[str, float]:
    """The figures that follow from the four counts, by their usual names."""
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return {
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "precision": ratio(tp, tp + fp),
        "negative predictive value": ratio(tn, tn + fn),
        "F1": ratio(2 * tp, 2 * tp + fp + fn),
        "balanced accuracy": (sensitivity + specificity) / 2,
        "Matthews correlation": (tp * tn - fp * fn) / product**0.5 if product > 0 else float("nan"),
    }


def confusion_matrix(truth, predicted, classes: int, weights=None) -> np.ndarray:
    """(classes, classes): true class in rows, predicted class in columns."""
    joint = np.asarray(truth, int) * classes + np.asarray(predicted, int)
    return np.bincount(joint, weights, minlength=classes * classes).reshape(classes, classes)


def multiclass_figures(matrix: np.ndarray) -> dict[str, float]:
    """Accuracy and the means over the classes (macro averages) from a confusion matrix."""
    total, right = matrix.sum(), np.diag(matrix).astype(float)
    actual, called = matrix.sum(axis=1), matrix.sum(axis=0)
    per_class = [
        threshold_figures(
            right[c], called[c] - right[c], actual[c] - right[c], total - actual[c] - called[c] + right[c]
        )
        for c in range(len(matrix))
    ]
    means = {
        name: float(np.mean([p[name] for p in per_class])) for name in ("sensitivity", "specificity", "precision", "F1")
    }
    covariance = [(right.sum() * total - actual @ called), (total**2 - called @ called), (total**2 - actual @ actual)]
    spread = covariance[1] * covariance[2]
    return {
        "accuracy": ratio(right.sum(), total),
        **{f"mean {name}": value for name, value in means.items()},
        "balanced accuracy": means["sensitivity"],
        "Matthews correlation": covariance[0] / spread**0.5 if spread > 0 else float("nan"),
    }


class Ranking:
    """Scores sorted once, for the figures that depend on their order only; tied scores count as one.

    Parameters
    ----------
    truth : (n,) bool
    score : (n,) float
    """

    def __init__(self, truth, score):
        score = np.asarray(score, float)
        self.order = np.argsort(-score, kind="stable")
        ordered = score[self.order]
        self.starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0]) if len(score) else np.zeros(0, int)
        self.thresholds = ordered[self.starts]
        self.truth = np.asarray(truth, bool)[self.order]

    def steps(self, weights=None) -> tuple[np.ndarray, np.ndarray]:
        """Positives and negatives called from the highest score down, cumulated, one entry for each distinct score."""
        w = np.ones(len(self.order)) if weights is None else np.asarray(weights, float)[self.order]
        positives = np.add.reduceat(w * self.truth, self.starts).cumsum()
        return positives, np.add.reduceat(w * ~self.truth, self.starts).cumsum()

    def auc(self, weights=None) -> float:
        """Area under the ROC curve: the probability that a positive scores higher, ties counting half."""
        tp, fp = self.steps(weights)
        if tp[-1] <= 0 or fp[-1] <= 0:
            return float("nan")
        before = np.r_[0.0, tp[:-1]]
        return float(np.sum(np.diff(np.r_[0.0, fp]) * (tp + before)) / (2 * tp[-1] * fp[-1]))

    def average_precision(self, weights=None) -> float:
        """Mean precision over the steps of recall, without interpolation."""
        tp, fp = self.steps(weights)
        if tp[-1] <= 0:
            return float("nan")
        gained, called = np.diff(np.r_[0.0, tp]), tp + fp
        precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
        return float((gained * precision).sum() / tp[-1])

    def roc(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """False-positive rate, true-positive rate and threshold (called where at least this); begins at (0, 0)."""
        tp, fp = self.steps()
        return _from_zero(fp, 1), _from_zero(tp, 1), np.r_[np.inf, self.thresholds]

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Recall, precision and threshold; begins at recall 0 with precision 1."""
        tp, fp = self.steps()
        return _from_zero(tp, 1), np.r_[1.0, tp / (tp + fp)], np.r_[np.inf, self.thresholds]


def _from_zero(cumulated: np.ndarray, scale: float) -> np.ndarray:
    total = cumulated[-1]
    return np.r_[0.0, cumulated * (scale / total)] if total > 0 else np.full(len(cumulated) + 1, np.nan)


def brier(truth, probabilities, weights=None) -> float:
    """Mean squared error of the probabilities: (n,) of the positive class, or (n, classes), then summed over them."""
    probabilities = np.asarray(probabilities, float)
    if probabilities.ndim == 1:
        squared = (probabilities - np.asarray(truth, float)) ** 2
    else:
        squared = ((probabilities - np.eye(probabilities.shape[1])[np.asarray(truth, int)]) ** 2).sum(axis=1)
    return float(np.average(squared, weights=weights))


def log_loss(truth, probabilities, weights=None) -> float:
    """Mean negative logarithm of the true class's probability, (n, classes); 0 counts as the smallest number."""
    probabilities = np.asarray(probabilities, float)
    chosen = probabilities[np.arange(len(probabilities)), np.asarray(truth, int)]
    limits = np.finfo(float)
    return float(np.average(-np.log(np.clip(chosen, limits.eps, 1 - limits.eps)), weights=weights))


def calibration_error(truth, probabilities, bins: int = 15, weights=None) -> float:
    """Expected calibration error of the chosen class (Guo 2017): mean of |accuracy − confidence| over equal bins.

    Parameters
    ----------
    truth : (n,) int
    probabilities : (n, classes)
    bins : int
        Equal intervals of the confidence, open below and closed above.
    """
    probabilities = np.asarray(probabilities, float)
    chosen = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(chosen)), chosen]
    right = (chosen == np.asarray(truth, int)).astype(float)
    w = np.ones(len(chosen)) if weights is None else np.asarray(weights, float)
    place = _bin(confidence, bins)
    gap = np.bincount(place, w * (right - confidence), minlength=bins)
    return float(np.abs(gap).sum() / w.sum())


def _bin(values: np.ndarray, bins: int) -> np.ndarray:
    return np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], values)


def calibration_curve(truth, probability, bins: int = 10, equal_counts: bool = False) -> dict[str, np.ndarray]:
    """Observed share of positives against the mean predicted probability, for the bins that hold cases.

    Returns
    -------
    dict
        ``predicted``, ``observed`` and ``cases``, one entry for each occupied bin.
    """
    truth, probability = np.asarray(truth, float), np.asarray(probability, float)
    edges = np.linspace(0.0, 1.0, bins + 1)
    if equal_counts:
        edges = np.percentile(probability, edges * 100)
    place = np.searchsorted(edges[1:-1], probability)
    cases = np.bincount(place, minlength=bins)
    held = cases > 0
    means = [np.bincount(place, values, minlength=bins)[held] / cases[held] for values in (probability, truth)]
    return {"predicted": means[0], "observed": means[1], "cases": cases[held]}


def decision_curve(truth, probability, thresholds) -> dict[str, np.ndarray]:
    """Net benefit of treating by the model, treating everyone and treating no one (Vickers 2006).

    Net benefit is true positives / n − false positives / n × t / (1 − t) at the threshold probability t; a case is
    treated where its probability is at least t.
    """
    truth, probability = np.asarray(truth, bool), np.asarray(probability, float)
    thresholds = np.asarray(thresholds, float)
    odds = thresholds / (1 - thresholds)
    treated = probability[None, :] >= thresholds[:, None]
    tp, fp = (treated & truth).mean(axis=1), (treated & ~truth).mean(axis=1)
    prevalence = truth.mean()
    return {
        "threshold": thresholds,
        "model": tp - fp * odds,
        "treat all": prevalence - (1 - prevalence) * odds,
        "treat none": np.zeros_like(thresholds),
    }
