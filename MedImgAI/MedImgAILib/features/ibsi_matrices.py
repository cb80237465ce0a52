"""Texture matrices of a region whose intensities are grey levels 1…N, and 0 outside.

Each function gives the matrices of one aggregation as the manual of the Image Biomarker Standardisation Initiative
(arXiv:1612.07003) defines them. A matrix of runs, zones or dependences is kept as the list of its entries: grey level,
length (or size, distance, count) and how often both occur.
"""

from __future__ import annotations

from itertools import product

import numpy as np

AGGREGATIONS = {
    "3d_merged": "3-D, directions merged",
    "3d_averaged": "3-D, averaged over directions",
    "2.5d_merged": "2.5-D, slices and directions merged",
    "2.5d_averaged": "2.5-D, slices merged, averaged over directions",
    "2d_merged": "2-D, directions merged, averaged over slices",
    "2d_averaged": "2-D, averaged over slices and directions",
}
"""In the manual: IAZD, ITBB, ZW7Z, JJUI, SUJT and BTW3; zones and neighbours know 3-D, 2.5-D and 2-D only."""

_HALF = tuple(d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
_IN_PLANE = tuple(d for d in _HALF if d[0] == 0)

Entries = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Grey levels, lengths, how often both occur, and the number of voxels that the matrix was made from."""


def _slices(levels, aggregation):
    """The parts of the region that are treated by themselves."""
    if not aggregation.startswith("2d"):
        return [levels]
    return [levels[k : k + 1] for k in range(len(levels)) if levels[k].any()]


def _directions(aggregation):
    return _HALF if aggregation.startswith("3d") else _IN_PLANE


def _shifted(levels, direction):
    """Two views of the array: the voxels, and their neighbours in the direction."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(direction, levels.shape))
    there = tuple(slice(max(0, d), n + min(0, d)) for d, n in zip(direction, levels.shape))
    return levels[here], levels[there]


def cooccurrence(levels: np.ndarray, count: int, aggregation: str) -> list[np.ndarray]:
    """Symmetric (N, N) matrices of neighbouring grey levels at Chebyshev distance 1; those without a pair are left out.

    Parameters
    ----------
    levels : (K, J, I) int
        Slices are those of the first axis.
    count : int
        N.
    aggregation : one of :data:`AGGREGATIONS`
    """
    result = []
    for part in _slices(levels, aggregation):
        matrices = []
        for direction in _directions(aggregation):
            one, other = _shifted(part, direction)
            both = (one > 0) & (other > 0)
            pairs = (one[both].astype(np.int64) - 1) * count + other[both] - 1
            matrix = np.bincount(pairs, minlength=count * count).reshape(count, count)
            matrices.append(matrix + matrix.T)
        result += [sum(matrices)] if aggregation.endswith("merged") else matrices
    return [matrix for matrix in result if matrix.any()]


def run_lengths(levels: np.ndarray, aggregation: str) -> list[Entries]:
    """Runs of voxels with the same grey level along each direction; see :func:`cooccurrence`."""
    result = []
    for part in _slices(levels, aggregation):
        voxels = int(np.count_nonzero(part))
        runs = [_runs(part, direction) for direction in _directions(aggregation)]
        if aggregation.endswith("merged"):
            merged = (np.concatenate(column) for column in zip(*runs))
            result.append((*_counted(*merged), voxels * len(runs)))
        else:
            result += [(*_counted(*run), voxels) for run in runs]
    return result


def _runs(levels, direction):
    """Grey level and length of every run."""
    padded = np.pad(levels, 1)
    step = int(np.dot(direction, [padded.shape[1] * padded.shape[2], padded.shape[2], 1]))
    flat = padded.ravel()
    inside = np.flatnonzero(flat)
    starts = inside[flat[inside - step] != flat[inside]]
    grey, lengths = flat[starts], np.ones(len(starts), np.int64)
    running, at = np.arange(len(starts)), starts
    while len(running):
        at = at + step
        goes_on = flat[at] == grey[running]
        running, at = running[goes_on], at[goes_on]
        lengths[running] += 1
    return grey, lengths


def _counted(grey, lengths):
    """The distinct pairs and how often each occurs."""
    base = int(lengths.max(initial=0)) + 1
    codes, times = np.unique(grey.astype(np.int64) * base + lengths, return_counts=True)
    return codes // base, codes % base, times


def size_zones(levels: np.ndarray, aggregation: str) -> list[Entries]:
    """Zones of connected voxels (26 neighbours, in a slice 8) with the same grey level, by size."""
    return _zone_matrices(levels, None, aggregation)


def distance_zones(levels: np.ndarray, shape_mask: np.ndarray, aggregation: str) -> list[Entries]:
    """The same zones by their distance to the region's edge, in steps over faces (in a slice, over edges)."""
    return _zone_matrices(levels, _edge_distance(shape_mask, not aggregation.startswith("3d")), aggregation)


def _zone_matrices(levels, distance, aggregation):
    flat = not aggregation.startswith("3d")
    zones, grey = _zones(levels, flat)
    inside = zones > 0
    numbers = zones[inside] - 1
    if distance is None:
        lengths = np.bincount(numbers, minlength=len(grey))
    else:
        lengths = np.full(len(grey), np.iinfo(np.int64).max)
        np.minimum.at(lengths, numbers, distance[inside])
    if not aggregation.startswith("2d"):
        return [(*_counted(grey, lengths), int(inside.sum()))]
    plane = np.zeros(len(grey), np.intp)
    plane[numbers] = np.nonzero(inside)[0]
    per_plane = np.count_nonzero(inside, axis=(1, 2))
    return [
        (*_counted(grey[plane == k], lengths[plane == k]), int(per_plane[k])) for k in np.flatnonzero(per_plane)
    ]  # fmt: skip


def _zones(levels, flat):
    """(K, J, I) numbers of the zones from 1 on, and the (Z,) grey level of each."""
    from scipy.ndimage import find_objects, label

    structure = np.ones((3, 3, 3), bool)
    if flat:
        structure[[0, 2]] = False
    zones, grey = np.zeros(levels.shape, np.int64), []
    for level, box in enumerate(find_objects(levels), start=1):
        if box is None:
            continue
        found, count = label(levels[box] == level, structure)
        zones[box][found > 0] = found[found > 0] + len(grey)
        grey += [level] * count
    return zones, np.array(grey, np.int64)


def _edge_distance(mask, flat):
    """How many steps lead out of the mask: 1 at its edge."""
    from scipy.ndimage import distance_transform_cdt

    if not flat:
        return distance_transform_cdt(np.pad(mask, 1), "taxicab")[1:-1, 1:-1, 1:-1]
    planes = [distance_transform_cdt(np.pad(plane, 1), "taxicab")[1:-1, 1:-1] for plane in mask]
    return np.stack(planes)


def _neighbours(levels, aggregation):
    """For each direction to a neighbour, both ways: views of the voxels and of the neighbours."""
    for direction in _directions(aggregation):
        for sign in (1, -1):
            turned = tuple(sign * d for d in direction)
            here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(turned, levels.shape))
            yield here, _shifted(levels, turned)


def tone_differences(levels: np.ndarray, count: int, aggregation: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(N,) numbers of voxels with neighbours and (N,) sums of their differences from the neighbours' mean."""
    sums, around = np.zeros(levels.shape), np.zeros(levels.shape, np.int64)
    for here, (_, other) in _neighbours(levels, aggregation):
        sums[here] += other
        around[here] += other > 0
    valid = (levels > 0) & (around > 0)
    difference = np.zeros(levels.shape)
    difference[valid] = np.abs(levels[valid] - sums[valid] / around[valid])
    slices = [slice(None)]
    if aggregation.startswith("2d"):
        slices = [slice(k, k + 1) for k in range(len(levels)) if valid[k].any()]
    result = []
    for part in slices:
        grey = levels[part][valid[part]]
        numbers = np.bincount(grey, minlength=count + 1)[1:]
        result.append((numbers, np.bincount(grey, difference[part][valid[part]], minlength=count + 1)[1:]))
    return result


def dependences(levels: np.ndarray, aggregation: str) -> list[Entries]:
    """How many neighbours have the same grey level as a voxel, the voxel counted in (coarseness 0, distance 1)."""
    alike = np.ones(levels.shape, np.int64)
    for here, (one, other) in _neighbours(levels, aggregation):
        alike[here] += (one == other) & (one > 0)
    result = []
    slices = range(len(levels)) if aggregation.startswith("2d") else [slice(None)]
    for part in slices:
        inside = levels[part] > 0
        if inside.any():
            result.append((*_counted(levels[part][inside], alike[part][inside]), int(inside.sum())))
    return result
