"""Forward projection of a volume as a scanner would measure it, with dose and Poisson noise."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    FloatParameter,
    Geometry,
    InputError,
    IntegerParameter,
    Projections,
    ProjectionsPort,
    ResourceError,
    ScanGeometry,
    Task,
    Volume,
    VolumePort,
)

from .accelerate import free_memory_bytes
from .base import GROUP, resample
from .grid import covering_grid, grid_of
from .preprocessing import line_integrals
from .projector import Projector
from .slabs import RESERVE

WATER = FloatParameter(
    "water_per_mm", "Attenuation of water", 0.0192, "For images in HU: 0.0192/mm is that of water at 70 keV.",
    "1/mm", minimum=1e-6, maximum=10.0, decimals=5, advanced=True,
)  # fmt: skip


def attenuation(volume: Volume, water_per_mm: float) -> np.ndarray:
    """(K, J, I) float32 attenuation in 1/mm; air and below is 0 for images in HU or, lacking a unit, reaching −500."""
    array = volume.array.astype(np.float32)
    if volume.units == "HU" or (not volume.units and array.min() < -500):
        array = np.maximum(array / 1000 + 1, 0) * np.float32(water_per_mm)
    return array


def check_memory(needed: int, context, available: int | None = None):
    """Refuse before starting what would not fit.

    Parameters
    ----------
    needed : int
        Bytes.
    context : Context
    available : int, optional
        Free bytes; asked of the system, for the context's device, if None.

    Raises
    ------
    ResourceError
        With the estimate and the way out.
    """
    available = free_memory_bytes(context.device) if available is None else available
    context.log(f"Estimated working memory: {needed / 2**20:.0f} MiB.")
    if available is not None and needed > RESERVE * available:
        raise ResourceError(
            f"The simulation needs about {needed / 2**30:.1f} GiB but {available / 2**30:.1f} GiB are free; use "
            "larger voxels, fewer views or fewer detector pixels."
        )


def frame_of(geometry: Geometry) -> np.ndarray:
    """(4, 4) scanner to RAS: the scanner around the middle of a grid, along the grid's axes, z the most superior."""
    ordered = geometry.reordered(*geometry.canonical_order())
    to_ras = np.eye(4)
    # The nearest rotation, for grids with shear.
    left, _, right = np.linalg.svd(ordered.directions)
    to_ras[:3, :3] = left @ right
    to_ras[:3, 3] = geometry.center
    return to_ras


def on_scanner_grid(volume: Volume, array: np.ndarray, scan: ScanGeometry):
    """``array`` on the voxels of ``volume`` as (scanner-ordered array, Grid), resampled only if oblique."""
    found = grid_of(volume.geometry, scan)
    if found is None:
        grid = covering_grid(volume.geometry, scan)
        return resample(array, volume.geometry, grid.geometry(scan)), grid
    grid, axes, flips = found
    ordered = array.transpose(axes)
    return ordered[tuple(slice(None, None, -1) if f else slice(None) for f in flips)], grid


def noisy(line: np.ndarray, photons: float, rng: np.random.Generator, name: str = "The scan") -> np.ndarray:
    """Line integrals as measured with ``photons`` per unattenuated pixel: Poisson counts and their logarithm."""
    counts = rng.poisson(photons * np.exp(-np.asarray(line, np.float64))).astype(np.float32)
    flat = np.full((1, *line.shape[1:]), photons, np.float32)
    return line_integrals(counts, flat, None, name)[0]


class SimulateProjections(Task):
    """Joseph's line integrals of a volume in any scan geometry."""

    id = "reconstruct.simulate_projections"
    title = "Simulate a CT scan"
    group = GROUP
    summary = "Projects a volume as a scanner would, with the dose you choose, to try reconstructions on known truth."
    references = ("Joseph, IEEE Trans Med Imaging 1:192, 1982",)
    keywords = ("ct", "forward projection", "radon", "low dose", "poisson", "drr")
    inputs = (VolumePort("image", "Image", "In HU or 1/mm; the rotation axis is its most superior axis."),)
    parameters = (
        ChoiceParameter(
            "beam",
            "Beam",
            "parallel",
            "Shape of the beam and of the detector.",
            choices={
                "parallel": "Parallel",
                "cone": "Cone or fan, flat detector",
                "curved": "Cone or fan, curved detector",
            },
        ),
        IntegerParameter("views", "Views", 360, "Evenly spread over the range.", minimum=1, maximum=20000),
        FloatParameter(
            "range_deg",
            "Range",
            180.0,
            "Of the view angles; 360 for diverging beams.",
            "°",
            minimum=1.0,
            maximum=3600.0,
        ),
        FloatParameter(
            "photons",
            "Photons",
            0.0,
            "Per detector pixel without object; 0 is without noise.",
            minimum=0.0,
            maximum=1e12,
            decimals=0,
        ),
        FloatParameter(
            "pixel_mm",
            "Detector pixel",
            0.0,
            "0 takes the voxel size, magnified.",
            "mm",
            minimum=0.0,
            maximum=100.0,
            decimals=4,
            advanced=True,
        ),
        IntegerParameter(
            "columns", "Columns", 0, "Of the detector; 0 covers the image.", minimum=0, maximum=20000, advanced=True
        ),
        IntegerParameter(
            "rows", "Rows", 0, "Of the detector; 0 covers the image.", minimum=0, maximum=20000, advanced=True
        ),
        FloatParameter(
            "detector_offset_mm",
            "Detector offset",
            0.0,
            "Lateral displacement.",
            "mm",
            minimum=-10000.0,
            maximum=10000.0,
            advanced=True,
        ),
        FloatParameter(
            "axis_shift_mm",
            "Axis shift",
            0.0,
            "Centre-of-rotation shift.",
            "mm",
            minimum=-1000.0,
            maximum=1000.0,
            advanced=True,
        ),
        FloatParameter(
            "source_to_isocenter_mm",
            "Source to isocentre",
            600.0,
            "Distance of the source from the rotation axis.",
            "mm",
            minimum=1.0,
            maximum=100000.0,
            enabled_when=("beam", ("cone", "curved")),
        ),
        FloatParameter(
            "source_to_detector_mm",
            "Source to detector",
            1100.0,
            "Distance of the source from the detector.",
            "mm",
            minimum=1.0,
            maximum=100000.0,
            enabled_when=("beam", ("cone", "curved")),
        ),
        WATER,
    )
    outputs = (
        ProjectionsPort("projections", "Projections", "Line integrals with their geometry."),
        VolumePort("sinogram", "Sinogram volume", "Slices, views, columns.", optional=True, wanted=False),
    )
    uses_device = True

    def run(self, inputs, parameters, context):
        image = inputs.image
        scan, rows, columns = scan_of(image, parameters)
        array, grid = on_scanner_grid(image, attenuation(image, parameters.water_per_mm), scan)
        check_memory(4 * (3 * array.size + 3 * rows * columns * parameters.views), context)
        projector = Projector(scan, rows, columns, grid, context.device, context.check)
        context.progress(0.1, "Projecting")
        line = projector.forward(array)
        context.progress(0.8, "Projecting")
        if parameters.photons:
            line = noisy(line, parameters.photons, context.rng, image.label)
        name = f"{image.name} scan".strip()
        stack = line.transpose(1, 0, 2)
        # A sinogram has no place in the patient; it is put where the scanner is, to have one at all.
        place = Geometry.from_spacing(stack.shape, (scan.pixel_mm[1], 1.0, scan.pixel_mm[0]))
        place = place.transformed(scan.scanner_to_ras)
        return {
            "projections": Projections(line, scan, name),
            "sinogram": Volume(stack, place, f"{name} sinogram"),
        }

    def example(self):
        from MedImgAILib.core.examples import example_volume

        return {"image": example_volume()}, {"views": 30}


def scan_of(image: Volume, parameters) -> tuple[ScanGeometry, int, int]:
    """The scan geometry around a volume, detector rows and columns."""
    geometry = image.geometry
    to_ras = frame_of(geometry)
    corners = (geometry.corners_ras() - geometry.center) @ to_ras[:3, :3]
    radius = float(np.hypot(corners[:, 0], corners[:, 1]).max())
    height = float(np.ptp(corners[:, 2]))
    axes, _ = geometry.canonical_order()
    spacing = geometry.spacing_kji[list(axes)]
    angles = np.deg2rad(parameters.range_deg) * np.arange(parameters.views) / parameters.views
    if parameters.beam == "parallel":
        pixel = parameters.pixel_mm or float(min(spacing[1:]))
        columns = parameters.columns or 2 * int(np.ceil(radius / pixel)) + 2
        rows = parameters.rows or max(1, int(np.rint(height / spacing[0])))
        offset = (0.0, parameters.detector_offset_mm)
        scan = ScanGeometry(
            "parallel", angles, (float(spacing[0]), pixel), offset, axis_shift_mm=parameters.axis_shift_mm,
            scanner_to_ras=to_ras,
        )  # fmt: skip
        return scan, rows, columns
    source, detector = parameters.source_to_isocenter_mm, parameters.source_to_detector_mm
    if radius >= source or detector <= source:
        raise InputError(
            f"{image.label} reaches {radius:.0f} mm from the axis; the source must be farther away "
            f"(now {source:.0f} mm) and the detector behind it (now {detector:.0f} mm)."
        )
    scale = detector / source
    pixel = parameters.pixel_mm or float(min(spacing[1:])) * scale
    gamma = np.arcsin(radius / source)
    width = 2 * detector * (gamma if parameters.beam == "curved" else np.tan(gamma))
    columns = parameters.columns or int(np.ceil(width / pixel)) + 2
    single = geometry.shape[axes[0]] == 1
    rows = parameters.rows or (1 if single else int(np.ceil(height * detector / (source - radius) / pixel)) + 2)
    scan = ScanGeometry(
        "fan" if rows == 1 else "cone", angles, (pixel, pixel), (0.0, parameters.detector_offset_mm), source, detector,
        parameters.beam == "curved", parameters.axis_shift_mm, scanner_to_ras=to_ras,
    )  # fmt: skip
    return scan, rows, columns
