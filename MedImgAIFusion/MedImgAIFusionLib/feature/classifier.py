"""A classifier of voxels from the features of several modalities, as one JSON text; its training and application."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
from MedImgAILib.core import Context, InputError, ModelError, Segment, Terminology
from MedImgAILib.segment.pixel_model import PixelModel, read_json
from MedImgAILib.segment.pixel_training import fitted
from MedImgAILib.segment.plane_filters import for_each

from ..model.ablation import dice
from ..model.cases import Case
from .reduction import Reduction, fit
from .voxels import Features, names

FORMAT = "medimgai.feature-fusion"
_BACKGROUND_FACTOR = 3
"""Background voxels for training, as a multiple of a segment's."""
_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_JUDGED = 60_000
"""Voxels of the training cases by which the weight of the classes' frequencies is chosen."""


@dataclass(frozen=True)
class FusedClassifier:
    """``prior`` multiplies the classes' probabilities: a sample for training is balanced, an image is not."""

    modalities: tuple[str, ...]
    segments: tuple[Segment, ...]
    scales_mm: tuple[float, ...]
    spacing_mm: float
    deep: tuple[tuple[str, int], ...]
    reduction: Reduction
    prior: np.ndarray
    model: PixelModel

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(C, N) float32 of (N, F) features."""
        found = self.model.probabilities(np.ascontiguousarray(self.reduction.apply(rows).T))
        found = found * self.prior[:, None]
        return found / np.maximum(found.sum(axis=0), 1e-30)

    def to_text(self) -> str:
        """One line of JSON: names, colours, terminology and numbers."""
        segments = [
            {"name": s.name, "color": list(s.color), "terminology": s.terminology.serialize()} for s in self.segments
        ]
        value = {
            "format": FORMAT, "version": 1, "modalities": list(self.modalities), "segments": segments,
            "scales_mm": list(self.scales_mm), "spacing_mm": self.spacing_mm, "deep": [list(d) for d in self.deep],
            "reduction": self.reduction.to_json(), "prior": self.prior.tolist(), "model": self.model.to_json(),
        }  # fmt: skip
        return json.dumps(value, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> FusedClassifier:
        """Check and read what :meth:`to_text` gave; nothing in it can run code.

        Raises
        ------
        ModelError
            If anything about it is wrong.
        """
        value = read_json(text)
        if value.get("format") != FORMAT or value.get("version") != 1:
            raise ModelError("The text is not a classifier of fused features; choose one that training gave.")
        model, reduction = PixelModel.from_json(value.get("model")), Reduction.from_json(value.get("reduction"))
        try:
            segments = tuple(
                Segment(str(s["name"]), n, tuple(float(c) for c in s["color"]), Terminology.parse(s["terminology"]))
                for n, s in enumerate(value["segments"], start=1)
            )
            modalities = tuple(str(m) for m in value["modalities"])
            scales = tuple(float(s) for s in value["scales_mm"])
            deep = tuple((str(title), int(count)) for title, count in value["deep"])
            prior = np.array(value["prior"], np.float32)
            spacing = float(value["spacing_mm"])
            sound = (
                model.classes == len(segments) + 1 == len(prior)
                and (prior > 0).all() and np.isfinite(prior).all() and 0 <= spacing <= 20
                and all(0 < s <= 100 for s in scales) and all(0 < count <= 10_000 for _, count in deep)
                and len(names(modalities, scales, deep)[0]) == len(reduction.mean)
                and model.features == reduction.projection.shape[1]
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise ModelError(f"The classifier of fused features is damaged ({error}); train it again.") from error
        if not sound:
            raise ModelError("The classifier of fused features is damaged (its parts do not fit); train it again.")
        return cls(modalities, segments, scales, spacing, deep, reduction, prior, model)


@dataclass(frozen=True)
class Recipe:
    """How features become a classifier; the fields are the training task's parameters."""

    scales_mm: tuple[float, ...] = (1.0, 2.0, 4.0)
    method: str = "pca"
    components: int = 24
    classifier: str = "forest"
    trees: int = 60
    samples: int = 2000


def train(cases: list[Case], modalities, segments, networks, recipe: Recipe, spacing_mm: float, context: Context):
    """A :class:`FusedClassifier` from cases with labels.

    Parameters
    ----------
    cases : list of Case
    modalities : sequence of str
    segments : tuple of Segment
        Labels 1, 2, ….
    networks : list of (title, network, inputs)
        For deep features.
    recipe : Recipe
    spacing_mm : float
        To which the cases were brought.

    Raises
    ------
    InputError
        If a segment or the background has no voxel.
    """
    pairs = [(network, inputs) for _, network, inputs in networks]
    rows, labels, judged, truth = [], [], [], []
    counts, deep = np.zeros(len(segments) + 1), []
    for number, case in enumerate(cases):
        with context.part(0.7 * number / len(cases), 0.7 * (number + 1) / len(cases)) as whole:
            with whole.part(0.0, 0.6) as part:
                features = Features(case, recipe.scales_mm, pairs, part)
            places, classes = _sample(case, recipe.samples, context.rng)
            some, natural = _natural(case, _JUDGED // len(cases), context.rng)
            with whole.part(0.6, 0.8) as part:
                rows.append(features.at(places, part))
            with whole.part(0.8, 1.0) as part:
                judged.append(features.at(some, part))
        deep = [(title, count) for (title, _, _), count in zip(networks, features.deep_counts)]
        labels.append(classes)
        truth.append(natural)
        counts += np.bincount(case.labels.ravel(), minlength=len(counts))
    rows, labels = np.concatenate(rows), np.concatenate(labels)
    present = np.bincount(labels, minlength=len(counts))
    for label, name in enumerate(["the background", *(f"segment '{s.name}'" for s in segments)]):
        if present[label] < 3:
            raise InputError(f"Segments: {name} has {present[label]} voxels in the cases; at least 3 are needed.")
    context.progress(0.75, "Reducing the features")
    _, groups = names(modalities, recipe.scales_mm, deep)
    reduction = fit(rows, groups, recipe.method, recipe.components)
    context.progress(0.8, "Training")
    model = fitted(reduction.apply(rows), labels, recipe.classifier, recipe.trees, context.seed)
    blank = FusedClassifier(
        tuple(modalities), tuple(segments), recipe.scales_mm, spacing_mm, tuple(deep), reduction,
        np.ones(len(counts), np.float32), model,
    )  # fmt: skip
    context.progress(0.95, "Weighing the classes")
    shares = np.maximum(counts / counts.sum(), 1e-6)
    return _weighed(blank, np.concatenate(judged), np.concatenate(truth), shares)


def _tissue(case: Case) -> np.ndarray:
    """Flat indices of the voxels where some image has tissue."""
    return np.flatnonzero((np.nan_to_num(case.array) != 0).any(axis=0))


def _sample(case: Case, most: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) voxels (k, j, i) and their labels: of each segment and the background about equally many."""
    flat, tissue = case.labels.ravel(), _tissue(case)
    inside = flat[tissue]
    chosen = []
    for label in np.unique(inside):
        mine = tissue[inside == label]
        limit = most * (_BACKGROUND_FACTOR if label == 0 else 1)
        chosen.append(mine if len(mine) <= limit else rng.choice(mine, limit, replace=False))
    chosen = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, int)
    return np.stack(np.unravel_index(chosen, case.labels.shape), axis=1), flat[chosen].astype(int)


def _natural(case: Case, most: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """The same with the segments as frequent as in the image."""
    tissue = _tissue(case)
    chosen = np.sort(tissue if len(tissue) <= most else rng.choice(tissue, most, replace=False))
    return np.stack(np.unravel_index(chosen, case.labels.shape), axis=1), case.labels.ravel()[chosen].astype(int)


def _weighed(blank: FusedClassifier, rows, truth, shares) -> FusedClassifier:
    """With the power of the classes' frequencies as prior that gives the best Dice on the training cases' voxels."""
    found = blank.probabilities(rows)
    best, chosen = -1.0, None
    for exponent in _EXPONENTS:
        prior = (shares / shares.max()) ** exponent
        winners = (found * prior[:, None]).argmax(axis=0)
        scores = [dice(winners, truth, n) for n in range(1, len(shares)) if (truth == n).any()]
        score = float(np.mean(scores)) if scores else 0.0
        if score > best:
            best, chosen = score, prior
    return replace(blank, prior=chosen.astype(np.float32))


def classify(classifier: FusedClassifier, case: Case, networks, context: Context) -> np.ndarray:
    """Class probabilities of a case.

    Parameters
    ----------
    classifier : FusedClassifier
    case : Case
        With the classifier's modalities, NaN where one is missing.
    networks : list of (network, inputs)

    Returns
    -------
    (C, K, J, I) float32 ndarray
        Background where there is no tissue.

    Raises
    ------
    ModelError
        If the networks give other numbers of features than in training.
    """
    with context.part(0.0, 0.6) as part:
        features = Features(case, classifier.scales_mm, networks, part)
    if features.deep_counts != [count for _, count in classifier.deep]:
        wanted = ", ".join(f"{title} ({count})" for title, count in classifier.deep) or "none"
        raise ModelError(f"Deep features: the classifier needs the models {wanted}; choose the same as in training.")
    shape = case.geometry.shape
    result = np.zeros((len(classifier.segments) + 1, *shape), np.float32)
    result[0] = 1
    tissue = (np.nan_to_num(case.array) != 0).any(axis=0)

    def one(k):
        chosen = np.flatnonzero(tissue[k])
        if chosen.size:
            plane = features.plane(k)
            rows = plane.reshape(len(plane), -1)[:, chosen].T
            result[:, k, *np.unravel_index(chosen, shape[1:])] = classifier.probabilities(rows)

    with context.part(0.6, 1.0) as part:
        for_each(one, range(shape[0]), part)
    return result
