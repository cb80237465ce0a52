"""The rays of a scan, straight from the definition in :class:`ScanGeometry`; everything else is tested against them."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import ScanGeometry

from .grid import detector_coordinates


def tilted(scan: ScanGeometry, v: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(v, u) in mm on the detector of the pixel coordinates (v′, u′) after the detector's in-plane rotation."""
    cos, sin = np.cos(scan.tilt_rad), np.sin(scan.tilt_rad)
    return u * sin + v * cos, u * cos - v * sin


def rays(scan: ScanGeometry, rows: int, columns: int, view: int, shift_px=(0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
    """Rays of one view in scanner coordinates.

    Parameters
    ----------
    shift_px : (row, column)
        Position inside the pixel relative to its centre, for averaging over its area.

    Returns
    -------
    origin : (rows, columns, 3) or (3,) ndarray
        A point of every ray in mm: the source of a diverging beam, else the point nearest to the detector's plane
        through the axis.
    direction : (rows, columns, 3) ndarray
        Unit vectors.
    """
    v, u = detector_coordinates(scan, rows, columns)
    v, u = v + shift_px[0] * scan.pixel_mm[0], u + shift_px[1] * scan.pixel_mm[1]
    v, u = tilted(scan, *np.meshgrid(v, u, indexing="ij"))
    return rays_at(scan, scan.angles_rad[view], v, u)


def rays_at(scan: ScanGeometry, angle: float, v: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rays at detector positions (v, u) in mm of the view at ``angle`` in rad; see :func:`rays`."""
    e_u = np.array([np.cos(angle), np.sin(angle), 0.0])
    e_d = np.array([-np.sin(angle), np.cos(angle), 0.0])
    e_v = np.array([0.0, 0.0, 1.0])
    shift = scan.axis_shift_mm
    if scan.kind == "parallel":
        origin = (u - shift)[..., None] * e_u + v[..., None] * e_v
        return origin, np.broadcast_to(e_d, origin.shape)
    source = -scan.source_to_isocenter_mm * e_d - shift * e_u
    distance = scan.source_to_detector_mm
    if scan.curved:
        gamma = u / distance
        along = distance * (np.sin(gamma)[..., None] * e_u + np.cos(gamma)[..., None] * e_d)
    else:
        along = distance * e_d + u[..., None] * e_u
    direction = along + v[..., None] * e_v
    return source, direction / np.linalg.norm(direction, axis=-1, keepdims=True)


def detector_position(scan: ScanGeometry, angle, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(v, u) in mm where the rays through the (…, 3) scanner positions meet the detector (before undoing the tilt)."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    s = x * cos + y * sin + scan.axis_shift_mm
    if scan.kind == "parallel":
        return z, s
    t = scan.source_to_isocenter_mm - x * sin + y * cos
    if scan.curved:
        return scan.source_to_detector_mm * z / np.hypot(s, t), scan.source_to_detector_mm * np.arctan2(s, t)
    return scan.source_to_detector_mm * z / t, scan.source_to_detector_mm * s / t


def pixel_position(scan: ScanGeometry, rows: int, columns: int, v, u) -> tuple[np.ndarray, np.ndarray]:
    """Fractional (row, column) of detector positions in mm."""
    cos, sin = np.cos(scan.tilt_rad), np.sin(scan.tilt_rad)
    v, u = v * cos - u * sin, v * sin + u * cos
    row = (v - scan.offset_mm[0]) / scan.pixel_mm[0] + (rows - 1) / 2
    return row, (u - scan.offset_mm[1]) / scan.pixel_mm[1] + (columns - 1) / 2
