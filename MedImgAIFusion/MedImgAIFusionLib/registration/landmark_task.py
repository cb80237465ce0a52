"""Registration by landmarks as a task."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    CompositeTransform,
    DisplacementTransform,
    Geometry,
    InputError,
    LinearTransform,
    Points,
    PointsPort,
    Table,
    TablePort,
    Task,
    TransformPort,
    VolumePort,
)
from MedImgAILib.core.resampling import resample_volume

from . import landmarks

_NODES = 48
"""Of the spline's grid along its longest side."""


class LandmarkRegistration(Task):
    """Points onto points."""

    id = "fusion.landmark_registration"
    title = "Landmark registration"
    group = "Registration"
    summary = "Aligns by pairs of points that you place at the same anatomy in both images, in the same order."
    references = (
        "Umeyama S. Least-squares estimation of transformation parameters between two point patterns. IEEE Trans "
        "Pattern Anal Mach Intell 1991;13:376-380. doi:10.1109/34.88573",
        "Bookstein FL. Principal warps: thin-plate splines and the decomposition of deformations. IEEE Trans Pattern "
        "Anal Mach Intell 1989;11:567-585. doi:10.1109/34.24792",
        "Fitzpatrick JM et al. Predicting error in rigid-body point-based registration. IEEE Trans Med Imaging "
        "1998;17:694-702. doi:10.1109/42.736021",
    )
    keywords = ("fiducial", "markups", "point-based", "Procrustes", "Horn", "thin-plate spline", "FRE")

    inputs = (
        PointsPort("fixed_points", "Fixed points", "Landmarks in the image that stays where it is."),
        PointsPort("moving_points", "Moving points", "The same landmarks in the other image, in the same order."),
        VolumePort("fixed", "Fixed image", "Its grid takes the registered image.", components=(), optional=True),
        VolumePort("moving", "Moving image", "Is resampled if given.", components=(), optional=True),
    )
    parameters = (
        ChoiceParameter(
            "model", "Kind of transform", "rigid",
            "Rigid, similarity and affine fit the points by least squares; the spline meets every point.",
            choices={
                "rigid": "Rigid (3 points)", "similarity": "Similarity: with one scale (3 points)",
                "affine": "Affine (4 points)", "spline": "Thin-plate spline (5 points)",
            },
        ),
        ChoiceParameter(
            "interpolation", "Interpolation", "linear", "How the registered image is computed.",
            choices={"nearest": "Nearest neighbour", "linear": "Linear", "cubic": "Cubic B-spline"},
        ),
    )  # fmt: skip
    outputs = (
        TransformPort("transform", "Transform", "Carries the moving points onto the fixed ones."),
        TablePort("errors", "Errors", "Distance of each pair before and after (the fiducial registration error)."),
        VolumePort(
            "registered", "Registered image", "The moving image on the fixed image's grid.", components=(),
            optional=True,
        ),
    )  # fmt: skip

    def validate(self, inputs, parameters):
        landmarks.check_pairs(inputs.fixed_points, inputs.moving_points)
        if parameters.model == "spline" and len(inputs.fixed_points.positions) < 5:
            raise InputError("A thin-plate spline needs at least 5 pairs of points.")

    def run(self, inputs, parameters, context):
        fixed, moving = inputs.fixed_points, inputs.moving_points
        name = f"{moving.name} to {fixed.name}".strip()
        model = "affine" if parameters.model == "spline" else parameters.model
        context.progress(0.1, "Fitting")
        transform = LinearTransform(landmarks.fit(moving.positions, fixed.positions, model), name=name)
        if parameters.model == "spline":
            transform = _spline(transform, fixed.positions, moving.positions, inputs.fixed, name)
        context.progress(0.4, "Measuring")
        outputs = {"transform": transform, "errors": _errors(transform, fixed, moving)}
        if inputs.fixed is not None and inputs.moving is not None:
            source = inputs.moving
            with context.part(0.5, 1.0) as part:
                outside = float(np.abs(source.array).min()) if np.iscomplexobj(source.array) else source.array.min()
                registered = resample_volume(
                    source, inputs.fixed.geometry, parameters.interpolation, transform, float(outside), part
                )
            outputs["registered"] = registered.with_array(
                registered.array, name=f"{source.name} on {inputs.fixed.name}", units=source.units
            )
        return outputs

    def example(self):
        """Six landmarks, and the same turned by 17°, shifted, and each off by some tenths of a millimetre."""
        rng = np.random.default_rng(0)
        positions = np.array([[0, 0, 0], [40, 5, 0], [0, 50, 10], [-30, 10, 40], [20, -35, 25], [10, 15, -45.0]])
        matrix = np.eye(4)
        matrix[:3, :3] = [[0.9553, -0.2955, 0], [0.2955, 0.9553, 0], [0, 0, 1]]
        matrix[:3, 3] = (12.0, -7.0, 5.0)
        moving = Points(positions + rng.normal(0, 0.3, positions.shape), name="moving").transformed(matrix)
        return {"fixed_points": Points(positions, name="fixed"), "moving_points": moving}, {}


def _spline(affine, fixed, moving, volume, name):
    """The affine followed by the spline that takes up what it leaves, on a grid about the points or the image."""
    if volume is not None:
        grid = volume.geometry
    else:
        extent = np.ptp(fixed, axis=0)
        margin = 0.25 * extent.max()
        lower, size = fixed.min(axis=0) - margin, extent + 2 * margin
        grid = Geometry.from_spacing((2, 2, 2), size / 2, lower + size / 4)
    size = np.array(grid.shape[::-1]) * grid.spacing
    grid = grid.with_spacing(np.maximum(size.max() / _NODES, grid.spacing if volume is not None else 0))
    vectors = landmarks.spline_field(fixed, affine.map_points(moving), grid)
    return CompositeTransform((affine, DisplacementTransform(vectors, grid, name=name)), name=name)


def _errors(transform, fixed, moving):
    """A row for each pair, then their root mean square."""
    before = np.linalg.norm(moving.positions - fixed.positions, axis=1)
    after = np.linalg.norm(transform.map_points(moving.positions) - fixed.positions, axis=1)
    columns = {"landmark": [*fixed.labels, "Root mean square"]}
    for title, values in (("before_mm", before), ("after_mm", after)):
        columns[title] = np.append(values, np.sqrt((values**2).mean()))
    return Table(columns, name="Fiducial registration error", units={"before_mm": "mm", "after_mm": "mm"})
