"""Rigid and affine registration as tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    InputError,
    IntegerParameter,
    LinearTransform,
    PlotPort,
    PointsPort,
    SegmentationPort,
    TablePort,
    Task,
    TransformPort,
    VolumePort,
)
from MedImgAILib.core.resampling import affine_of, resample_volume

from . import landmarks, linear, quality
from .checkerboard import checkerboard
from .metric import METRICS


class _LinearRegistration(Task):
    group = "Registration"
    model = ""
    orientation_tolerance = 2e-3

    inputs = (
        VolumePort("fixed", "Fixed image", "The image that stays where it is.", three_d=True),
        VolumePort("moving", "Moving image", "The image to align to it; any modality.", three_d=True),
        SegmentationPort(
            "fixed_mask", "Fixed mask", "Only the inside of its segments is compared.", optional=True
        ),
        SegmentationPort(
            "moving_mask", "Moving mask", "Only the inside of its segments is compared.", optional=True
        ),
        TransformPort("start", "Start transform", "A linear transform that roughly aligns them.", optional=True),
        PointsPort(
            "fixed_points", "Fixed landmarks", "With the moving ones: where to begin, and a check of the result.",
            optional=True,
        ),
        PointsPort("moving_points", "Moving landmarks", "The same places in the same order.", optional=True),
    )  # fmt: skip
    parameters = (
        ChoiceParameter(
            "search", "Search", "global",
            "Where to look. Global also finds images that are turned by any angle or whose header is wrong.",
            choices={
                "global": "Everywhere (any rotation)",
                "center": "From the header and from aligned centres",
                "header": "From the header or start transform only",
            },
        ),
        ChoiceParameter(
            "metric", "Likeness", "mutual_information",
            "Mutual information serves any two modalities; correlation and mean squares need the same contrast.",
            choices={
                "mutual_information": "Mutual information (Mattes)",
                "normalized_mutual_information": "Normalised mutual information", "correlation": "Correlation",
                "mean_squares": "Mean squares",
            },
        ),
        ChoiceParameter(
            "interpolation", "Interpolation", "linear", "How the registered image is computed.",
            choices={"nearest": "Nearest neighbour", "linear": "Linear", "cubic": "Cubic B-spline"},
        ),
        IntegerParameter(
            "samples", "Sample points", 40000, "How many points are compared on the finest level.",
            minimum=2000, maximum=2000000, advanced=True,
        ),
        IntegerParameter(
            "bins", "Histogram bins", 32, "Grey-level bins of the mutual information.",
            minimum=8, maximum=256, advanced=True,
            enabled_when=("metric", ("mutual_information", "normalized_mutual_information")),
        ),
        IntegerParameter(
            "iterations", "Iterations per level", 60, "The optimiser stops earlier where nothing improves.",
            minimum=1, maximum=1000, advanced=True,
        ),
        BooleanParameter(
            "resample", "Make the registered image", True,
            "Compute the moving image on the fixed image's grid; off if only the transform is wanted.", advanced=True,
        ),
        BooleanParameter(
            "make_checkerboard", "Make a checkerboard", False,
            "Fixed and registered image in alternating cubes, to judge the edges by eye.", advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        TransformPort("transform", "Transform", "Carries the moving image onto the fixed one."),
        VolumePort("registered", "Registered image", "The moving image on the fixed image's grid.", optional=True),
        VolumePort("checkerboard", "Checkerboard", "Fixed and registered image in alternating cubes.", optional=True),
        TablePort("quality", "Quality", "Likeness before and after, overlap, and whether it failed.", optional=True),
        PlotPort("curve", "Metric curve", "The likeness at every step.", optional=True),
    )

    def validate(self, inputs, parameters):
        if inputs.start is not None and affine_of(inputs.start) is None:
            raise InputError(f"{inputs.start.label} is not linear; start from a linear transform.")
        landmarks.check_given(inputs)

    def run(self, inputs, parameters, context):
        fixed, moving = inputs.fixed, inputs.moving
        options = linear.Options(
            self.model, parameters.metric, parameters.search, parameters.bins, parameters.samples,
            iterations=parameters.iterations,
        )  # fmt: skip
        begin = landmarks.start_from(inputs.fixed_points, inputs.moving_points)
        if inputs.start is not None:
            begin = affine_of(inputs.start)
        start = None if begin is None else np.linalg.inv(begin)
        with context.part(0.0, 0.85):
            masks = (inputs.fixed_mask, inputs.moving_mask)
            result = linear.register(fixed, moving, options, context, masks, start)
        before = quality.compare(fixed, moving, np.eye(4) if start is None else start)
        after = quality.compare(fixed, moving, result.matrix)
        context.progress(0.9, "Judging the result")
        reason = quality.verdict(result, parameters.search == "global")
        if reason:
            context.warn(f"This registration failed because {reason}; check the images, or give a start transform.")
        transform = LinearTransform(np.linalg.inv(result.matrix), name=f"{moving.name} to {fixed.name}".strip())
        outputs = {
            "transform": transform,
            "quality": quality.table(result, before, after, bool(reason), landmarks.errors(inputs, transform)),
            "curve": quality.metric_plot(result, METRICS[parameters.metric].name),
        }
        if parameters.resample or parameters.make_checkerboard:
            with context.part(0.9, 1.0) as part:
                registered = resample_volume(
                    moving, fixed.geometry, parameters.interpolation, transform, float(moving.array.min()), part
                )
            registered = replace(registered, name=f"{moving.name} on {fixed.name}".strip())
            outputs["registered"] = registered if parameters.resample else None
            outputs["checkerboard"] = checkerboard(fixed, registered) if parameters.make_checkerboard else None
        return outputs

    def example(self):
        """A head-like image without symmetry, seen in another contrast after it was turned by 17° and shifted."""
        from MedImgAILib.core.examples import example_geometry, example_volume

        geometry = example_geometry()
        k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
        ras = geometry.ras(np.stack([i, j, k], axis=-1)) - geometry.center
        fixed = example_volume("fixed")
        for place, size, value in (((-6, 5, -3), 4, 60), ((2, 7, 8), 3, -50), ((5, -8, -6), 3.5, 90)):
            ball = np.linalg.norm(ras - place, axis=-1) < size
            fixed = fixed.with_array(fixed.array + np.float32(value) * ball, name="fixed")
        moving = fixed.with_array(np.float32(200) - np.abs(fixed.array - 90), name="moving")
        matrix = np.eye(4)
        matrix[:3, :3] = [[0.9553, -0.2955, 0], [0.2955, 0.9553, 0], [0, 0, 1]]
        matrix[:3, 3] = (3.0, -4.0, 2.0)
        return {"fixed": fixed, "moving": moving.transformed(matrix)}, {"search": "center", "samples": 4000}


_REFERENCES = (
    "Mattes D et al. PET-CT image registration in the chest using free-form deformations. IEEE Trans Med Imaging "
    "2003;22:120-128. doi:10.1109/TMI.2003.809072",
    "Alexa M. Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3). CVPR 2022:8281-8290",
)


class RigidRegistration(_LinearRegistration):
    """Six degrees of freedom."""

    id = "fusion.rigid_registration"
    title = "Rigid registration"
    model = "rigid"
    summary = (
        "Turns and shifts one image onto another of any modality, from any starting position; for the same patient "
        "where nothing deformed."
    )
    references = _REFERENCES
    keywords = ("align", "co-registration", "mutual information", "rotation", "translation")


class AffineRegistration(_LinearRegistration):
    """Twelve degrees of freedom."""

    id = "fusion.affine_registration"
    title = "Affine registration"
    model = "affine"
    summary = (
        "Aligns one image to another by turning, shifting, scaling and shearing; for different patients, an atlas, or "
        "scanners whose scale differs."
    )
    references = _REFERENCES
    keywords = ("align", "co-registration", "mutual information", "scale", "shear", "atlas")
