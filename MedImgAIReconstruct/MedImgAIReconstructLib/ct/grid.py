"""The grid to reconstruct on: an axis-aligned box in scanner coordinates, and its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import Geometry, InputError, ScanGeometry


@dataclass(frozen=True)
class Grid:
    """Voxels along the scanner's axes.

    Parameters
    ----------
    shape : (nz, ny, nx)
    spacing_mm : (dz, dy, dx)
    center_mm : (cz, cy, cx)
        Scanner coordinates of the middle of the grid.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def axis(self, number: int) -> np.ndarray:
        """Scanner coordinates in mm of the voxel centres along array axis 0 (z), 1 (y) or 2 (x)."""
        count = self.shape[number]
        return self.center_mm[number] + (np.arange(count) - (count - 1) / 2) * self.spacing_mm[number]

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4): indices (i, j, k) to scanner coordinates (x, y, z) in mm."""
        matrix = np.diag([*self.spacing_mm[::-1], 1.0])
        matrix[:3, 3] = [self.axis(n)[0] for n in (2, 1, 0)]
        return matrix

    def geometry(self, scan: ScanGeometry) -> Geometry:
        """Where the grid lies in the patient."""
        return Geometry(scan.scanner_to_ras @ self.matrix, self.shape)

    def slab(self, start: int, stop: int) -> Grid:
        """The part with slices ``start`` … ``stop`` − 1."""
        z = self.axis(0)
        center = (z[start] + z[stop - 1]) / 2
        return Grid((stop - start, *self.shape[1:]), self.spacing_mm, (center, *self.center_mm[1:]))


def detector_coordinates(scan: ScanGeometry, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Untilted (rows,) v′ and (columns,) u′ of the pixel centres in mm."""
    v = (np.arange(rows) - (rows - 1) / 2) * scan.pixel_mm[0] + scan.offset_mm[0]
    u = (np.arange(columns) - (columns - 1) / 2) * scan.pixel_mm[1] + scan.offset_mm[1]
    return v, u


def magnification(scan: ScanGeometry) -> float:
    """Detector distance over isocentre distance; 1 for parallel beams."""
    return 1.0 if scan.kind == "parallel" else scan.source_to_detector_mm / scan.source_to_isocenter_mm


def ray_distance(scan: ScanGeometry, u: np.ndarray) -> np.ndarray:
    """Signed distance in mm from the rotation axis of the in-plane rays that meet the detector at ``u``."""
    if scan.kind == "parallel":
        return u - scan.axis_shift_mm
    gamma = fan_angle(scan, u)
    return scan.source_to_isocenter_mm * np.sin(gamma) - scan.axis_shift_mm * np.cos(gamma)


def fan_angle(scan: ScanGeometry, u) -> np.ndarray:
    """Angle in rad of the rays that meet the detector at ``u``, from the ray that meets u = 0."""
    ratio = np.asarray(u, float) / scan.source_to_detector_mm
    return ratio if scan.curved else np.arctan(ratio)


def view_radius(scan: ScanGeometry, columns: int) -> float:
    """Radius in mm of the circle around the axis that the detector sees in a full turn."""
    _, u = detector_coordinates(scan, 1, columns)
    edges = np.array([u[0] - scan.pixel_mm[1] / 2, u[-1] + scan.pixel_mm[1] / 2])
    distance = ray_distance(scan, edges)
    if distance[0] > 0 or distance[1] < 0:
        raise InputError(
            "The detector does not see the rotation axis: its columns cover "
            f"{distance[0]:.1f} to {distance[1]:.1f} mm from it; correct the detector offset or the axis shift."
        )
    return float(np.abs(distance).max())


def automatic_grid(scan: ScanGeometry, rows: int, columns: int, spacing_mm: float = 0.0) -> Grid:
    """The grid that holds everything the detector sees, voxels as large as detector pixels at the isocentre.

    Parameters
    ----------
    spacing_mm : float
        Isotropic voxel size; 0 takes the detector's pitches.

    Raises
    ------
    InputError
        If the detector does not see the rotation axis.
    """
    scale = magnification(scan)
    pitch = spacing_mm or scan.pixel_mm[1] / scale
    pitch_z = spacing_mm if spacing_mm and scan.kind != "parallel" else scan.pixel_mm[0] / scale
    diameter = 2 * view_radius(scan, columns)
    count = max(1, int(np.ceil(diameter / pitch - 1e-6)))
    if scan.kind == "fan":
        return Grid((1, count, count), (spacing_mm or scan.pixel_mm[0] / scale, pitch, pitch), (0.0, 0.0, 0.0))
    height = rows * scan.pixel_mm[0] / scale
    count_z = max(1, int(np.rint(height / pitch_z)))
    return Grid((count_z, count, count), (pitch_z, pitch, pitch), (scan.offset_mm[0] / scale, 0.0, 0.0))


def grid_of(geometry: Geometry, scan: ScanGeometry, tolerance: float = 1e-3):
    """The scanner-aligned grid with the voxels of ``geometry``.

    Returns
    -------
    (Grid, axes, flips) or None
        ``np.flip(array.transpose(axes), flips)`` brings a scanner-ordered array to the order of ``geometry``.
        None if its axes are not the scanner's: the result has then to be resampled.
    """
    local = geometry.transformed(np.linalg.inv(scan.scanner_to_ras))
    axes, flips = local.canonical_order()
    ordered = local.reordered(axes, flips)
    step = ordered.ijk_to_ras[:3, :3]
    off_axis = np.abs(step - np.diag(np.diag(step))) * (np.array(ordered.shape[::-1])[None, :] - 1)
    if off_axis.max() > tolerance * ordered.spacing.min():
        return None
    grid = Grid(ordered.shape, tuple(np.diag(step)[::-1]), tuple(ordered.center[::-1]))
    return grid, axes, flips


def covering_grid(geometry: Geometry, scan: ScanGeometry) -> Grid:
    """The scanner-aligned grid with about the voxels of ``geometry`` that covers it, for resampling."""
    local = geometry.transformed(np.linalg.inv(scan.scanner_to_ras))
    direction = np.abs(local.directions)
    spacing = [float(local.spacing[int(np.argmax(direction[axis]))]) for axis in range(3)]
    box = local.bounding_grid(spacing, margin_mm=max(spacing))
    return Grid(box.shape, tuple(spacing[::-1]), tuple(box.center[::-1]))
