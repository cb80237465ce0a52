"""Training of a network that tells classes apart."""

from __future__ import annotations

from ..classify.known import KNOWN
from ..core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    TablePort,
    Task,
    TextParameter,
    VolumePort,
)
from . import options
from .networks import CLASSIFICATION
from .sources import read_collection, scene_classification
from .task_parts import REQUIREMENTS, check_source, outputs, outputs_of, quick


class TrainClassification(Task):
    """Learns from a folder, a table, arrays or the scene's images with a table of labels."""

    id = "train.classification"
    title = "Train a classification network"
    group = "Training"
    summary = "Learns to tell classes of images apart and writes a calibrated model package."
    references = (
        "He K, Zhang X, Ren S, Sun J. Deep residual learning for image recognition. CVPR 2016: 770-778.",
        "Huang G, Liu Z, van der Maaten L, Weinberger KQ. Densely connected convolutional networks. CVPR 2017: "
        "4700-4708.",
        "Tan M, Le QV. EfficientNet: rethinking model scaling for convolutional neural networks. ICML 2019.",
        "Dosovitskiy A, Beyer L, Kolesnikov A, et al. An image is worth 16x16 words. ICLR 2021.",
        "Cui Y, Jia M, Lin TY, et al. Class-balanced loss based on effective number of samples. CVPR 2019.",
        "Zhang H, Cisse M, Dauphin YN, Lopez-Paz D. mixup: beyond empirical risk minimization. ICLR 2018.",
    )
    keywords = ("learning", "diagnosis", "transfer", "fine-tune", "cross-validation", "ResNet", "MedMNIST", "train")

    inputs = (
        VolumePort("images", "Images", "Images of the scene, one for each case.", components=(), multiple=True,
                   optional=True),
        TablePort("labels", "Labels", "Columns image (its name), label and, if known, patient.", optional=True),
    )  # fmt: skip
    parameters = (
        *options.DATA,
        *options.PLACE,
        ChoiceParameter(
            "network", "Network", "compact", "The first learns fast on a processor; others want a graphics card.",
            choices=CLASSIFICATION,
        ),
        TextParameter("size_voxels", "Image size", "", "Voxels along i, j (and k), as in 128 128; or from the data."),
        options.MODALITY,
        *options.FOLDS,
        FloatParameter(
            "epochs", "Epochs", 20.0, "How often each case is seen, if steps are 0.", minimum=0.01, maximum=100_000.0,
        ),
        *options.optimisation(0, 3e-3, "one_cycle", "Updates of the weights; 0 to count in epochs."),
        ChoiceParameter(
            "loss", "Loss", "cross_entropy", "Class-balanced and focal loss help with rare classes.",
            choices={"cross_entropy": "Cross-entropy", "class_balanced": "Class-balanced", "focal": "Focal"},
        ),
        FloatParameter(
            "smoothing", "Label smoothing", 0.0, "Share of each label that is spread over all classes.", minimum=0.0,
            maximum=0.5, advanced=True,
        ),
        ChoiceParameter(
            "balance", "Draw cases", "none", "How rare classes are made up for.",
            choices={
                "none": "All alike", "weighted": "Weighted, each class equally often", "over": "Rare ones repeated",
                "under": "Common ones less",
            },
        ),
        FloatParameter(
            "mixup", "MixUp", 0.0, "α of the mixing of two samples; 0 for none; often 0.2.", minimum=0.0, maximum=5.0,
            advanced=True,
        ),
        ChoiceParameter(
            "augmentation", "Augmentation", "full", "How much samples are changed at random; strong is for few cases.",
            choices={"none": "None", "light": "Light", "full": "Full", "strong": "Strong, with bending"},
        ),
        BooleanParameter("mirror", "Mirror", False, "Mirror left and right, where the side means nothing."),
        KNOWN,
        *options.FINE_TUNING,
        *options.ORIGIN,
    )  # fmt: skip
    outputs = outputs("Accuracy, AUC and others on cases that were not seen, with 95 % intervals.")
    requirements = REQUIREMENTS
    uses_device = True
    can_finish_early = True

    def validate(self, inputs, parameters):
        check_source(parameters, bool(inputs.images), "the scene's images with labels")
        if inputs.images and inputs.labels is None:
            raise InputError("Labels: a table that says which class each image has is needed.")

    def example(self):
        from ..core import Table
        from ..core.examples import example_volume

        images = [example_volume(f"image {n}", seed=n) for n in range(8)]
        labels = Table({"image": tuple(v.name for v in images), "label": ("low", "high") * 4}, "labels")
        return {"images": images, "labels": labels}, quick("classification") | {"batch": 2, "size_voxels": "8 8 8"}

    def run(self, inputs, parameters, context):
        from .classification_run import train_classification

        if inputs.images:
            collection = scene_classification(inputs.images, inputs.labels)
        else:
            collection = read_collection(
                parameters.data or parameters.table, "classification", parameters.label_column,
                parameters.patient_pattern,
            )  # fmt: skip
        return outputs_of(train_classification(collection, parameters, context))
