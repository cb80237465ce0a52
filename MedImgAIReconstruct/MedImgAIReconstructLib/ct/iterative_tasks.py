"""Iterative reconstruction tasks: SIRT, OS-SART, CGLS, total variation."""

from __future__ import annotations

import os

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    Cancelled,
    FloatParameter,
    InputError,
    IntegerParameter,
    OutputError,
    Plot,
    PlotPort,
    Series,
    Table,
    TablePort,
    TextParameter,
    VolumePort,
)

from . import iterative
from .base import (
    GRID_PARAMETERS,
    INPUTS,
    RESULT_PARAMETERS,
    CTTask,
    check_memory,
    check_visible,
    choose_grid,
    finish,
)
from .projector import Projector
from .sinogram import PARAMETERS as SINOGRAM_PARAMETERS

SHARPER = "More give sharper and noisier images."
ITERATIONS = IntegerParameter("iterations", "Iterations", 50, SHARPER, minimum=1, maximum=5000)
NONNEGATIVE = BooleanParameter("nonnegative", "No negative attenuation", True, "Sets negative voxels to 0 each step.")
RELAXATION = FloatParameter(
    "relaxation", "Relaxation", 1.0, "Factor of each step.", minimum=0.01, maximum=1.99, step=0.05, advanced=True,
)  # fmt: skip
KEEP = TextParameter(
    "keep_file", "Keep when cancelled", "",
    "If the run is cancelled, the last whole iterate is written here, to start from later; empty keeps nothing.",
    kind="save", suffixes=(".nrrd",), advanced=True,
)  # fmt: skip
COMMON = (KEEP, *GRID_PARAMETERS, *RESULT_PARAMETERS, *SINOGRAM_PARAMETERS)


class IterativeTask(CTTask):
    """Base of the iterative reconstructions; a subclass implements :meth:`iterate`."""

    inputs = (
        *INPUTS,
        VolumePort("start", "Start from", "A reconstruction of the same scan to go on from; same unit.", optional=True),
    )
    outputs = (
        *CTTask.outputs,
        TablePort("objective", "Residual", "Relative residual at every iteration.", optional=True),
        PlotPort("plot", "Residual plot", "The residual against the iterations.", optional=True),
    )
    projections_copies, volume_copies = 3, 4
    """Working arrays of the size of the projections and of the volume."""

    def iterate(self, projector, data, start, parameters):
        """Yield (iterate, relative residual); see :mod:`.iterative`."""
        raise NotImplementedError

    def memory_bytes(self, projections, grid):
        return 4 * int(self.projections_copies * projections.array.size + self.volume_copies * np.prod(grid.shape))

    def run(self, inputs, parameters, context):
        projections = self.load(inputs, parameters)
        grid, target, order = choose_grid(projections, inputs.reference, parameters)
        check_visible(projections, grid)
        check_memory(self.memory_bytes(projections, grid), context)
        start = self.start_image(inputs.start, projections, grid, parameters)
        data = np.ascontiguousarray(projections.array, np.float32)
        if not data.any():
            raise InputError(f"{projections.label} is zero everywhere: there is nothing to reconstruct.")
        projector = Projector(projections.scan, *data.shape[1:], grid, context.device, context.check)

        def result(image):
            return finish(image, projections, grid, target, order, parameters, self.title)

        latest, residuals = start, []
        try:
            for iterate, residual in self.iterate(projector, data, start, parameters):
                latest = iterate
                residuals.append(residual)
                done = len(residuals)
                context.progress(
                    done / parameters.iterations,
                    f"Iteration {done} of {parameters.iterations}, relative residual {residual:.4g}",
                )
        except Cancelled:
            if parameters.keep_file and residuals:
                write_volume(result(latest), parameters.keep_file)
                context.log(f"Iterate {len(residuals)} was kept in {parameters.keep_file}.")
            raise
        table = Table({"iteration": np.arange(1, len(residuals) + 1), "relative residual": np.array(residuals)})
        curve = Series("relative residual", "iteration", "relative residual")
        plot = Plot(table, (curve,), "Residual", self.title, "iteration", "relative residual")
        return {"volume": result(latest), "objective": table, "plot": plot}

    def start_image(self, volume, projections, grid, parameters) -> np.ndarray:
        """The start image on ``grid`` in 1/mm."""
        if volume is None:
            return np.zeros(grid.shape, np.float32)
        from .base import resample

        array = volume.array.astype(np.float32)
        if volume.units == "HU":
            array = (array / 1000 + 1) * np.float32(parameters.water_per_mm)
        geometry = grid.geometry(projections.scan)
        if volume.geometry.same_grid(geometry):
            return array
        return resample(array, volume.geometry, geometry)


def write_volume(volume, path: str):
    """Write a volume whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import SimpleITK
    from MedImgAILib.core.itk import itk_image

    temporary = f"{path}.part.nrrd"
    try:
        SimpleITK.WriteImage(itk_image(volume), temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"The iterate could not be kept in {path}; choose a folder that can be written.") from error


class SIRT(IterativeTask):
    """All views at once, weighted by ray and voxel sums."""

    id = "reconstruct.sirt"
    title = "SIRT"
    summary = "Robust iterative reconstruction for few, noisy or unevenly spread views."
    references = ("Gregor & Benson, IEEE Trans Med Imaging 27:918, 2008",)
    keywords = ("ct", "iterative", "algebraic", "limited angle")
    parameters = (ITERATIONS, NONNEGATIVE, RELAXATION, *COMMON)

    def iterate(self, projector, data, start, parameters):
        return iterative.sirt(
            projector, data, start, parameters.iterations, parameters.relaxation, parameters.nonnegative
        )


class OSSART(IterativeTask):
    """SIRT steps on subsets of the views."""

    id = "reconstruct.os_sart"
    title = "OS-SART"
    summary = "Iterative reconstruction that reaches in a few passes what SIRT takes many for."
    references = ("Wang & Jiang, J X-Ray Sci Technol 12:169, 2004",)
    keywords = ("ct", "iterative", "algebraic", "ordered subsets")
    parameters = (
        IntegerParameter("iterations", "Iterations", 8, "Passes over all views.", minimum=1, maximum=1000),
        IntegerParameter("subsets", "Subsets", 20, "Groups of views that take turns.", minimum=1, maximum=1000),
        NONNEGATIVE, RELAXATION, *COMMON,
    )  # fmt: skip

    def iterate(self, projector, data, start, parameters):
        return iterative.os_sart(
            projector, data, start, parameters.iterations, parameters.subsets, parameters.relaxation,
            parameters.nonnegative,
        )  # fmt: skip


class CGLS(IterativeTask):
    """Least squares by conjugate gradients."""

    id = "reconstruct.cgls"
    title = "CGLS"
    summary = "Fastest descent to the least-squares image; stop early, since noise comes back with the iterations."
    references = ("Björck, Numerical Methods for Least Squares Problems, 1996",)
    keywords = ("ct", "iterative", "conjugate gradient", "least squares")
    parameters = (
        IntegerParameter("iterations", "Iterations", 15, SHARPER, minimum=1, maximum=1000),
        *COMMON,
    )  # fmt: skip

    def iterate(self, projector, data, start, parameters):
        return iterative.cgls(projector, data, start, parameters.iterations)


class TotalVariation(IterativeTask):
    """Least squares with a penalty on the image's total variation."""

    id = "reconstruct.tv"
    title = "Total variation"
    summary = "Iterative reconstruction of piecewise smooth images from few or noisy views."
    references = (
        "Chambolle & Pock, J Math Imaging Vis 40:120, 2011",
        "Pock & Chambolle, ICCV 2011",
        "Sidky, Jørgensen & Pan, Phys Med Biol 57:3065, 2012",
    )
    keywords = ("ct", "iterative", "tv", "sparse", "few views", "low dose")
    parameters = (
        IntegerParameter("iterations", "Iterations", 100, "Until the image stays.", minimum=1, maximum=5000),
        FloatParameter(
            "strength_percent", "Strength", 0.1, "Weight of smoothness, relative to the mean attenuation.",
            "%", minimum=0.0, maximum=1000.0, step=0.1,
        ),
        NONNEGATIVE, *COMMON,
    )  # fmt: skip
    projections_copies, volume_copies = 4, 10

    def iterate(self, projector, data, start, parameters):
        rows, columns = iterative.row_and_column_sums(projector)
        mean = float(data.mean(dtype=np.float64)) / max(float(rows.mean()), 1e-12)
        del rows, columns
        strength = parameters.strength_percent / 100 * abs(mean)
        return iterative.total_variation(
            projector, data, start, parameters.iterations, strength, parameters.nonnegative
        )
