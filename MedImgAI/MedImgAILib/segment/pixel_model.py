"""The trained part of a pixel classifier: trees or weights as plain numbers, written to and read from JSON.

Nothing but numbers is stored, so that reading one from elsewhere cannot run code. Trees are evaluated by selecting
among their leaves from the bottom up, for many voxels at once: a few byte operations for each node.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from ..core import ModelError

_MOST_NODES = 511
"""Nodes of a tree, so that a leaf's number fits a byte."""


@dataclass(frozen=True)
class Tree:
    """A binary decision tree; node 0 is the root, children follow their parent, leaves have ``feature`` -1.

    A voxel goes left where the feature is at most the threshold. ``values`` is (leaves, outputs) float32.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray
    values: np.ndarray

    @classmethod
    def build(cls, feature, threshold, left, right, values) -> Tree:
        """From lists over all nodes; ``values`` (nodes, outputs) counts at the leaves only."""
        feature = np.asarray(feature, np.int32)
        leaves = feature < 0
        leaf = np.full(len(feature), -1, np.int32)
        leaf[leaves] = np.arange(leaves.sum())
        # "At most a float64 threshold" is, for float32 features, "at most the float32 just below or equal to it".
        exact = np.asarray(threshold, np.float64)
        cut = exact.astype(np.float32)
        cut = np.where(cut > exact, np.nextafter(cut, np.float32(-np.inf)), cut).astype(np.float32)
        cut[leaves] = 0
        values = np.asarray(values, np.float32)[leaves]
        return cls(feature, cut, np.asarray(left, np.int32), np.asarray(right, np.int32), leaf, values)

    def leaves(self, rows: np.ndarray) -> np.ndarray | int:
        """(N,) uint8: the leaf of each column of the (F, N) float32 features; one number if there is only one leaf."""
        results: dict[int, np.ndarray | int] = {}
        for node in range(len(self.feature) - 1, -1, -1):
            if self.feature[node] < 0:
                results[node] = int(self.leaf[node])
                continue
            left, right = results.pop(int(self.left[node])), results.pop(int(self.right[node]))
            bright = rows[self.feature[node]] > self.threshold[node]
            # 0 or 255, so that "left ^ (mask & (left ^ right))" selects without a branch.
            mask = np.negative(bright.view(np.uint8))
            if isinstance(left, int) and isinstance(right, int):
                mask &= np.uint8(left ^ right)
                mask ^= np.uint8(left)
                results[node] = mask
                continue
            if isinstance(left, int):
                # The same selection seen from the right branch, whose memory is free for the result.
                np.invert(mask, out=mask)
                left, right = right, np.uint8(left)
            elif isinstance(right, int):
                right = np.uint8(right)
            mask &= left ^ right
            left ^= mask
            results[node] = left
        return results[0]


@dataclass(frozen=True)
class PixelModel:
    """Class probabilities from features.

    ``kind``: "forest" (mean of the trees' leaf probabilities), "boosting" (sum of leaf scores, one group of trees for
    each score, then sigmoid or softmax), "logistic" (weights, then sigmoid or softmax) or "svm" (weights, then
    Platt's sigmoid for each class, normalised).
    """

    kind: str
    classes: int
    features: int
    trees: tuple[tuple[Tree, ...], ...] = ()
    baseline: np.ndarray = ()
    weights: np.ndarray = ()
    offsets: np.ndarray = ()
    slopes: np.ndarray = ()
    shifts: np.ndarray = ()

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(classes, N) float32 from (F, N) float32 features; the columns' sums are 1."""
        if self.kind == "forest":
            total = self._sums(self.trees[0], rows, self.classes)
            total *= np.float32(1 / len(self.trees[0]))
            return total
        if self.kind == "boosting":
            groups = [self._sums(group, rows, 1)[0] for group in self.trees]
            scores = np.stack(groups) + np.asarray(self.baseline, np.float32)[:, None]
        else:
            scores = self.weights @ rows
            scores += self.offsets[:, None]
        if self.kind == "svm":
            scores = _sigmoid(-(scores * self.slopes[:, None] + self.shifts[:, None]))
            if self.classes > 2:
                total = scores.sum(axis=0)
                return np.where(total > 0, scores / np.maximum(total, 1e-30), np.float32(1 / self.classes))
        elif self.classes > 2:
            scores -= scores.max(axis=0)
            np.exp(scores, out=scores)
            return scores / scores.sum(axis=0)
        else:
            scores = _sigmoid(scores)
        return np.concatenate([1 - scores, scores])

    @staticmethod
    def _sums(trees, rows, outputs) -> np.ndarray:
        total = np.zeros((outputs, rows.shape[1]), np.float32)
        # A forest's last class follows from the others, as its leaves' probabilities sum to 1.
        counted = outputs - 1 if outputs > 1 else 1
        found, place = np.empty(rows.shape[1], np.float32), np.empty(rows.shape[1], np.intp)
        for tree in trees:
            leaf = tree.leaves(rows)
            if isinstance(leaf, int):
                total[:counted] += tree.values[leaf, :counted, None]
                continue
            place[...] = leaf
            for output in range(counted):
                np.take(np.ascontiguousarray(tree.values[:, output]), place, out=found, mode="clip")
                total[output] += found
        if outputs > 1:
            total[-1] = len(trees) - total[:-1].sum(axis=0)
        return total

    def to_json(self) -> dict:
        """Plain lists and numbers."""
        described = {"kind": self.kind, "classes": self.classes, "features": self.features}
        if self.trees:
            described["trees"] = [[_tree_to_json(tree) for tree in group] for group in self.trees]
        for name in ("baseline", "weights", "offsets", "slopes", "shifts"):
            if len(getattr(self, name)):
                described[name] = np.asarray(getattr(self, name), np.float32).tolist()
        return described

    @classmethod
    def from_json(cls, described) -> PixelModel:
        """Check and read what :meth:`to_json` gave.

        Raises
        ------
        ModelError
            If anything about it is wrong.
        """
        try:
            return _model_from_json(described)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise ModelError(f"The pixel classifier is damaged ({error}); train it again.") from error


def _sigmoid(x):
    return 0.5 * (1 + np.tanh(np.float32(0.5) * x))


def _tree_to_json(tree: Tree) -> dict:
    return {
        "feature": tree.feature.tolist(), "threshold": tree.threshold.tolist(), "left": tree.left.tolist(),
        "right": tree.right.tolist(), "values": tree.values.tolist(),
    }  # fmt: skip


def _numbers(value, shape, dtype=np.float32) -> np.ndarray:
    array = np.array(value, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"numbers of shape {array.shape} stand where {shape} is needed")
    return array.astype(dtype)


def _model_from_json(described: dict) -> PixelModel:
    kind, classes, features = described["kind"], described["classes"], described["features"]
    if kind not in ("forest", "boosting", "logistic", "svm"):
        raise ValueError("its kind is unknown")
    if type(classes) is not int or type(features) is not int or not (2 <= classes <= 250 and 1 <= features <= 10_000):
        raise ValueError("its number of classes or features is impossible")
    scores = 1 if classes == 2 else classes
    if kind in ("forest", "boosting"):
        groups = described["trees"]
        wanted = 1 if kind == "forest" else scores
        if not isinstance(groups, list) or len(groups) != wanted or not all(isinstance(g, list) and g for g in groups):
            raise ValueError("its trees are missing")
        outputs = classes if kind == "forest" else 1
        trees = tuple(tuple(_tree_from_json(tree, features, outputs) for tree in group) for group in groups)
        baseline = _numbers(described["baseline"], (scores,)) if kind == "boosting" else ()
        return PixelModel(kind, classes, features, trees, baseline)
    arrays = [_numbers(described["weights"], (scores, features)), _numbers(described["offsets"], (scores,))]
    if kind == "svm":
        arrays += [_numbers(described[name], (scores,)) for name in ("slopes", "shifts")]
    return PixelModel(kind, classes, features, (), (), *arrays)


def _tree_from_json(node: dict, features: int, outputs: int) -> Tree:
    feature = np.array(node["feature"])
    count = len(feature)
    if feature.ndim != 1 or feature.dtype.kind != "i" or not 1 <= count <= _MOST_NODES:
        raise ValueError("a tree has an impossible number of nodes")
    left, right = np.array(node["left"]), np.array(node["right"])
    inner, places = feature >= 0, np.arange(count)
    for child in (left, right):
        if child.shape != (count,) or child.dtype.kind != "i":
            raise ValueError("a tree's branches are not numbers")
    children = np.concatenate([left[inner], right[inner]])
    follows = (left[inner] > places[inner]).all() and (right[inner] > places[inner]).all()
    # Every node but the root hangs on one parent that stands before it: neither circles nor shared branches.
    if feature.max() >= features or not follows or not np.array_equal(np.sort(children), places[1:]):
        raise ValueError("a tree's branches do not form a tree")
    values = np.zeros((count, outputs))
    values[~inner] = _numbers(node["values"], (int((~inner).sum()), outputs), np.float64)
    return Tree.build(feature, _numbers(node["threshold"], (count,)), left, right, values)


def read_json(text: str) -> dict:
    """The object in a JSON text.

    Raises
    ------
    ModelError
        If it is none.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"The pixel classifier is not a JSON text ({error}); choose the text of a trained one."
        ) from error
    if not isinstance(value, dict):
        raise ModelError("The pixel classifier is not a JSON object; choose a trained one.")
    return value


def _no_constant(name):
    raise ValueError(f"{name} is not a number")
