"""A reconstruction against a reference: difference, errors, modulation transfer, noise power."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    Display,
    FloatParameter,
    InputError,
    Plot,
    PlotPort,
    PointsPort,
    Series,
    Table,
    TablePort,
    Task,
    VolumePort,
)
from MedImgAILib.core.geometry import reorder_array

from . import quality
from .base import GROUP, resample


class CompareReconstructions(Task):
    """RMSE, PSNR and SSIM over the whole grid; MTF of a round edge; NPS of a uniform square."""

    id = "reconstruct.compare"
    title = "Compare with a reference"
    group = GROUP
    summary = "Measures how far a reconstruction is from a reference, how sharp and how noisy it is."
    references = (
        "Wang et al., IEEE Trans Image Process 13:600, 2004",
        "Richard et al., Med Phys 39:4115, 2012",
        "ICRU Report 87, 2012",
    )
    keywords = ("rmse", "psnr", "ssim", "mtf", "nps", "difference", "image quality")
    inputs = (
        VolumePort("image", "Image", "The reconstruction to judge."),
        VolumePort("reference", "Reference", "The truth, or another reconstruction; resampled to the image's grid."),
        PointsPort("edge", "Centre of a round object", "For the MTF: the middle of a disc or cylinder.", optional=True),
        PointsPort("noise", "Middle of a uniform region", "For the noise power spectrum.", optional=True),
    )
    parameters = (
        FloatParameter(
            "edge_radius_mm",
            "Radius of the object",
            10.0,
            "Distance of its edge from its centre.",
            "mm",
            minimum=0.1,
            maximum=1000.0,
        ),
        FloatParameter(
            "edge_reach_mm",
            "Reach of the profile",
            5.0,
            "On both sides of the edge; nothing else may lie there.",
            "mm",
            minimum=0.1,
            maximum=100.0,
            advanced=True,
        ),
        FloatParameter(
            "noise_size_mm",
            "Size of the uniform region",
            20.0,
            "Side of the square.",
            "mm",
            minimum=1.0,
            maximum=500.0,
        ),
    )
    outputs = (
        VolumePort("difference", "Difference", "Image minus reference."),
        TablePort("measures", "Measures", "RMSE, PSNR, SSIM and, where asked, edge width and noise."),
        TablePort("mtf", "MTF", "Modulation transfer against frequency.", optional=True),
        PlotPort("mtf_plot", "MTF plot", "MTF against frequency.", optional=True),
        TablePort("nps", "Noise power spectrum", "Against frequency.", optional=True),
        PlotPort("nps_plot", "Noise power plot", "Noise power against frequency.", optional=True),
    )

    def run(self, inputs, parameters, context):
        image, reference = inputs.image, inputs.reference
        truth = reference.array.astype(np.float32)
        if not reference.geometry.same_grid(image.geometry):
            truth = resample(truth, reference.geometry, image.geometry)
        array = image.array.astype(np.float32)
        context.progress(0.2)
        names = ["RMSE", "PSNR (dB)", "SSIM"]
        order = image.geometry.canonical_order()
        similarity = quality.ssim(reorder_array(array, *order), reorder_array(truth, *order))
        values = [quality.rmse(array, truth), quality.psnr(array, truth), similarity]
        context.progress(0.6)
        difference = array - truth
        spread = float(np.percentile(np.abs(difference), 99)) or 1.0
        result = {
            "difference": image.with_array(
                difference, name=f"{image.name} minus {reference.name}", units=image.units,
                display=Display(window=2 * spread, level=0.0),
            )
        }  # fmt: skip
        image = image.canonical()
        if inputs.edge is not None:
            place, profile, bin_mm = self._edge(image, inputs.edge, parameters)
            frequency, transfer = quality.modulation_transfer(profile, bin_mm)
            keep = frequency <= 1 / image.geometry.spacing[:2].min()
            names.append("edge width 10-90 % (mm)")
            values.append(quality.edge_width(place, profile))
            table = Table({"frequency": frequency[keep], "MTF": transfer[keep]}, units={"frequency": "1/mm"})
            result |= {"mtf": table, "mtf_plot": _plot(table, "MTF", "Modulation transfer")}
        if inputs.noise is not None:
            region = self._square(image, inputs.noise, parameters)
            frequency, power = quality.noise_power(region, float(image.geometry.spacing[0]))
            names.append("noise (standard deviation)")
            values.append(float(region.std()))
            table = Table({"frequency": frequency, "NPS": power}, units={"frequency": "1/mm"})
            result |= {"nps": table, "nps_plot": _plot(table, "NPS", "Noise power spectrum")}
        result["measures"] = Table({"measure": names, "value": np.array(values)}, name="Measures")
        return result

    def _edge(self, image, points, parameters):
        i, j, k = image.geometry.ijk(points.positions[0])
        slice_number = int(np.rint(k))
        if not image.geometry.contains(points.positions[0]):
            raise InputError(f"{points.label} does not lie inside {image.in_sentence}; move the point.")
        spacing = image.geometry.spacing
        bin_mm = float(spacing[:2].min()) / 8
        place, profile = quality.edge_profile(
            image.array[slice_number], (spacing[1], spacing[0]), (j, i), parameters.edge_radius_mm,
            parameters.edge_reach_mm, bin_mm,
        )  # fmt: skip
        return place, profile, bin_mm

    def _square(self, image, points, parameters):
        i, j, k = np.rint(image.geometry.ijk(points.positions[0])).astype(int)
        half = max(4, int(parameters.noise_size_mm / image.geometry.spacing[0] / 2))
        nz, ny, nx = image.array.shape
        if not (0 <= k < nz and half <= j <= ny - half and half <= i <= nx - half):
            raise InputError(f"The uniform region around {points.label} does not fit into {image.in_sentence}.")
        slices = slice(max(0, k - 2), min(nz, k + 3))
        return image.array[slices, j - half : j + half, i - half : i + half]


def _plot(table: Table, column: str, title: str) -> Plot:
    return Plot(table, (Series(column, "frequency", column),), column, title, "frequency (1/mm)", column)
