"""What the registrations share that warp an image: a linear step before, a start that may itself be a warp, 2-D."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    CompositeTransform,
    Context,
    DisplacementTransform,
    Geometry,
    InputError,
    Segment,
    Segmentation,
    Transform,
)
from MedImgAILib.core.resampling import affine_of, resample_labels, resample_volume

from . import deformable_quality, landmarks, linear, quality
from .diffeomorphic import Result
from .shared import RegistrationTask


def linear_step(default: str) -> ChoiceParameter:
    """The parameter that chooses the linear step before."""
    return ChoiceParameter(
        "initial", "Linear step before", default,
        "Aligns the images as a whole first: from the header, the aligned centres, the start transform or landmarks. "
        "Single slices and warps given as start take none.",
        choices={"none": "None (they are aligned)", "rigid": "Rigid", "affine": "Affine"},
    )  # fmt: skip


class WarpingTask(RegistrationTask):
    """Base: prepares the images, leaves the warp to :meth:`warp`, and judges it."""

    def warp(self, inputs, parameters, to_moving, context) -> tuple[Transform, Transform, Result]:
        """The transform, its inverse and the fields behind them, from a (4, 4) fixed-to-moving RAS start."""
        raise NotImplementedError

    def likeness(self, parameters) -> str:
        """How charts call the likeness."""
        raise NotImplementedError

    def validate(self, inputs, parameters):
        super().validate(inputs, parameters)
        shapes = [volume.geometry.shape for volume in (inputs.fixed, inputs.moving)]
        for volume, shape in zip((inputs.fixed, inputs.moving), shapes, strict=True):
            if sum(n > 1 for n in shape) < 2:
                raise InputError(f"{volume.label} is a line or a point; an image is needed.")
        flat = [v for v in (inputs.fixed, inputs.moving) if min(v.geometry.shape) == 1]
        if len(flat) == 1:
            raise InputError(f"{flat[0].label} is a single slice and the other image is not; give two of a kind.")

    def refuse_slices(self, inputs, why: str):
        """Raise :class:`InputError` for single slices."""
        if min(inputs.fixed.geometry.shape) == 1:
            raise InputError(f"{inputs.fixed.label} is a single slice; {why}, which needs a three-dimensional image.")

    def run(self, inputs, parameters, context):
        begun = np.eye(4)
        before = None if inputs.start is None or affine_of(inputs.start) is not None else inputs.start
        whole = inputs
        if before is None:
            given = self.begin(inputs)
            begun = np.eye(4) if given is None else given
        else:
            inputs = _started(inputs)
        to_moving, share, doubt = begun, 0.0, ""
        if parameters.initial != "none" and before is not None:
            context.log("The start is a warp, so no linear step is taken before.")
        elif parameters.initial != "none" and min(inputs.fixed.geometry.shape) == 1:
            context.log("The images are single slices, so no linear step is taken before.")
        elif parameters.initial != "none":
            share = 0.3
            options = linear.Options(parameters.initial, "mutual_information", "center", samples=10000)
            masks = (inputs.fixed_mask, inputs.moving_mask)
            with context.part(0.0, share):
                found = linear.register(inputs.fixed, inputs.moving, options, Quiet(context), masks, given)
            to_moving = found.matrix
            doubt = quality.verdict(found, quality.compare(inputs.fixed, inputs.moving, to_moving)[0])
        with context.part(share, 0.9):
            transform, inverse, result = self.warp(inputs, parameters, to_moving, context)
        if before is not None:
            transform = CompositeTransform((before, transform), name=transform.name)
            inverse = CompositeTransform((inverse, before.inverse()), name=inverse.name)
        moving = whole.moving
        with context.part(0.9, 1.0) as part:
            outside = float(moving.array.min())
            registered = resample_volume(
                moving, whole.fixed.geometry, parameters.interpolation, transform, outside, part
            )  # fmt: skip
        judged = self._judge(whole, parameters, begun, transform, registered, result, doubt, context)
        images = self.images(whole, parameters, transform, context, registered)
        return images | judged | {"transform": transform, "inverse": inverse}

    def _judge(self, inputs, parameters, begun, transform, registered, result, doubt, context) -> dict:
        """The outputs that tell of quality; a failure is told to the user. ``doubt`` is that of the linear step."""
        found = deformable_quality.figures(result)
        before = quality.compare(inputs.fixed, inputs.moving, begun)[0]
        after = quality.compare(inputs.fixed, registered, np.eye(4))[0]
        last = [value for level, value in result.history if level == result.history[-1][0]] or [before, after]
        likeness = (last[0], before), (max(last), after)
        reason = deformable_quality.verdict(found, *likeness, float(np.sort(result.geometry.spacing)[1]))
        reason = reason or (doubt and f"in the linear step {doubt}")
        self.warn(reason, context)
        errors = landmarks.errors(inputs, transform)
        outputs = {"quality": deformable_quality.table(found, *likeness, bool(reason), errors)}
        if result.history:
            outputs["curve"] = quality.metric_plot(result, self.likeness(parameters))
        return outputs


class Quiet:
    """A context whose curve is not shown: the linear step's would stand among those of the warp."""

    def __init__(self, context: Context):
        self._context = context

    def __getattr__(self, name):
        return getattr(self._context, name)

    def curve(self, name, x, y):
        """Nothing."""


def _started(inputs):
    """The inputs with the moving image and mask brought to the fixed image's grid by the start, a warp."""
    moving, grid = inputs.moving, inputs.fixed.geometry
    moved = resample_volume(moving, grid, "linear", inputs.start, float(moving.array.min()))
    mask = inputs.moving_mask
    if mask is not None:
        inside = mask_on(mask, grid, inputs.start)
        mask = Segmentation.from_labels(inside.astype(np.uint8), grid, [Segment("mask")], mask.name)
    points = {"fixed_points": None, "moving_points": None}
    return type(inputs)(**(vars(inputs) | points | {"moving": replace(moved, name=moving.name), "moving_mask": mask}))


def displacement(field: np.ndarray, geometry: Geometry, name: str) -> DisplacementTransform:
    """A (3, K, J, I) field in voxels along k, j, i as a transform in mm along R, A, S, stored from parent."""
    columns = geometry.ijk_to_ras[:3, 2::-1].astype(np.float32)
    vectors = np.einsum("rc,ckji->kjir", columns, field)
    return DisplacementTransform(np.ascontiguousarray(vectors), geometry, name=name)


def mask_on(mask: Segmentation | None, grid: Geometry, transform: Transform | None = None) -> np.ndarray | None:
    """(K, J, I) bool on a grid: inside any segment, after a transform; None without a mask."""
    return None if mask is None else resample_labels(mask.labelmap() > 0, mask.geometry, grid, transform)
