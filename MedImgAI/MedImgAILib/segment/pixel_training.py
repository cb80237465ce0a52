"""Training of pixel classifiers by scikit-learn, and their translation into plain numbers."""

from __future__ import annotations

import numpy as np

from ..core import Context, Geometry, InputError, Segmentation
from .pixel_model import PixelModel, Tree

CLASSIFIERS = {
    "forest": "Random forest",
    "boosting": "Gradient boosting",
    "svm": "Linear support vector machine",
    "logistic": "Logistic regression",
}
_LEAVES = 32
"""Of a tree in a forest; strokes are few and alike, so that finer trees learn their noise."""
_MOST_SAMPLES = 10_000
"""Of one segment."""


def new_estimator(kind: str, trees: int, seed: int):
    """The scikit-learn estimator of one of :data:`CLASSIFIERS`."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if kind == "forest":
        return RandomForestClassifier(
            trees, max_leaf_nodes=_LEAVES, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=-1,
        )  # fmt: skip
    if kind == "boosting":
        return HistGradientBoostingClassifier(
            max_iter=trees, max_leaf_nodes=15, min_samples_leaf=5, early_stopping=False, random_state=seed,
            class_weight="balanced",
        )  # fmt: skip
    if kind == "svm":
        machine = LinearSVC(class_weight="balanced", dual=False, random_state=seed)
        return make_pipeline(StandardScaler(), CalibratedClassifierCV(machine, cv=3, ensemble=False))
    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))


def translated(estimator, kind: str, features: int) -> PixelModel:
    """The fitted ``estimator`` as a :class:`PixelModel` that gives the same probabilities."""
    if kind == "forest":
        trees = tuple(_forest_tree(e.tree_) for e in estimator.estimators_)
        return PixelModel(kind, len(estimator.classes_), features, (trees,))
    if kind == "boosting":
        rounds = estimator._predictors
        groups = tuple(tuple(_boosted_tree(r[n].nodes) for r in rounds) for n in range(len(rounds[0])))
        baseline = np.ravel(estimator._baseline_prediction).astype(np.float32)
        return PixelModel(kind, len(estimator.classes_), features, groups, baseline)
    scaler, linear = estimator.steps[0][1], estimator.steps[1][1]
    classes, extra = len(linear.classes_), ()
    if kind == "svm":
        calibrated = linear.calibrated_classifiers_[0]
        linear = calibrated.estimator
        slopes, shifts = (np.array([getattr(c, n) for c in calibrated.calibrators], np.float32) for n in ("a_", "b_"))
        extra = slopes, shifts
    # The scaling is folded into the weights.
    weights = linear.coef_ / scaler.scale_
    offsets = linear.intercept_ - weights @ scaler.mean_
    return PixelModel(
        kind, classes, features, (), (), weights.astype(np.float32), offsets.astype(np.float32), *extra
    )  # fmt: skip


def _forest_tree(tree) -> Tree:
    values = tree.value[:, 0, :]
    values = values / values.sum(axis=1, keepdims=True)
    feature = np.where(tree.children_left < 0, -1, tree.feature)
    return Tree.build(feature, tree.threshold, tree.children_left, tree.children_right, values)


def _boosted_tree(nodes) -> Tree:
    """A histogram tree; its nodes need not stand behind their parents, so they are numbered anew."""
    order, new = [0], {0: 0}
    for old in order:
        if not nodes["is_leaf"][old]:
            for child in (int(nodes["left"][old]), int(nodes["right"][old])):
                new[child] = len(order)
                order.append(child)
    leaf = nodes["is_leaf"][order].astype(bool)
    feature = np.where(leaf, -1, nodes["feature_idx"][order])
    left, right = (
        [-1 if end else new[int(nodes[side][old])] for old, end in zip(order, leaf)] for side in ("left", "right")
    )
    return Tree.build(feature, nodes["num_threshold"][order], left, right, nodes["value"][order][:, None])


def samples(strokes: Segmentation, geometry: Geometry, context: Context) -> tuple[np.ndarray, np.ndarray]:
    """The painted voxels of a canonical grid.

    Returns
    -------
    indices : (N, 3) int ndarray
        (k, j, i) in the order of the grid; of a segment with very many, a random share.
    classes : (N,) int ndarray
        Position of each voxel's segment in the table.

    Raises
    ------
    InputError
        If fewer than two segments are painted in the image, or one is not.
    """
    ordered = strokes.canonical()
    labels = ordered.labelmap()
    places = np.stack(np.unravel_index(np.flatnonzero(labels), labels.shape), axis=1)
    classes = labels[tuple(places.T)].astype(int) - 1
    if not ordered.geometry.same_grid(geometry):
        places = np.rint(geometry.ijk(ordered.geometry.ras(places[:, ::-1]))[:, ::-1]).astype(int)
        inside = np.all((places >= 0) & (places < geometry.shape), axis=1)
        places, first = np.unique(places[inside], axis=0, return_index=True)
        classes = classes[inside][first]
    counts = np.bincount(classes, minlength=len(strokes.segments))
    if len(counts) < 2:
        raise InputError(f"Strokes: {strokes.label} has one segment only; paint the background as another one.")
    for number, segment in enumerate(strokes.segments):
        if counts[number] < 3:
            raise InputError(
                f"Strokes: segment '{segment.name}' has {counts[number]} voxels in the image; paint at least 3."
            )
    keep = np.ones(len(places), bool)
    for number in np.flatnonzero(counts > _MOST_SAMPLES):
        mine = np.flatnonzero(classes == number)
        keep[context.rng.permutation(mine)[_MOST_SAMPLES:]] = False
    return places[keep], classes[keep]


def fitted(features: np.ndarray, classes: np.ndarray, kind: str, trees: int, seed: int) -> PixelModel:
    """Train on (N, F) float32 ``features`` with their (N,) ``classes``."""
    from threadpoolctl import threadpool_limits

    # On samples as few as strokes, OpenMP's threads cost more than they gain.
    with threadpool_limits(1):
        estimator = new_estimator(kind, trees, seed).fit(features, classes)
    return translated(estimator, kind, features.shape[1])
