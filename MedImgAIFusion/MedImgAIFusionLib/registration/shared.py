"""What the registration tasks have in common: images, masks, start, landmarks, and what they make of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    IntegerParameter,
    PlotPort,
    PointsPort,
    SegmentationPort,
    TablePort,
    Task,
    TransformPort,
    VolumePort,
)
from MedImgAILib.core.resampling import affine_of, resample_volume

from . import landmarks
from .checkerboard import checkerboard

INPUTS = (
    VolumePort("fixed", "Fixed image", "The image that stays where it is."),
    VolumePort("moving", "Moving image", "The image to align to it; any modality."),
    SegmentationPort("fixed_mask", "Fixed mask", "Only the inside of its segments is compared.", optional=True),
    SegmentationPort("moving_mask", "Moving mask", "Only the inside of its segments is compared.", optional=True),
    TransformPort("start", "Start transform", "A transform that roughly aligns them.", optional=True),
    PointsPort(
        "fixed_points", "Fixed landmarks", "With the moving ones: where to begin, and a check of the result.",
        optional=True,
    ),
    PointsPort("moving_points", "Moving landmarks", "The same places in the same order.", optional=True),
)  # fmt: skip
INTERPOLATION = ChoiceParameter(
    "interpolation", "Interpolation", "linear", "How the registered image is computed.",
    choices={"nearest": "Nearest neighbour", "linear": "Linear", "cubic": "Cubic B-spline"},
)  # fmt: skip
BINS = IntegerParameter(
    "bins", "Histogram bins", 32, "Grey-level bins of the mutual information.", minimum=8, maximum=256, advanced=True,
    enabled_when=("metric", ("mutual_information", "normalized_mutual_information")),
)  # fmt: skip
ITERATIONS = IntegerParameter(
    "iterations", "Iterations per level", 60, "The optimiser stops earlier where nothing improves.",
    minimum=1, maximum=1000, advanced=True,
)  # fmt: skip
RESULTS = (
    BooleanParameter(
        "resample", "Make the registered image", True,
        "Compute the moving image on the fixed image's grid; off if only the transform is wanted.", advanced=True,
    ),
    BooleanParameter(
        "make_checkerboard", "Make a checkerboard", False,
        "Fixed and registered image in alternating cubes, to judge the edges by eye.", advanced=True,
    ),
)  # fmt: skip


def likeness(text: str, gradients: bool = True) -> ChoiceParameter:
    """The parameter that chooses the likeness; with normalised gradient fields or not."""
    names = {
        "mutual_information": "Mutual information (Mattes)",
        "normalized_mutual_information": "Normalised mutual information",
        "correlation": "Correlation",
        "mean_squares": "Mean squares",
    }
    if gradients:
        names["normalized_gradients"] = "Normalised gradient fields"
    return ChoiceParameter("metric", "Likeness", "mutual_information", text, choices=names)


OUTPUTS = (
    TransformPort("transform", "Transform", "Carries the moving image onto the fixed one."),
    TransformPort("inverse", "Inverse transform", "Carries the fixed image onto the moving one.", optional=True),
    VolumePort("registered", "Registered image", "The moving image on the fixed image's grid.", optional=True),
    VolumePort("checkerboard", "Checkerboard", "Fixed and registered image in alternating cubes.", optional=True),
    TablePort("quality", "Quality", "Figures before and after, and whether it failed.", optional=True),
    PlotPort("curve", "Metric curve", "The likeness at every step.", optional=True),
)


class RegistrationTask(Task):
    """Base: checks of the landmarks, where to begin, and the images made of a transform."""

    group = "Registration"

    def validate(self, inputs, parameters):
        landmarks.check_given(inputs)

    def names(self, inputs) -> tuple[str, str]:
        """Names of the transform and of its inverse."""
        fixed, moving = inputs.fixed.name, inputs.moving.name
        return f"{moving} to {fixed}".strip(), f"{fixed} to {moving}".strip()

    def begin(self, inputs) -> np.ndarray | None:
        """(4, 4) fixed RAS to moving RAS of the linear start transform, else of the landmarks, else None."""
        given = landmarks.start_from(inputs.fixed_points, inputs.moving_points)
        if inputs.start is not None:
            given = affine_of(inputs.start)
        return None if given is None else np.linalg.inv(given)

    def warn(self, reason: str, context):
        """Tell the user why the registration failed; nothing if ``reason`` is empty."""
        if reason:
            context.warn(f"This registration failed because {reason}; check the images, or give a start transform.")

    def images(self, inputs, parameters, transform, context, registered=None) -> dict:
        """The outputs "registered" and "checkerboard", where wanted; ``registered`` if it was computed already."""
        fixed, moving = inputs.fixed, inputs.moving
        if not (parameters.resample or parameters.make_checkerboard):
            return {}
        if registered is None:
            outside = float(moving.array.min())
            registered = resample_volume(
                moving, fixed.geometry, parameters.interpolation, transform, outside, context
            )  # fmt: skip
        registered = replace(registered, name=f"{moving.name} on {fixed.name}".strip())
        return {
            "registered": registered if parameters.resample else None,
            "checkerboard": checkerboard(fixed, registered) if parameters.make_checkerboard else None,
        }
