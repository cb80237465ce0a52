"""Distances between the surfaces of two masks, in mm, each on its own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Geometry


def surface(mask: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The voxel faces between a mask and its background.

    Parameters
    ----------
    mask : (K, J, I) bool
        What lies outside the array is background.
    geometry : Geometry
        Oblique, anisotropic and sheared grids are fine.

    Returns
    -------
    centers : (N, 3) ndarray
        The faces' centres, RAS in mm.
    areas : (N,) ndarray
        Their areas in mm².
    """
    ijk, areas = [], []
    columns = geometry.ijk_to_ras[:3, :3].T
    for axis in range(3):
        widths = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        faces = np.argwhere(np.diff(np.pad(mask, widths), axis=axis))
        # Difference n along the axis lies between voxels n-1 and n.
        place = faces[:, ::-1].astype(np.float64)
        place[:, 2 - axis] -= 0.5
        ijk.append(place)
        others = [columns[a] for a in range(3) if a != 2 - axis]
        areas.append(np.full(len(faces), np.linalg.norm(np.cross(*others))))
    return geometry.ras(np.concatenate(ijk)), np.concatenate(areas)


@dataclass(frozen=True)
class SurfaceDistances:
    """Summary of the distances between two surfaces, in mm; ``surface_dice`` is a fraction."""

    hausdorff: float
    hausdorff_95: float
    mean: float
    surface_dice: float


def surface_distances(first, second, tolerance_mm: float) -> SurfaceDistances:
    """Compare two surfaces as :func:`surface` gives them.

    Every face's distance to the nearest face of the other surface counts with the face's area
    (Nikolov et al. 2021, J Med Internet Res 23:e26151). ``hausdorff`` is the largest distance in either direction,
    ``hausdorff_95`` the larger of the two directions' 95th percentiles, ``mean`` the average over both surfaces,
    ``surface_dice`` the part of both surfaces within ``tolerance_mm`` of the other.

    Two empty surfaces agree perfectly (distances 0, surface Dice 1); if one is empty the distances are infinite
    and the surface Dice is 0.
    """
    from scipy.spatial import cKDTree

    (places_1, areas_1), (places_2, areas_2) = first, second
    if not len(places_1) or not len(places_2):
        if len(places_1) == len(places_2):
            return SurfaceDistances(0.0, 0.0, 0.0, 1.0)
        return SurfaceDistances(np.inf, np.inf, np.inf, 0.0)
    to_second = cKDTree(places_2).query(places_1, workers=-1)[0]
    to_first = cKDTree(places_1).query(places_2, workers=-1)[0]
    area = areas_1.sum() + areas_2.sum()
    # A face exactly at the tolerance counts as within it, whatever the rounding.
    limit = tolerance_mm * (1 + 1e-9) + 1e-6
    within = areas_1[to_second <= limit].sum() + areas_2[to_first <= limit].sum()
    return SurfaceDistances(
        float(max(to_second.max(), to_first.max())),
        max(_percentile(to_second, areas_1, 0.95), _percentile(to_first, areas_2, 0.95)),
        float((to_second @ areas_1 + to_first @ areas_2) / area),
        float(within / area),
    )


def _percentile(values, weights, fraction) -> float:
    """The smallest value that at least ``fraction`` of the total weight does not exceed."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    position = np.searchsorted(cumulative, fraction * cumulative[-1] * (1 - 1e-12))
    return float(values[order][position])
