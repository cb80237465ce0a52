"""Training on feature tables with nested cross-validation: no case judges a model that was chosen by it."""

from __future__ import annotations

import numpy as np

from ..core import Context, InputError
from .attention import fit_attention
from .calibration import log_probabilities
from .diagnosis import Diagnosis
from .feature_model import FeatureModel, pooled_rows, prepared, uncalibrated

CLASSIFIERS = {
    "logistic": "Logistic regression",
    "svm": "Linear support vector machine",
    "forest": "Random forest",
    "boosting": "Gradient boosting",
}
POOLINGS = {"mean": "Mean", "max": "Maximum", "attention": "Attention (learnt)"}
_CHOICES = {
    "logistic": {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]},
    "svm": {"calibratedclassifiercv__estimator__C": [0.001, 0.01, 0.1, 1.0]},
    "forest": {"max_leaf_nodes": [8, 32, 128]},
    "boosting": {"learning_rate": [0.03, 0.1]},
}
"""What the inner cross-validation chooses from."""
_CALIBRATING = 3
"""Parts of what a support vector machine learns from, by which its scores become probabilities."""
_TREES = 200
_MOST_LEAVES = 128


def estimator(kind: str, seed: int):
    """A scikit-learn estimator that :func:`segment.pixel_training.translated` can turn into plain numbers."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if kind == "forest":
        return RandomForestClassifier(_TREES, max_leaf_nodes=_MOST_LEAVES, min_samples_leaf=2, random_state=seed)
    if kind == "boosting":
        return HistGradientBoostingClassifier(
            max_iter=_TREES // 2, max_leaf_nodes=15, min_samples_leaf=5, early_stopping=False, random_state=seed
        )
    if kind == "svm":
        machine = LinearSVC(dual=False, random_state=seed)
        return make_pipeline(StandardScaler(), CalibratedClassifierCV(machine, cv=_CALIBRATING, ensemble=False))
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def parts(truth: np.ndarray, patients: np.ndarray, count: int, seed: int):
    """Stratified folds, ``(learnt, judged)`` positions, that never divide a patient.

    Raises
    ------
    InputError
        If a class has fewer patients than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    fewest = min(len(np.unique(patients[truth == c])) for c in np.unique(truth))
    if fewest < count:
        raise InputError(f"A class has {fewest} patients only; choose at most that many folds, or add cases.")
    if len(np.unique(patients)) == len(patients):
        return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(truth, truth))
    return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(truth, truth, patients))


def fit(bags, truth, patients, classes: int, kind: str, pooling: str, inner: int, seed: int, context: Context):
    """``(middles, centers, scales, model)`` learnt from raw bags; what can be chosen is, by inner cross-validation."""
    from threadpoolctl import threadpool_limits

    from ..segment.pixel_training import translated

    rows = np.concatenate(bags)
    finite = np.where(np.isfinite(rows), rows, np.nan)
    middles = np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in finite.T])
    filled = np.where(np.isfinite(rows), rows, middles)
    centers, scales = filled.mean(axis=0), filled.std(axis=0)
    # What differs by rounding alone is constant.
    scales = np.where(scales > 1e-9 * np.abs(centers), scales, 1.0)
    ready = [prepared(bag, middles, centers, scales) for bag in bags]
    if pooling == "attention":
        return middles, centers, scales, fit_attention(ready, truth, classes, seed=seed, check=context.check)
    from sklearn.model_selection import GridSearchCV

    values = pooled_rows(ready, pooling)
    chosen = estimator(kind, seed)
    splits = _inner_parts(truth, patients, classes, inner, kind, seed)
    context.check()
    with threadpool_limits(1):
        if splits:
            chosen = GridSearchCV(chosen, _CHOICES[kind], cv=splits, scoring="neg_log_loss").fit(values, truth)
            chosen = chosen.best_estimator_
        else:
            chosen = chosen.fit(values, truth)
    return middles, centers, scales, translated(chosen, kind, values.shape[1])


def _inner_parts(truth, patients, classes: int, inner: int, kind: str, seed: int) -> list:
    """Folds to choose by; none where a part would have too few cases of a class to learn from.

    Raises
    ------
    InputError
        If there are too few to learn from at all.
    """
    needed = _CALIBRATING if kind == "svm" else 1
    smallest = int(np.bincount(truth, minlength=classes).min())
    if smallest < needed:
        raise InputError(
            f"A part to learn from has {smallest} cases of a class where the classifier needs {needed}; choose fewer "
            "folds or another classifier, or add cases."
        )
    fewest = min(len(np.unique(patients[truth == c])) for c in np.unique(truth))
    if min(inner, fewest) < 2:
        return []
    splits = parts(truth, patients, min(inner, fewest), seed)
    enough = all(np.bincount(truth[learnt], minlength=classes).min() >= needed for learnt, _ in splits)
    return splits if enough else []


def cross_validated(bags, truth, patients, classes, kind, pooling, folds, inner, seed, context: Context):
    """(n, classes) probabilities of every case by a model that saw nothing of its patient, and the (n,) fold."""
    found, fold = np.zeros((len(bags), classes)), np.zeros(len(bags), int)
    splits = parts(truth, patients, folds, seed)
    for number, (learnt, judged) in enumerate(splits):
        context.progress(number / len(splits), f"Fold {number + 1} of {len(splits)}")
        middles, centers, scales, model = fit(
            [bags[n] for n in learnt], truth[learnt], patients[learnt], classes, kind, pooling, inner, seed, context
        )
        ready = [prepared(bags[n], middles, centers, scales) for n in judged]
        found[judged], fold[judged] = uncalibrated(model, ready, pooling), number + 1
    return found, fold


def final_model(
    bags, truth, patients, names, features, kind, pooling, inner, sensitivity, held_out, seed, context: Context
) -> FeatureModel:
    """The model of all cases, calibrated by the held-out probabilities."""
    learnt = fit(bags, truth, patients, len(names), kind, pooling, inner, seed, context)
    diagnosis = Diagnosis.fitted(log_probabilities(held_out), truth, names, "temperature", sensitivity or None)
    return FeatureModel(tuple(features), *learnt, pooling, diagnosis)
