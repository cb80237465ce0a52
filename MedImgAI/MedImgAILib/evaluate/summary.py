"""Everything that is said about one classifier: figures with intervals, by class and by subgroup."""

from __future__ import annotations

import numpy as np

from ..core import Context, Table
from . import metrics
from .delong import auc_interval
from .intervals import bootstrap, percentile_interval, wilson
from .predictions import Predictions

_SHARES = {
    "accuracy": ("tp tn", "tp fp fn tn"), "sensitivity": ("tp", "tp fn"), "specificity": ("tn", "tn fp"),
    "precision": ("tp", "tp fp"), "negative predictive value": ("tn", "tn fn"),
}  # fmt: skip
"""Figures that are shares of cases: what is counted, and out of what."""


class Figures:
    """The figures of predictions as a function of weights; sorts and compares only once.

    Parameters
    ----------
    predictions : Predictions
    threshold : float
        For two classes: probability from which a case is called positive.
    bins : int
        Of the expected calibration error.
    """

    def __init__(self, predictions: Predictions, threshold: float, bins: int):
        self._given, self._bins = predictions, bins
        self._called = predictions.predicted(threshold)
        positives = [1] if predictions.is_binary else range(len(predictions.classes))
        self._rankings = [
            metrics.Ranking(predictions.truth == c, predictions.probabilities[:, c]) for c in positives
        ]  # fmt: skip

    def __call__(self, weights=None) -> dict[str, float]:
        """Name → value."""
        given = self._given
        if given.is_binary:
            figures = metrics.threshold_figures(*metrics.counts(given.truth == 1, self._called == 1, weights))
            prefix, brier_of = "", given.score
        else:
            matrix = metrics.confusion_matrix(given.truth, self._called, len(given.classes), weights)
            figures = metrics.multiclass_figures(matrix)
            prefix, brier_of = "mean ", given.probabilities
        return figures | {
            f"{prefix}AUC": float(np.mean([r.auc(weights) for r in self._rankings])),
            f"{prefix}average precision": float(np.mean([r.average_precision(weights) for r in self._rankings])),
            "Brier score": metrics.brier(given.truth, brier_of, weights),
            "log loss": metrics.log_loss(given.truth, given.probabilities, weights),
            "expected calibration error": metrics.calibration_error(
                given.truth, given.probabilities, self._bins, weights
            ),
        }


def summarize(
    given: Predictions, threshold: float, level: float, samples: int, bins: int, context: Context
) -> Table:  # fmt: skip
    """Table with a row for each figure: its value, the bounds of its interval and the method of the interval.

    Shares of cases have Wilson's interval and the area under the ROC curve DeLong's; everything has the bootstrap's
    where cases of one patient belong together, and the area both.
    """
    figures = Figures(given, threshold, bins)
    values = figures()
    drawn = bootstrap(figures, len(given.truth), samples, context.rng, given.patients, context.progress)
    method = "bootstrap" if given.patients is None else "bootstrap over patients"
    rows = []
    called = given.predicted(threshold)
    for name, value in values.items():
        bounds, how = percentile_interval(drawn[name], level), method
        if given.patients is None and (counted := _counted(name, given, called)):
            bounds, how = wilson(*counted, level), "Wilson"
        if name == "AUC":
            _, *delong = auc_interval(given.truth == 1, given.score, level)
            rows.append((name, value, *delong, "DeLong"))
        rows.append((name, value, *bounds, how))
    for number, name in enumerate(given.classes) if not given.is_binary else ():
        rows.append((f"AUC of {name}", *auc_interval(given.truth == number, given.probabilities[:, number], level),
                     "DeLong"))  # fmt: skip
    columns = dict(zip(("figure", "value", "lower", "upper", "interval"), zip(*rows)))
    return Table({k: v if k in ("figure", "interval") else np.array(v) for k, v in columns.items()}, "Figures")


def _counted(name: str, given: Predictions, called: np.ndarray):
    if not given.is_binary:
        return ((called == given.truth).sum(), len(called)) if name == "accuracy" else None
    if name not in _SHARES:
        return None
    values = dict(zip(("tp", "fp", "fn", "tn"), metrics.counts(given.truth == 1, called == 1)))
    return tuple(sum(values[part] for part in parts.split()) for parts in _SHARES[name])


def confusion_table(given: Predictions, threshold: float) -> Table:
    """True classes in rows, called classes in columns."""
    matrix = metrics.confusion_matrix(given.truth, given.predicted(threshold), len(given.classes))
    columns = {"true class": given.classes} | {f"called {c}": matrix[:, n] for n, c in enumerate(given.classes)}
    return Table(columns, "Confusion matrix")


def subgroup_table(
    given: Predictions, threshold: float, level: float, gap: float, smallest: int, context: Context
) -> Table | None:  # fmt: skip
    """Figures in each subgroup beside those of everyone else, and whether they fall behind.

    A subgroup is flagged with a figure that is lower than that of the other cases by more than ``gap``, and beyond
    what chance gives (the bounds of the difference exclude 0; Newcombe's interval for shares, DeLong's for the area).
    """
    rows = []
    for column, labels in given.groups.items():
        for label in sorted(set(labels)):
            context.check()
            inside = np.array(labels) == label
            rows.append(_subgroup(given, column, label or "(empty)", inside, threshold, level, gap, smallest))
    return Table({key: [row[key] for row in rows] for key in rows[0]}, "Subgroups") if rows else None


def _subgroup(given, column, label, inside, threshold, level, gap, smallest) -> dict:
    part, rest = given.subset(inside), given.subset(~inside)
    row = {"column": column, "subgroup": label, "cases": int(inside.sum())}
    if given.is_binary:
        row["positives"] = int((part.truth == 1).sum())
    flags = []
    names = ("accuracy", "sensitivity", "specificity") if given.is_binary else ("accuracy",)
    for name in names:
        mine = _counted(name, part, part.predicted(threshold))
        others = _counted(name, rest, rest.predicted(threshold))
        row[name] = metrics.ratio(*mine)
        behind = metrics.ratio(*others) - row[name]
        if behind > gap and mine[1] >= smallest and _newcombe(others, mine, level)[0] > 0:
            flags.append(f"{name} −{behind:.3f}")
    if given.is_binary:
        (row["AUC"], *bounds), other = (auc_interval(p.truth == 1, p.score, level) for p in (part, rest))
        behind = other[0] - row["AUC"]
        width = sum(((b[1] - b[0]) / 2) ** 2 for b in (bounds, other[1:])) ** 0.5
        if behind > gap and min((part.truth == 1).sum(), (part.truth == 0).sum()) >= smallest and behind > width:
            flags.append(f"AUC −{behind:.3f}")
    row["called positive" if given.is_binary else "called as the last class"] = float(
        (part.predicted(threshold) == len(given.classes) - 1).mean()
    )
    row["gap"] = "; ".join(flags) or ("too few to tell" if inside.sum() < smallest else "")
    return row


def _newcombe(first, second, level: float) -> tuple[float, float]:
    """Interval of the difference of two shares (Newcombe RG. Stat Med 1998; 17:873-890, method 10)."""
    p, q = metrics.ratio(*first), metrics.ratio(*second)
    (pl, pu), (ql, qu) = wilson(*first, level), wilson(*second, level)
    return p - q - np.hypot(p - pl, qu - q), p - q + np.hypot(pu - p, q - ql)
