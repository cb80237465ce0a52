"""Single slices as a viewer shows them: a network for pictures must not see a radiograph upside down."""

from __future__ import annotations

import numpy as np

from ..core import Geometry, Volume

_SHOWN = {"R": ("PI", (1, 2)), "A": ("LI", (0, 2)), "S": ("LP", (0, 1))}
"""Across the slice → letters that columns and rows run towards on a screen, and their RAS axes."""
_SIGNS = {"L": -1.0, "P": -1.0, "I": -1.0}


def picture_order(geometry: Geometry):
    """``(axes, flips)`` that store a single slice as (1, rows, columns) in a viewer's convention.

    Sagittal: columns run to posterior, rows to inferior; coronal: to left and inferior; axial: to left and posterior.
    Of several axes with one voxel, the one across is the last.
    """
    single = [a for a in range(3) if geometry.shape[a] == 1]
    across = single[0] if single else 0
    directions = geometry.directions
    axis = "RAS"[int(np.abs(directions[:, 2 - across]).argmax())]
    letters, (column_axis, row_axis) = _SHOWN[axis]
    others = [a for a in range(3) if a != across]
    fit = [[abs(directions[axis, 2 - a]) for axis in (row_axis, column_axis)] for a in others]
    if fit[0][0] + fit[1][1] < fit[0][1] + fit[1][0]:
        others.reverse()
    flips = [False]
    for array_axis, ras, letter in zip(others, (row_axis, column_axis), (letters[1], letters[0])):
        flips.append(bool(directions[ras, 2 - array_axis] * _SIGNS[letter] < 0))
    return (across, *others), tuple(flips)


def as_picture(volume: Volume) -> Volume:
    """A single slice stored in a viewer's order on an axial grid (LPS) of the same spacing. No interpolation."""
    stored = volume.reordered(*picture_order(volume.geometry))
    spacing = stored.geometry.spacing
    grid = Geometry.from_spacing(stored.geometry.shape, spacing, (0.0, 0.0, 0.0), np.diag([-1.0, -1.0, 1.0]))
    return Volume(np.ascontiguousarray(stored.array), grid, volume.name, volume.units)
