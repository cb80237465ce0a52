"""How alike two images are at sampled points, with the derivative by position.

Every metric takes the moving image's values at the mapped points and returns a value to maximise together with its
derivative by each of those values.
"""

from __future__ import annotations

import numpy as np

_TOLERANCE = np.float32(1e-4)
"""Voxels by which rounding may carry a point past the outermost voxel centre."""


class Sampler:
    """Trilinear interpolation with its exact gradient.

    Parameters
    ----------
    array : (K, J, I) float32 ndarray
    mask : (K, J, I) bool ndarray, optional
        Points whose nearest voxel is False count as outside.
    """

    def __init__(self, array, mask=None):
        padded = np.pad(array, [(0, 1 if n == 1 else 0) for n in array.shape], mode="edge")
        self._flat = np.ascontiguousarray(padded, np.float32).reshape(-1)
        self._last = np.array(padded.shape)[:, None] - 2
        self._extent = np.array(array.shape, np.float32)[:, None] - 1
        self._strides = (padded.shape[1] * padded.shape[2], padded.shape[2], 1)
        self._mask = mask

    def __call__(self, kji: np.ndarray):
        """Values and gradients at (3, N) fractional indices (k, j, i).

        Returns
        -------
        inside : (N,) bool
        values : (n,) float32 at the n points inside
        gradients : (3, n) float32 derivative by k, j and i
        """
        kji = kji.astype(np.float32, copy=False)
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
        width = self.bins + 3
        place = np.clip((values - self._low) * self._scale, 0, self.bins - 1) + 1
        whole = place.astype(np.intp)
        u = place - whole.astype(np.float32)
        weights = _cubic_weights(u)
        start = self._fixed[inside] * width + (whole - 1)
        joint = np.zeros(self.bins * width)
        for n in range(4):
            joint += np.bincount(start + n, weights[n], minlength=joint.size)
        count = len(values)
        joint /= count
        table = joint.reshape(self.bins, width)
        ratio = np.zeros_like(table)
        expected = table.sum(1)[:, None] * table.sum(0)
        full = table > 1e-12
        ratio[full] = np.log(table[full] / expected[full])
        value, by_table = self._likeness(table, ratio)
        ratio_flat = by_table.astype(np.float32).ravel()
        slopes = _cubic_slopes(u)
        derivative = sum(ratio_flat.take(start + n) * slopes[n] for n in range(4)) * (self._scale / np.float32(count))
        return value, derivative

    def _likeness(self, table, ratio):
        """The value, and its derivative by the joint probabilities up to a constant."""
        return float((table * ratio).sum()), ratio


def _cubic_weights(u):
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
