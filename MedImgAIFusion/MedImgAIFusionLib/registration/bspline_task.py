"""B-spline registration as a task."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    BSplineTransform,
    CompositeTransform,
    FloatParameter,
    Geometry,
    IntegerParameter,
    LinearTransform,
)

from . import bspline, diffeomorphic
from .deformable import DeformableRegistration
from .metric import METRICS
from .shared import BINS, INPUTS, INTERPOLATION, ITERATIONS, OUTPUTS, RESULTS, likeness
from .warping import WarpingTask, displacement, linear_step


class BSplineRegistration(WarpingTask):
    """Free-form deformation after a linear start."""

    id = "fusion.bspline_registration"
    title = "B-spline registration"
    summary = (
        "Warps one image onto another by a coarse lattice of control points; for smooth motion such as breathing or "
        "setup, between any modalities."
    )
    references = (
        "Rueckert D et al. Nonrigid registration using free-form deformations: application to breast MR images. IEEE "
        "Trans Med Imaging 1999;18:712-721. doi:10.1109/42.796284",
        "Mattes D et al. PET-CT image registration in the chest using free-form deformations. IEEE Trans Med Imaging "
        "2003;22:120-128. doi:10.1109/TMI.2003.809072",
    )
    keywords = ("non-rigid", "FFD", "free-form deformation", "control points", "warp")
    orientation_tolerance = 5e-3
    can_finish_early = True

    inputs = INPUTS
    parameters = (
        linear_step("rigid"),
        likeness(
            "Mutual information serves any two modalities; correlation and mean squares need the same contrast.",
            gradients=False,
        ),
        FloatParameter(
            "spacing_mm", "Spacing of control points", 0.0,
            "On the finest level; smaller follows finer motion. 0 is a fourteenth of the image's longest side.",
            unit="mm", minimum=0.0, maximum=500.0,
        ),
        INTERPOLATION,
        FloatParameter(
            "stiffness", "Stiffness", 1.0, "Weight of the bending energy: larger is smoother, 0 is none.",
            minimum=0.0, maximum=1000.0, advanced=True,
        ),
        IntegerParameter(
            "samples", "Sample points", 60000, "How many points are compared on the finest level.",
            minimum=5000, maximum=2000000, advanced=True,
        ),
        BINS,
        ITERATIONS,
        *RESULTS,
    )  # fmt: skip
    outputs = OUTPUTS

    def warp(self, inputs, parameters, to_moving, context):
        there, back = self.names(inputs)
        options = bspline.Options(
            parameters.metric, parameters.spacing_mm, parameters.stiffness, parameters.bins, parameters.samples,
            parameters.iterations,
        )  # fmt: skip
        masks = (inputs.fixed_mask, inputs.moving_mask)
        with context.part(0.0, 0.9):
            found = bspline.register(inputs.fixed, inputs.moving, to_moving, options, context, masks)
        context.progress(0.9, "Inverting")
        grid = diffeomorphic.level_grids(inputs.fixed.canonical().geometry)[-1][1]
        result = diffeomorphic.run_out(bspline.on_grid(found, grid), grid, found.history)
        affine = LinearTransform(np.linalg.inv(to_moving), name=there)
        inverse = (displacement(result.to_fixed, result.geometry, back), affine.inverse())
        return (
            CompositeTransform((affine, _transform(found, there)), name=there),
            CompositeTransform(inverse, name=back),
            result,
        )

    def likeness(self, parameters):
        return METRICS[parameters.metric].name

    def example(self):
        """As for the deformable registration."""
        inputs, _ = DeformableRegistration().example()
        return inputs, {"initial": "none", "samples": 5000, "iterations": 15}


def _transform(found, name):
    """The coefficients in mm along R, A, S; a flat axis gets the nodes that a cubic spline needs, all alike."""
    lattice, coefficients = found.lattice, found.coefficients
    vectors = np.einsum("rc,ckji->kjir", lattice.directions, coefficients)
    nodes = tuple(5 if n == 1 else n for n in lattice.shape)
    first = np.array([-2 if n == 1 else 0 for n in lattice.shape])
    matrix = lattice.ijk_to_ras.copy()
    matrix[:3, 3] = lattice.ras(first[::-1])
    vectors = np.ascontiguousarray(np.broadcast_to(vectors, (*nodes, 3)))
    return BSplineTransform(vectors, Geometry(matrix, nodes), name=name)
