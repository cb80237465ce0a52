"""An image as a network wants it, and labels back on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Context, Geometry, InputError, Volume
from ..core.geometry import inverse_order
from ..core.model_card import ModelInput
from ..core.model_intensity import apply_intensity
from ..core.resampling import resample_labels, resample_volume

_AXIS = {"R": 2, "L": 2, "A": 1, "P": 1, "S": 0, "I": 0}
_SAME_SPACING = 1e-3
_SAME_PLACE = 1e-2
_THICK = 3
"""Slices this much thicker than their voxels are wide are not interpolated across, as in nnU-Net."""


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

    def is_between_voxels(self) -> bool:
        """Whether the model's voxel centres lie elsewhere than the image's."""
        reordered = self.source.reordered(*self.order)
        corners = np.array([[0, 0, 0], np.array(self.geometry.shape[::-1]) - 1])
        places = reordered.ijk(self.geometry.ras(corners))
        step = self.geometry.spacing / reordered.spacing
        return bool(np.abs(places - np.rint(places)).max() > _SAME_PLACE or np.abs(step - 1).max() > _SAME_SPACING)

    def back_likely(self, probabilities: np.ndarray, rules, context: Context | None = None) -> np.ndarray:
        """Labels on the image's grid from probabilities of few channels on the model's, interpolated one by one.

        Parameters
        ----------
        probabilities : (C, K, J, I) ndarray
        rules : Inference
            Its activation and threshold turn them into labels.
        context : Context, optional
        """
        reordered = self.source.reordered(*self.order)
        softmax = rules.activation == "softmax"
        labels = np.zeros(reordered.shape, np.uint8 if len(probabilities) < 255 else np.int16)
        best = np.full(reordered.shape, -1.0 if softmax else rules.threshold, np.float32)
        for channel, values in enumerate(probabilities):
            (context or Context()).progress(channel / len(probabilities))
            volume = Volume(values.astype(np.float32), self.geometry)
            outside = 1.0 if softmax and channel == 0 else 0.0
            likely = resample_volume(volume, reordered, "linear", outside=outside).array
            wins = likely > best
            labels[wins] = channel if softmax else channel + 1
            if rules.activation != "regions":
                np.maximum(best, likely, out=best)
        back = Volume(labels, reordered).reordered(*inverse_order(*self.order))
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
    return prepare_all([volume], [wanted], context, grid)[0]


def prepare_all(volumes, inputs, context: Context, grid: Geometry | None = None) -> list[Prepared]:
    """Prepare the images of one patient, in the order of a model's inputs; the first gives the grid of all.

    Parameters
    ----------
    volumes : sequence of Volume
    inputs : sequence of ModelInput
    context : Context
    grid : Geometry, optional
        The grid to use instead.
    """
    for volume, wanted in zip(volumes, inputs, strict=True):
        if volume.components != wanted.channels:
            raise InputError(
                f"{volume.label} has {volume.components} components per voxel; the model's input '{wanted.name}' "
                f"takes {wanted.channels}."
            )
    orders = [storage_order(v.geometry, w.orientation) for v, w in zip(volumes, inputs)]
    stored = [v.reordered(*order) for v, order in zip(volumes, orders)]
    cut = _cut(stored, inputs[0])
    grid = grid or _grid(cut, inputs[0])
    result = []
    for number, (image, wanted, order) in enumerate(zip(stored, inputs, orders)):
        with context.part(number / len(stored), (number + 1) / len(stored)) as part:
            if wanted.intensity_first:
                image = resample_volume(image, cut, "linear")
                image = image.with_array(np.moveaxis(_adjusted(image, wanted), 0, -1))
            on_grid = _resampled(image, grid, wanted.interpolation, part)
            array = _channels(on_grid) if wanted.intensity_first else _adjusted(on_grid, wanted)
        result.append(Prepared(np.ascontiguousarray(array), grid, volumes[number].geometry, order))
    return result


def _channels(volume: Volume) -> np.ndarray:
    """(C, K, J, I)"""
    return np.moveaxis(volume.array, -1, 0) if volume.is_vector else volume.array[None]


def _adjusted(volume: Volume, wanted: ModelInput) -> np.ndarray:
    return apply_intensity(wanted.intensity, np.ascontiguousarray(_channels(volume)))


def _resampled(volume: Volume, grid: Geometry, interpolation: str, context: Context) -> Volume:
    if interpolation == "averaged":
        return resample_volume(_averaged(volume, grid), grid, "linear", context=context)
    if interpolation != "cubic_in_plane":
        return resample_volume(volume, grid, interpolation, context=context)
    axis = _thick_axis(volume.geometry.spacing_kji)
    axis = _thick_axis(grid.spacing_kji) if axis is None else axis
    if axis is None:
        return resample_volume(volume, grid, "cubic", context=context)
    # First within the slices as they are, then to the nearest slice.
    shape = tuple(n if a == axis else m for a, (n, m) in enumerate(zip(volume.geometry.shape, grid.shape)))
    with context.part(0.0, 0.8):
        between = resample_volume(volume, _along(volume.geometry, grid, axis, shape), "cubic", context=context)
    return resample_volume(between, grid, "nearest", context=context)


def _averaged(volume: Volume, grid: Geometry) -> Volume:
    """The image weighted by a triangle that reaches one voxel of ``grid`` to either side, where that is larger."""
    from scipy.ndimage import convolve1d

    array = volume.array
    for axis, factor in enumerate(grid.spacing_kji / volume.geometry.spacing_kji):
        reach = int(np.ceil(factor)) - 1
        if factor > 1 and reach:
            weights = np.maximum(0, 1 - np.abs(np.arange(-reach, reach + 1)) / factor)
            array = convolve1d(array, weights / weights.sum(), axis, np.float32, "nearest")
    return volume.with_array(array)


def _thick_axis(spacing) -> int | None:
    """The array axis across slices that are more than three times as thick as the other spacings."""
    axis = int(np.argmax(spacing))
    others = np.delete(spacing, axis)
    return axis if spacing[axis] > _THICK * others.min() and spacing[axis] > others.max() else None


def _along(own: Geometry, grid: Geometry, axis: int, shape) -> Geometry:
    """A grid with the slices of ``own`` along ``axis`` and the voxels of ``grid`` within them."""
    column = 2 - axis
    matrix = grid.ijk_to_ras.copy()
    matrix[:3, column] = own.ijk_to_ras[:3, column]
    at = own.ijk(grid.origin)
    at[column] = 0
    matrix[:3, 3] = own.ras(at)
    return Geometry(matrix, shape)


def keep_largest(labels: np.ndarray, wanted) -> np.ndarray:
    """``labels`` without the smaller connected parts of the labels in ``wanted``; unchanged where that is empty."""
    if not wanted:
        return labels
    from ..segment.cleanup import largest_component

    result = labels.copy()
    for label in wanted:
        mask = labels == label
        if mask.any():
            result[mask & ~largest_component(mask)] = 0
    return result


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


def _cut(stored: list[Volume], wanted: ModelInput) -> Geometry:
    """The first image's grid, cut to what the model sees of it."""
    first = stored[0]
    if wanted.crop_above is not None:
        values = first.array.mean(axis=3) if first.is_vector else first.array
        inside = values > wanted.crop_above
        if not inside.any():
            raise InputError(f"{first.label} has no voxel above {wanted.crop_above:g}; is it the right image?")
    elif wanted.crop_nonzero:
        inside = np.zeros(first.geometry.shape, bool)
        for volume in stored:
            inside |= resample_volume(volume, first.geometry, "nearest").array.reshape(*inside.shape, -1).any(axis=3)
        if not inside.any():
            raise InputError(f"{first.label} is 0 everywhere; is it the right image?")
    else:
        return first.geometry
    spans = [np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    return first.geometry.cropped(tuple(s[0] for s in spans), tuple(s[1] - s[0] + 1 for s in spans))


def _grid(geometry: Geometry, wanted: ModelInput) -> Geometry:
    spacing, count = geometry.spacing, np.array(geometry.shape[::-1])
    if wanted.fit == "stretch":
        return geometry.resized(wanted.size[::-1])
    if wanted.fit == "within":
        longest = max(n * s / size for n, s, size in zip(count, spacing, wanted.size) if n > 1 or size > 1)
        fitted = [max(1, round(n * s / longest)) if n > 1 else 1 for n, s in zip(count, spacing)]
        return geometry.resized(tuple(fitted[::-1]))
    target = spacing if wanted.spacing_mm is None else np.array(wanted.spacing_mm)
    target = np.where(target > 0, target, spacing)
    if (np.abs(spacing / target - 1) > _SAME_SPACING).any():
        if wanted.align == "first_voxel":
            count = np.rint((count - 1) * spacing / target).astype(int) + 1
            geometry = Geometry.from_spacing(tuple(count[::-1]), target, geometry.origin, geometry.directions)
        else:
            count = np.maximum(1, np.rint(count * spacing / target)).astype(int)
            is_box = wanted.align == "box"
            geometry = geometry.resized(tuple(count[::-1])) if is_box else _rescaled(geometry, target, count)
    if wanted.size is None:
        return geometry
    # Whole voxels, so that an image of the right spacing is not interpolated.
    size, count = np.array(wanted.size[::-1]), np.array(geometry.shape)
    return geometry.cropped(tuple((count - size) // 2), tuple(size))


def _rescaled(geometry: Geometry, spacing, size) -> Geometry:
    """The same box with ``size`` voxels (i, j, k), about the same middle."""
    directions = geometry.directions
    origin = geometry.center - directions @ ((np.asarray(size) - 1) / 2 * spacing)
    return Geometry.from_spacing(tuple(int(n) for n in size[::-1]), spacing, origin, directions)
