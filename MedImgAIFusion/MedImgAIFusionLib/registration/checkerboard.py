"""Two aligned images in alternating cubes: edges that go on across the borders are aligned."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Volume

CUBES = 8
"""Along the longest side."""


def checkerboard(fixed: Volume, registered: Volume) -> Volume:
    """Both images on the fixed image's grid, each scaled from its 1st and 99th percentile to 0…1.

    Parameters
    ----------
    fixed, registered : Volume
        Scalar, on the same grid.

    Returns
    -------
    Volume
        float32; the cubes are counted from the middle of the grid, so any storage order gives the same image.
    """
    geometry = fixed.geometry
    extent = np.array(geometry.shape) * geometry.spacing_kji
    side = extent.max() / CUBES
    parity = np.zeros(geometry.shape, int)
    for axis, (count, spacing) in enumerate(zip(geometry.shape, geometry.spacing_kji, strict=True)):
        from_middle = np.abs(np.arange(count) - (count - 1) / 2) * spacing
        shape = [1, 1, 1]
        shape[axis] = count
        parity += np.floor(from_middle / side + 0.5).astype(int).reshape(shape)
    board = np.where(parity % 2 == 0, _scaled(fixed.array), _scaled(registered.array))
    name = f"{fixed.name} and {registered.name}, checkerboard"
    return Volume(board.astype(np.float32), geometry, name=name)


def _scaled(array):
    low, high = np.percentile(array, (1, 99))
    if not high > low:
        low, high = array.min(), array.max()
    return np.clip((array - low) / max(high - low, 1e-12), 0, 1)
