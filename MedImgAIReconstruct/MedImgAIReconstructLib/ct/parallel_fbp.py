"""Back-projection of parallel beams: by Fourier transform with finufft, else by interpolation."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Projections

from .accelerate import has, parallel
from .filters import filter_rows, padded_length, ramp_filter
from .grid import Grid, detector_coordinates, ray_distance
from .weights import TURN, angular_steps, completed_detector, displaced_weights, needs_displacement, scan_range


def parallel_weights(projections: Projections, context):
    """Angular steps (views,), column weights (columns,) and columns to add (left, right) of a parallel scan."""
    scan, columns = projections.scan, projections.array.shape[2]
    if needs_displacement(scan, columns) and scan_range(scan.angles_rad) > TURN - 0.1:
        left, right, _ = completed_detector(scan, columns)
        return angular_steps(scan.angles_rad, TURN) / 2, displaced_weights(scan, columns), (left, right)
    if needs_displacement(scan, columns):
        context.warn("The detector is displaced but the views do not go all around: part of the image is incomplete.")
    steps = angular_steps(scan.angles_rad, np.pi)
    if steps.sum() < 0.97 * np.pi:
        context.warn(
            f"The views cover {np.rad2deg(steps.sum()):.0f}° of 180°: expect streaks; try an iterative algorithm."
        )
    return steps, np.ones(columns), (0, 0)


def reconstruct_parallel(
    projections: Projections, grid: Grid, window: str, cutoff: float, method: str, context, device: str = "cpu"
) -> np.ndarray:
    """Filtered back-projection, (nz, ny, nx) float32 in 1/mm.

    Parameters
    ----------
    method : "auto", "fourier" or "interpolation"
    """
    scan = projections.scan
    views, rows, columns = projections.array.shape
    steps, column_weights, added = parallel_weights(projections, context)
    length = padded_length(columns + sum(added))
    response = ramp_filter(length, scan.pixel_mm[1], window, cutoff)
    array, exact = slice_rows(projections, grid)
    slices = Grid((array.shape[1], *grid.shape[1:]), grid.spacing_mm, grid.center_mm)
    if device != "cpu":
        from .torch_ct import back_project_parallel

        result = back_project_parallel(array, scan, slices, response, steps, column_weights, added, device, context)
    elif method == "fourier" or (method == "auto" and has("finufft")):
        from .fourier import fourier_back_projection

        result = fourier_back_projection(array, scan, slices, response, steps, column_weights, added, context)
    else:
        context.log("Back-projecting by interpolation; with the package finufft it is faster.")
        result = interpolate_back(array, scan, slices, response, steps, column_weights, added, context)
    blank_outside(result, projections, slices)
    return result if exact else between_rows(result, projections, grid)


def slice_rows(projections: Projections, grid: Grid):
    """The projections whose rows are the grid's slices, as a view if they match, else all rows.

    Returns
    -------
    array : (views, slices, columns) ndarray
    matched : bool
        Whether its rows are the slices of ``grid``.
    """
    scan = projections.scan
    rows = projections.array.shape[1]
    v, _ = detector_coordinates(scan, rows, 1)
    position = (grid.axis(0) - v[0]) / scan.pixel_mm[0]
    nearest = np.rint(position).astype(int)
    inside = nearest.min() >= 0 and nearest.max() < rows
    if inside and np.abs(position - nearest).max() < 1e-3:
        step = 1 if len(nearest) == 1 else nearest[1] - nearest[0]
        if step and np.all(np.diff(nearest) == step):
            stop = nearest[-1] + step
            return projections.array[:, slice(nearest[0], None if stop < 0 else stop, step)], True
    return projections.array, False


def between_rows(volume: np.ndarray, projections: Projections, grid: Grid) -> np.ndarray:
    """Slices at detector rows interpolated linearly at the grid's z; 0 beyond half a row outside."""
    scan = projections.scan
    rows = volume.shape[0]
    v, _ = detector_coordinates(scan, rows, 1)
    position = (grid.axis(0) - v[0]) / scan.pixel_mm[0]
    result = np.zeros(grid.shape, np.float32)
    for k, p in enumerate(position):
        if -0.5 <= p <= rows - 0.5:
            p = min(max(p, 0.0), rows - 1.0)
            low = min(int(p), max(rows - 2, 0))
            part = np.float32(p - low)
            result[k] = volume[low] if rows == 1 else (1 - part) * volume[low] + part * volume[low + 1]
    return result


def blank_outside(volume: np.ndarray, projections: Projections, grid: Grid):
    """Set to 0, in place, what lies outside the circle that the detector sees."""
    scan, columns = projections.scan, projections.array.shape[2]
    _, u = detector_coordinates(scan, 1, columns)
    half = scan.pixel_mm[1] / 2
    low, high = ray_distance(scan, np.array([u[0] - half, u[-1] + half]))
    both_sides = needs_displacement(scan, columns) and scan_range(scan.angles_rad) < TURN - 0.1
    radius = min(-low, high) if both_sides else max(-low, high)
    x, y = grid.axis(2), grid.axis(1)
    outside = x[None, :] ** 2 + y[:, None] ** 2 > radius**2 * (1 + 1e-6)
    volume[:, outside] = 0


def interpolate_back(
    array, scan, grid: Grid, response, steps, column_weights, added=(0, 0), context=None
) -> np.ndarray:
    """Back-projection with linear interpolation between detector columns, slice by slice."""
    views, rows, columns = array.shape
    left, right = added
    length = padded_length(columns + left + right)
    weights = np.asarray(column_weights, np.float32)
    first = detector_coordinates(scan, 1, columns)[1][0] - left * scan.pixel_mm[1]
    pitch = scan.pixel_mm[1]
    _, ny, nx = grid.shape
    result = np.zeros((rows, ny, nx), np.float32)
    x, y = (grid.axis(n) for n in (2, 1))
    positions = np.arange(columns + left + right)

    def work(chunk):
        filtered = []
        for r in chunk:
            sinogram = np.pad((array[:, r, :] * weights).astype(np.float32), ((0, 0), (left, right)))
            filtered.append(filter_rows(sinogram, response, length))
        for view in range(views):
            if context is not None:
                context.check()
            angle = scan.angles_rad[view]
            along_x = (x * np.cos(angle) + scan.axis_shift_mm - first) / pitch
            column = along_x[None, :] + (y * np.sin(angle) / pitch)[:, None]
            for n, r in enumerate(chunk):
                line = filtered[n][view] * np.float32(steps[view])
                result[r] += np.interp(column.ravel(), positions, line, 0.0, 0.0).reshape(ny, nx)

    parallel(work, [range(n, min(n + 4, rows)) for n in range(0, rows, 4)], context, message="Back-projecting")
    return result
