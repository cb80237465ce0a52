"""What all tasks that turn projections into a volume share: inputs, grid, checks, memory, result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    Display,
    FloatParameter,
    Geometry,
    InputError,
    Projections,
    ProjectionsPort,
    Task,
    Volume,
    VolumePort,
)

from . import sinogram
from .grid import Grid, automatic_grid, covering_grid, grid_of, view_radius
from .slabs import in_slabs, plan

GROUP = "Computed tomography"

INPUTS = (
    ProjectionsPort("projections", "Projections", "Line integrals with their scan geometry.", optional=True),
    VolumePort(
        "sinogram", "Sinogram volume", "Instead of projections: a volume of line integrals, described below.",
        optional=True, allow_nan=True,
    ),
    VolumePort(
        "reference", "Grid like", "A volume whose grid the result takes; without it the detector decides.",
        optional=True, components=(), allow_nan=True,
    ),
)  # fmt: skip

GRID_PARAMETERS = (
    FloatParameter(
        "voxel_mm", "Voxel size", 0.0, "0 takes the detector's pixel size at the isocentre.", "mm",
        minimum=0.0, maximum=100.0, decimals=4,
    ),
    FloatParameter(
        "field_of_view_mm", "Field of view", 0.0, "Width of the image; 0 takes everything the detector sees.", "mm",
        minimum=0.0, maximum=10000.0, advanced=True,
    ),
    FloatParameter(
        "axis_shift_mm", "Centre-of-rotation shift", 0.0,
        "Added to the scan's own: where the rotation axis falls on the detector, scaled to the isocentre.", "mm",
        minimum=-1000.0, maximum=1000.0, decimals=4, advanced=True,
    ),
)  # fmt: skip

RESULT_PARAMETERS = (
    ChoiceParameter(
        "units", "Unit of the result", "1/mm", "Attenuation as measured, or Hounsfield units.",
        choices={"1/mm": "1/mm", "HU": "Hounsfield units"},
    ),
    FloatParameter(
        "water_per_mm", "Attenuation of water", 0.0192, "0.0192/mm is that of water at 70 keV (NIST XCOM).", "1/mm",
        minimum=1e-6, maximum=10.0, decimals=5, advanced=True, enabled_when=("units", ("HU",)),
    ),
)  # fmt: skip


class CTTask(Task):
    """Base of the reconstructions; a subclass implements :meth:`reconstruct`."""

    group = GROUP
    inputs = INPUTS
    outputs = (VolumePort("volume", "Reconstruction", "Attenuation in 1/mm or HU, in the patient's place."),)
    uses_device = True
    copies = 0.25
    """Working memory in units of input plus result."""

    def reconstruct(self, projections: Projections, grid: Grid, parameters, context) -> np.ndarray:
        """The (nz, ny, nx) float32 attenuation in 1/mm on ``grid``."""
        raise NotImplementedError

    def validate(self, inputs, parameters):
        if inputs.projections is None and inputs.sinogram is None:
            raise InputError("No projections were given; choose projections or a sinogram volume.")

    def example(self):
        return example_case(), {}

    def load(self, inputs, parameters) -> Projections:
        """The projections to work on, checked, with the parameters' centre shift."""
        projections = inputs.projections
        if projections is None:
            projections = sinogram.projections_of(inputs.sinogram, parameters)
        check_finite(projections)
        scan = projections.scan
        shift = getattr(parameters, "axis_shift_mm", 0.0)
        if shift:
            projections = replace(projections, scan=replace(scan, axis_shift_mm=scan.axis_shift_mm + shift))
        return projections

    def run(self, inputs, parameters, context):
        projections = self.load(inputs, parameters)
        grid, target, order = choose_grid(projections, inputs.reference, parameters)
        check_visible(projections, grid)
        parts = plan(self, projections, grid, result_copies(order), getattr(parameters, "slabs", 1), context)

        def reconstruct(data, part, _slices):
            return self.reconstruct(data, part, parameters, context)

        attenuation = in_slabs(parts, grid.shape, projections, reconstruct, context)
        return {"volume": finish(attenuation, projections, grid, target, order, parameters, self.title)}

    def working_bytes(self, projections: Projections, grid: Grid) -> int:
        """Estimate of the memory that reconstructing ``grid`` takes beyond the projections and the result."""
        return int(self.copies * 4 * (int(np.prod(grid.shape)) + projections.array.size))

    def can_split(self, projections: Projections, grid: Grid) -> bool:
        """Whether slabs of ``grid`` may be reconstructed one after the other with the same result."""
        return False


def choose_grid(projections: Projections, reference: Volume | None, parameters):
    """``(grid, geometry, order)``: what to reconstruct on, the result's geometry, and how to get from one to other.

    ``order`` is (axes, flips), or None if the result must be resampled.
    """
    scan = projections.scan
    _, rows, columns = projections.array.shape
    if reference is not None:
        target = reference.geometry
        found = grid_of(target, scan)
        if found is None:
            return covering_grid(target, scan), target, None
        return found[0], target, found[1:]
    grid = automatic_grid(scan, rows, columns, getattr(parameters, "voxel_mm", 0.0))
    width = getattr(parameters, "field_of_view_mm", 0.0)
    if width:
        count = max(1, int(np.ceil(width / grid.spacing_mm[1] - 1e-6)))
        grid = Grid((grid.shape[0], count, count), grid.spacing_mm, grid.center_mm)
    return grid, grid.geometry(scan), ((0, 1, 2), (False, False, False))


def result_copies(order) -> int:
    """Arrays of the result's size that :func:`finish` needs: it copies what is stored in another order."""
    return 1 if order == ((0, 1, 2), (False, False, False)) else 2


def check_finite(projections: Projections):
    """Raise InputError if there are NaN or infinite line integrals."""
    with np.errstate(over="ignore", invalid="ignore"):
        for view, image in enumerate(projections.array):
            if not np.isfinite(image.sum(dtype=np.float64)) and not np.isfinite(image).all():
                raise InputError(
                    f"{projections.label} has NaN or infinite values (first in view {view}); repair them first."
                )


def check_visible(projections: Projections, grid: Grid):
    """Raise InputError if the detector sees no part of the grid."""
    scan = projections.scan
    _, rows, columns = projections.array.shape
    radius = view_radius(scan, columns)
    x, y = np.meshgrid(grid.axis(2), grid.axis(1))
    nearest = np.sqrt(np.min(x * x + y * y))
    half = rows * scan.pixel_mm[0] / 2
    scale = 1.0
    if scan.kind != "parallel":
        scale = (scan.source_to_isocenter_mm + radius) / scan.source_to_detector_mm
    low, high = (scan.offset_mm[0] - half) * scale, (scan.offset_mm[0] + half) * scale
    low, high = min(low, low / max(scale, 1e-9)), max(high, high / max(scale, 1e-9))
    z = grid.axis(0)
    margin = abs(grid.spacing_mm[0])
    if nearest > radius or (scan.kind != "fan" and (z.max() + margin < low or z.min() - margin > high)):
        raise InputError(
            f"{projections.label} does not see the volume: the detector covers a cylinder of radius {radius:.1f} mm "
            f"from z = {low:.1f} to {high:.1f} mm of the scanner; choose another grid or correct the geometry."
        )


def finish(attenuation, projections, grid: Grid, target: Geometry, order, parameters, title: str) -> Volume:
    """The result volume in the asked unit, voxel order and grid."""
    scan = projections.scan
    if order is None:
        array = resample(attenuation, grid.geometry(scan), target)
    else:
        axes, flips = order
        back = tuple(axes.index(n) for n in range(3))
        array = attenuation[tuple(slice(None, None, -1) if f else slice(None) for f in flips)].transpose(back)
    units = getattr(parameters, "units", "1/mm")
    if units == "HU":
        water = parameters.water_per_mm
        array *= np.float32(1000 / water)
        array -= 1000
        display = Display(window=400.0, level=40.0)
    else:
        sample = array[array.shape[0] // 2]
        low, high = np.percentile(sample, [1, 99.5])
        display = Display(window=float(max(high - low, 1e-6)), level=float((low + high) / 2))
    name = f"{projections.name} {title}".strip()
    return Volume(np.ascontiguousarray(array), target, name=name, units=units, display=display)


def resample(array: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Cubic resampling of ``array`` on ``source`` at the voxels of ``target``; 0 outside."""
    from scipy.ndimage import affine_transform

    matrix = source.ras_to_ijk @ target.ijk_to_ras
    kji = matrix[:3, :3][::-1, ::-1]
    return affine_transform(array, kji, offset=matrix[:3, 3][::-1], output_shape=target.shape, order=3, mode="constant")


def example_case(kind: str = "parallel") -> dict:
    """Small made-up projections with known truth for the shared tests."""
    from MedImgAILib.core import ScanGeometry

    from .phantoms import project, shepp_logan

    if kind == "parallel":
        scan = ScanGeometry("parallel", np.pi * np.arange(60) / 60, (2.0, 1.5))
    else:
        scan = ScanGeometry("cone", 2 * np.pi * np.arange(60) / 60, (2.0, 3.0), (0.0, 0.0), 300.0, 600.0)
    return {"projections": Projections(project(shepp_logan(30.0, scale=0.02), scan, 3, 48), scan, "head phantom")}
