"""Groupwise registration as a task."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    CompositeTransform,
    InputError,
    IntegerParameter,
    ParameterError,
    Sequence,
    SequencePort,
    Table,
    TablePort,
    Task,
    TransformPort,
    Volume,
    VolumePort,
)
from MedImgAILib.core.resampling import resample_volume

from . import groupwise, quality
from .shared import INTERPOLATION, likeness


class GroupwiseRegistration(Task):
    """Time series and groups of images onto their mean."""

    id = "fusion.groupwise_registration"
    title = "Groupwise registration"
    group = "Registration"
    summary = (
        "Aligns all images of a time series, or several volumes, to their common mean, so that no image is favoured; "
        "for motion between time points or an average of several patients."
    )
    references = (
        "Guimond A et al. Average brain models: a convergence study. Comput Vis Image Underst 2000;77:192-210. "
        "doi:10.1006/cviu.1999.0815",
        "Arsigny V et al. Log-Euclidean metrics for fast and simple calculus on diffusion tensors. Magn Reson Med "
        "2006;56:411-421. doi:10.1002/mrm.20965",
    )
    keywords = ("motion correction", "time series", "perfusion", "4D", "template", "average")
    orientation_tolerance = 1e-2

    inputs = (
        SequencePort("sequence", "Time series", "The images to align to each other.", optional=True),
        VolumePort(
            "images", "Images", "Instead of a time series: at least two volumes; the first one's grid is used.",
            optional=True, multiple=True, minimum_count=2,
        ),
    )  # fmt: skip
    parameters = (
        ChoiceParameter(
            "model", "Kind of transform", "rigid", "Deformable warps each image smoothly after a rigid alignment.",
            choices={"rigid": "Rigid", "affine": "Affine", "deformable": "Deformable"},
        ),
        ChoiceParameter(
            "search", "Search", "header", "Where to look for each image in the first round.",
            choices={
                "header": "From the headers (time series)", "center": "From the headers and from aligned centres",
                "global": "Everywhere (any rotation)",
            },
        ),
        likeness(
            "Mutual information serves series whose contrast changes; the deformable step then uses local correlation.",
        ),
        INTERPOLATION,
        IntegerParameter(
            "rounds", "Rounds", 2, "How often all images are registered: first to one of them, then to the mean.",
            minimum=1, maximum=10,
        ),
        IntegerParameter(
            "frame", "Image whose transform is wanted", 1, "Its transform and inverse are given as transforms of their "
            "own, 1 for the first image; the table has the matrices of all.", minimum=1, maximum=100000,
        ),
        BooleanParameter(
            "make_displacements", "Make displacement fields", False,
            "For each image, where each voxel of the mean space lies in it, as vectors in mm (R, A, S).", advanced=True,
        ),
        IntegerParameter(
            "samples", "Sample points", 20000, "How many points are compared on the finest level.",
            minimum=2000, maximum=2000000, advanced=True,
        ),
        IntegerParameter(
            "iterations", "Iterations of the warp", 40, "Per level; it stops earlier where nothing improves.",
            minimum=1, maximum=1000, advanced=True, enabled_when=("model", ("deformable",)),
        ),
    )  # fmt: skip
    outputs = (
        SequencePort("registered", "Registered images", "All images in the mean space, in their order."),
        VolumePort("mean", "Mean image", "The mean of the registered images."),
        TablePort("motion", "Motion", "Each image's matrix to the mean space, how far it moved, its likeness."),
        TransformPort("transform", "Transform", "Carries the chosen image to the mean space.", optional=True),
        TransformPort("inverse", "Inverse transform", "Carries the mean space to the chosen image.", optional=True),
        SequencePort("displacements", "Displacement fields", "Vectors in mm from the mean space.", optional=True),
    )

    def validate(self, inputs, parameters):
        if (inputs.sequence is None) == (not inputs.images):
            raise InputError("Give either a time series or several images to align, not both or none.")
        images = _images(inputs)
        if len(images) < 2:
            raise InputError(f"{inputs.sequence.label} has a single image; at least two are needed to align.")
        if parameters.frame > len(images):
            raise ParameterError(f"There are {len(images)} images, so there is no image {parameters.frame}.")
        for image in images:
            if image.is_vector or np.iscomplexobj(image.array):
                raise InputError(f"{image.label} has several or complex components per voxel; give grey images.")
            if min(image.geometry.shape) == 1:
                raise InputError(f"{image.label} is a single slice; three-dimensional images are needed.")
            if not image.is_finite:
                raise InputError(f"{image.label} contains NaN or infinite voxels; repair or mask them first.")

    def run(self, inputs, parameters, context):
        images = _images(inputs)
        options = groupwise.Options(
            parameters.model, parameters.metric, parameters.search, parameters.rounds, parameters.samples,
            parameters.iterations,
        )  # fmt: skip
        with context.part(0.0, 0.9):
            result = groupwise.register(images, options, context)
        registered = []
        for n, image in enumerate(images):
            with context.part(0.9 + 0.1 * n / len(images), 0.9 + 0.1 * (n + 1) / len(images)) as part:
                transform = CompositeTransform(result.transform(n))
                outside = float(image.array.min())
                moved = resample_volume(image, result.grid, parameters.interpolation, transform, outside, part)
                registered.append(moved)
        series = inputs.sequence
        values = () if series is None else series.values
        index = ("image", "") if series is None else (series.index_name, series.index_unit)
        title = "images" if series is None else series.name
        outputs = {
            "registered": Sequence(tuple(registered), values, *index, name=f"{title} registered".strip()),
            "mean": result.mean.with_array(result.mean.array, name=f"{title} mean".strip()),
            "motion": _motion(result, images, registered),
        }
        chosen = parameters.frame - 1
        name = images[chosen].name or f"image {parameters.frame}"
        outputs["transform"] = CompositeTransform(result.transform(chosen), name=f"{name} to mean")
        outputs["inverse"] = CompositeTransform(result.inverse(chosen), name=f"mean to {name}")
        if parameters.make_displacements:
            vectors = tuple(_displacements(result, n, f"{title} displacement") for n in range(len(images)))
            outputs["displacements"] = Sequence(vectors, values, *index, name=f"{title} displacements".strip())
        for n, reason in enumerate(result.reasons):
            if reason:
                context.warn(
                    f"The alignment of image {n + 1} failed because {reason}; check it, or search from aligned centres "
                    "or everywhere."
                )
        return outputs

    def example(self):
        """Three time points of a head-like image, each turned and shifted a little."""
        from .tasks import RigidRegistration

        image = RigidRegistration().example()[0]["fixed"]
        frames = []
        for n, shift in enumerate(((0.0, 0.0, 0.0), (2.0, -1.0, 0.5), (-1.5, 1.0, 1.5))):
            motion = np.eye(4)
            c, s = np.cos(0.04 * n), np.sin(0.04 * n)
            motion[:2, :2], motion[:3, 3] = [[c, -s], [s, c]], shift
            moved = resample_volume(image.transformed(motion), image.geometry)
            frames.append(moved.with_array(moved.array, name=f"time {n}"))
        return {"sequence": Sequence(tuple(frames), name="series")}, {"samples": 4000}


def _images(inputs) -> list[Volume]:
    return list(inputs.images) if inputs.sequence is None else list(inputs.sequence.items)


def _motion(result, images, registered) -> Table:
    """A row for each image."""
    grid = result.grid
    corners = grid.corners_ras()
    center = grid.center
    columns = {"image": [image.name or str(n + 1) for n, image in enumerate(images)]}
    before = [np.linalg.inv(matrix) for matrix in result.matrices]
    turned = [np.clip((np.trace(_rotation(m)) - 1) / 2, -1, 1) for m in before]
    columns["rotation_deg"] = np.degrees(np.arccos(turned))
    columns["shift_mm"] = np.array([np.linalg.norm(_mapped(m, center[None]) - center) for m in before])
    columns["largest_mm"] = np.array([np.linalg.norm(_mapped(m, corners) - corners, axis=1).max() for m in before])
    likeness = [quality.compare(result.mean, image, np.eye(4))[0] for image in images]
    columns["nmi_before"] = np.array(likeness)
    columns["nmi_after"] = np.array([quality.compare(result.mean, image, np.eye(4))[0] for image in registered])
    columns["failed"] = np.array([float(bool(reason)) for reason in result.reasons])
    for row in range(3):
        for column in range(4):
            columns[f"m{row}{column}"] = np.array([m[row, column] for m in before])
    units = {"rotation_deg": "°", "shift_mm": "mm", "largest_mm": "mm"}
    units |= dict.fromkeys((name for name in columns if name.startswith("m") and name[1:].isdigit()), "mm (RAS)")
    return Table(columns, name="Motion", units=units)


def _rotation(matrix):
    """The rotation nearest to a (4, 4) matrix."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return left @ right


def _mapped(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _displacements(result, number, name) -> Volume:
    """(K, J, I, 3) vectors in mm from each voxel of the mean space to its place in an image."""
    grid = result.grid
    transform = CompositeTransform(result.transform(number))
    vectors = np.empty((*grid.shape, 3), np.float32)
    j, i = np.meshgrid(np.arange(grid.shape[1]), np.arange(grid.shape[2]), indexing="ij")
    for k in range(grid.shape[0]):
        at = grid.ras(np.stack([i, j, np.full_like(i, k)], axis=-1))
        vectors[k] = transform.map_points_inverse(at) - at
    return Volume(vectors, grid, name=f"{name} {number + 1}".strip(), units="mm")
