"""What fewer views and less dose cost, in one go."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    InputError,
    ParameterError,
    Plot,
    PlotPort,
    Projections,
    ScanGeometry,
    Series,
    Table,
    TablePort,
    Task,
    TextParameter,
    VolumePort,
)

from . import quality
from .base import GROUP
from .fbp import CUTOFF, FILTER
from .grid import Grid
from .parallel_fbp import reconstruct_parallel
from .projector import Projector
from .simulation import WATER, attenuation, frame_of, noisy, on_scanner_grid


class DoseStudy(Task):
    """Simulates and reconstructs the middle slice with every combination of views and photons."""

    id = "reconstruct.dose_study"
    title = "View and dose study"
    group = GROUP
    summary = "Shows how the image suffers from fewer views and fewer photons, as a table and a plot."
    references = ("Whiting et al., Med Phys 33:3290, 2006",)
    keywords = ("ct", "low dose", "sparse view", "simulation")
    inputs = (VolumePort("image", "Image", "In HU or 1/mm; its middle slice along the most superior axis is used."),)
    parameters = (
        TextParameter("views", "Views", "720, 360, 180, 90, 45", "Numbers of views over 180°, separated by commas."),
        TextParameter("photons", "Photons", "1e6, 1e5, 1e4, 1e3", "Per detector pixel; inf is without noise."),
        FILTER, CUTOFF, WATER,
    )  # fmt: skip
    outputs = (
        TablePort("study", "Study", "RMSE, PSNR and SSIM of every combination."),
        PlotPort("plot", "Study plot", "PSNR against views, a curve for each dose."),
    )

    def run(self, inputs, parameters, context):
        views_list = [int(n) for n in _numbers(parameters.views, "Views", 2, 100000)]
        photons_list = _numbers(parameters.photons, "Photons", 1, np.inf)
        image = inputs.image
        to_ras = frame_of(image.geometry)
        turn = ScanGeometry("parallel", np.zeros(1), scanner_to_ras=to_ras)
        array, grid = on_scanner_grid(image, attenuation(image, parameters.water_per_mm), turn)
        array = np.ascontiguousarray(array[array.shape[0] // 2][None])
        if not array.any():
            raise InputError(f"The middle slice of {image.in_sentence} has no attenuation; choose another image.")
        pitch = float(min(abs(s) for s in grid.spacing_mm[1:]))
        grid = Grid((1, *grid.shape[1:]), grid.spacing_mm, (0.0, *grid.center_mm[1:]))
        radius = np.hypot(grid.shape[1] * grid.spacing_mm[1], grid.shape[2] * grid.spacing_mm[2]) / 2
        columns = 2 * int(np.ceil(radius / pitch)) + 2
        rows = []
        for number, views in enumerate(views_list):
            scan = ScanGeometry("parallel", np.pi * np.arange(views) / views, (1.0, pitch), scanner_to_ras=to_ras)
            line = Projector(scan, 1, columns, grid, "cpu", context.check).forward(array)
            for photons in photons_list:
                measured = line if np.isinf(photons) else noisy(line, photons, context.rng, image.label)
                projections = Projections(measured, scan, image.name)
                with context.part(number / len(views_list), number / len(views_list)):
                    result = reconstruct_parallel(
                        projections, grid, parameters.filter, parameters.cutoff, "auto", context
                    )
                errors = (f(result, array) for f in (quality.rmse, quality.psnr, quality.ssim))
                rows.append((views, photons, *errors))
            context.progress((number + 1) / len(views_list), f"{views} views")
        names = ("views", "photons", "RMSE", "PSNR", "SSIM")
        table = Table({name: np.array(column) for name, column in zip(names, zip(*rows))}, units={"PSNR": "dB"})
        curves = {"views": np.array(views_list)}
        for photons in photons_list:
            curves[f"{photons:g} photons"] = np.array([row[3] for row in rows if row[1] == photons])
        series = tuple(Series(name, "views", name) for name in curves if name != "views")
        plot = Plot(Table(curves), series, "Study", "Views and dose", "views", "PSNR (dB)")
        return {"study": table, "plot": plot}

    def example(self):
        from MedImgAILib.core.examples import example_volume

        image = example_volume()
        image = image.with_array(image.array * np.float32(2e-4), units="1/mm")
        return {"image": image}, {"views": "60, 30", "photons": "inf, 1e4"}


def _numbers(text: str, title: str, minimum: float, maximum: float) -> list[float]:
    try:
        numbers = [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or not all(minimum <= n <= maximum for n in numbers):
        raise ParameterError(f"{title} must be numbers of at least {minimum:g}, separated by commas, not '{text}'.")
    return numbers
