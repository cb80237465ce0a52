"""A pixel classifier while the user paints: what is known of the image is kept from stroke to stroke.

The features of the slice in view and of every painted voxel are computed once, so that after a stroke only its own
voxels, the training and one slice of classification remain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Context, Geometry, InputError, Segment, Segmentation
from .pixel_classifier import PixelClassifier, classify, prepared_images, results, slice_box
from .pixel_features import feature_names
from .pixel_training import fitted, samples

_AXES = "SAR"
"""Letters of the canonical array axes k, j, i."""


@dataclass(frozen=True)
class Settings:
    """See the parameters of the task ``segment.pixel_classifier_train``."""

    classifier: str = "forest"
    scales_mm: tuple[float, ...] = (1.0, 2.0, 4.0)
    normalization: str = "percentile"
    background: str = "Background"
    trees: int = 40
    seed: int = 0


class PixelSession:
    """Classification of ``images`` (the first gives the grid), again and again while strokes are added.

    Parameters
    ----------
    images : sequence of Volume
    settings : Settings
    """

    def __init__(self, images, settings: Settings = Settings()):  # noqa: B008
        self.settings = settings
        self.source = images[0]
        self.images = prepared_images(images, Context("cpu"))
        self.geometry = self.images[0].geometry
        self.names = tuple(image.name for image in images)
        self.classifier: PixelClassifier | None = None
        self._box, self._bank = None, None
        self._known = np.zeros(0, np.int64)
        self._features = None
        self._painted = None
        self._count = len(feature_names(len(images), settings.scales_mm))

    def _blank(self, segments=(), background=()) -> PixelClassifier:
        chosen = self.settings
        return PixelClassifier(
            tuple(segments), background, self.names, chosen.scales_mm, chosen.normalization, None
        )  # fmt: skip

    def warm_up(self, point, axis: str = "S", context: Context | None = None):
        """Do what the first preview of a slice would have to wait for: import, train once, look at the slice.

        Parameters
        ----------
        point : (3,) RAS in mm
        axis : "S", "A" or "R"
            What the slice lies across.
        """
        rng = np.random.default_rng(0)
        fitted(
            rng.random((8, 3), np.float32), np.arange(8) % 2, self.settings.classifier, self.settings.trees, 0
        )  # fmt: skip
        self._slice(slice_box(self.geometry, point, axis), context or Context("cpu"))

    def _slice(self, box, context):
        """The features about one slice, those of the latest being kept."""
        if self._box != box:
            self._bank = self._blank().bank(self.images, context, box)
            self._box = box
        return self._bank

    def train(self, strokes: Segmentation, context: Context) -> PixelClassifier:
        """Learn from what is painted; the features of voxels seen before are not computed again.

        Raises
        ------
        InputError
            If fewer than two segments are painted, or one hardly.
        """
        indices, classes = samples(strokes, self.geometry, context)
        features = self._features_of(indices, context)
        chosen = self.settings
        model = fitted(features, classes, chosen.classifier, chosen.trees, chosen.seed)
        name = chosen.background.strip().lower()
        background = tuple(n for n, s in enumerate(strokes.segments) if s.name.strip().lower() == name)
        blank = self._blank(strokes.segments, background)
        self.classifier = PixelClassifier(
            blank.segments, background, blank.images, blank.scales_mm, blank.normalization, model
        )  # fmt: skip
        return self.classifier

    def _features_of(self, indices, context) -> np.ndarray:
        flat = np.ravel_multi_index(tuple(indices.T), self.geometry.shape)
        new = ~np.isin(flat, self._known)
        if new.any():
            rows = np.empty((int(new.sum()), self._count), np.float32)
            wanted = indices[new]
            here = np.zeros(len(wanted), bool)
            if self._box is not None:
                low, high = (np.array([getattr(b, end) for b in self._box]) for end in ("start", "stop"))
                here = np.all((wanted >= low) & (wanted < high), axis=1)
                rows[here] = self._bank.at(wanted[here] - low, context)
            if not here.all():
                rest = wanted[~here]
                box = tuple(slice(int(a), int(b) + 1) for a, b in zip(rest.min(axis=0), rest.max(axis=0)))
                bank = self._blank().bank(self.images, context, box)
                rows[~here] = bank.at(rest - [b.start for b in box], context)
            kept = rows if self._features is None else np.concatenate([self._features, rows])
            known = np.concatenate([self._known, flat[new]])
            order = np.argsort(known)
            self._known, self._features = known[order], kept[order]
        return self._features[np.searchsorted(self._known, flat)]

    def preview(self, strokes: Segmentation, point, axis: str = "S", context: Context | None = None) -> Segmentation:
        """One slice through a RAS ``point``, classified by what the strokes teach, on a grid of its own.

        Raises
        ------
        InputError
            See :meth:`train`; or if the point lies outside the image.
        """
        context = context or Context("cpu")
        box = slice_box(self.geometry, point, axis)
        bank = self._slice(box, context)
        classifier = self.train(strokes, context)
        found = classify(classifier, bank, box, self.geometry.shape, None, False, context)
        part = self.geometry.cropped(tuple(b.start for b in box), tuple(b.stop - b.start for b in box))
        return _without_background(found.labels[box], part, classifier)

    def apply(self, strokes: Segmentation | None, context: Context | None = None) -> dict:
        """The whole volume: ``segmentation``, ``uncertainty`` and (None) ``probabilities`` on the grid of the image.

        Parameters
        ----------
        strokes : Segmentation or None
            None to use the classifier that is there, as after :meth:`load`.
        """
        context = context or Context("cpu")
        if strokes is not None:
            self.train(strokes, context)
        if self.classifier is None:
            raise InputError("Nothing was learnt yet; paint two segments or load a classifier.")
        with context.part(0.0, 0.5):
            bank = self.classifier.bank(self.images, context)
        box = tuple(slice(0, n) for n in self.geometry.shape)
        with context.part(0.5, 1.0):
            found = classify(self.classifier, bank, box, self.geometry.shape, None, False, context)
        return results(found, self.classifier, self.source)

    def load(self, text: str):
        """Take a classifier that was saved.

        Raises
        ------
        ModelError
            If the text is none.
        InputError
            If it was trained on another number of images.
        """
        classifier = PixelClassifier.from_text(text)
        if len(classifier.images) != len(self.images):
            raise InputError(
                f"The classifier was trained on {len(classifier.images)} images, and there are {len(self.images)}; "
                "choose another."
            )
        self.classifier = classifier

    def newest(self, strokes: Segmentation) -> tuple[np.ndarray, str] | None:
        """Where the latest stroke was painted: a RAS point of it and the letter of the axis across its slice.

        None if nothing was added since the last call. A stroke of one voxel's thickness lies in its slice; another
        counts as axial.
        """
        ordered = strokes.canonical()
        labels = ordered.labelmap()
        painted = np.flatnonzero(labels)
        state = painted, labels.reshape(-1)[painted]
        before, self._painted = self._painted, state
        if before is not None:
            same = np.isin(painted, before[0], assume_unique=True)
            same[same] = before[1][np.searchsorted(before[0], painted[same])] == state[1][same]
            painted = painted[~same]
        if not painted.size:
            return None
        index = np.stack(np.unravel_index(painted, labels.shape), axis=1)
        extent = np.ptp(index, axis=0)
        axis = int(np.argmin(extent)) if (extent == 0).sum() == 1 else 0
        point = index[np.abs(index - index.mean(axis=0)).sum(axis=1).argmin()]
        return ordered.geometry.ras(point[::-1]), _AXES[axis]


def _without_background(labels: np.ndarray, geometry: Geometry, classifier: PixelClassifier) -> Segmentation:
    numbers, segments = np.zeros(len(classifier.segments) + 1, np.uint8), []
    for n, s in enumerate(classifier.segments):
        if n not in classifier.background:
            segments.append(Segment(s.name, len(segments) + 1, s.color, s.terminology, id=s.id))
            numbers[n + 1] = len(segments)
    return Segmentation.from_labels(numbers[labels], geometry, segments, "Preview")
