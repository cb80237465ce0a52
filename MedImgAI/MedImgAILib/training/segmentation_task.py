"""Training of a network that finds segments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    SegmentationPort,
    Task,
    TextParameter,
    VolumePort,
)
from . import options
from .networks import SEGMENTATION
from .sources import read_collection, scene_segmentation
from .task_parts import REQUIREMENTS, check_source, outputs, outputs_of, quick

CPU_STEPS, GPU_STEPS = 1000, 10_000
"""Updates of the weights where the user leaves it open."""


class TrainSegmentation(Task):
    """Learns from the scene's segments or from a folder; the result is a model package for 'Network from a package'."""

    id = "train.segmentation"
    title = "Train a segmentation network"
    group = "Training"
    summary = "Learns to find segments from labelled images of the scene or a folder and writes a model package."
    references = (
        "Isensee F, Jaeger PF, Kohl SAA, et al. nnU-Net: a self-configuring method for deep learning-based biomedical "
        "image segmentation. Nat Methods 2021; 18:203-211.",
        "Hatamizadeh A, Nath V, Tang Y, et al. Swin UNETR. BrainLes 2021, LNCS 12962:272-284.",
        "Myronenko A. 3D MRI brain tumor segmentation using autoencoder regularization. BrainLes 2018, LNCS "
        "11384:311-320.",
        "Hinton G, Vinyals O, Dean J. Distilling the knowledge in a neural network. arXiv:1503.02531, 2015.",
        "Hu EJ, Shen Y, Wallis P, et al. LoRA: low-rank adaptation of large language models. ICLR 2022.",
    )
    keywords = ("learning", "nnU-Net", "fine-tune", "transfer", "cross-validation", "U-Net", "train")

    inputs = (
        VolumePort(
            "images", "Images", "Labelled images of the scene; all channels of the first case first.",
            components=(), multiple=True, optional=True,
        ),
        SegmentationPort(
            "segmentations", "Segmentations", "One for each case, in the order of the images.", multiple=True,
            optional=True,
        ),
    )  # fmt: skip
    parameters = (
        *options.DATA,
        *options.PLACE,
        TextParameter("segments", "Segments", "", "Names of labels 1, 2, … with commas, where the files have none."),
        ChoiceParameter("network", "Network", "dynunet", "The first is a good choice.", choices=SEGMENTATION),
        ChoiceParameter(
            "size", "Size of the network", "small", "Features at full resolution: 16, 24 or 32.",
            choices={"small": "Small", "medium": "Medium", "large": "Large"},
        ),
        options.MODALITY,
        *options.FOLDS,
        *options.optimisation(
            0, 2e-3, "one_cycle", f"Updates of the weights; 0 for {CPU_STEPS} on a processor, {GPU_STEPS} otherwise."
        ),
        ChoiceParameter(
            "loss", "Loss", "dice_ce", "Focal loss and weights help with small segments.",
            choices={
                "dice_ce": "Dice and cross-entropy", "dice_focal": "Dice and focal", "cross_entropy": "Cross-entropy",
            },
            advanced=True,
        ),
        BooleanParameter(
            "class_weights", "Class-balanced", False, "Weigh segments by effective number of voxels.", advanced=True,
        ),
        ChoiceParameter(
            "balance", "Draw cases", "none", "More often where a segment is rare among the cases.",
            choices={
                "none": "All alike", "weighted": "Weighted", "over": "Rare ones repeated", "under": "Common ones less",
            },
            advanced=True,
        ),
        FloatParameter(
            "foreground_percent", "Foreground", 33.0, "Share of the patches whose middle lies in a segment.", "%",
            minimum=0.0, maximum=100.0, advanced=True,
        ),
        ChoiceParameter(
            "augmentation", "Augmentation", "full", "How much samples are changed at random; strong is for few cases.",
            choices={"none": "None", "light": "Light", "full": "Full", "strong": "Strong, with bending"},
        ),
        ChoiceParameter(
            "mirror", "Mirror", "sides", "How samples are mirrored; never left and right if a segment's name says its "
            "side, and other ways only where anatomy has no fixed direction.",
            choices={"none": "Not", "sides": "Left and right", "all": "Along every axis"},
        ),
        BooleanParameter(
            "ask_mirrored", "Ask mirrored", True, "Whether the model is asked about the mirrored image too, where "
            "samples are mirrored, and the mean decides: more accurate, but twice as long for each axis.",
            advanced=True,
        ),
        BooleanParameter(
            "correct_size", "Correct the size", True, "With two folds or more: whether the background's score is "
            "raised or lowered by the one number with which unseen cases are found best.", advanced=True,
        ),
        *options.FINE_TUNING,
        *options.TEACHING,
        *options.ORIGIN,
    )  # fmt: skip
    outputs = outputs("Dice of each segment and case that its network had not seen.")
    requirements = REQUIREMENTS
    uses_device = True
    can_finish_early = True
    orientation_tolerance = 5e-2
    """Rounding of a resampling to a new grid goes through all steps."""

    def validate(self, inputs, parameters):
        from_scene = bool(inputs.images or inputs.segmentations)
        check_source(parameters, from_scene, "images with segmentations of the scene")
        if from_scene and not (inputs.images and inputs.segmentations):
            raise InputError("Images: both images and segmentations of the scene are needed.")

    def example(self):
        from ..core.examples import example_segmentation, example_volume

        images = [example_volume(f"image {n}", seed=n) for n in range(2)]
        segmentations = [example_segmentation(f"truth {n}") for n in range(2)]
        return {"images": images, "segmentations": segmentations}, quick("segmentation") | {
            "batch": 1, "network": "unet",
        }  # fmt: skip

    def run(self, inputs, parameters, context):
        from .segmentation_run import train_segmentation

        if inputs.images:
            images = [replace(v, array=np.asarray(v.array)) for v in inputs.images]
            collection = scene_segmentation(images, inputs.segmentations)
        else:
            names = tuple(n.strip() for n in parameters.segments.split(",") if n.strip())
            collection = read_collection(
                parameters.data or parameters.table, "segmentation", parameters.label_column,
                parameters.patient_pattern, names,
            )  # fmt: skip
        steps = CPU_STEPS if context.device == "cpu" else GPU_STEPS
        outcome = train_segmentation(collection, parameters, context, steps)
        return outputs_of(outcome)
