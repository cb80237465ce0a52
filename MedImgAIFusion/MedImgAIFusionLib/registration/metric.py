"""How alike two images are at sampled points, with the derivative by position.

Every metric takes the moving image's values at the mapped points and returns a value to maximise together with its
derivative by each of those values.
"""

from __future__ import annotations

import numpy as np

from . import point_kernels
from .compiled import compiled

_TOLERANCE = np.float32(1e-4)
"""Voxels by which rounding may carry a point past the outermost voxel centre."""
_NO_MASK = np.ones((1, 1, 1), bool)


class Sampler:
    """Trilinear interpolation with its exact gradient.

    Parameters
    ----------
    array : (K, J, I) float32 ndarray
    mask : (K, J, I) bool ndarray, optional
        Points whose nearest voxel is False count as outside.
    """

    def __init__(self, array, mask=None):
        self._array = np.ascontiguousarray(array, np.float32)
        self._kernel = compiled(point_kernels.sample)
        self._mask = mask
        if self._kernel:
            return
        padded = np.pad(array, [(0, 1 if n == 1 else 0) for n in array.shape], mode="edge")
        self._flat = np.ascontiguousarray(padded, np.float32).reshape(-1)
        self._last = np.array(padded.shape)[:, None] - 2
        self._extent = np.array(array.shape, np.float32)[:, None] - 1
        self._strides = (padded.shape[1] * padded.shape[2], padded.shape[2], 1)

    def __call__(self, kji: np.ndarray):
        """Values and gradients at (3, N) fractional indices (k, j, i).

        Returns
        -------
        inside : (N,) bool
        values : (n,) float32 at the n points inside
        gradients : (3, n) float32 derivative by k, j and i
        """
        kji = kji.astype(np.float32, copy=False)
        if self._kernel:
            return self._compiled(kji)
        inside = ((kji >= -_TOLERANCE) & (kji <= self._extent + _TOLERANCE)).all(axis=0)
        if self._mask is not None:
            near = np.rint(np.clip(kji, 0, self._extent)).astype(np.intp)
            inside &= self._mask[tuple(near)]
        if not inside.all():
            kji = kji[:, inside]
        kji = np.clip(kji, 0, self._extent)
        base = np.minimum(kji.astype(np.int32), self._last)
        z, y, x = kji - base.astype(np.float32)
        plane, row, _ = self._strides
        corner = base[0].astype(np.intp) * plane + base[1] * row + base[2]
        rows = []
        for shift in (0, row, plane, plane + row):
            left, right = self._flat.take(corner + shift), self._flat.take(corner + (shift + 1))
            right -= left
            left += right * x
            rows.append((left, right))
        (v00, d00), (v01, d01), (v10, d10), (v11, d11) = rows
        across_low, across_high = v01 - v00, v11 - v10
        low, high = v00 + across_low * y, v10 + across_high * y
        by_z = high - low
        slope_low, slope_high = d00 + (d01 - d00) * y, d10 + (d11 - d10) * y
        gradients = np.stack(
            [by_z, across_low + (across_high - across_low) * z, slope_low + (slope_high - slope_low) * z]
        )
        return inside, low + by_z * z, gradients

    def _compiled(self, kji):
        inside = np.empty(kji.shape[1], bool)
        values, gradients = np.empty(len(inside), np.float32), np.empty((3, len(inside)), np.float32)
        mask = _NO_MASK if self._mask is None else self._mask
        where = np.ascontiguousarray(kji)
        count = self._kernel(self._array, mask, mask is not _NO_MASK, where, _TOLERANCE, inside, values, gradients)
        return inside, values[:count], np.ascontiguousarray(gradients[:, :count])


def placed(linear, offset, points) -> np.ndarray:
    """(3, N) float32 linear @ points + offset."""
    if kernel := compiled(point_kernels.place):
        kji = np.empty(points.shape, np.float32)
        kernel(linear, offset, points, kji)
        return kji
    return linear @ points + offset[:, None]


def moments(gradients, slopes, points, inside):
    """The sums over the points inside of slope · gradient ⊗ point, (3, 3), and of slope · gradient, (3,).

    Parameters
    ----------
    gradients, slopes : (3, n) and (n,), of the n points inside
    points : (3, N)
    inside : (N,) bool
    """
    if kernel := compiled(point_kernels.moments):
        by_linear, by_shift = np.zeros((3, 3)), np.zeros(3)
        kernel(gradients, np.asarray(slopes, np.float32), points, inside, by_linear, by_shift)
        return by_linear, by_shift
    pulls = gradients * slopes
    where = points if inside.all() else points[:, inside]
    return pulls @ where.T, pulls.sum(axis=1, dtype=np.float64)


class MutualInformation:
    """Mutual information by Parzen windows: a box for the fixed, a cubic B-spline for the moving image.

    Mattes et al. 2003, IEEE Trans Med Imaging 22:120, with analytic derivative (Thévenaz & Unser 2000).

    Parameters
    ----------
    fixed : (N,) fixed intensities
    fixed_range, moving_range : (low, high)
    bins : int
    """

    name = "mutual information"

    def __init__(self, fixed, fixed_range, moving_range, bins):
        self.bins = bins
        low, high = fixed_range
        self._fixed = np.clip((fixed - low) * (bins / (high - low)), 0, bins - 1).astype(np.intp)
        self._low = np.float32(moving_range[0])
        self._scale = np.float32((bins - 1) / (moving_range[1] - moving_range[0]))

    def __call__(self, inside, values):
        """Value in nat and its derivative by each of the (n,) moving values at the points inside."""
        if kernel := compiled(point_kernels.histogram):
            return self._compiled(kernel, inside, values)
        width = self.bins + 3
        place = np.clip((values - self._low) * self._scale, 0, self.bins - 1) + 1
        whole = place.astype(np.intp)
        u = place - whole.astype(np.float32)
        weights = cubic_weights(u)
        start = self._fixed[inside] * width + (whole - 1)
        joint = np.zeros(self.bins * width)
        for n in range(4):
            joint += np.bincount(start + n, weights[n], minlength=joint.size)
        count = len(values)
        value, by_table = self._of_table(joint.reshape(self.bins, width) / count)
        ratio_flat = by_table.astype(np.float32).ravel()
        slopes = _cubic_slopes(u)
        derivative = sum(ratio_flat.take(start + n) * slopes[n] for n in range(4)) * (self._scale / np.float32(count))
        return value, derivative

    def _compiled(self, kernel, inside, values):
        joint = np.zeros((self.bins, self.bins + 3))
        place = self._fixed, inside, np.ascontiguousarray(values, np.float32), self._low, self._scale, self.bins
        kernel(*place, joint)
        value, by_table = self._of_table(joint / len(values))
        derivative = np.empty(len(values), np.float32)
        compiled(point_kernels.histogram_slopes)(*place, by_table.astype(np.float32), derivative)
        derivative *= self._scale / np.float32(len(values))
        return value, derivative

    def _of_table(self, table):
        """The value and its derivative by the (bins, bins + 3) joint probabilities."""
        ratio = np.zeros_like(table)
        expected = table.sum(1)[:, None] * table.sum(0)
        full = table > 1e-12
        ratio[full] = np.log(table[full] / expected[full])
        return self._likeness(table, ratio)

    def _likeness(self, table, ratio):
        """The value, and its derivative by the joint probabilities up to a constant."""
        return float((table * ratio).sum()), ratio


def cubic_weights(u):
    v = 1 - u
    uu, vv = u * u, v * v
    return vv * v / 6, (uu * (3 * u - 6) + 4) / 6, (vv * (3 * v - 6) + 4) / 6, uu * u / 6


def _cubic_slopes(u):
    v = 1 - u
    return v * v * -0.5, u * (1.5 * u - 2), v * (2 - 1.5 * v), u * u * 0.5


class Correlation:
    """Squared Pearson correlation: for images of the same contrast; the sign does not matter."""

    name = "squared correlation"

    def __init__(self, fixed, fixed_range, moving_range, bins):
        self._fixed = fixed.astype(np.float64)

    def __call__(self, inside, values):
        f = self._fixed[inside]
        values = values.astype(np.float64)
        f = f - f.mean()
        m = values - values.mean()
        ff, mm, fm = f @ f, m @ m, f @ m
        if ff <= 0 or mm <= 0:
            return 0.0, np.zeros_like(values)
        return float(fm**2 / (ff * mm)), 2 * fm / (ff * mm) * (f - fm / mm * m)


class NormalizedMutualInformation(MutualInformation):
    """(H(a) + H(b)) / H(a, b) − 1 by the same Parzen windows: less drawn to a changing overlap than plain information.

    Studholme et al. 1999, Pattern Recognit 32:71. 0 for independent images.
    """

    name = "normalised mutual information − 1"

    def _likeness(self, table, ratio):
        full = table > 1e-12
        logarithm = np.zeros_like(table)
        logarithm[full] = np.log(table[full])
        entropy = max(-float((table * logarithm).sum()), 1e-12)
        value = float((table * ratio).sum()) / entropy
        # d(I/H) = dI/H − I dH/H², with dH = −log p.
        return value, (ratio + value * logarithm) / entropy


class MeanSquares:
    """One less the mean squared difference over the fixed image's variance: for images of the same intensities."""

    name = "1 − mean squared difference / variance"

    def __init__(self, fixed, fixed_range, moving_range, bins):
        self._fixed = fixed.astype(np.float64)
        self._scale = 1 / max(float(self._fixed.var()), 1e-12)

    def __call__(self, inside, values):
        apart = values - self._fixed[inside]
        return 1 - self._scale * float((apart**2).mean()), (-2 * self._scale / len(values)) * apart


METRICS = {
    "mutual_information": MutualInformation,
    "normalized_mutual_information": NormalizedMutualInformation,
    "correlation": Correlation,
    "mean_squares": MeanSquares,
}
