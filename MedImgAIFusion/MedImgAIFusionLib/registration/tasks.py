"""Rigid and affine registration as tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import ChoiceParameter, InputError, IntegerParameter, LinearTransform
from MedImgAILib.core.resampling import affine_of

from . import external, landmarks, linear, quality
from .comparison import NAMES
from .shared import BINS, INPUTS, INTERPOLATION, ITERATIONS, OUTPUTS, RESULTS, RegistrationTask, likeness
from .warping import mask_on


class _LinearRegistration(RegistrationTask):
    model = ""
    orientation_tolerance = 2e-3

    inputs = (*(replace(p, three_d=True) for p in INPUTS[:2]), *INPUTS[2:])
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
        likeness(
            "Mutual information serves any two modalities, and so do gradient fields, which compare where edges run; "
            "correlation and mean squares need the same contrast.",
        ),
        INTERPOLATION,
        IntegerParameter(
            "samples", "Sample points", 40000, "How many points are compared on the finest level.",
            minimum=2000, maximum=2000000, advanced=True,
        ),
        BINS,
        ITERATIONS,
        ChoiceParameter(
            "engine", "Engine", "built_in",
            "What computes the transform. elastix and ANTs are optional packages, run in a process of their own; they "
            "begin at the aligned centres or the start.",
            choices={"built_in": "Built in", "elastix": "elastix (itk-elastix)", "ants": "ANTs (antspyx)"},
            advanced=True,
        ),
        external.PYTHON,
        *RESULTS,
    )  # fmt: skip
    outputs = OUTPUTS

    def validate(self, inputs, parameters):
        if inputs.start is not None and affine_of(inputs.start) is None:
            raise InputError(f"{inputs.start.label} is not linear; start from a linear transform.")
        super().validate(inputs, parameters)
        if parameters.engine in external.PROGRAMS:
            external.check(parameters.engine, parameters.engine_python)

    def run(self, inputs, parameters, context):
        fixed, moving = inputs.fixed, inputs.moving
        options = linear.Options(
            self.model, parameters.metric, parameters.search, parameters.bins, parameters.samples,
            iterations=parameters.iterations,
        )  # fmt: skip
        start = self.begin(inputs)
        with context.part(0.0, 0.85):
            masks = (inputs.fixed_mask, inputs.moving_mask)
            if parameters.engine == "built_in":
                result = linear.register(fixed, moving, options, context, masks, start)
            else:
                matrix = self._external(fixed, moving, parameters, masks, start, context)
                result = linear.judge(fixed, moving, matrix, options, context, masks, start)
        context.progress(0.9, "Judging the result")
        before = quality.compare(fixed, moving, np.eye(4) if start is None else start)
        after = quality.compare(fixed, moving, result.matrix)
        reason = quality.verdict(result, after[0])
        self.warn(reason, context)
        there, back = self.names(inputs)
        transform = LinearTransform(np.linalg.inv(result.matrix), name=there)
        with context.part(0.9, 1.0) as part:
            images = self.images(inputs, parameters, transform, part)
        return images | {
            "transform": transform,
            "inverse": LinearTransform(result.matrix, name=back),
            "quality": quality.table(result, before, after, bool(reason), landmarks.errors(inputs, transform)),
            "curve": quality.metric_plot(result, NAMES[parameters.metric]) if result.history else None,
        }

    def _external(self, fixed, moving, parameters, masks, start, context):
        """(4, 4) fixed to moving by the optional engine, which sees the moving image where the start puts it."""
        begin = np.eye(4) if start is None else start
        seen = moving.transformed(np.linalg.inv(begin))
        on_grid = [mask_on(mask, volume.geometry) for mask, volume in zip(masks, (fixed, moving), strict=True)]
        engine, python = parameters.engine, parameters.engine_python
        return begin @ external.linear(engine, python, self.model, fixed, seen, on_grid, context)

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
    "Haber E, Modersitzki J. Beyond mutual information: a simple and robust alternative. Methods Inf Med "
    "2007;46:292-299. doi:10.1160/ME9046",
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
