"""What the image formats share: stored numbers to voxel values, components to Volume or Sequence, LPS to RAS."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...core import Display, Geometry, InputError, Segment, Segmentation, Sequence, Volume

RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

SUFFIX_CHAINS = (".seg.nrrd", ".seg.nhdr", ".seq.nrrd", ".nii.gz", ".mrk.json")
"""Suffixes of two parts; everything else has one."""


def suffix_of(path) -> str:
    """The lower-case suffix that decides the format: ".nii.gz", ".seg.nrrd", ".nrrd"."""
    name = Path(path).name.lower()
    return next((s for s in SUFFIX_CHAINS if name.endswith(s)), Path(name).suffix)


def stem_of(path) -> str:
    """The file name without :func:`suffix_of`."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(path))] or name


def rescale(array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """``array * slope + intercept`` in a type that holds the result.

    Whole-numbered slopes and intercepts of integers give the smallest of int16, int32 and int64 that holds them all;
    otherwise the result is float32, or float64 where float32 would lose digits of the stored integers.
    """
    if slope == 1 and intercept == 0:
        return array
    if array.dtype.kind in "iu" and float(slope).is_integer() and float(intercept).is_integer():
        low, high = _range_of(array)
        bounds = sorted((low * int(slope) + int(intercept), high * int(slope) + int(intercept)))
        for dtype in (np.int16, np.int32, np.int64):
            limits = np.iinfo(dtype)
            if limits.min <= bounds[0] and bounds[1] <= limits.max and abs(slope) <= limits.max:
                result = array.astype(dtype)
                with np.errstate(over="ignore"):
                    # Wrapping is harmless: sum and product are right modulo 2^n and the result fits.
                    result *= dtype(int(slope))
                    result += np.array(int(intercept) % (1 << (8 * limits.dtype.itemsize))).astype(dtype)
                return result
    if array.dtype.kind == "c":
        return array * slope + intercept
    kind = np.float32 if array.dtype == np.float32 or array.dtype.itemsize <= 2 else np.float64
    with np.errstate(all="ignore"):
        return array.astype(kind) * kind(slope) + kind(intercept)


def _range_of(array: np.ndarray) -> tuple[int, int]:
    """Lowest and highest value the type can hold where that is narrow (so that all slices agree), else those there."""
    if array.dtype.itemsize == 1 or array.size == 0:
        limits = np.iinfo(array.dtype)
        return limits.min, limits.max
    return int(array.min()), int(array.max())


def native(array: np.ndarray) -> np.ndarray:
    """``array`` in this machine's byte order; half floats and booleans in a type that tasks take."""
    dtype = array.dtype.newbyteorder("=")
    if dtype == np.float16:
        dtype = np.dtype(np.float32)
    elif dtype == np.bool_:
        dtype = np.dtype(np.uint8)
    return array if array.dtype == dtype else array.astype(dtype)


def ras_geometry(lps_matrix: np.ndarray, shape) -> Geometry:
    """Geometry from a (4, 4) index-to-LPS matrix (ITK's, NRRD's and DICOM's patient axes)."""
    return Geometry(RAS_FROM_LPS @ lps_matrix, shape)


def as_volume(value, path: Path) -> Volume:
    """A Volume from whatever an image file held.

    Raises
    ------
    InputError
        If it holds several volumes, or overlapping segments.
    """
    if isinstance(value, Sequence):
        if len(value.items) > 1:
            raise InputError(f"'{path.name}' holds {len(value.items)} volumes where one is needed; extract one first.")
        return value.items[0]
    if isinstance(value, Segmentation):
        if len(value.layers) > 1:
            raise InputError(f"'{path.name}' holds overlapping segments, which one label volume cannot show.")
        display = Display(interpolate=False)
        return Volume(value.layers[0], value.geometry, value.name, display=display, provenance=value.provenance)
    return value


def as_sequence(value) -> Sequence:
    """A Sequence from whatever an image file held; one volume is a sequence of one."""
    if isinstance(value, Volume):
        return Sequence((value,), name=value.name, provenance=value.provenance)
    return value


def label_color(number: int) -> tuple[float, float, float]:
    """A colour for label ``number`` ≥ 1: hues by the golden angle, so that neighbours differ."""
    import colorsys

    return tuple(round(c, 3) for c in colorsys.hsv_to_rgb((number * 0.381966) % 1.0, 0.55, 0.9))


def as_segmentation(value, path: Path) -> Segmentation:
    """Segments from a label volume: one for each value that occurs, named "Segment_1", …

    Raises
    ------
    InputError
        If voxels are not whole non-negative numbers, or there are more than 1000 different ones.
    """
    if isinstance(value, Segmentation):
        return value
    volume = as_volume(value, path)
    array = volume.array
    if array.ndim == 4:
        raise InputError(f"'{path.name}' has {volume.components} components per voxel; a label image has one.")
    if array.dtype.kind not in "iu":
        if array.dtype.kind != "f" or not np.array_equal(array, np.rint(array)) or np.abs(array).max() > 32767:
            raise InputError(f"'{path.name}' is no label image: its voxels are not whole numbers.")
        array = array.astype(np.int16)
    values = _values(array)
    if values.size and values[0] < 0:
        raise InputError(f"'{path.name}' is no label image: it has negative voxels.")
    if len(values) > 1000:
        raise InputError(f"'{path.name}' is no label image: it has {len(values)} different values.")
    segments = [Segment(f"Segment_{v}", int(v), label_color(int(v))) for v in values if v]
    return Segmentation((array,), volume.geometry, segments, volume.name, volume.provenance)


def _values(array: np.ndarray) -> np.ndarray:
    """The sorted different values; by counting where the type is narrow, which is many times faster than sorting."""
    if array.dtype == np.uint8:
        return np.flatnonzero(np.bincount(array.ravel(), minlength=256))
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if high - low < 1 << 16:
        return np.flatnonzero(np.bincount((array.astype(np.int64) - low).ravel())) + low
    return np.unique(array)


def spacing_option(spacing_mm, axes: int) -> tuple[float, ...]:
    """``axes`` positive spacings (i, j, k) in mm from one number, a list, or a text such as "0.5,0.5".

    Raises
    ------
    InputError
        If it is not one or enough positive finite numbers.
    """
    if isinstance(spacing_mm, str):
        parts = [p for p in re.split(r"[,; x]+", spacing_mm.strip()) if p]
    else:
        parts = list(np.atleast_1d(spacing_mm))
    try:
        values = [float(p) for p in parts]
    except (TypeError, ValueError):
        values = []
    if len(values) == 1:
        values = values * axes
    if not values or len(values) < axes or len(values) > 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise InputError(
            f"The spacing '{spacing_mm}' is not one or {axes} positive numbers in mm (column, row, slice)."
        )
    return tuple(values)
