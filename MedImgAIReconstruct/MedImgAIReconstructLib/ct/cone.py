"""Filtered back-projection of fan beams and Feldkamp's of cone beams.

For a ray at fan angle γ and cone angle κ of a flat detector at distance D from a source at distance R from the axis,
f(x) = ½ ∫ dβ D/t² ∫ p(β, u, v) (R cos γ + a sin γ) cos κ · h(u(x) − u) du, with t the depth of x along the central
ray and a the axis shift; on a curved detector D/t² becomes 1/L² with L the in-plane distance from the source, and
h the equiangular ramp (Feldkamp, Davis & Kress, J Opt Soc Am A 1:612, 1984; Kak & Slaney, section 3.4).
"""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import InputError, Projections, ScanGeometry

from .accelerate import compiled, has, parallel, threads
from .cone_kernels import back_project_rows
from .filters import filter_rows, padded_length, ramp_filter
from .grid import Grid, detector_coordinates, fan_angle
from .weights import (
    TURN,
    angular_steps,
    asymmetry,
    completed_detector,
    displaced_weights,
    is_full_turn,
    parker_weights,
)

VIEWS_AT_ONCE = 16
"""Views filtered before they are back-projected: bounds the working memory, spares passes over the volume."""


def redundancy_weights(scan: ScanGeometry, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Angular steps (V,) in rad and (V or 1, columns) weights, such that each line counts twice in sum.

    Raises
    ------
    InputError
        If the views do not suffice.
    """
    steps = angular_steps(scan.angles_rad, TURN)
    if is_full_turn(scan.angles_rad):
        return steps, displaced_weights(scan, columns)[None]
    if asymmetry(scan, columns) > 0.2:
        raise InputError(
            "A displaced detector needs views all around (360°) for filtered back-projection; use an iterative "
            "algorithm for this scan."
        )
    return steps, 2 * parker_weights(scan, columns)


def pre_weights(scan: ScanGeometry, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) float32 factors of the projections before filtering."""
    v, u = detector_coordinates(scan, rows, columns)
    gamma = fan_angle(scan, u)
    along = scan.source_to_detector_mm * (1.0 if scan.curved else 1 / np.cos(gamma))
    cone = along / np.sqrt(along**2 + v[:, None] ** 2)
    fan = scan.source_to_isocenter_mm * np.cos(gamma) + scan.axis_shift_mm * np.sin(gamma)
    return (fan * cone).astype(np.float32)


def untilt(image: np.ndarray, scan: ScanGeometry) -> np.ndarray:
    """A (rows, columns) view as an untilted detector of the same pixels would have seen it (cubic interpolation)."""
    from scipy.ndimage import affine_transform

    rows, columns = image.shape
    cos, sin = np.cos(scan.tilt_rad), np.sin(scan.tilt_rad)
    pitch = np.array(scan.pixel_mm)
    turn = np.array([[cos, -sin], [sin, cos]])
    matrix = turn * pitch[None, :] / pitch[:, None]
    middle = np.array([(rows - 1) / 2, (columns - 1) / 2])
    offset = (turn @ (np.array(scan.offset_mm) - middle * pitch) - scan.offset_mm) / pitch + middle
    return affine_transform(image.astype(np.float32), matrix, offset, order=3, mode="nearest")


class ConeFilter:
    """Weights and filters views of a diverging beam; made once a scan."""

    def __init__(self, projections: Projections, window: str, cutoff: float):
        scan = projections.scan
        self.projections = projections
        _, rows, columns = projections.array.shape
        self.steps, self.redundancy = redundancy_weights(scan, columns)
        self.redundancy = self.redundancy.astype(np.float32)
        self.pre = pre_weights(scan, rows, columns)
        left, right = 0, 0
        self.scan = scan
        """The scan with the detector completed to both sides of the axis."""
        if len(self.redundancy) == 1:
            left, right, self.scan = completed_detector(scan, columns)
        self.left, self.columns, self.rows = left, left + columns + right, rows
        self.length = padded_length(self.columns)
        pitch = scan.pixel_mm[1] / scan.source_to_detector_mm if scan.curved else scan.pixel_mm[1]
        self.response = ramp_filter(self.length, pitch, window, cutoff, equiangular=scan.curved)

    def view(self, number: int) -> np.ndarray:
        """(rows, columns) float32: view ``number`` weighted and filtered."""
        scan = self.projections.scan
        image = self.projections.array[number]
        if scan.tilt_rad:
            image = untilt(image, scan)
        weights = self.redundancy[number if len(self.redundancy) > 1 else 0]
        rows, columns = image.shape
        whole = np.zeros((rows, self.columns), np.float32)
        np.multiply(image, self.pre * weights, out=whole[:, self.left : self.left + columns], casting="unsafe")
        return filter_rows(whole, self.response, self.length)


def reconstruct_diverging(
    projections: Projections, grid: Grid, window: str, cutoff: float, context, device: str = "cpu"
) -> np.ndarray:
    """Filtered back-projection of a fan or cone beam, (nz, ny, nx) float32 in 1/mm.

    Raises
    ------
    InputError
        If the views do not suffice for an exact reconstruction.
    """
    work = ConeFilter(projections, window, cutoff)
    if device != "cpu":
        from .torch_ct import back_project_diverging

        return back_project_diverging(work, grid, device, context)
    if not has("numba"):
        context.log("Back-projecting with NumPy; with the package numba it is much faster.")
        return back_project_numpy(work, grid, context)
    return back_project_numba(work, grid, context)


def kernel_scan(scan: ScanGeometry, rows: int, columns: int) -> np.ndarray:
    """The numbers that :func:`cone_kernels.back_project_rows` takes."""
    v, u = detector_coordinates(scan, rows, columns)
    return np.array(
        [
            scan.source_to_isocenter_mm, scan.source_to_detector_mm, scan.axis_shift_mm,
            u[0], 1 / scan.pixel_mm[1], v[0], 1 / scan.pixel_mm[0],
        ]
    )  # fmt: skip


def back_project_numba(work: ConeFilter, grid: Grid, context) -> np.ndarray:
    """Weighted back-projection with the compiled kernel."""
    kernel = compiled(back_project_rows)
    scan, views, rows, columns = work.scan, len(work.projections.array), work.rows, work.columns
    numbers = kernel_scan(scan, rows, columns)
    z, y, x = (grid.axis(n) for n in range(3))
    out = np.zeros(grid.shape, np.float32)
    buffer = np.empty((VIEWS_AT_ONCE, columns, rows), np.float32)
    size = max(1, -(-len(y) // (8 * threads())))
    blocks = [(n, min(n + size, len(y))) for n in range(0, len(y), size)]
    for start in range(0, views, VIEWS_AT_ONCE):
        chunk = range(start, min(start + VIEWS_AT_ONCE, views))

        def prepare(number, start=start):
            buffer[number - start] = work.view(number).T

        parallel(prepare, chunk)
        angles, half = scan.angles_rad[chunk], work.steps[chunk] / 2
        filtered = buffer[: len(chunk)]

        def add(block, filtered=filtered, angles=angles, half=half):
            context.check()
            kernel(filtered, angles, half, numbers, x, y, z, block[0], block[1], scan.curved, out)

        parallel(add, blocks)
        context.progress(chunk.stop / views, "Back-projecting")
    return out


def back_project_numpy(work: ConeFilter, grid: Grid, context) -> np.ndarray:
    """The same with NumPy alone, slice by slice."""
    from scipy.ndimage import map_coordinates

    scan, views, rows, columns = work.scan, len(work.projections.array), work.rows, work.columns
    first_u, per_u, first_v, per_v = kernel_scan(scan, rows, columns)[3:]
    z, y, x = grid.axis(0), grid.axis(1)[:, None], grid.axis(2)[None, :]
    out = np.zeros(grid.shape, np.float32)
    distance = scan.source_to_detector_mm
    for number in range(views):
        image = work.view(number)
        cos, sin = np.cos(scan.angles_rad[number]), np.sin(scan.angles_rad[number])
        s = x * cos + y * sin + scan.axis_shift_mm
        t = scan.source_to_isocenter_mm - x * sin + y * cos
        if scan.curved:
            u, scale, weight = distance * np.arctan2(s, t), distance / np.hypot(s, t), 1 / (s * s + t * t)
        else:
            u, scale, weight = distance * s / t, distance / t, distance / (t * t)
        weight = (weight * work.steps[number] / 2).astype(np.float32)
        column = (u - first_u) * per_u
        weight[(t <= 0) | (column < -0.5) | (column >= columns - 0.5)] = 0
        for k in range(len(z)):
            row = (z[k] * scale - first_v) * per_v
            seen = (row >= -0.5) & (row <= rows - 0.5)
            if seen.any():
                value = map_coordinates(image, [row, column], order=1, mode="nearest")
                out[k] += value * weight * seen
        context.progress((number + 1) / views, "Back-projecting")
    return out
