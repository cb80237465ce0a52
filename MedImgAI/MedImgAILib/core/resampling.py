"""Volumes and segmentations on another grid, through a transform where one is given.

The work goes slab by slab, on all cores, so that no coordinate array of the whole grid ever exists.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from .context import Context
from .data import Segmentation, Volume
from .errors import InputError
from .geometry import Geometry
from .transforms import CompositeTransform, LinearTransform, Transform

INTERPOLATIONS = {"nearest": 0, "linear": 1, "cubic": 3}
_SLAB_VOXELS = 1 << 20


def affine_of(transform: Transform | None) -> np.ndarray | None:
    """The (4, 4) moving-to-fixed RAS matrix of a transform that is affine as a whole, else None."""
    if transform is None:
        return np.eye(4)
    if isinstance(transform, LinearTransform):
        return transform.matrix
    if isinstance(transform, CompositeTransform):
        result = np.eye(4)
        for part in transform.parts:
            matrix = affine_of(part)
            if matrix is None:
                return None
            result = matrix @ result
        return result
    return None


def resample_volume(
    volume: Volume,
    geometry: Geometry,
    interpolation: str = "linear",
    transform: Transform | None = None,
    outside: float = 0.0,
    context: Context | None = None,
) -> Volume:
    """``volume`` on the grid ``geometry``.

    Parameters
    ----------
    volume : Volume
        Scalar or vector; components are interpolated one by one.
    geometry : Geometry
        Grid of the result, in the transform's fixed space.
    interpolation : "nearest", "linear" or "cubic"
        Cubic is the interpolating cubic B-spline (Unser 1999, IEEE Signal Proc Mag 16:22).
    transform : Transform, optional
        Carries the volume (moving) to the result's (fixed) space.
    outside : float
        Value where the result lies outside the volume. The volume reaches half a voxel beyond its voxel centres.
    context : Context, optional
        Told of the progress; asked about cancel.

    Returns
    -------
    Volume
        Of the same voxel type for nearest, and for linear and cubic float32 (float64 and complex stay).
    """
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"There is no interpolation '{interpolation}'; use {', '.join(INTERPOLATIONS)}.")
    array = volume.array
    order = INTERPOLATIONS[interpolation]
    if order and array.dtype.kind not in "c" and array.dtype != np.float64:
        dtype = np.dtype(np.float32)
    else:
        dtype = array.dtype
    if volume.geometry.same_grid(geometry, 1e-6) and np.array_equal(affine_of(transform), np.eye(4)):
        result = array.astype(dtype)
    else:
        channels = [array] if not volume.is_vector else [array[..., c] for c in range(volume.components)]
        result = np.empty((*geometry.shape, len(channels)), dtype) if volume.is_vector else None
        for number, channel in enumerate(channels):
            with (context or Context()).part(number / len(channels), (number + 1) / len(channels)) as part:
                one = _resample(channel, volume.geometry, geometry, order, transform, outside, dtype, part)
            if result is None:
                result = one
            else:
                result[..., number] = one
    return Volume(result, geometry, name=volume.name, units=volume.units, display=volume.display)


def resample_segmentation(
    segmentation: Segmentation,
    geometry: Geometry,
    transform: Transform | None = None,
    context: Context | None = None,
) -> Segmentation:
    """``segmentation`` on the grid ``geometry``: each voxel takes the label of the nearest one, 0 outside."""
    layers, count = [], len(segmentation.layers)
    for number, layer in enumerate(segmentation.layers):
        with (context or Context()).part(number / count, (number + 1) / count) as part:
            layers.append(resample_labels(layer, segmentation.geometry, geometry, transform, part))
    return replace(segmentation, layers=tuple(layers), geometry=geometry)


def resample_labels(labels, source: Geometry, target: Geometry, transform=None, context=None) -> np.ndarray:
    """A (K, J, I) label image on another grid, by nearest neighbour, 0 outside."""
    volume = Volume(labels.view(np.uint8) if labels.dtype == bool else labels, source)
    result = resample_volume(volume, target, "nearest", transform, 0, context).array
    return result.view(bool) if labels.dtype == bool else result


def _resample(array, source, target, order, transform, outside, dtype, context):
    """One channel: the target's slabs go through patient space into the source's indices."""
    from scipy.ndimage import map_coordinates, spline_filter

    if np.iscomplexobj(array):
        with context.part(0.0, 0.5):
            real = _resample(array.real, source, target, order, transform, outside, array.real.dtype, context)
        with context.part(0.5, 1.0):
            imaginary = _resample(array.imag, source, target, order, transform, 0.0, array.real.dtype, context)
        return (real + 1j * imaginary).astype(dtype)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if order > 1:
        array = spline_filter(array, order, output=np.float64 if dtype == np.float64 else np.float32, mode="mirror")
    affine = affine_of(transform)
    if affine is not None:
        matrix = source.ras_to_ijk @ np.linalg.inv(affine) @ target.ijk_to_ras
        # From (i, j, k) to the array's (k, j, i).
        linear, offset = matrix[2::-1, 2::-1], matrix[2::-1, 3]

    result = np.empty(target.shape, dtype)
    depth = max(1, _SLAB_VOXELS // (target.shape[1] * target.shape[2]))
    limits = np.array(array.shape, float).reshape(3, 1, 1, 1) - 0.5

    def fill(start):
        slab = result[start : start + depth]
        k, j, i = np.ogrid[start : start + len(slab), : target.shape[1], : target.shape[2]]
        if affine is not None:
            places = np.empty((3, *slab.shape))
            for axis in range(3):
                first = linear[axis, 0] * k + offset[axis]
                np.add(first + linear[axis, 1] * j, linear[axis, 2] * i, out=places[axis])
        else:
            index = np.stack(np.broadcast_arrays(i, j, k), axis=-1)
            moving = transform.map_points_inverse(target.ras(index))
            places = np.moveaxis(source.ijk(moving)[..., ::-1], -1, 0)
        beyond = ((places < -0.5 - 1e-6) | (places > limits + 1e-6)).any(axis=0)
        if order <= 1:
            # Up to half a voxel beyond the outermost centre that voxel's value holds; a spline is mirrored. As in ITK.
            np.clip(places, 0, limits - 0.5, out=places)
        value = map_coordinates(array, places, order=order, mode="mirror", prefilter=False, output=dtype)
        value[beyond] = outside
        slab[...] = value

    starts = range(0, target.shape[0], depth)
    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1)) as pool:
        try:
            for number, _ in enumerate(pool.map(fill, starts), start=1):
                context.progress(number / len(starts))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return result
