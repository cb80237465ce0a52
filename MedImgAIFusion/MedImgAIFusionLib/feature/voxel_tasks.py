"""Segmentation by the features of several modalities side by side: training on patients, and application."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    InputError,
    IntegerParameter,
    Segment,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    VolumePort,
)
from MedImgAILib.segment.pixel_training import CLASSIFIERS

from ..model.ablation import dice
from ..model.cases import Patient, match_images, prepare
from ..model.data import PATIENT_PARAMETERS, PATIENT_PORTS, check_patients, collect
from ..model.package import on_source
from .classifier import FusedClassifier, Recipe, classify, train
from .reduction import METHODS
from .voxels import names, networks_for

_REFERENCES = (
    "Haghighat M, Abdel-Mottaleb M, Alhalabi W. Discriminant correlation analysis: real-time feature level fusion for "
    "multimodal biometric recognition. IEEE Trans Inf Forensics Secur 2016; 11:1984-1996.",
    "Kettenring JR. Canonical analysis of several sets of variables. Biometrika 1971; 58:433-451.",
    "Arganda-Carreras I, Kaynig V, Rueden C, et al. Trainable Weka Segmentation. Bioinformatics 2017; 33:2424-2426.",
)
_KEYWORDS = ("multi-modal", "feature fusion", "PCA", "CCA", "random forest", "texture", "deep features", "classifier")
_DEEP = TextParameter(
    "deep_models", "Deep features from", "",
    "Folders of model packages, with commas; what each network computes before its last layer is added.", advanced=True,
)  # fmt: skip


class TrainFeatureFusion(Task):
    """A classifier of voxels learnt from whole segmentations of one or several patients.

    Each modality gives its value and, at each scale, gradient, curvature and texture; networks may add what they know.
    All features together are reduced and classified. In place of a missing modality an image without contrast is put;
    a joint network copes better with that.
    """

    id = "fusion.features_train"
    title = "Train on fused features"
    group = "Feature fusion"
    summary = "Learns segments from the features of several registered modalities side by side, reduced by PCA or CCA."
    references = _REFERENCES
    keywords = _KEYWORDS
    requirements = ("scikit-learn>=1.3",)
    uses_device = True
    orientation_tolerance = 5e-2
    """Where a feature is at a threshold of the trees, its last digit decides."""

    inputs = PATIENT_PORTS
    parameters = (
        *PATIENT_PARAMETERS,
        TextParameter("scales_mm", "Scales", "1, 2, 4", "Sizes of what the features look at, with commas.", "mm"),
        ChoiceParameter(
            "reduction", "Reduction", "pca",
            "PCA keeps what varies most; CCA keeps what the modalities agree on.", choices=METHODS,
        ),
        IntegerParameter(
            "components", "Components", 24, "How many reduced features there are at most.", minimum=1, maximum=500,
            enabled_when=("reduction", ("pca", "cca")),
        ),
        ChoiceParameter("classifier", "Classifier", "forest", "What learns from the features.", choices=CLASSIFIERS),
        IntegerParameter(
            "trees", "Trees", 60, "How many trees are grown.", minimum=1, maximum=500, advanced=True,
            enabled_when=("classifier", ("forest", "boosting")),
        ),
        IntegerParameter(
            "samples", "Samples", 2000, "Voxels of each segment and patient to learn from.", minimum=10, maximum=100000,
            advanced=True,
        ),
        _DEEP,
    )  # fmt: skip
    outputs = (
        TextPort("trained", "Trained classifier", "For other patients; can be saved as .json."),
        SegmentationPort("segmentation", "Segments", "Found in the first patient, seen in training.", optional=True),
        TablePort("measures", "Agreement", "Dice with the first patient's segments, seen in training."),
        TablePort("weights", "Weights", "Which features weigh most in each reduced feature.", optional=True),
    )  # fmt: skip

    def example(self):
        from .examples import example_patient

        images, segmentation = example_patient()
        parameters = {"voxel_mm": 0.0, "scales_mm": "2", "trees": 8, "samples": 200, "components": 6}
        return {"images": images, "segmentations": [segmentation]}, parameters

    def validate(self, inputs, parameters):
        check_patients(inputs, parameters)
        scales(parameters.scales_mm)

    def run(self, inputs, parameters, context):
        with context.part(0.0, 0.2) as part:
            data = collect(inputs, parameters, part)
        recipe = Recipe(
            scales(parameters.scales_mm), parameters.reduction, parameters.components, parameters.classifier,
            parameters.trees, parameters.samples,
        )  # fmt: skip
        folders = folders_of(parameters.deep_models)
        pairs = networks_for(folders, data.modalities, context)
        named = [(f"deep {n}", *pair) for n, pair in enumerate(pairs, start=1)]
        with context.part(0.2, 0.8) as part:
            trained = train(
                data.cases, data.modalities, data.segments, named, recipe, parameters.voxel_mm, part
            )  # fmt: skip
        case = data.cases[0]
        with context.part(0.8, 0.95) as part:
            shares = classify(trained, case, pairs, part)
        segmentation, _ = on_source(shares, case.geometry, case.source, data.segments, "Fused features")
        found = shares.argmax(axis=0)
        columns = {
            "segment": [s.name for s in data.segments],
            "Dice": [dice(found, case.labels, s.label) for s in data.segments],
        }
        return {
            "trained": Text(trained.to_text(), "Classifier of fused features"),
            "segmentation": segmentation,
            "measures": Table(columns, f"Agreement in {case.name}, seen in training"),
            "weights": _components(trained),
        }


def scales(text: str) -> tuple[float, ...]:
    """The lengths in a text such as "1, 2, 4"; raises InputError."""
    try:
        found = tuple(sorted({float(part) for part in text.replace(";", ",").split(",")}))
    except ValueError:
        found = ()
    if not found or not all(0.1 <= s <= 50 for s in found) or len(found) > 8:
        raise InputError(f"Scales: '{text[:40]}' is not a list of one to eight lengths from 0.1 to 50 mm.")
    return found


def folders_of(text: str) -> list[str]:
    """The paths in a text with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _components(trained: FusedClassifier) -> Table | None:
    """For each component the three features with the greatest weights."""
    if trained.reduction.method == "none":
        return None
    features, _ = names(trained.modalities, trained.scales_mm, trained.deep)
    weights = trained.reduction.projection
    # By what a feature contributes, so that features with large numbers do not look small.
    rows = [np.argsort(-np.round(np.abs(column), 6), kind="stable")[:3] for column in weights.T]
    columns = {"component": np.arange(1, len(rows) + 1)}
    for place in range(min(3, len(features))):
        columns[f"feature {place + 1}"] = [features[row[place]] for row in rows]
    return Table(columns, "Weights")


class ApplyFeatureFusion(Task):
    """A trained classifier of fused features on another patient."""

    id = "fusion.features_apply"
    title = "Apply fused features"
    group = "Feature fusion"
    summary = "Segments a patient by a classifier that was trained on the fused features of other patients."
    references = _REFERENCES
    keywords = _KEYWORDS
    uses_device = True
    orientation_tolerance = 5e-2
    """As in training."""

    inputs = (
        VolumePort(
            "images", "Images", "Registered images, known by the modality in their names, or all in training's order.",
            multiple=True,
        ),
        TextPort("trained", "Trained classifier", "What training gave."),
    )  # fmt: skip
    parameters = (_DEEP,)
    outputs = (
        SegmentationPort("segmentation", "Segments", "On the grid of the first image that the classifier knows."),
        VolumePort("uncertainty", "Uncertainty", "Entropy relative to that of chance, 0…1.", optional=True),
        TablePort("measures", "Sizes", "Volume of each segment.", optional=True),
    )

    def example(self):
        from MedImgAILib.segment.pixel_model import PixelModel

        from .examples import example_patient
        from .reduction import Reduction

        modalities, lengths = ("bright", "dark"), (2.0,)
        count = len(names(modalities, lengths)[0])
        # Smooth and bright in the one, dark in the other image.
        weights = np.zeros((1, count), np.float32)
        weights[0, [1, 1 + count // 2]] = 3.0, -3.0
        model = PixelModel("logistic", 2, count, (), (), weights, np.array([0.3], np.float32))
        reduction = Reduction("none", np.zeros(count, np.float32), np.eye(count, dtype=np.float32))
        trained = FusedClassifier(
            modalities, (Segment("Brain", 1),), lengths, 0.0, (), reduction, np.ones(2, np.float32), model
        )
        return {"images": example_patient(3)[0], "trained": Text(trained.to_text(), "classifier")}, {}

    def run(self, inputs, parameters, context):
        trained = FusedClassifier.from_text(inputs.trained.text)
        images = match_images(inputs.images, trained.modalities)
        missing = [m for m in trained.modalities if m not in images]
        if missing:
            context.warn(f"{', '.join(missing)} is missing; the classifier was trained with it and may be far off.")
        pairs = networks_for(folders_of(parameters.deep_models), trained.modalities, context)
        context.progress(0.05, "Preparing the images")
        case = prepare(Patient(inputs.images[0].name, images), trained.modalities, trained.spacing_mm)
        with context.part(0.1, 0.9) as part:
            shares = classify(trained, case, pairs, part)
        context.progress(0.9, "Bringing the result back")
        segmentation, uncertainty = on_source(shares, case.geometry, case.source, trained.segments, "Fused features")
        counts = np.array([int(np.count_nonzero(segmentation.mask(s))) for s in trained.segments])
        columns = {
            "segment": [s.name for s in trained.segments],
            "volume": counts * (case.source.geometry.voxel_volume_mm3 / 1000),
        }
        measures = Table(columns, "Sizes", {"volume": "mL"})
        return {"segmentation": segmentation, "uncertainty": uncertainty, "measures": measures}
