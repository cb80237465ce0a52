"""Deformable registration as a task."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    CompositeTransform,
    DisplacementTransform,
    FloatParameter,
    IntegerParameter,
    LinearTransform,
    MissingPackageError,
)
from MedImgAILib.core.resampling import resample_volume

from . import diffeomorphic, external
from .forces import NAMES
from .shared import INPUTS, INTERPOLATION, OUTPUTS, RESULTS
from .warping import WarpingTask, displacement, linear_step, mask_on


class DeformableRegistration(WarpingTask):
    """Symmetric diffeomorphic registration after a linear start."""

    id = "fusion.deformable_registration"
    title = "Deformable registration"
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

    can_finish_early = True
    uses_device = True
    inputs = INPUTS
    parameters = (
        linear_step("affine"),
        ChoiceParameter(
            "metric", "Likeness", "local_correlation",
            "Local correlation serves most pairs, also with uneven brightness; mean squares needs the same contrast; "
            "mutual information and gradient fields serve unrelated contrasts.",
            choices={
                "local_correlation": "Local correlation", "mean_squares": "Mean squares (demons)",
                "mutual_information": "Mutual information (Mattes)",
                "normalized_gradients": "Normalised gradient fields",
            },
            enabled_when=("engine", ("built_in", "torch")),
        ),
        INTERPOLATION,
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
        ChoiceParameter(
            "engine", "Engine", "built_in",
            "What computes the warp. elastix and ANTs are optional packages, run in a process of their own.",
            choices={
                "built_in": "Built in", "torch": "Built in, by PyTorch (on a GPU where there is one)",
                "elastix": "elastix B-splines (itk-elastix)", "ants": "ANTs SyN (antspyx)",
            },
            advanced=True,
        ),
        external.PYTHON,
        *RESULTS,
    )  # fmt: skip
    outputs = OUTPUTS

    def validate(self, inputs, parameters):
        super().validate(inputs, parameters)
        if parameters.engine in external.PROGRAMS:
            external.check(parameters.engine, parameters.engine_python)
            self.refuse_slices(inputs, f"{external.PROGRAMS[parameters.engine][0]} is used here")

    def warp(self, inputs, parameters, to_moving, context):
        fixed, moving = inputs.fixed, inputs.moving
        there, back = self.names(inputs)
        result = self._register(fixed, moving, to_moving, parameters, context, (inputs.fixed_mask, inputs.moving_mask))
        affine = LinearTransform(np.linalg.inv(to_moving), name=there)
        warp = displacement(result.to_moving, result.geometry, there)
        inverse = (displacement(result.to_fixed, result.geometry, back), affine.inverse())
        return CompositeTransform((affine, warp), name=there), CompositeTransform(inverse, name=back), result

    def likeness(self, parameters):
        return NAMES[parameters.metric]

    def _register(self, fixed, moving, to_moving, parameters, context, masks):
        if parameters.engine in external.PROGRAMS:
            base = fixed.canonical()
            affine = LinearTransform(np.linalg.inv(to_moving))
            moved = resample_volume(moving, base.geometry, "linear", affine, float(moving.array.min()))
            on_grid = (mask_on(masks[0], base.geometry), mask_on(masks[1], base.geometry, affine))
            return external.deformable(
                parameters.engine, parameters.engine_python, base, moved, on_grid, context
            )  # fmt: skip
        options = diffeomorphic.Options(
            parameters.metric, parameters.iterations, radius_mm=parameters.radius_mm, finest_mm=parameters.finest_mm,
            update_sigma_mm=parameters.step_sigma_mm, total_sigma_mm=parameters.field_sigma_mm,
        )  # fmt: skip
        engine = diffeomorphic.HostEngine
        if parameters.engine == "torch":
            engine = torch_engine(context.device)
        return diffeomorphic.register(fixed, moving, to_moving, options, context, masks, engine)

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


def torch_engine(device: str):
    """The steps by PyTorch.

    Raises
    ------
    MissingPackageError
        If PyTorch is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "Registration by PyTorch needs the package torch, which is not installed; install it or use the built-in "
            "engine.",
            ("torch>=2.2",),
        ) from error
    from .torch_engine import TorchEngine

    return TorchEngine(device)
