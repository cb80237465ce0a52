"""Joint label fusion: atlases vote where their images look like the target; those that err together share a vote."""

from __future__ import annotations

import functools
import itertools

import numpy as np

_CHUNK = 2048
_LEAST_VARIANCE = 1e-6


def steps_within(radius) -> np.ndarray:
    """(N, 3) integer steps (k, j, i) of a box that reaches ``radius`` voxels along each axis, the nearest first."""
    steps = np.array(list(itertools.product(*(range(-r, r + 1) for r in radius))))
    return steps[np.argsort((steps**2).sum(axis=1), kind="stable")]


def best_matches(target, image, places, patch_radius, search_radius, check=None) -> np.ndarray:
    """The step from every place to the patch of an atlas nearby that looks most like the target's patch there.

    Patches are compared by their correlation, which orders them as the squared difference of patches with mean 0 and
    variance 1 does.

    Parameters
    ----------
    target, image : (K, J, I) float32
        Padded by patch and search radius around all places; about mean 0 and variance 1.
    places : (N, 3) int
    patch_radius, search_radius : (k, j, i) int
    check : callable, optional
        Called for every step.

    Returns
    -------
    (N, 3) int
    """
    from scipy.ndimage import uniform_filter

    def mean(values):
        return uniform_filter(values, [2 * r + 1 for r in patch_radius], mode="nearest")

    low, high = places.min(axis=0), places.max(axis=0) + 1
    at = tuple((places - low).T)
    patch = np.array(patch_radius)
    inner = tuple(slice(r, -r or None) for r in patch_radius)

    def box(array, step, margin=0):
        """The box around all places, moved by a step and widened."""
        return array[tuple(slice(a, b) for a, b in zip(low + step - margin, high + step + margin, strict=True))]

    own = np.ascontiguousarray(box(target, 0, patch))
    own_mean = mean(own)[inner][at]
    average = mean(image)
    deviation = np.sqrt(np.maximum(mean(image * image) - average**2, _LEAST_VARIANCE))
    best, result = np.full(len(places), -np.inf, np.float32), np.zeros((len(places), 3), np.int16)
    for step in steps_within(search_radius):
        if check is not None:
            check()
        shared = mean(own * box(image, step, patch))[inner][at] - own_mean * box(average, step)[at]
        quality = shared / box(deviation, step)[at]
        # A farther step must be better beyond rounding.
        better = quality > best + 1e-5
        best[better], result[better] = quality[better], step
    return result


def weights_of(differences: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Weights that make the expected error of the joint vote least (Wang et al. 2013, equations 6 to 11).

    Parameters
    ----------
    differences : (N, A, P)
        Absolute differences of the atlases' patches from the target's.
    alpha, beta : float
        Added to the diagonal; power of the pairwise errors.

    Returns
    -------
    (N, A)
        Each row adds up to 1; entries may be negative.
    """
    together = differences @ differences.transpose(0, 2, 1) / max(1, differences.shape[2] - 1)
    together = together.astype(np.float64) ** beta
    together[:, np.arange(together.shape[1]), np.arange(together.shape[1])] += alpha
    weights = np.linalg.solve(together, np.ones((*together.shape[:2], 1)))[..., 0]
    return weights / weights.sum(axis=1, keepdims=True)


def fuse(target, images, labels, count, disputed, patch_radius, search_radius, alpha, beta, report=None):
    """Votes for every label at the disputed voxels.

    Every atlas votes at every place with its whole patch, so that neighbours decide together.

    Parameters
    ----------
    target : (K, J, I) float32
    images, labels : A arrays each, (K, J, I) float32 and integers 0…count − 1
    count : int
    disputed : (N, 3) int
    patch_radius, search_radius : (k, j, i) int
    alpha, beta : float
        See :func:`weights_of`.
    report : callable, optional
        Told of the fraction done; may raise to stop.

    Returns
    -------
    votes : (N, count) float64
        Rows add up to 1.
    weight : (A,) float64
        Mean weight of every atlas.
    """
    from scipy.ndimage import grey_dilation

    patch, reach = np.array(patch_radius), np.array(patch_radius) + search_radius
    # All that can be asked for around the places, which are the voxels whose patch holds a disputed one.
    low = disputed.min(axis=0) - patch - reach
    high = disputed.max(axis=0) + 1 + patch + reach
    shape = target.shape
    target, *images = (_cut(array, low, high) for array in (target, *images))
    target, *images = (_standard(array) for array in (target, *images))
    labels = [_cut(array, low, high) for array in labels]
    disputed = disputed - low
    number_of = np.full(target.shape, -1, np.int64)
    number_of[tuple(disputed.T)] = np.arange(len(disputed))
    near = grey_dilation((number_of >= 0).astype(np.uint8), [2 * r + 1 for r in patch_radius]) > 0
    # A voxel repeated beyond the grid is no place of its own.
    for axis, length in enumerate(shape):
        beyond = np.arange(low[axis], high[axis])
        near[(slice(None),) * axis + ((beyond < 0) | (beyond >= length),)] = False
    places = np.argwhere(near)

    matches = []
    for done, image in enumerate(images):
        check = None if report is None else functools.partial(report, 0.6 * done / len(images))
        matches.append(best_matches(target, image, places, patch_radius, search_radius, check))
    around = steps_within(patch_radius)
    votes, weight = np.zeros((len(disputed), count)), np.zeros(len(images))
    for start in range(0, len(places), _CHUNK):
        if report is not None:
            report(0.6 + 0.4 * start / len(places))
        here = places[start : start + _CHUNK, None] + around
        own = _normal(target[tuple(np.moveaxis(here, -1, 0))])
        moved = [here + match[start : start + _CHUNK, None] for match in matches]
        index = [tuple(np.moveaxis(m, -1, 0)) for m in moved]
        differences = np.stack([np.abs(own - _normal(i[n])) for i, n in zip(images, index, strict=True)], axis=1)
        weights = weights_of(differences, alpha, beta)
        weight += weights.sum(axis=0)
        goal = number_of[tuple(np.moveaxis(here, -1, 0))]
        counts = goal >= 0
        for atlas, (layer, n) in enumerate(zip(labels, index, strict=True)):
            said = layer[n][counts].astype(np.int64)
            share = np.broadcast_to(weights[:, atlas, None], goal.shape)[counts]
            votes += np.bincount(goal[counts] * count + said, share, votes.size).reshape(votes.shape)
    return votes / votes.sum(axis=1, keepdims=True), weight / len(places)


def _cut(array, low, high):
    """The box of an array from ``low`` to ``high``, with the outermost voxels repeated where it reaches beyond."""
    index = (np.clip(np.arange(a, b), 0, n - 1) for a, b, n in zip(low, high, array.shape, strict=True))
    return array[np.ix_(*index)]


def _standard(array):
    """Mean 0 and variance 1, in float32; a constant becomes 0."""
    array = array.astype(np.float64)
    array -= array.mean()
    deviation = array.std()
    return (array / deviation if deviation > 0 else array).astype(np.float32)


def _normal(patches):
    """(N, P) patches with mean 0 and variance 1 each."""
    patches = patches - patches.mean(axis=1, keepdims=True)
    return patches / np.sqrt(np.maximum((patches**2).mean(axis=1, keepdims=True), _LEAST_VARIANCE))
