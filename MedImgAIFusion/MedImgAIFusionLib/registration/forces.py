"""What pulls two images together at each voxel: the derivative of a likeness by the voxels' values of either.

Every force takes two (K, J, I) float32 images on the same grid with intensities of about 0…1 and the voxels' weights,
and returns the likeness, to be maximised, and its derivatives by the first and by the second image (up to a factor).
"""

from __future__ import annotations

import numpy as np

from .fields import difference
from .metric import MutualInformation

FLAT = np.float32(1e-5)
"""Variances below this (of intensities 0…1) count as noise, so that empty regions do not pull."""


def local_correlation(first, second, weights, radius, relative=None):
    """Squared correlation within a box about each voxel: for any contrast that is related locally.

    Avants et al. 2008, Med Image Anal 12:26; derivative at the boxes' centres, as there.

    Parameters
    ----------
    first, second : (K, J, I) float32
    weights : (K, J, I) float32
        0 where nothing counts.
    radius : (3,) int
        Half width of the box along k, j, i.
    """
    from scipy.ndimage import uniform_filter

    size = [2 * r + 1 for r in radius]

    def mean(values):
        return uniform_filter(values, size, mode="nearest")

    a, b = mean(first), mean(second)
    # The products need about seven digits; images of 0…1 in float32 have them if the mean is taken off before.
    aa = np.maximum(mean(first * first) - a * a, 0)
    bb = np.maximum(mean(second * second) - b * b, 0)
    ab = mean(first * second) - a * b
    product = (aa + FLAT) * (bb + FLAT)
    shared = ab / product
    np.subtract(first, a, out=a)
    np.subtract(second, b, out=b)
    value = float((ab * shared * weights).sum() / max(weights.sum(), 1e-6))
    shared *= weights
    return value, shared * (b - ab / (aa + FLAT) * a), shared * (a - ab / (bb + FLAT) * b)


def mean_squares(first, second, weights, radius, relative=None):
    """Negative mean squared difference, for images of the same contrast; the force of Thirion's demons."""
    apart = (first - second) * weights
    return -float((apart * apart).sum() / max(float(weights.sum()), 1e-6)), -apart, apart


def mutual_information(first, second, weights, radius, relative=None, bins: int = 32):
    """Mattes' mutual information of all voxels: for images of unrelated contrast."""
    inside = weights > 0.5
    results = []
    for fixed, moving in ((second, first), (first, second)):
        likeness = MutualInformation(fixed[inside], (0.0, 1.0), (0.0, 1.0), bins)
        value, slopes = likeness(np.ones(int(inside.sum()), bool), moving[inside])
        whole = np.zeros(first.shape, np.float32)
        whole[inside] = slopes
        results.append(whole)
    return value, *results


def normalized_gradients(first, second, weights, radius, relative=(1, 1, 1)):
    """Normalised gradient fields: whether edges run alike, whatever their strength and sign.

    Mean of (a · b)² / ((a² + 1) (b² + 1)), a and b the gradients over their mean size (Haber & Modersitzki 2007,
    Methods Inf Med 46:292). ``relative``: one over the spacing along k, j, i, up to a common factor.
    """
    edges, scales = [], []
    for image in (first, second):
        edge = np.stack([difference(image, axis) * np.float32(relative[axis]) for axis in range(3)])
        scales.append(np.float32(1 / max(float(np.sqrt((edge**2).sum(axis=0)).mean()), 1e-12)))
        edges.append(edge * scales[-1])
    sizes = [(edge**2).sum(axis=0) + 1 for edge in edges]
    along = (edges[0] * edges[1]).sum(axis=0)
    common = weights * along / (sizes[0] * sizes[1])
    slopes = []
    for own, other in ((0, 1), (1, 0)):
        by_edge = common * (edges[other] - along / sizes[own] * edges[own])
        # The adjoint of a central difference is its negative.
        slope = -sum(difference(by_edge[axis], axis) * np.float32(relative[axis]) for axis in range(3))
        slopes.append(2 * scales[own] * slope)
    return float((common * along).sum() / max(weights.sum(), 1e-6)), *slopes


FORCES = {
    "local_correlation": local_correlation,
    "mean_squares": mean_squares,
    "mutual_information": mutual_information,
    "normalized_gradients": normalized_gradients,
}
NAMES = {
    "local_correlation": "squared local correlation",
    "mean_squares": "negative mean squared difference",
    "mutual_information": "mutual information",
    "normalized_gradients": "normalised gradient fields",
}
"""How charts call each likeness."""
