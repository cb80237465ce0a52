"""An image as a network wants it, and labels back on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Context, Geometry, InputError, Volume
from ..core.geometry import inverse_order
from ..core.model_card import ModelInput
from ..core.resampling import resample_labels, resample_volume

_AXIS = {"R": 2, "L": 2, "A": 1, "P": 1, "S": 0, "I": 0}
_SAME_SPACING = 1e-3


@dataclass(frozen=True, eq=False)
class Prepared:
    """What :func:`prepare` gives.

    Parameters
    ----------
    array : (C, K, J, I) float32 ndarray
        On ``geometry``, in the order of the model's axes.
    geometry : Geometry
    source : Geometry
        The image's own grid.
    order : (axes, flips)
        From the image's storage order to the model's.
    """

    array: np.ndarray
    geometry: Geometry
    source: Geometry
    order: tuple

    def back(self, labels: np.ndarray, context: Context | None = None) -> np.ndarray:
        """(K, J, I) labels (or values, by nearest neighbour) of the model's grid on the image's grid; 0 outside."""
        reordered = self.source.reordered(*self.order)
        result = resample_labels(labels, self.geometry, reordered, context=context)
        back = Volume(result, reordered).reordered(*inverse_order(*self.order))
        return np.ascontiguousarray(back.array)


def prepare(volume: Volume, wanted: ModelInput, context: Context, grid: Geometry | None = None) -> Prepared:
    """Bring a volume into the orientation, spacing, size and intensities of a model's input.

    The axes keep their directions in the patient, so that no oblique image is rotated: a model sees the image as it
    was acquired, in the storage order nearest to its own.

    Parameters
    ----------
    volume : Volume
    wanted : ModelInput
    context : Context
    grid : Geometry, optional
        The grid of the model's first input, to which further inputs are resampled.

    Raises
    ------
    InputError
        If the number of components is not that of the model's channels.
    """
    if volume.components != wanted.channels:
        raise InputError(
            f"{volume.label} has {volume.components} components per voxel; the model's input '{wanted.name}' "
            f"takes {wanted.channels}."
        )
    order = storage_order(volume.geometry, wanted.orientation)
    stored = volume.reordered(*order)
    if grid is None:
        grid = _grid(stored, wanted)
    on_grid = resample_volume(stored, grid, "linear", context=context).array
    channels = on_grid[None] if on_grid.ndim == 3 else np.moveaxis(on_grid, -1, 0)
    return Prepared(wanted.intensity.apply(np.ascontiguousarray(channels)), grid, volume.geometry, order)


def storage_order(geometry: Geometry, orientation: str | None):
    """``(axes, flips)`` that store a grid as nearly as possible with i, j, k along the letters of ``orientation``.

    Without an orientation it is RAS; a single slice then becomes the first axis, however it lies.
    """
    axes, flips = geometry.canonical_order()
    if orientation is None:
        shape = [geometry.shape[a] for a in axes]
        pick = sorted(range(3), key=lambda n: (shape[n] > 1, n)) if min(shape) == 1 else [0, 1, 2]
        turned = [False] * 3
    else:
        letters = orientation[::-1]
        pick = [_AXIS[letter] for letter in letters]
        turned = [letter in "LPI" for letter in letters]
    return tuple(axes[p] for p in pick), tuple(bool(flips[p]) != t for p, t in zip(pick, turned))


def _grid(stored: Volume, wanted: ModelInput) -> Geometry:
    geometry = stored.geometry
    if wanted.crop_above is not None:
        geometry = _box(stored, wanted.crop_above)
    spacing, count = geometry.spacing, np.array(geometry.shape[::-1])
    if wanted.fit == "stretch":
        return geometry.resized(wanted.size[::-1])
    if wanted.spacing_mm is not None and (np.abs(spacing / wanted.spacing_mm - 1) > _SAME_SPACING).any():
        target = np.array(wanted.spacing_mm)
        geometry = _rescaled(geometry, target, np.maximum(1, np.rint(count * spacing / target)).astype(int))
    if wanted.size is None:
        return geometry
    # Whole voxels, so that an image of the right spacing is not interpolated.
    size, count = np.array(wanted.size[::-1]), np.array(geometry.shape)
    return geometry.cropped(tuple((count - size) // 2), tuple(size))


def _box(stored: Volume, threshold: float) -> Geometry:
    """The grid cut to the box of the voxels whose mean over the channels exceeds ``threshold``."""
    values = stored.array.mean(axis=3) if stored.is_vector else stored.array
    inside = values > threshold
    if not inside.any():
        raise InputError(f"{stored.label} has no voxel above {threshold:g}; is it the right image?")
    spans = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    return stored.geometry.cropped(tuple(s[0] for s in spans), tuple(s[1] - s[0] + 1 for s in spans))


def _rescaled(geometry: Geometry, spacing, size) -> Geometry:
    """The same box with ``size`` voxels (i, j, k), about the same middle."""
    directions = geometry.directions
    origin = geometry.center - directions @ ((np.asarray(size) - 1) / 2 * spacing)
    return Geometry.from_spacing(tuple(int(n) for n in size[::-1]), spacing, origin, directions)
