"""Morphology and local intensity of a region, by the manual of the Image Biomarker Standardisation Initiative.

Zwanenburg A, Leger S, Vallières M, Löck S. Image biomarker standardisation initiative. arXiv:1612.07003;
Zwanenburg A et al. Radiology 2020; 295:328-338. Codes in the tables below are the manual's.
"""

from __future__ import annotations

import numpy as np

from .ibsi_mesh import mesh

MORPHOLOGY = {
    "morph_volume_mm3": "RNU0",
    "morph_volume_voxels_mm3": "YEKZ",
    "morph_area_mm2": "C0JK",
    "morph_area_per_volume_per_mm": "2PR5",
    "morph_compactness_1": "SKGS",
    "morph_compactness_2": "BQWJ",
    "morph_spherical_disproportion": "KRCK",
    "morph_sphericity": "QCFX",
    "morph_asphericity": "25C7",
    "morph_centre_of_mass_shift_mm": "KLMA",
    "morph_maximum_diameter_mm": "L0JK",
    "morph_major_axis_mm": "TDIC",
    "morph_minor_axis_mm": "P9VJ",
    "morph_least_axis_mm": "7J51",
    "morph_elongation": "Q3CK",
    "morph_flatness": "N17B",
    "morph_volume_density_box": "PBX1",
    "morph_area_density_box": "R59B",
    "morph_volume_density_ellipsoid": "6BDE",
    "morph_area_density_ellipsoid": "RDD2",
    "morph_volume_density_hull": "R3ER",
    "morph_area_density_hull": "7T7F",
    "morph_integrated_intensity": "99N0",
    "morph_moran_i": "N365",
    "morph_geary_c": "NPT7",
}
"""Name → code. The four features without reference values (oriented box, minimum ellipsoid) are left out."""

LOCAL = {"loc_peak_local": "VJGA", "loc_peak_global": "0F91"}

_PEAK_RADIUS_MM = 10 * (3 / (4 * np.pi)) ** (1 / 3)
"""Of a sphere of 1 cm³."""
_MOST_PAIRS = 3000
"""Vertices of the hull compared with each other at a time."""


def morphology(image: np.ndarray, shape_mask: np.ndarray, mask: np.ndarray, spacing_kji) -> dict[str, float]:
    """Features of :data:`MORPHOLOGY`; the bounding box lies along the axes of the image.

    Parameters
    ----------
    image : (K, J, I) ndarray
    shape_mask, mask : (K, J, I) bool
        The region, and those of its voxels whose intensities count; both have at least one voxel.
    spacing_kji : (3,) array_like
        Voxel size in mm.
    """
    from scipy.spatial import ConvexHull

    spacing = np.asarray(spacing_kji, float)
    surface = mesh(shape_mask, spacing)
    volume, area = surface.volume_mm3, surface.area_mm2
    places = np.argwhere(shape_mask) * spacing
    values = image[mask].astype(np.float64)
    weighted = np.argwhere(mask) * spacing
    total = values.sum()
    shift = np.linalg.norm(places.mean(0) - values @ weighted / total) if total else np.nan
    centred = places - places.mean(0)
    # Rounded, so that a flat region has an axis of exactly 0 however it is stored.
    least, minor, major = np.maximum(np.linalg.eigvalsh(centred.T @ centred / max(1, len(places) - 1)), 0)
    axes = 4 * np.sqrt(np.where(np.array([major, minor, least]) > 1e-9 * max(major, 1e-30), [major, minor, least], 0))
    hull = ConvexHull(surface.vertices)
    corners = surface.vertices[hull.vertices]
    box = np.ptp(corners, axis=0)
    ellipsoid = np.pi / 6 * axes.prod()
    sphere = 36 * np.pi * volume**2
    moran, geary = _autocorrelation(image, mask, spacing)
    found = (
        volume, len(places) * float(spacing.prod()), area, area / volume,
        volume / (np.sqrt(np.pi) * area**1.5), sphere / area**3, (area**3 / sphere) ** (1 / 3),
        (sphere / area**3) ** (1 / 3), (area**3 / sphere) ** (1 / 3) - 1, shift, _diameter(corners), *axes,
        axes[1] / axes[0] if axes[0] else np.nan, axes[2] / axes[0] if axes[0] else np.nan,
        volume / box.prod(), area / (2 * (box[0] * box[1] + box[1] * box[2] + box[2] * box[0])),
        volume / ellipsoid if ellipsoid else np.nan, area / _ellipsoid_area(*axes / 2) if ellipsoid else np.nan,
        volume / hull.volume, area / hull.area, volume * values.mean(), moran, geary,
    )  # fmt: skip
    return {name: float(value) for name, value in zip(MORPHOLOGY, found, strict=True)}


def local_intensity(image: np.ndarray, mask: np.ndarray, spacing_kji) -> dict[str, float]:
    """Features of :data:`LOCAL`: mean in a sphere of 1 cm³ about the brightest voxel, and the greatest such mean.

    ``image`` reaches beyond the region: the spheres do, too.
    """
    from scipy.ndimage import correlate

    spacing = np.asarray(spacing_kji, float)
    reach = np.floor(_PEAK_RADIUS_MM / spacing * (1 + 1e-9)).astype(int)
    # A sphere reaches no farther than the image.
    reach = np.minimum(reach, np.array(image.shape) - 1)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1) * spacing
    sphere = (np.linalg.norm(offsets, axis=-1) <= _PEAK_RADIUS_MM * (1 + 1e-9)).astype(np.float64)
    box = _around(mask, reach)
    part = image[box].astype(np.float64)
    sums = correlate(part, sphere, mode="constant")
    counts = correlate(np.ones_like(part), sphere, mode="constant")
    inside = mask[box]
    means = sums[inside] / counts[inside]
    brightest = part[inside] == part[inside].max()
    return {"loc_peak_local": float(means[brightest].max()), "loc_peak_global": float(means.max())}


def _around(mask, reach):
    """The box of a mask, widened by ``reach`` voxels as far as the array goes."""
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    return tuple(slice(max(0, s[0] - r), s[1] + r + 1) for s, r in zip(spans, reach))


def _diameter(corners: np.ndarray) -> float:
    """The greatest distance between two of (N, 3) positions."""
    longest = 0.0
    for start in range(0, len(corners), _MOST_PAIRS):
        some = corners[start : start + _MOST_PAIRS]
        squares = (some**2).sum(1)[:, None] + (corners**2).sum(1) - 2 * some @ corners.T
        longest = max(longest, float(squares.max()))
    return float(np.sqrt(longest))


def _ellipsoid_area(a: float, b: float, c: float) -> float:
    """Surface area of an ellipsoid with half axes a ≥ b ≥ c by the manual's series, ended after 20 terms."""
    from scipy.special import comb, eval_legendre

    alpha, beta = np.sqrt(1 - (b / a) ** 2), np.sqrt(1 - (c / a) ** 2)
    order = np.arange(21)
    if alpha * beta < 1e-6:
        # Two axes are equal: only the leading power of each polynomial is left.
        terms = (max(alpha, beta) ** 2 / 4) ** order * comb(2 * order, order)
    else:
        terms = (alpha * beta) ** order * eval_legendre(order, (alpha**2 + beta**2) / (2 * alpha * beta))
    return float(4 * np.pi * a * b * (terms / (1 - 4.0 * order**2)).sum())


def _autocorrelation(image, mask, spacing) -> tuple[float, float]:
    """Moran's I and Geary's C with weights 1 / distance over all pairs of voxels, exactly, by Fourier convolution."""
    from scipy.fft import irfftn, next_fast_len, rfftn

    inside = mask.astype(np.float64)
    count = inside.sum()
    values = np.where(mask, image, 0).astype(np.float64)
    values = np.where(mask, values - values.sum() / count, 0.0)
    variation = float((values**2).sum())
    if count < 2 or variation <= 1e-12 * max(1.0, float(np.abs(image[mask]).max()) ** 2):
        return np.nan, np.nan
    shape = [next_fast_len(2 * n - 1, real=True) for n in mask.shape]
    offsets = [np.minimum(np.arange(n), n - np.arange(n)) * s for n, s in zip(shape, spacing)]
    distance = np.sqrt(sum(o**2 for o in np.meshgrid(*offsets, indexing="ij", sparse=True)))
    distance[0, 0, 0] = np.inf
    weights = rfftn(1 / distance, workers=-1)

    def neighbours(array):
        spread = irfftn(rfftn(array, shape, workers=-1) * weights, shape, workers=-1)
        return spread[tuple(slice(0, n) for n in mask.shape)]

    near = neighbours(inside)
    pairs = float((inside * near).sum())
    product = float((values * neighbours(values)).sum())
    squares = float((values**2 * near).sum())
    return count / pairs * product / variation, (count - 1) / pairs * (squares - product) / variation
