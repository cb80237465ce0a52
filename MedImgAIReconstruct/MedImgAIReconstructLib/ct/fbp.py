"""Filtered, unfiltered and direct-Fourier back-projection tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import ChoiceParameter, FloatParameter, InputError

from .base import GRID_PARAMETERS, RESULT_PARAMETERS, CTTask, example_case
from .cone import reconstruct_diverging
from .filters import WINDOWS
from .iterative import inverse
from .parallel_fbp import reconstruct_parallel
from .projector import Projector
from .sinogram import PARAMETERS as SINOGRAM_PARAMETERS
from .slabs import SLABS

CUTOFF = FloatParameter(
    "cutoff", "Cut-off", 1.0, "Fraction of the detector's Nyquist frequency at which the filter ends.",
    minimum=0.05, maximum=1.0, step=0.05, advanced=True,
)  # fmt: skip
FILTERS = {key: title for key, title in WINDOWS.items() if key != "none"}
FILTER = ChoiceParameter("filter", "Filter", "ramp", "Ramp is sharpest; the others reduce noise.", choices=FILTERS)


class FilteredBackProjection(CTTask):
    """Parallel, fan and cone beams by the ramp-filtered inverse of the Radon transform."""

    id = "reconstruct.fbp"
    title = "Filtered back-projection"
    summary = "Reconstructs a CT scan with enough views fast and exactly; start with it."
    references = (
        "Kak & Slaney, Principles of Computerized Tomographic Imaging, 1988, chapter 3",
        "Barnett, Magland & af Klinteberg, SIAM J Sci Comput 41:C479, 2019",
    )
    keywords = ("ct", "radon", "iradon", "sinogram", "parallel beam")
    parameters = (
        FILTER,
        CUTOFF,
        ChoiceParameter(
            "method", "Method of a parallel beam", "auto",
            "The Fourier method needs the package finufft; the automatic choice uses it if it is installed.",
            choices={"auto": "Automatic", "fourier": "Non-uniform Fourier transform", "interpolation": "Interpolation"},
            advanced=True,
        ),
        SLABS, *GRID_PARAMETERS, *RESULT_PARAMETERS, *SINOGRAM_PARAMETERS,
    )  # fmt: skip

    def can_split(self, projections, grid):
        return grid.shape[0] > 1

    def reconstruct(self, projections, grid, parameters, context):
        if projections.scan.kind != "parallel":
            return reconstruct_diverging(
                projections, grid, parameters.filter, parameters.cutoff, context, context.device
            )
        return reconstruct_parallel(
            projections, grid, parameters.filter, parameters.cutoff, parameters.method, context, context.device
        )


class DirectFourier(FilteredBackProjection):
    """Parallel beams by one non-uniform Fourier transform of the ramp-weighted polar samples."""

    id = "reconstruct.direct_fourier"
    title = "Direct Fourier reconstruction"
    summary = "The projection-slice theorem inverted without interpolation in frequency; parallel beams only."
    references = (
        "Bracewell, Aust J Phys 9:198, 1956",
        "Barnett, Magland & af Klinteberg, SIAM J Sci Comput 41:C479, 2019",
    )
    keywords = ("ct", "gridding", "gridrec", "fourier slice", "nufft")
    parameters = tuple(p for p in FilteredBackProjection.parameters if p.name != "method")
    requirements = ("finufft>=2.3",)

    def reconstruct(self, projections, grid, parameters, context):
        if projections.scan.kind != "parallel":
            raise InputError(f"{projections.label} has a {projections.scan.kind} beam; this takes parallel beams only.")
        return reconstruct_parallel(projections, grid, parameters.filter, parameters.cutoff, "fourier", context)


class BackProjection(CTTask):
    """The mean of the measured values along all rays through a voxel, without any filter."""

    id = "reconstruct.back_projection"
    title = "Back-projection, unfiltered"
    summary = "Smears the projections back over the image: blurred by 1/r, for teaching and for comparison."
    references = ("Kak & Slaney, Principles of Computerized Tomographic Imaging, 1988, section 3.3",)
    keywords = ("ct", "laminogram", "summation image")
    parameters = (*GRID_PARAMETERS, *SINOGRAM_PARAMETERS)

    def reconstruct(self, projections, grid, parameters, context):
        _, rows, columns = projections.array.shape
        data = np.ascontiguousarray(projections.array, np.float32)
        context.progress(0.1, "Back-projecting")
        projector = Projector(projections.scan, rows, columns, grid, context.device, context.check)
        image = projector.adjoint(data)
        context.progress(0.6, "Back-projecting")
        image *= inverse(projector.adjoint(projector.forward(np.ones(grid.shape, np.float32))))
        return image

    copies = 3.0


class FDK(FilteredBackProjection):
    """Cone beams by weighted, filtered back-projection."""

    id = "reconstruct.fdk"
    title = "FDK (Feldkamp)"
    summary = "Reconstructs circular cone-beam scans, flat or curved detector, full or short scan, displaced detector."
    references = (
        "Feldkamp, Davis & Kress, J Opt Soc Am A 1:612, 1984",
        "Parker, Med Phys 9:254, 1982",
        "Wang, Med Phys 29:1634, 2002",
    )
    keywords = ("cbct", "cone beam", "feldkamp", "fan beam")
    parameters = tuple(
        p if p.name != "beam" else replace(p, default="fan")
        for p in FilteredBackProjection.parameters
        if p.name != "method"
    )

    def reconstruct(self, projections, grid, parameters, context):
        if projections.scan.kind == "parallel":
            raise InputError(f"{projections.label} has a parallel beam; use filtered back-projection.")
        return reconstruct_diverging(projections, grid, parameters.filter, parameters.cutoff, context, context.device)

    def example(self):
        return example_case("cone"), {}
