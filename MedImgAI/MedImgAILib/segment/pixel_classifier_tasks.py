"""Segmentation learnt from a few strokes: training, and application to other images."""

from __future__ import annotations

import numpy as np

from ..core import (
    BooleanParameter,
    ChoiceParameter,
    InputError,
    IntegerParameter,
    PointsPort,
    Segment,
    Segmentation,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    VolumePort,
)
from .cleanup import bounding_box
from .pixel_classifier import PixelClassifier, classify, prepared_images, results, slice_box
from .pixel_features import feature_names
from .pixel_model import PixelModel
from .pixel_training import CLASSIFIERS, fitted, samples

_REFERENCES = (
    "Sommer C, Straehle C, Köthe U, Hamprecht FA. Ilastik: interactive learning and segmentation toolkit. IEEE ISBI "
    "2011: 230-233.",
    "Arganda-Carreras I, Kaynig V, Rueden C, et al. Trainable Weka Segmentation. Bioinformatics 2017; 33:2424-2426.",
    "Breiman L. Random forests. Mach Learn 2001; 45:5-32.",
)
_KEYWORDS = ("trainable", "machine learning", "strokes", "scribbles", "random forest", "gradient boosting", "SVM",
             "logistic regression", "ilastik", "weka")  # fmt: skip

_EXTENT = (
    ChoiceParameter(
        "extent", "Classify", "whole", "The whole image, or for a quick look one slice through the preview point.",
        choices={"whole": "Whole image", "slice": "One slice"},
    ),
    ChoiceParameter(
        "slice_axis", "Slice", "S", "Which slice through the preview point.",
        choices={"S": "Axial", "A": "Coronal", "R": "Sagittal"}, enabled_when=("extent", ("slice",)),
    ),
    BooleanParameter("with_probabilities", "Probabilities", False, "Whether the probability of each class is given."),
)  # fmt: skip
_PLACES = (
    SegmentationPort("region", "Region", "Only voxels in one of its segments are classified.", optional=True),
    PointsPort("preview", "Preview point", "The slice through the first point is previewed.", optional=True),
)
_RESULTS = (
    SegmentationPort("segmentation", "Segmentation", "One segment for each that was painted, without the background."),
    VolumePort("uncertainty", "Uncertainty", "Entropy of the probabilities: 0 certain, 1 undecided.", optional=True),
    VolumePort(
        "probabilities", "Probabilities", "One component for each class, in the order of the painted segments.",
        optional=True, components=(),
    ),
)  # fmt: skip


class _Classifying(Task):
    group = "Segmentation"
    references = _REFERENCES
    keywords = _KEYWORDS

    def validate(self, inputs, parameters):
        if parameters.extent == "slice" and inputs.preview is None:
            raise InputError("Preview point: no point was given; place one in the slice to preview.")

    @staticmethod
    def box_and_region(inputs, parameters, geometry):
        """The part of the canonical grid to classify: slices, and a mask or None."""
        box = tuple(slice(0, n) for n in geometry.shape)
        if parameters.extent == "slice":
            box = slice_box(geometry, inputs.preview.positions[0], parameters.slice_axis)
        if inputs.region is None:
            return box, None
        ordered = inputs.region.canonical()
        if not ordered.geometry.same_grid(geometry):
            raise InputError(f"Region: {inputs.region.label} does not lie on the grid of the image; resample it first.")
        region = ordered.labelmap() > 0
        outside = np.ones(region.shape, bool)
        outside[box] = False
        region[outside] = False
        if not region.any():
            raise InputError(f"Region: {inputs.region.label} has no voxel in what is to be classified.")
        return bounding_box(region), region


class TrainPixelClassifier(_Classifying):
    """A classifier learnt from painted voxels, and the segmentation it gives.

    A painted segment with the name of the background is learnt like the others, but becomes no segment of the result.
    The trained classifier is a text of names and numbers.
    """

    id = "segment.pixel_classifier_train"
    title = "Train pixel classifier"
    summary = "Paint a few strokes in each structure and get the full segmentation, and a classifier for other images."
    requirements = ("scikit-learn>=1.3",)

    inputs = (
        VolumePort("images", "Images", "One or several images of the patient, such as T1 and FLAIR.", multiple=True),
        SegmentationPort("strokes", "Strokes", "A few painted voxels in each segment; the background is one, too."),
        *_PLACES,
    )
    parameters = (
        ChoiceParameter(
            "classifier", "Classifier", "forest", "What learns from the strokes; the forest is a good first choice.",
            choices=CLASSIFIERS,
        ),
        TextParameter("scales_mm", "Scales", "1, 2, 4", "Sizes of what the features look at, with commas.", "mm"),
        ChoiceParameter(
            "normalization", "Normalization", "percentile",
            "Makes images with an arbitrary unit alike, so that the classifier fits other cases; not for CT.",
            choices={"percentile": "1st to 99th percentile", "none": "None (CT)"},
        ),
        TextParameter("background", "Background", "Background", "Name of the painted segment that is the background."),
        IntegerParameter(
            "trees", "Trees", 40, "How many trees are grown; more are smoother and slower.",
            minimum=1, maximum=500, advanced=True, enabled_when=("classifier", ("forest", "boosting")),
        ),
        *_EXTENT,
    )  # fmt: skip
    outputs = (
        *_RESULTS,
        TextPort("trained", "Trained classifier", "For other images; can be saved as .json.", optional=True),
        TablePort("measures", "Sizes", "Painted and found voxels, volume in mL and mean uncertainty.", optional=True),
    )  # fmt: skip

    def example(self):
        from ..core.examples import example_segmentation, example_volume

        full = example_segmentation()
        labels = np.where(full.layers[0] > 0, full.layers[0], 3).astype(np.uint8)
        painted = np.zeros_like(labels)
        painted[9:11, 5:21, 15:18] = labels[9:11, 5:21, 15:18]
        painted[9:11, :3, :8] = 3
        segments = (*full.segments, Segment("Background", 3))
        strokes = Segmentation.from_labels(painted, full.geometry, segments, "strokes")
        return {"images": [example_volume()], "strokes": strokes}, {"trees": 8}

    def validate(self, inputs, parameters):
        super().validate(inputs, parameters)
        _scales(parameters.scales_mm)

    def run(self, inputs, parameters, context):
        scales = _scales(parameters.scales_mm)
        images = prepared_images(inputs.images, context)
        geometry = images[0].geometry
        indices, classes = samples(inputs.strokes, geometry, context)
        box, region = self.box_and_region(inputs, parameters, geometry)
        names = tuple(image.name for image in inputs.images)
        segments = inputs.strokes.segments
        background = tuple(
            n for n, s in enumerate(segments) if s.name.strip().lower() == parameters.background.strip().lower()
        )
        blank = PixelClassifier(segments, background, names, scales, parameters.normalization, None)
        painted = tuple(
            slice(int(low), int(high) + 1) for low, high in zip(indices.min(axis=0), indices.max(axis=0))
        )  # fmt: skip
        union = tuple(slice(min(b.start, p.start), max(b.stop, p.stop)) for b, p in zip(box, painted))
        together = _voxels(union) <= 2 * (_voxels(box) + _voxels(painted))
        with context.part(0.0, 0.35):
            source = bank = blank.bank(images, context, union if together else painted)
        with context.part(0.35, 0.45):
            start = [s.start for s in source.box]
            features = source.at(indices - start, context)
        context.progress(0.45, "Training")
        model = fitted(features, classes, parameters.classifier, parameters.trees, context.seed)
        context.progress(0.55, "Classifying")
        classifier = PixelClassifier(segments, background, names, scales, parameters.normalization, model)
        if not together:
            with context.part(0.55, 0.7):
                bank = classifier.bank(images, context, box)
        with context.part(0.7, 0.95):
            found = classify(
                classifier, bank, box, geometry.shape, region, parameters.with_probabilities, context
            )  # fmt: skip
        measures = _measures(found, box, classifier, geometry, classes)
        trained = Text(classifier.to_text(), "Pixel classifier")
        return results(found, classifier, inputs.images[0]) | {"trained": trained, "measures": measures}


class ApplyPixelClassifier(_Classifying):
    """A trained classifier on the same kind of images of another patient."""

    id = "segment.pixel_classifier_apply"
    title = "Apply pixel classifier"
    summary = "Segments an image by a pixel classifier that was trained on another one."

    inputs = (
        VolumePort("images", "Images", "The same kinds of image, in the same order as in training.", multiple=True),
        TextPort("trained", "Trained classifier", "What training gave."),
        *_PLACES,
    )
    parameters = _EXTENT
    outputs = (
        *_RESULTS,
        TablePort("measures", "Sizes", "Found voxels, volume in mL and mean uncertainty.", optional=True),
    )

    def example(self):
        from ..core.examples import example_volume
        from ..core.terminology import BRAIN

        names = feature_names(1, (1.0, 2.0))
        weights = np.zeros((1, len(names)))
        weights[0, names.index("image 1 smoothed at 1 mm")] = 0.2
        model = PixelModel("logistic", 2, len(names), (), (), weights, np.array([-10.0]))
        segments = (Segment("Background", 1), Segment("Brain", 2, (0.98, 0.98, 0.88), BRAIN))
        classifier = PixelClassifier(segments, (0,), ("image",), (1.0, 2.0), "none", model)
        return {"images": [example_volume()], "trained": Text(classifier.to_text(), "classifier")}, {}

    def run(self, inputs, parameters, context):
        classifier = PixelClassifier.from_text(inputs.trained.text)
        if len(inputs.images) != len(classifier.images):
            wanted = ", ".join(f"'{name}'" for name in classifier.images)
            raise InputError(
                f"Images: the classifier was trained on {len(classifier.images)} ({wanted}), not "
                f"{len(inputs.images)}; choose the same kinds in the same order."
            )
        images = prepared_images(inputs.images, context)
        geometry = images[0].geometry
        box, region = self.box_and_region(inputs, parameters, geometry)
        with context.part(0.0, 0.5):
            bank = classifier.bank(images, context, box)
        with context.part(0.5, 0.95):
            found = classify(
                classifier, bank, box, geometry.shape, region, parameters.with_probabilities, context
            )  # fmt: skip
        measures = _measures(found, box, classifier, geometry)
        return results(found, classifier, inputs.images[0]) | {"measures": measures}


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(sorted({float(part) for part in text.replace(";", ",").split(",")}))
    except ValueError:
        scales = ()
    if not scales or not all(0.1 <= s <= 50 for s in scales) or len(scales) > 8:
        raise InputError(f"Scales: '{text[:40]}' is not a list of one to eight lengths from 0.1 to 50 mm.")
    return scales


def _voxels(box) -> int:
    return int(np.prod([b.stop - b.start for b in box]))


def _measures(found, box, classifier, geometry, painted=None) -> Table:
    """One row for each segment that is not background."""
    rows = [n for n in range(len(classifier.segments)) if n not in classifier.background]
    labels, entropy = found.labels[box].ravel(), found.entropy[box].ravel()
    counts = np.bincount(labels, minlength=len(classifier.segments) + 1)[1:]
    sums = np.bincount(labels, entropy, minlength=len(counts) + 1)[1:]
    columns = {"segment": tuple(classifier.segments[n].name for n in rows)}
    if painted is not None:
        columns["painted voxels"] = np.bincount(painted, minlength=len(counts))[rows]
    columns |= {
        "voxels": counts[rows],
        "volume": counts[rows] * (geometry.voxel_volume_mm3 / 1000),
        "mean uncertainty": (sums / np.maximum(counts, 1))[rows],
    }
    return Table(columns, "Segment sizes", {"volume": "mL"})
