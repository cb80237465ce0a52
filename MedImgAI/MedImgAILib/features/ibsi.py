"""All features of one region: re-segmentation, grey levels and the families together.

Image Biomarker Standardisation Initiative: manual arXiv:1612.07003; Zwanenburg A et al. Radiology 2020; 295:328-338.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import InputError
from . import ibsi_intensity, ibsi_shape, ibsi_texture

FAMILIES = {
    "morphology": ("Morphology", ibsi_shape.MORPHOLOGY),
    "local": ("Local intensity", ibsi_shape.LOCAL),
    "statistics": ("Intensity statistics", ibsi_intensity.STATISTICS),
    "histogram": ("Intensity histogram", ibsi_intensity.HISTOGRAM),
    "volume_histogram": ("Intensity-volume histogram", ibsi_intensity.VOLUME_HISTOGRAM),
    "glcm": ("Grey level co-occurrence", ibsi_texture.COOCCURRENCE),
    "glrlm": ("Grey level run lengths", ibsi_texture.RUNS),
    "glszm": ("Grey level size zones", ibsi_texture.SIZE_ZONES),
    "gldzm": ("Grey level distance zones", ibsi_texture.DISTANCE_ZONES),
    "ngtdm": ("Neighbourhood grey tone differences", ibsi_texture.TONE_DIFFERENCES),
    "ngldm": ("Neighbouring grey level dependences", ibsi_texture.DEPENDENCES),
}
"""Family → its title and its features with the manual's codes."""

CODES = {name: code for _, names in FAMILIES.values() for name, code in names.items()}
SHAPE_ONLY = tuple(
    name for name in ibsi_shape.MORPHOLOGY
    if name not in ("morph_centre_of_mass_shift_mm", "morph_integrated_intensity", "morph_moran_i", "morph_geary_c")
)  # fmt: skip
"""Features that do not look at intensities."""

_MOST_LEVELS = 2048
_FINE_LEVELS = 1000
"""Levels of the intensity-volume histogram where intensities have no unit."""


@dataclass(frozen=True)
class Settings:
    """How intensities become grey levels, and how matrices are combined.

    Parameters
    ----------
    discretisation : "number" or "size"
        A fixed number of bins between the region's extremes, or bins of a fixed size.
    bins : int
    bin_size : float
        In the image's unit.
    limits : (low, high), optional
        Intensities outside are not counted; the first bin of fixed size begins at ``low``.
    outlier_sigma : float
        Intensities farther from the mean than so many standard deviations are not counted; 0 counts all.
    aggregation : str
        One of :data:`.ibsi_matrices.AGGREGATIONS`.
    calibrated : bool
        Whether the intensities have a unit: the intensity-volume histogram then keeps them.
    """

    discretisation: str = "number"
    bins: int = 32
    bin_size: float = 25.0
    limits: tuple[float, float] | None = None
    outlier_sigma: float = 0.0
    aggregation: str = "3d_merged"
    calibrated: bool = False


def region_features(image: np.ndarray, region: np.ndarray, spacing_kji, settings: Settings) -> dict[str, float]:
    """Every feature of :data:`CODES` for one region.

    Parameters
    ----------
    image : (K, J, I) ndarray
        Reaching beyond the region where it can, for the local intensity.
    region : (K, J, I) bool
    spacing_kji : (3,) array_like
        Voxel size in mm; slices are those of the first axis.
    settings : Settings

    Returns
    -------
    dict
        NaN where a feature is not defined, as for the texture of a single voxel.

    Raises
    ------
    InputError
        If no voxel is left, or the grey levels would be too many.
    """
    mask = counted(image, region, settings)
    if not mask.any():
        raise InputError("no voxel of it has an intensity that counts.")
    result = ibsi_shape.morphology(*_cut(image, region, mask), spacing_kji)
    result |= ibsi_shape.local_intensity(image, mask, spacing_kji)
    image, region, mask = _cut(image, region, mask)
    values = image[mask].astype(np.float64)
    result |= ibsi_intensity.statistics(values)
    grey, count = grey_levels(values, settings)
    result |= ibsi_intensity.histogram(grey, count)
    result |= ibsi_intensity.volume_histogram(*_fine(image, values, settings))
    levels = np.zeros(image.shape, np.int32)
    levels[mask] = grey
    result |= ibsi_texture.texture(levels, region, count, settings.aggregation)
    return {name: result[name] for name in CODES}


def counted(image, region, settings: Settings) -> np.ndarray:
    """(K, J, I) bool: the voxels of the region whose intensities count (the intensity mask of the manual)."""
    mask = region
    if settings.limits is not None:
        mask = mask & (image >= settings.limits[0]) & (image <= settings.limits[1])
    if settings.outlier_sigma > 0 and mask.any():
        values = image[mask].astype(np.float64)
        reach = settings.outlier_sigma * values.std()
        mask = mask & (np.abs(image - values.mean()) <= reach + 1e-9 * max(1.0, abs(values.mean())))
    return mask


def grey_levels(values: np.ndarray, settings: Settings) -> tuple[np.ndarray, int]:
    """(N,) grey levels from 1 on, and how many there are.

    Raises
    ------
    InputError
        If bins of the given size would be too many.
    """
    low, high = float(values.min()), float(values.max())
    if settings.discretisation == "number":
        if not high > low:
            return np.ones(len(values), np.int64), 1
        levels = np.floor(settings.bins * ((values - low) / (high - low))).astype(np.int64) + 1
        return np.minimum(levels, settings.bins), settings.bins
    start = low if settings.limits is None else settings.limits[0]
    if (high - start) / settings.bin_size > _MOST_LEVELS:
        raise InputError(
            f"its intensities from {start:g} to {high:g} would make more than {_MOST_LEVELS} bins of "
            f"{settings.bin_size:g}; choose larger ones."
        )
    levels = np.floor((values - start) / settings.bin_size).astype(np.int64) + 1
    return levels, int(levels.max())


def _fine(image, values, settings: Settings):
    """Intensities at the discretisation of the intensity-volume histogram, its ends and its step."""
    low, high = float(values.min()), float(values.max())
    if not settings.calibrated:
        fine = Settings(bins=_FINE_LEVELS)
        return grey_levels(values, fine)[0], 1.0, float(_FINE_LEVELS), 1.0
    if settings.limits is not None:
        low, high = settings.limits
    if image.dtype.kind in "iu":
        return values, np.ceil(low), np.floor(high), 1.0
    if not high > low:
        return values, low, high, 1.0
    step = (high - low) / _FINE_LEVELS
    if settings.discretisation == "size":
        step = min(step, settings.bin_size / 10)
    levels = np.minimum(np.floor((values - low) / step), np.ceil((high - low) / step) - 1)
    return low + (levels + 0.5) * step, low + 0.5 * step, high - 0.5 * step, step


def _cut(image, region, mask):
    """The three arrays within the region's box."""
    spans = [np.flatnonzero(region.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    box = tuple(slice(s[0], s[1] + 1) for s in spans)
    return image[box], region[box], mask[box]
