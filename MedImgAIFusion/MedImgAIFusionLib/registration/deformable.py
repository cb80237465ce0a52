"""Deformable registration as a task."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    CompositeTransform,
    DisplacementTransform,
    FloatParameter,
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

from . import deformable_quality, diffeomorphic, landmarks, linear, quality
from .checkerboard import checkerboard

_NAMES = {
    "local_correlation": "Squared local correlation",
    "mean_squares": "Negative mean squared difference",
    "mutual_information": "Mutual information",
}


class DeformableRegistration(Task):
    """Symmetric diffeomorphic registration after a linear start."""

    id = "fusion.deformable_registration"
    title = "Deformable registration"
    group = "Registration"
    summary = (
        "Warps one image onto another by a smooth map that can be undone; for different patients, an atlas, or organs "
        "that moved or changed."
    )
    references = (
        "Avants BB et al. Symmetric diffeomorphic image registration with cross-correlation. Med Image Anal "
        "2008;12:26-41. doi:10.1016/j.media.2007.06.004",
        "Vercauteren T et al. Diffeomorphic demons. NeuroImage 2009;45:S61-S72. doi:10.1016/j.neuroimage.2008.10.040",
        "Chen M et al. A simple fixed-point approach to invert a deformation field. Med Phys 2008;35:81-88. "
        "doi:10.1118/1.2816107",
    )
    keywords = ("non-rigid", "SyN", "demons", "diffeomorphism", "atlas", "displacement field", "warp")
    orientation_tolerance = 5e-3

    inputs = (
        VolumePort("fixed", "Fixed image", "The image that stays where it is."),
        VolumePort("moving", "Moving image", "The image to warp onto it."),
        SegmentationPort("fixed_mask", "Fixed mask", "Only the inside of its segments pulls.", optional=True),
        SegmentationPort("moving_mask", "Moving mask", "Only the inside of its segments pulls.", optional=True),
        TransformPort("start", "Start transform", "A linear transform that roughly aligns them.", optional=True),
        PointsPort("fixed_points", "Fixed landmarks", "With the moving ones: a check of the result.", optional=True),
        PointsPort("moving_points", "Moving landmarks", "The same places in the same order.", optional=True),
    )
    parameters = (
        ChoiceParameter(
            "initial", "Linear step before", "affine",
            "Aligns the images as a whole first, from the header, the aligned centres or the start transform.",
            choices={"none": "None (they are aligned)", "rigid": "Rigid", "affine": "Affine"},
        ),
        ChoiceParameter(
            "metric", "Likeness", "local_correlation",
            "Local correlation serves most pairs, also with uneven brightness; mean squares needs the same contrast.",
            choices={
                "local_correlation": "Local correlation", "mean_squares": "Mean squares (demons)",
                "mutual_information": "Mutual information (Mattes)",
            },
        ),
        ChoiceParameter(
            "interpolation", "Interpolation", "linear", "How the registered image is computed.",
            choices={"nearest": "Nearest neighbour", "linear": "Linear", "cubic": "Cubic B-spline"},
        ),
        IntegerParameter(
            "iterations", "Iterations per level", 40,
            "Each level stops earlier where nothing improves; the finest takes a third.", minimum=1, maximum=1000,
        ),
        FloatParameter(
            "finest_mm", "Finest spacing", 0.0, "Spacing of the finest level; 0 follows the fixed image's voxels.",
            unit="mm", minimum=0.0, maximum=50.0, advanced=True,
        ),
        FloatParameter(
            "step_sigma_mm", "Smoothing of each step", 0.0,
            "Standard deviation of the Gaussian over each step; larger is stiffer. 0 is 1.7 voxels of each level.",
            unit="mm", minimum=0.0, maximum=100.0, advanced=True,
        ),
        FloatParameter(
            "field_sigma_mm", "Smoothing of the whole field", 0.0,
            "Standard deviation of the Gaussian over the whole field after each step. 0 is 0.8 voxels of each level.",
            unit="mm", minimum=0.0, maximum=100.0, advanced=True,
        ),
        FloatParameter(
            "radius_mm", "Radius of the window", 0.0, "Half width of the correlation's window. 0 is 2 voxels.",
            unit="mm", minimum=0.0, maximum=100.0, advanced=True, enabled_when=("metric", ("local_correlation",)),
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
        TransformPort("inverse", "Inverse transform", "Carries the fixed image onto the moving one.", optional=True),
        VolumePort("registered", "Registered image", "The moving image on the fixed image's grid.", optional=True),
        VolumePort("checkerboard", "Checkerboard", "Fixed and registered image in alternating cubes.", optional=True),
        TablePort("quality", "Quality", "Likeness before and after, folding, inverse consistency.", optional=True),
        PlotPort("curve", "Metric curve", "The likeness at every step.", optional=True),
    )

    def validate(self, inputs, parameters):
        if inputs.start is not None and affine_of(inputs.start) is None:
            raise InputError(f"{inputs.start.label} is not linear; start from a linear transform.")
        landmarks.check_given(inputs)
        flat = [v for v in (inputs.fixed, inputs.moving) if min(v.geometry.shape) == 1]
        if sum(n > 1 for n in inputs.fixed.geometry.shape) < 2:
            raise InputError(f"{inputs.fixed.label} is a line or a point; an image is needed.")
        if flat and parameters.initial != "none":
            raise InputError(
                f"{flat[0].label} is a single slice; choose no linear step before, and align it beforehand."
            )
        if inputs.fixed.geometry.shape.count(1) != inputs.moving.geometry.shape.count(1):
            raise InputError(f"{flat[0].label} is a single slice and the other image is not; give two of a kind.")

    def run(self, inputs, parameters, context):
        fixed, moving = inputs.fixed, inputs.moving
        masks = (inputs.fixed_mask, inputs.moving_mask)
        to_moving = np.eye(4) if inputs.start is None else np.linalg.inv(affine_of(inputs.start))
        begun = to_moving
        linear_share = 0.0 if parameters.initial == "none" else 0.3
        if linear_share:
            options = linear.Options(parameters.initial, "mutual_information", "center", samples=10000)
            with context.part(0.0, linear_share):
                start = None if inputs.start is None else to_moving
                to_moving = linear.register(fixed, moving, options, context, masks, start).matrix
        options = diffeomorphic.Options(
            parameters.metric, parameters.iterations, radius_mm=parameters.radius_mm, finest_mm=parameters.finest_mm,
            update_sigma_mm=parameters.step_sigma_mm, total_sigma_mm=parameters.field_sigma_mm,
        )  # fmt: skip
        with context.part(linear_share, 0.9):
            result = diffeomorphic.register(fixed, moving, to_moving, options, context, masks)
        name = f"{moving.name} to {fixed.name}".strip()
        back = f"{fixed.name} to {moving.name}".strip()
        affine = LinearTransform(np.linalg.inv(to_moving), name=name)
        transform = CompositeTransform((affine, _transform(result.to_moving, result.geometry, name)), name=name)
        inverse = CompositeTransform(
            (_transform(result.to_fixed, result.geometry, back), affine.inverse()), name=back
        )  # fmt: skip
        outputs = {"transform": transform, "inverse": inverse}
        with context.part(0.9, 1.0) as part:
            registered = resample_volume(
                moving, fixed.geometry, parameters.interpolation, transform, float(moving.array.min()), part
            )
        found = deformable_quality.figures(result)
        last = [value for level, value in result.history if level == result.history[-1][0]]
        information = [
            quality.compare(fixed, moving, begun)[0],
            quality.compare(fixed, registered, np.eye(4))[0],
        ]
        before, after = (last[0], information[0]), (max(last), information[1])
        reason = deformable_quality.verdict(found, before, after, float(np.sort(result.geometry.spacing)[1]))
        if reason:
            context.warn(f"This registration failed because {reason}; check the images, or give a start transform.")
        outputs["quality"] = deformable_quality.table(
            found, before, after, bool(reason), landmarks.errors(inputs, transform)
        )
        outputs["curve"] = quality.metric_plot(SimpleNamespace(history=result.history), _NAMES[parameters.metric])
        registered = replace(registered, name=f"{moving.name} on {fixed.name}".strip())
        if parameters.resample:
            outputs["registered"] = registered
        if parameters.make_checkerboard:
            outputs["checkerboard"] = checkerboard(fixed, registered)
        return outputs

    def example(self):
        """A head-like image and the same bent smoothly by some millimetres."""
        from MedImgAILib.core.examples import example_geometry, example_volume

        geometry = example_geometry()
        fixed = example_volume("fixed")
        k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
        ras = geometry.ras(np.stack([i, j, k], axis=-1)) - geometry.center
        bend = 2.5 * np.exp(-((ras - (4.0, -3.0, 1.0)) ** 2).sum(-1) / (2 * 9.0**2))
        vectors = bend[..., None] * np.array([0.8, -0.5, 0.3])
        moving = resample_volume(fixed, geometry, "linear", DisplacementTransform(vectors, geometry))
        moving = moving.with_array(moving.array, name="moving")
        return {"fixed": fixed, "moving": moving}, {"initial": "none", "iterations": 16}


def _transform(field, geometry, name):
    """The field in mm along R, A, S as a transform stored from parent."""
    columns = geometry.ijk_to_ras[:3, 2::-1].astype(np.float32)
    vectors = np.einsum("rc,ckji->kjir", columns, field)
    return DisplacementTransform(np.ascontiguousarray(vectors), geometry, name=name)
