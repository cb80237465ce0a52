"""Tasks that bring projections in and correct them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    Projections,
    ProjectionsPort,
    Task,
    Text,
    TextParameter,
    TextPort,
    VolumePort,
)

from . import sinogram
from .accelerate import has, threads
from .base import GROUP, check_finite, example_case
from .centering import find_axis_shift
from .grid import automatic_grid
from .preprocessing import extend_truncated, line_integrals, remove_rings
from .readers import SUFFIXES, read_scan
from .weights import scan_range

CENTER = ChoiceParameter(
    "center", "Centre of rotation", "given",
    "Keep the scan's, or find the one that makes the image of a parallel beam sharp.",
    choices={"given": "As given", "automatic": "Automatic"},
)  # fmt: skip
RINGS = BooleanParameter("rings", "Remove rings", False, "Takes the constant error of single detector pixels off.")
RING_WIDTH = IntegerParameter(
    "ring_width", "Ring width", 15, "Detector pixels; wider rings stay.", minimum=3, maximum=301, advanced=True,
    enabled_when=("rings", (True,)),
)  # fmt: skip
EXTEND = FloatParameter(
    "extend_percent", "Truncation", 0.0, "Continue a cut-off object on both sides, in percent of the detector's width.",
    "%", minimum=0.0, maximum=100.0, advanced=True,
)  # fmt: skip
CORRECTIONS = (CENTER, RINGS, RING_WIDTH, EXTEND)


def corrected(projections: Projections, parameters, context) -> tuple[Projections, list[str]]:
    """The projections after the chosen :data:`CORRECTIONS`, and what was done in words."""
    notes = []
    data, scan = projections.array, projections.scan
    if parameters.rings:
        data = remove_rings(np.asarray(data, np.float32), parameters.ring_width | 1)
        notes.append("Rings were removed.")
        projections = replace(projections, array=data)
        context.progress(0.6)
    if parameters.center == "automatic":
        shift = find_axis_shift(projections, context=context)
        scan = replace(scan, axis_shift_mm=shift)
        notes.append(f"The centre of rotation was found at {shift:.3f} mm from the detector's u = 0.")
    columns = int(round(parameters.extend_percent / 100 * data.shape[2]))
    if columns:
        data = extend_truncated(np.asarray(data, np.float32), columns)
        notes.append(f"The detector was continued by {columns} columns on both sides.")
    return replace(projections, array=data, scan=scan), notes


def estimated_seconds(projections: Projections, grid) -> float:
    """Time of filtered back-projection onto ``grid``, from rates measured on one thread of a 2.5 GHz processor."""
    views, _, columns = projections.array.shape
    voxels = int(np.prod(grid.shape))
    if projections.scan.kind == "parallel" and has("finufft"):
        work = 4e-8 * (views * columns * grid.shape[0] + voxels)
    elif projections.scan.kind == "parallel":
        work = 4e-9 * views * voxels
    else:
        work = (2e-9 if has("numba") else 2.5e-8) * views * voxels
    return work / threads()


def summary(projections: Projections) -> str:
    """Views, detector, angles, memory and a time estimate, one fact a line."""
    views, rows, columns = projections.array.shape
    scan = projections.scan
    grid = automatic_grid(scan, rows, columns)
    voxels = int(np.prod(grid.shape))
    seconds = estimated_seconds(projections, grid)
    covered = np.rad2deg(scan_range(scan.angles_rad))
    lines = [
        f"{projections.name}: {scan.kind} beam{', curved detector' if scan.curved else ''}",
        f"{views} views over {covered:.1f}°, first {np.rad2deg(scan.angles_rad[0]):.2f}°",
        f"{rows} × {columns} detector pixels of {scan.pixel_mm[0]:.4g} × {scan.pixel_mm[1]:.4g} mm",
        f"offset (v, u) {scan.offset_mm[0]:.4g}, {scan.offset_mm[1]:.4g} mm; axis shift {scan.axis_shift_mm:.4g} mm",
    ]
    if scan.kind != "parallel":
        lines.append(
            f"source to isocentre {scan.source_to_isocenter_mm:.1f} mm, to detector {scan.source_to_detector_mm:.1f} mm"
        )
    lines += [
        f"values {float(projections.array.min()):.4g} to {float(projections.array.max()):.4g}",
        f"volume of {' × '.join(str(n) for n in grid.shape[::-1])} voxels of "
        f"{grid.spacing_mm[2]:.4g} × {grid.spacing_mm[1]:.4g} × {grid.spacing_mm[0]:.4g} mm by default",
        f"memory {(4 * projections.array.size + 4 * voxels) * 1.25 / 2**20:.0f} MiB, "
        f"about {max(seconds, 0.1):.1f} s by filtered back-projection on this computer",
    ]
    return "\n".join(lines)


class ReadProjections(Task):
    """Reads a scan, takes logarithms where it holds counts, and corrects it."""

    id = "reconstruct.read_projections"
    title = "Read CT projections"
    group = GROUP
    summary = "Reads a projection stack with its geometry and shows what it holds before anything is reconstructed."
    references = ("De Carlo et al., J Synchrotron Rad 21:1224, 2014 (Data Exchange)", "https://docs.openrtk.org")
    keywords = ("ct", "load", "import", "hdf5", "data exchange", "rtk", "sinogram")
    parameters = (
        TextParameter("file", "File", "", "Projection stack or a folder of TIFFs.", kind="file", suffixes=SUFFIXES),
        TextParameter(
            "geometry_file", "Geometry", "", "JSON or RTK XML; empty takes the file of the same name.", kind="file",
            suffixes=(".json", ".xml"), advanced=True,
        ),
        FloatParameter(
            "pixel_mm", "Detector pixel", 0.0, "Both pitches, of a file that tells none (HDF5).", "mm",
            minimum=0.0, maximum=100.0, decimals=5, advanced=True,
        ),
        *CORRECTIONS,
    )  # fmt: skip
    outputs = (
        ProjectionsPort("projections", "Projections", "Line integrals with their geometry."),
        TextPort("summary", "Summary", "What the file holds and what reconstructing it takes."),
    )

    def run(self, inputs, parameters, context):
        if not parameters.file:
            raise InputError("No file was given; choose a projection stack.")
        geometry = Path(parameters.geometry_file) if parameters.geometry_file else None
        raw = read_scan(Path(parameters.file), geometry)
        context.progress(0.2, "Read")
        notes = []
        data, scan = raw.array, raw.scan
        if raw.kind == "line_integrals":
            data = np.asarray(data, np.float32)
        else:
            with context.part(0.2, 0.5):
                data, filled = line_integrals(data, raw.flat, raw.dark, f"'{raw.name}'", context)
            notes.append(f"{filled} pixels without photons were filled in.")
        if parameters.pixel_mm:
            factor = parameters.pixel_mm / scan.pixel_mm[1]
            scan = replace(
                scan, pixel_mm=(parameters.pixel_mm,) * 2, offset_mm=tuple(n * factor for n in scan.offset_mm),
                axis_shift_mm=scan.axis_shift_mm * factor,
            )  # fmt: skip
        projections = Projections(data, scan, raw.name)
        check_finite(projections)
        with context.part(0.5, 1.0):
            projections, more = corrected(projections, parameters, context)
        text = "\n".join([summary(projections), *notes, *more])
        context.log(text)
        return {"projections": projections, "summary": Text(text, f"{raw.name} summary")}

    def example(self):
        import json
        import tempfile

        scan = example_case()["projections"]
        folder = Path(tempfile.gettempdir()) / "medimgai-example-projections"
        folder.mkdir(exist_ok=True)
        np.save(folder / "head.npy", scan.array)
        about = {"kind": "parallel", "angles_rad": scan.scan.angles_rad.tolist(), "pixel_mm": scan.scan.pixel_mm}
        (folder / "head.json").write_text(json.dumps(about), "utf-8")
        return {}, {"file": str(folder / "head.npy")}


class CorrectProjections(Task):
    """Finds the centre of rotation, removes rings, continues cut-off objects."""

    id = "reconstruct.correct_projections"
    title = "Correct CT projections"
    group = GROUP
    summary = "Corrects line integrals before reconstruction: centre of rotation, rings, truncation."
    references = (
        "Donath, Beckmann & Schreyer, J Opt Soc Am A 23:1048, 2006",
        "Boin & Haibel, Opt Express 14:12071, 2006",
    )
    keywords = ("ct", "center of rotation", "ring artefact", "truncation")
    inputs = (
        ProjectionsPort("projections", "Projections", "Line integrals with their scan geometry.", optional=True),
        VolumePort("sinogram", "Sinogram volume", "Instead of projections.", optional=True, allow_nan=True),
    )
    parameters = (*CORRECTIONS, *sinogram.PARAMETERS)
    outputs = (
        ProjectionsPort("corrected", "Corrected projections", "With the geometry that belongs to them."),
        TextPort("summary", "Summary", "What was done."),
    )

    def run(self, inputs, parameters, context):
        projections = inputs.projections
        if projections is None and inputs.sinogram is None:
            raise InputError("No projections were given; choose projections or a sinogram volume.")
        if projections is None:
            projections = sinogram.projections_of(inputs.sinogram, parameters)
        check_finite(projections)
        result, notes = corrected(projections, parameters, context)
        result = replace(result, name=f"{projections.name} corrected".strip())
        return {"corrected": result, "summary": Text("\n".join([summary(result), *notes]), f"{result.name} summary")}

    def example(self):
        return example_case(), {"rings": True}
