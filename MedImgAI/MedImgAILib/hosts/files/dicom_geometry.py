"""Sorts the frames of a DICOM series by position and finds what does not fit: gaps, duplicates, tilts, shifts."""

from __future__ import annotations

import numpy as np

from ...core import Geometry, InputError
from .dicom_index import TEMPORAL, Frame
from .voxels import ras_geometry

_SAME_MM = 1e-3
"""Frames nearer than this lie at the same position."""
_TOLERANCE_MM = 0.02
_TOLERANCE = 0.02
"""Slice distances may differ by this many mm, or by this fraction of the distance (positions are rounded)."""


def arrange(frames: list[Frame], name: str) -> tuple[list[list[Frame]], str, np.ndarray]:
    """Frames as volumes: each a list along the slice normal, one volume for each time point or echo.

    Returns
    -------
    volumes : list of list of Frame
    index : str
        The attribute that tells the volumes apart; empty if there is one.
    values : ndarray
        Its value for each volume.

    Raises
    ------
    InputError
        In one sentence, if orientations or sizes differ or a position occurs twice.
    """
    first = frames[0]
    for frame in frames:
        if frame.position is None or frame.spacing is None:
            raise InputError(f"'{name}' has an image without position or pixel spacing ('{frame.path.name}').")
        if np.abs(frame.orientation - first.orientation).max() > 1e-3:
            raise InputError(
                f"'{name}' mixes images of different orientation ('{first.path.name}' and '{frame.path.name}'); "
                "separate them first."
            )
        sizes = [(f.header.Rows, f.header.Columns) for f in (first, frame)]
        if sizes[0] != sizes[1] or not np.allclose(frame.spacing, first.spacing, rtol=1e-3):
            raise InputError(
                f"'{name}' mixes images of different size ('{first.path.name}' and '{frame.path.name}'); "
                "separate them first."
            )
    stacks = _by_position(frames, name)
    count = len(stacks[0][1])
    if all(len(stack) == 1 for _, stack in stacks):
        return [[stack[0] for _, stack in stacks]], "", np.zeros(1)
    for attribute in TEMPORAL:
        values = [sorted(f.times.get(attribute, np.nan) for f in stack) for _, stack in stacks]
        distinct = len(set(values[0])) == count and not np.isnan(values[0]).any()
        if distinct and all(v == values[0] for v in values):
            ordered = [sorted(stack, key=lambda f: f.times[attribute]) for _, stack in stacks]
            return [list(volume) for volume in zip(*ordered)], attribute, np.array(values[0])
    distance, stack = next((d, s) for d, s in stacks if len(s) > 1)
    names = " and ".join(sorted(_called(f) for f in stack[:2]))
    raise InputError(
        f"'{name}' has {len(stack)} images at the same slice position, {_where(stack[0], distance)} ({names}); "
        "remove the duplicates."
    )


def _called(frame: Frame) -> str:
    return f"'{frame.path.name}'" + (f" frame {frame.index + 1}" if frame.index else "")


def normal_of(frame: Frame) -> np.ndarray:
    """Unit vector across the slice in LPS."""
    normal = np.cross(frame.orientation[:3], frame.orientation[3:])
    length = np.linalg.norm(normal)
    if not np.isfinite(length) or length < 0.5:
        raise InputError(f"'{frame.path.name}' has a damaged image orientation.")
    return normal / length


def _by_position(frames: list[Frame], name: str) -> list[tuple[float, list[Frame]]]:
    """Frames along the normal as (distance in mm, those that lie there)."""
    normal = normal_of(frames[0])
    distances = [float(frame.position @ normal) for frame in frames]
    if not np.isfinite(distances).all():
        raise InputError(f"'{name}' has an image whose position is not finite.")
    stacks: list[tuple[float, list[Frame]]] = []
    for number in np.argsort(distances, kind="stable"):
        if stacks and distances[number] - stacks[-1][0] < _SAME_MM:
            stacks[-1][1].append(frames[number])
        else:
            stacks.append((distances[number], [frames[number]]))
    return stacks


def _where(frame: Frame, distance: float) -> str:
    """The slice's position in words, along the patient axis nearest to the normal ("S = 12.5 mm")."""
    normal = normal_of(frame) * (-1, -1, 1)
    axis = int(np.abs(normal).argmax())
    return f"{'RAS'[axis]} = {frame.position[axis] * (-1, -1, 1)[axis]:.4g} mm"


def grid(volume: list[Frame], name: str) -> Geometry:
    """The grid of sorted slices. The slice axis follows their positions, so a gantry tilt gives a sheared grid.

    Raises
    ------
    InputError
        Naming the position of a missing slice, an uneven distance, or a sideways shift.
    """
    first = volume[0]
    step = normal_of(first) * (first.thickness or 1.0)
    if len(volume) > 1:
        _check_distances(volume, name)
        step = (volume[-1].position - first.position) / (len(volume) - 1)
        expected = first.position + np.arange(len(volume))[:, None] * step
        offset = np.linalg.norm(np.array([f.position for f in volume]) - expected, axis=1)
        worst = int(offset.argmax())
        if offset[worst] > max(5 * _TOLERANCE_MM, 5 * _TOLERANCE * np.linalg.norm(step)):
            raise InputError(
                f"'{name}' has a slice that is shifted by {offset[worst]:.3g} mm against the others at "
                f"{_where(volume[worst], 0)}; its images do not form one volume."
            )
    matrix = np.eye(4)
    matrix[:3, 0] = first.orientation[:3] * first.spacing[1]
    matrix[:3, 1] = first.orientation[3:] * first.spacing[0]
    matrix[:3, 2], matrix[:3, 3] = step, first.position
    return ras_geometry(matrix, (len(volume), int(first.header.Rows), int(first.header.Columns)))


def _check_distances(volume: list[Frame], name: str):
    normal = normal_of(volume[0])
    gaps = np.diff([float(frame.position @ normal) for frame in volume])
    # The lower median: a single gap among three slices must not pass for the usual distance.
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    tolerance = max(_TOLERANCE_MM, _TOLERANCE * usual)
    wrong = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if not wrong.size:
        return
    number = int(wrong[np.abs(gaps[wrong] - usual).argmax()])
    between = f"between {_where(volume[number], 0)} and {_where(volume[number + 1], 0)}"
    missing = gaps[number] / usual - 1
    if missing > 0.5 and abs(missing - round(missing)) * usual <= (round(missing) + 1) * tolerance:
        what = f"{round(missing)} slice{'s are' if round(missing) > 1 else ' is'} missing"
        raise InputError(f"'{name}': {what} {between} (slices lie {usual:.4g} mm apart); export the series completely.")
    raise InputError(
        f"'{name}' has slices {gaps[number]:.4g} mm apart {between}, where the others are {usual:.4g} mm apart; "
        "resample it to an even distance first."
    )
