"""Iterative reconstruction tasks: SIRT, OS-SART, CGLS, total variation."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    Plot,
    PlotPort,
    Series,
    Table,
    TablePort,
    VolumePort,
)

from . import iterative
from .base import (
    GRID_PARAMETERS,
    INPUTS,
    RESULT_PARAMETERS,
    CTTask,
    check_visible,
    choose_grid,
    finish,
    result_copies,
)
from .parallel_fbp import slice_rows
from .projector import Projector
from .sinogram import PARAMETERS as SINOGRAM_PARAMETERS
from .slabs import SLABS, in_slabs, plan

SHARPER = "More give sharper and noisier images."
ITERATIONS = IntegerParameter("iterations", "Iterations", 50, SHARPER, minimum=1, maximum=5000)
NONNEGATIVE = BooleanParameter("nonnegative", "No negative attenuation", True, "Sets negative voxels to 0 each step.")
RELAXATION = FloatParameter(
    "relaxation", "Relaxation", 1.0, "Factor of each step.", minimum=0.01, maximum=1.99, step=0.05, advanced=True,
)  # fmt: skip
COMMON = (*GRID_PARAMETERS, *RESULT_PARAMETERS, *SINOGRAM_PARAMETERS)


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
    can_finish_early = True
    projections_copies, volume_copies = 3, 4
    """Working arrays of the size of the projections and of the volume."""
    slices_are_independent = False
    """Whether what a step does to a slice of a parallel beam depends on that slice alone."""

    def iterate(self, projector, data, start, parameters):
        """Yield (iterate, relative residual); see :mod:`.iterative`."""
        raise NotImplementedError

    def working_bytes(self, projections, grid):
        return 4 * int(self.projections_copies * projections.array.size + self.volume_copies * np.prod(grid.shape))

    def can_split(self, projections, grid):
        """Parallel beams whose detector rows are the slices: nothing passes from one slice to the next."""
        scan = projections.scan
        if not self.slices_are_independent or scan.kind != "parallel" or scan.tilt_rad or grid.shape[0] == 1:
            return False
        return slice_rows(projections, grid)[1]

    def run(self, inputs, parameters, context):
        projections = self.load(inputs, parameters)
        grid, target, order = choose_grid(projections, inputs.reference, parameters)
        check_visible(projections, grid)
        parts = plan(self, projections, grid, result_copies(order), getattr(parameters, "slabs", 1), context)
        if not projections.array.any():
            raise InputError(f"{projections.label} is zero everywhere: there is nothing to reconstruct.")
        start = self.start_image(inputs.start, projections, grid, parameters)
        records: list[tuple[float, list[float]]] = []

        def reconstruct(data, part, slices):
            return self.iterated(data, part, start[slices], parameters, context, records)

        image = in_slabs(parts, grid.shape, projections, reconstruct, context)
        table = residual_table(records)
        curve = Series("relative residual", "iteration", "relative residual")
        plot = Plot(table, (curve,), "Residual", self.title, "iteration", "relative residual")
        volume = finish(image, projections, grid, target, order, parameters, self.title)
        return {"volume": volume, "objective": table, "plot": plot}

    def iterated(self, projections, grid, start, parameters, context, records) -> np.ndarray:
        """The last iterate on ``grid``; adds (norm of the projections, relative residuals) to ``records``."""
        data = np.ascontiguousarray(projections.array, np.float32)
        latest, residuals = start, []
        records.append((iterative.norm(data), residuals))
        if not records[-1][0]:
            return np.zeros(grid.shape, np.float32)
        projector = Projector(projections.scan, *data.shape[1:], grid, context.device, context.check)
        name = f"Relative residual/slab {len(records)}" if len(records) > 1 else "Relative residual"
        for iterate, residual in self.iterate(projector, data, start, parameters):
            latest = iterate
            residuals.append(residual)
            done = len(residuals)
            context.curve(name, done, residual)
            context.progress(
                done / parameters.iterations,
                f"Iteration {done} of {parameters.iterations}, relative residual {residual:.4g}",
            )
            if context.finish_early:
                context.log(f"Ended after {done} of {parameters.iterations} iterations.")
                break
        return latest

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


def residual_table(records: list[tuple[float, list[float]]]) -> Table:
    """The relative residual of all slabs together at every iteration; one that ended earlier keeps its last."""
    count = max(len(residuals) for _, residuals in records)
    squares = np.zeros(count)
    for size, residuals in records:
        if residuals:
            squares += (size * np.array(residuals + residuals[-1:] * (count - len(residuals)))) ** 2
    whole = np.sqrt(sum(size**2 for size, _ in records))
    return Table({"iteration": np.arange(1, count + 1), "relative residual": np.sqrt(squares) / whole})


class SIRT(IterativeTask):
    """All views at once, weighted by ray and voxel sums."""

    id = "reconstruct.sirt"
    title = "SIRT"
    summary = "Robust iterative reconstruction for few, noisy or unevenly spread views."
    references = ("Gregor & Benson, IEEE Trans Med Imaging 27:918, 2008",)
    keywords = ("ct", "iterative", "algebraic", "limited angle")
    parameters = (ITERATIONS, NONNEGATIVE, RELAXATION, SLABS, *COMMON)
    slices_are_independent = True

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
        NONNEGATIVE, RELAXATION, SLABS, *COMMON,
    )  # fmt: skip
    slices_are_independent = True

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
