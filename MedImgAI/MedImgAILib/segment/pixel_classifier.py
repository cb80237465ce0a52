"""A pixel classifier as a whole: its segments, its features and its model, as one JSON text; and its application."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from ..core import Context, Display, Geometry, InputError, ModelError, Segment, Segmentation, Terminology, Volume
from ..core.geometry import inverse_order
from .pixel_features import FeatureBank, feature_names
from .pixel_model import PixelModel, read_json
from .plane_filters import for_each

FORMAT = "medimgai.pixel-classifier"
VERSION = 1
NORMALIZATIONS = ("none", "percentile")


@dataclass(frozen=True)
class PixelClassifier:
    """``segments`` has one entry for each class; those of ``background`` (their numbers) get no segment."""

    segments: tuple[Segment, ...]
    background: tuple[int, ...]
    images: tuple[str, ...]
    scales_mm: tuple[float, ...]
    normalization: str
    model: PixelModel

    def to_text(self) -> str:
        """One line of JSON: names, colours, terminology and numbers."""
        segments = [
            {"name": s.name, "color": list(s.color), "terminology": s.terminology.serialize()} for s in self.segments
        ]
        return json.dumps(
            {
                "format": FORMAT, "version": VERSION, "segments": segments, "background": list(self.background),
                "images": list(self.images), "scales_mm": list(self.scales_mm), "normalization": self.normalization,
                "model": self.model.to_json(),
            },
            ensure_ascii=False,
        )  # fmt: skip

    @classmethod
    def from_text(cls, text: str) -> PixelClassifier:
        """Check and read what :meth:`to_text` gave; nothing in it can run code.

        Raises
        ------
        ModelError
            If anything about it is wrong.
        """
        value = read_json(text)
        if value.get("format") != FORMAT or value.get("version") != VERSION:
            raise ModelError("The text is not a pixel classifier of this version; train it again.")
        model = PixelModel.from_json(value.get("model"))
        try:
            segments = tuple(
                Segment(str(s["name"]), n, _color(s["color"]), Terminology.parse(s["terminology"]), id=f"class {n}")
                for n, s in enumerate(value["segments"], start=1)
            )
            background = tuple(int(n) for n in value["background"])
            scales = tuple(float(s) for s in value["scales_mm"])
            images = tuple(str(name) for name in value["images"])
            sound = (
                len(segments) == model.classes
                and all(0 <= n < model.classes for n in background)
                and all(0 < s <= 100 for s in scales)
                and value["normalization"] in NORMALIZATIONS
                and len(feature_names(len(images), scales)) == model.features
            )
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise ModelError(f"The pixel classifier is damaged ({error}); train it again.") from error
        if not sound:
            raise ModelError("The pixel classifier is damaged (its parts do not fit together); train it again.")
        return cls(segments, background, images, scales, value["normalization"], model)

    def bank(self, images, context: Context, box=None) -> FeatureBank:
        """The features that the classifier needs of canonical ``images``."""
        return FeatureBank(images, self.scales_mm, self.normalization, context, box)


@dataclass
class Classified:
    """Arrays (K, J, I) on the canonical grid: labels (class + 1, 0 where nothing was done), entropy and, if wanted,
    (K, J, I, C) probabilities."""

    labels: np.ndarray
    entropy: np.ndarray
    probabilities: np.ndarray | None


def classify(
    classifier, bank: FeatureBank, box, shape, region, with_probabilities: bool, context: Context
) -> Classified:
    """Apply the classifier to a ``box`` (three slices) inside that of ``bank``.

    ``region``, a (K, J, I) bool array or None, says where in it.
    The entropy is in units of that of equal probabilities: 0 is certain, 1 is undecided.
    """
    classes = classifier.model.classes
    labels = np.zeros(shape, np.uint8)
    entropy = np.zeros(shape, np.float32)
    probabilities = np.zeros((*shape, classes), np.float32) if with_probabilities else None
    inside = tuple(slice(b.start - o.start, b.stop - o.start) for b, o in zip(box, bank.box))
    extent = tuple(b.stop - b.start for b in box[1:])

    def one(k):
        here = (k, *box[1:])
        chosen = slice(None) if region is None else np.flatnonzero(region[here])
        if region is not None and not chosen.size:
            return
        features = bank.plane(k - bank.box[0].start)[:, inside[1], inside[2]].reshape(bank.count, -1)[:, chosen]
        found = classifier.model.probabilities(np.ascontiguousarray(features))
        flat = np.zeros(extent[0] * extent[1], np.float32)
        winners = np.zeros(flat.size, np.uint8)
        winners[chosen] = found.argmax(axis=0) + 1
        flat[chosen] = -(found * np.log(np.maximum(found, 1e-12))).sum(axis=0) / np.float32(np.log(classes))
        labels[here] = winners.reshape(extent)
        entropy[here] = np.clip(flat, 0, 1).reshape(extent)
        if probabilities is not None:
            for number in range(classes):
                flat[chosen] = found[number]
                probabilities[(*here, number)] = flat.reshape(extent)

    for_each(one, range(box[0].start, box[0].stop), context)
    return Classified(labels, entropy, probabilities)


def results(classified: Classified, classifier: PixelClassifier, image: Volume) -> dict:
    """The task's outputs on the grid of ``image``, from arrays in its canonical order."""
    back = inverse_order(*image.geometry.canonical_order())
    ordered = image.canonical()

    def restored(array):
        return np.ascontiguousarray(ordered.with_array(array).reordered(*back).array)

    numbers = np.zeros(len(classifier.segments) + 1, np.uint8)
    segments = []
    for n, segment in enumerate(classifier.segments):
        if n not in classifier.background:
            numbers[n + 1] = len(segments) + 1
            segments.append(
                Segment(segment.name, len(segments) + 1, segment.color, segment.terminology, id=segment.id)
            )  # fmt: skip
    probabilities = classified.probabilities
    return {
        "segmentation": Segmentation.from_labels(restored(numbers[classified.labels]), image.geometry, segments),
        "uncertainty": image.with_array(restored(classified.entropy), display=Display(1.0, 0.5)),
        "probabilities": None if probabilities is None else image.with_array(restored(probabilities)),
    }


def slice_box(geometry: Geometry, point, axis: str) -> tuple[slice, slice, slice]:
    """The plane of a canonical grid through a RAS ``point``, across the axis "S" (axial), "A" or "R".

    Raises
    ------
    InputError
        If the point lies outside the grid.
    """
    if not geometry.contains(point):
        raise InputError("Preview point: it lies outside the image; move it into the image.")
    number = {"S": 0, "A": 1, "R": 2}[axis]
    index = np.clip(np.rint(geometry.ijk(point)[::-1]).astype(int), 0, np.array(geometry.shape) - 1)
    return tuple(
        slice(int(index[n]), int(index[n]) + 1) if n == number else slice(0, geometry.shape[n]) for n in range(3)
    )


def prepared_images(images, context: Context) -> list[Volume]:
    """The images in canonical order, the later ones interpolated on the first one's grid where that differs."""
    from ..core.resampling import resample_volume

    first = images[0].canonical()
    result = [first]
    for image in images[1:]:
        ordered = image.canonical()
        if not ordered.geometry.same_grid(first.geometry):
            context.log(f"{image.label} is interpolated on the grid of {images[0].in_sentence}.")
            ordered = resample_volume(ordered, first.geometry, "linear")
        result.append(ordered)
    return result


def _color(values) -> tuple[float, float, float]:
    red, green, blue = (min(max(float(v), 0.0), 1.0) for v in values)
    return red, green, blue
