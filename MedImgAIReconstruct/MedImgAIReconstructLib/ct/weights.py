"""Weights of views and detector columns: angular steps, short scans (Parker), displaced detectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import InputError, ScanGeometry

from .grid import detector_coordinates, fan_angle, ray_distance

TURN = 2 * np.pi
DISPLACED = 0.02
"""Asymmetry of the detector above which it counts as displaced."""


def angular_steps(angles: np.ndarray, period: float) -> np.ndarray:
    """(V,) share in rad of every view of ``angles`` taken modulo ``period``: half the gaps to its neighbours.

    A gap of more than five typical steps is a range not scanned; it is not shared out. Views at the same angle
    share it.
    """
    if len(angles) == 1:
        return np.array([period])
    folded = np.mod(np.asarray(angles, float), period)
    folded[folded > period * (1 - 1e-9)] = 0.0
    order = np.argsort(folded, kind="stable")
    places, member = np.unique(np.round(folded[order] / period * 1e9).astype(np.int64), return_inverse=True)
    if len(places) == 1:
        return np.full(len(angles), period / len(angles))
    position = places * (period / 1e9)
    gap = np.diff(position, append=position[0] + period)
    typical = np.median(gap)
    unscanned = gap > 5 * typical
    gap[unscanned] = typical
    share = (gap + np.roll(gap, 1)) / 2
    count = np.bincount(member)
    steps = np.empty(len(angles))
    steps[order] = share[member] / count[member]
    return steps


def scan_range(angles: np.ndarray) -> float:
    """Angle in rad that the views cover, from the first edge to the last, at most a turn."""
    folded = np.sort(np.mod(angles, TURN))
    gap = np.diff(folded, append=folded[0] + TURN)
    widest = gap.max()
    typical = np.median(gap)
    return TURN if widest <= 5 * typical else float(TURN - widest + typical)


def is_full_turn(angles: np.ndarray) -> bool:
    """Whether the views go all around."""
    return scan_range(angles) > TURN - 1e-3


def displaced_weights(scan: ScanGeometry, columns: int) -> np.ndarray:
    """(columns,) weights of a full turn with a laterally displaced detector; w(s) + w(−s) = 2.

    Smooth across the overlap seen from both sides (Wang, Med Phys 29:1634, 2002), 2 beyond it, 1 for a centred
    detector.
    """
    _, u = detector_coordinates(scan, 1, columns)
    half = scan.pixel_mm[1] / 2
    low, high = ray_distance(scan, np.array([u[0] - half, u[-1] + half]))
    if not needs_displacement(scan, columns):
        return np.ones(columns)
    distance = ray_distance(scan, u)
    sign = 1.0 if high > -low else -1.0
    overlap = min(-low, high)
    if overlap <= 0:
        raise InputError("The detector does not see the rotation axis; correct the detector offset or the axis shift.")
    if scan.kind != "parallel":
        limit = np.arcsin(np.clip(overlap / scan.source_to_isocenter_mm, -1, 1))
        position = np.arcsin(np.clip(distance / scan.source_to_isocenter_mm, -1, 1))
    else:
        limit, position = overlap, distance
    inside = np.clip(sign * position / limit, -1, 1)
    return 1 + np.sin(np.pi / 2 * inside)


def parker_weights(scan: ScanGeometry, columns: int) -> np.ndarray:
    """(V, columns) weights of a scan of at least a half turn plus the fan, less than a turn.

    Parker (Med Phys 9:254, 1982) with the larger range handled as in Silver (Med Phys 27:773, 2000): a fan of
    virtual half-angle (range − π)/2. Conjugate rays' weights add to 1.

    Raises
    ------
    InputError
        If the range is too short for an exact reconstruction.
    """
    _, u = detector_coordinates(scan, 1, columns)
    gamma = fan_angle(scan, u) - np.arctan2(scan.axis_shift_mm, scan.source_to_isocenter_mm)
    covered = scan_range(scan.angles_rad)
    virtual = (covered - np.pi) / 2
    if virtual < np.abs(gamma).max() - np.deg2rad(1.0):
        need = np.rad2deg(np.pi + 2 * np.abs(gamma).max())
        raise InputError(
            f"The views cover {np.rad2deg(covered):.0f}° but this fan needs {need:.0f}°; use an iterative algorithm, "
            "which takes a shorter scan."
        )
    virtual = max(virtual, float(np.abs(gamma).max()))
    folded = np.mod(scan.angles_rad, TURN)
    ordered = np.sort(folded)
    gap = np.diff(ordered, append=ordered[0] + TURN)
    first = ordered[(int(np.argmax(gap)) + 1) % len(ordered)]
    beta = np.mod(folded - first + 1e-9, TURN)[:, None] + np.median(gap) / 2
    # The conjugate of (β, γ) here is (β + π + 2γ, −γ): with e_u to the left of e_d's rotation sense, γ enters as −γ.
    g = -gamma[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = np.sin(np.pi / 4 * beta / (virtual - g)) ** 2
        fall = np.sin(np.pi / 4 * (np.pi + 2 * virtual - beta) / (virtual + g)) ** 2
    weight = np.ones(np.broadcast_shapes(beta.shape, g.shape))
    weight = np.where(beta < 2 * (virtual - g), rise, weight)
    weight = np.where(beta > np.pi - 2 * g, fall, weight)
    weight[np.broadcast_to(beta > np.pi + 2 * virtual, weight.shape)] = 0.0
    return np.nan_to_num(weight)


def asymmetry(scan: ScanGeometry, columns: int) -> float:
    """How far the detector is displaced: 0 for a centred one, 1 if it sees one side of the rotation axis only."""
    _, u = detector_coordinates(scan, 1, columns)
    half = scan.pixel_mm[1] / 2
    low, high = ray_distance(scan, np.array([u[0] - half, u[-1] + half]))
    return float(abs(low + high) / (high - low))


def needs_displacement(scan: ScanGeometry, columns: int) -> bool:
    """Whether the detector is displaced so far that views from opposite sides must be weighted."""
    return asymmetry(scan, columns) >= DISPLACED


def completed_detector(scan: ScanGeometry, columns: int) -> tuple[int, int, ScanGeometry]:
    """Columns to add left and right of a displaced detector so that it is centred, and the scan with them.

    The filtered views do not vanish beyond a detector that cuts the object: what the filter spreads there belongs to
    the image. Measured columns keep their place.
    """
    if not needs_displacement(scan, columns):
        return 0, 0, scan
    _, u = detector_coordinates(scan, 1, columns)
    half = scan.pixel_mm[1] / 2
    low, high = ray_distance(scan, np.array([u[0] - half, u[-1] + half]))
    missing = int(np.ceil(abs(low + high) / (high - low) * columns * 1.05)) + 1
    left, right = (missing, 0) if high > -low else (0, missing)
    shift = (right - left) / 2 * scan.pixel_mm[1]
    return left, right, replace(scan, offset_mm=(scan.offset_mm[0], scan.offset_mm[1] + shift))
