"""Reconstruction in slabs along the rotation axis, one after the other, where memory is short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import IntegerParameter, Projections, ResourceError

from .accelerate import free_memory_bytes
from .grid import Grid, detector_coordinates

SLABS = IntegerParameter(
    "slabs", "Slabs", 0,
    "Parts along the axis, done one after the other to spare memory; 0 takes as few as the free memory allows.",
    minimum=0, maximum=10000, advanced=True,
)  # fmt: skip

RESERVE = 0.95
"""Part of the free memory that may be planned for."""


def plan(task, projections: Projections, grid: Grid, copies: int, wanted: int, context, available=None) -> list[Grid]:
    """The parts of ``grid`` to reconstruct, in order; the grid alone where it fits.

    Parameters
    ----------
    task : CTTask
        Whose ``working_bytes`` tells what a part takes and ``can_split`` whether there may be parts.
    copies : int
        Arrays of the size of the whole result that are needed at the end.
    wanted : int
        Number of parts; 0 decides by the memory.
    available : int, optional
        Free bytes; asked of the system if None.

    Raises
    ------
    ResourceError
        With the estimate and a way out, before anything is computed.
    """
    available = free_memory_bytes(context.device) if available is None else available
    result = copies * 4 * int(np.prod(grid.shape))
    splittable = task.can_split(projections, grid)
    most = grid.shape[0] if splittable else 1
    count = min(wanted, most) or 1

    def needed(parts):
        part = grid.slab(0, -(-grid.shape[0] // parts)) if parts > 1 else grid
        return result + task.working_bytes(cropped(projections, part) if parts > 1 else projections, part)

    while not wanted and available is not None and count < most and needed(count) > RESERVE * available:
        count = min(2 * count, most)
    context.log(f"Estimated working memory: {needed(count) / 2**20:.0f} MiB.")
    if available is not None and needed(count) > RESERVE * available:
        way_out = (
            "use larger voxels or a smaller field of view"
            if splittable
            else "use larger voxels, a smaller field of view, or filtered back-projection, which can work in slabs"
        )
        raise ResourceError(
            f"The reconstruction needs about {needed(count) / 2**30:.1f} GiB{' even in slabs' if count > 1 else ''} "
            f"but {available / 2**30:.1f} GiB are free; {way_out}."
        )
    if count == 1:
        return [grid]
    if not wanted:
        context.log(f"Memory is short, so the volume is reconstructed in {count} slabs.")
    ends = np.linspace(0, grid.shape[0], count + 1).round().astype(int)
    return [grid.slab(start, stop) for start, stop in zip(ends, ends[1:])]


def cropped(projections: Projections, grid: Grid) -> Projections:
    """The detector rows that the voxels of ``grid`` need, as a view, with the geometry that belongs to them."""
    scan = projections.scan
    rows = projections.array.shape[1]
    if scan.kind == "fan" or scan.tilt_rad:
        return projections
    z = grid.axis(0)
    heights = np.array([z.min(), z.max()])
    if scan.kind == "cone":
        radius = np.hypot(np.abs(grid.axis(1)).max(), np.abs(grid.axis(2)).max()) + abs(scan.axis_shift_mm)
        depths = scan.source_to_isocenter_mm + np.array([-radius, radius])
        depths = np.maximum(depths, 1e-3 * scan.source_to_isocenter_mm)
        heights = np.outer(heights, scan.source_to_detector_mm / depths).ravel()
    v = detector_coordinates(scan, rows, 1)[0]
    position = (np.array([heights.min(), heights.max()]) - v[0]) / scan.pixel_mm[0]
    start = int(np.clip(np.floor(position[0] + 1e-3), 0, rows - 1))
    stop = int(np.clip(np.ceil(position[1] - 1e-3) + 1, start + 1, rows))
    middle = (v[start] + v[stop - 1]) / 2
    cropped_scan = replace(scan, offset_mm=(float(middle), scan.offset_mm[1]))
    return replace(projections, array=projections.array[:, start:stop], scan=cropped_scan)


def in_slabs(parts: list[Grid], shape, projections: Projections, reconstruct, context) -> np.ndarray:
    """The whole volume, (nz, ny, nx) float32, from ``reconstruct(projections, grid, slices)`` of each part."""
    if len(parts) == 1:
        return reconstruct(projections, parts[0], slice(None))
    whole = np.empty(shape, np.float32)
    start = 0
    for number, part in enumerate(parts):
        slices = slice(start, start + part.shape[0])
        with context.part(number / len(parts), (number + 1) / len(parts)):
            whole[slices] = reconstruct(cropped(projections, part), part, slices)
        start = slices.stop
    return whole
