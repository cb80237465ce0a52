"""A sinogram volume of the scene, with a few numbers from the user, as projections."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    Projections,
    ScanGeometry,
    Volume,
)

LAYOUTS = {
    "row_view_column": "slices, views, detector columns (sinograms)",
    "view_row_column": "views, detector rows, detector columns (projections)",
    "row_column_view": "slices, detector columns, views",
}

PARAMETERS = (
    ChoiceParameter(
        "layout", "Sinogram axes", "row_view_column",
        "What slices (K), rows (J) and columns (I) of a sinogram volume are, as stored.", choices=LAYOUTS,
        advanced=True,
    ),
    ChoiceParameter(
        "beam", "Beam of the sinogram", "parallel", "The shape of the beam that made a sinogram volume.",
        choices={"parallel": "Parallel", "fan": "Fan or cone, flat detector", "curved": "Fan or cone, curved detector"},
        advanced=True,
    ),
    FloatParameter(
        "first_angle_deg", "First angle", 0.0, "View angle of a sinogram volume's first view.", "°",
        minimum=-360.0, maximum=360.0, advanced=True,
    ),
    FloatParameter(
        "angle_range_deg", "Angle range", 180.0,
        "Range of a sinogram volume's views: range/views is the step, negative turns the other way.", "°",
        minimum=-3600.0, maximum=3600.0,
    ),
    FloatParameter(
        "pixel_mm", "Detector pixel", 0.0, "Detector column pitch of a sinogram volume; 0 takes the volume's spacing.",
        "mm", minimum=0.0, maximum=100.0, decimals=4, advanced=True,
    ),
    FloatParameter(
        "row_mm", "Detector row", 0.0, "Detector row pitch of a sinogram volume; 0 takes the volume's spacing.",
        "mm", minimum=0.0, maximum=100.0, decimals=4, advanced=True,
    ),
    FloatParameter(
        "source_to_isocenter_mm", "Source to isocentre", 500.0, "Of a sinogram volume with a diverging beam.", "mm",
        minimum=0.1, maximum=100000.0, advanced=True, enabled_when=("beam", ("fan", "curved")),
    ),
    FloatParameter(
        "source_to_detector_mm", "Source to detector", 1000.0, "Of a sinogram volume with a diverging beam.", "mm",
        minimum=0.1, maximum=100000.0, advanced=True, enabled_when=("beam", ("fan", "curved")),
    ),
    FloatParameter(
        "detector_offset_mm", "Detector offset", 0.0,
        "Lateral position of the middle of a sinogram volume's detector, on the detector.", "mm",
        minimum=-10000.0, maximum=10000.0, decimals=4, advanced=True,
    ),
    BooleanParameter(
        "mirror", "Mirror the detector", False, "Reverse the detector columns of a sinogram volume.", advanced=True,
    ),
)  # fmt: skip
"""How a sinogram volume was taken; used only where a volume is given instead of projections."""


def projections_of(volume: Volume, parameters) -> Projections:
    """A sinogram volume with :data:`PARAMETERS` as projections. The array is a view of the volume's where it can be.

    The volume's place in the scene means nothing: a sinogram has no patient coordinates. Its stored axes count.

    Raises
    ------
    InputError
        If the distances are impossible.
    """
    array, spacing = volume.array, volume.geometry.spacing_kji
    axes = {"row_view_column": (1, 0, 2), "view_row_column": (0, 1, 2), "row_column_view": (2, 0, 1)}[parameters.layout]
    array = array.transpose(axes)
    if parameters.mirror:
        array = array[:, :, ::-1]
    views, rows, _ = array.shape
    if views < 2:
        raise InputError(f"{volume.label} has one view only as laid out here; choose other sinogram axes.")
    step = np.deg2rad(parameters.angle_range_deg) / views
    pixel = (parameters.row_mm or float(spacing[axes[1]]), parameters.pixel_mm or float(spacing[axes[2]]))
    diverging = parameters.beam != "parallel"
    scan = ScanGeometry(
        ("fan" if rows == 1 else "cone") if diverging else "parallel",
        np.deg2rad(parameters.first_angle_deg) + step * np.arange(views),
        pixel,
        (0.0, parameters.detector_offset_mm),
        parameters.source_to_isocenter_mm if diverging else 0.0,
        parameters.source_to_detector_mm if diverging else 0.0,
        curved=parameters.beam == "curved",
    )
    return Projections(array, scan, volume.name)
