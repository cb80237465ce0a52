"""Filtered, unfiltered and direct-Fourier back-projection tasks."""

from __future__ import annotations

from MedImgAILib.core import ChoiceParameter, FloatParameter

from .base import GRID_PARAMETERS, RESULT_PARAMETERS, CTTask, example_case
from .cone import reconstruct_diverging
from .filters import WINDOWS
from .parallel_fbp import reconstruct_parallel
from .sinogram import PARAMETERS as SINOGRAM_PARAMETERS

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
        *GRID_PARAMETERS, *RESULT_PARAMETERS, *SINOGRAM_PARAMETERS,
    )  # fmt: skip

    def reconstruct(self, projections, grid, parameters, context):
        if projections.scan.kind != "parallel":
            return reconstruct_diverging(projections, grid, parameters.filter, parameters.cutoff, context)
        return reconstruct_parallel(projections, grid, parameters.filter, parameters.cutoff, parameters.method, context)

    def example(self):
        return example_case(), {}
