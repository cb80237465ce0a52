"""How alike two images are at sampled points, with the derivative by position.

Every metric takes the moving image's values at the mapped points and returns a value to maximise together with its
derivative by each of those values.
"""

from __future__ import annotations

import numpy as np

_TOLERANCE = 1e-6
"""Voxels by which rounding may carry a point past the outermost voxel centre."""


class Sampler:
    """Trilinear interpolation with its exact gradient.

    Parameters
    ----------
    array : (K, J, I) float32 ndarray
    to_kji : (3, 4) matrix from positions to fractional (k, j, i)
    mask : (K, J, I) bool ndarray, optional
        Points whose nearest voxel is False count as outside.
    """

    def __init__(self, array, to_kji, mask=None):
        padded = np.pad(array, [(0, 1 if n == 1 else 0) for n in array.shape], mode="edge")
        self._flat = np.ascontiguousarray(padded, np.float32).ravel()
        self._shape = np.array(padded.shape)
        self._extent = np.array(array.shape)[:, None] - 1.0
        self._strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
        self._mask = mask
        self.linear, self.offset = to_kji[:, :3], to_kji[:, 3]

    def __call__(self, points: np.ndarray):
        """Values and gradients at (N, 3) positions.

        Returns
        -------
        inside : (N,) bool
        values : (n,) float64 at the n points inside
        gradients : (n, 3) derivative by position, per mm
        """
        kji = self.linear @ points.T + self.offset[:, None]
        inside = ((kji >= -_TOLERANCE) & (kji <= self._extent + _TOLERANCE)).all(axis=0)
        if self._mask is not None:
            near = np.rint(np.clip(kji, 0, self._extent)).astype(np.intp)
            inside &= self._mask[tuple(near)]
        kji = np.clip(kji[:, inside], 0, self._extent)
        base = np.minimum(kji.astype(np.intp), (self._shape - 2)[:, None])
        z, y, x = (kji - base).astype(np.float32)
        corner = self._strides @ base
        sk, sj = int(self._strides[0]), int(self._strides[1])
        take = self._flat.take
        rows = []
        for shift in (0, sj, sk, sk + sj):
            left, right = take(corner + shift), take(corner + (shift + 1))
            rows.append((left + (right - left) * x, right - left))
        (v00, d00), (v01, d01), (v10, d10), (v11, d11) = rows
        low, high = v00 + (v01 - v00) * y, v10 + (v11 - v10) * y
        values = low + (high - low) * z
        slope_low, slope_high = d00 + (d01 - d00) * y, d10 + (d11 - d10) * y
        by_x = slope_low + (slope_high - slope_low) * z
        by_y = (v01 - v00) + ((v11 - v10) - (v01 - v00)) * z
        gradient = np.stack([high - low, by_y, by_x], axis=-1)
        return inside, values.astype(np.float64), gradient @ self.linear.astype(np.float32)


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
        self._low = moving_range[0]
        self._scale = (bins - 1) / (moving_range[1] - moving_range[0])

    def __call__(self, inside, values):
        """Value in nat and its derivative by each of the (n,) moving values at the points inside."""
        width = self.bins + 3
        place = np.clip((values - self._low) * self._scale, 0, self.bins - 1) + 1
        first = np.minimum(place.astype(np.intp), self.bins - 1 + 1) - 1
        u = place - first - 1
        weights = _cubic_weights(u)
        start = self._fixed[inside] * width + first
        joint = np.zeros(self.bins * width)
        for n in range(4):
            joint += np.bincount(start + n, weights[n], minlength=joint.size)[: joint.size]
        count = len(values)
        joint /= count
        table = joint.reshape(self.bins, width)
        ratio = np.zeros_like(table)
        expected = table.sum(1)[:, None] * table.sum(0)
        full = table > 1e-12
        ratio[full] = np.log(table[full] / expected[full])
        ratio_flat = ratio.ravel()
        slopes = _cubic_slopes(u)
        derivative = sum(ratio_flat[start + n] * slopes[n] for n in range(4)) * (self._scale / count)
        return float((table * ratio).sum()), derivative


def _cubic_weights(u):
    v = 1 - u
    return v**3 / 6, (4 - 6 * u**2 + 3 * u**3) / 6, (4 - 6 * v**2 + 3 * v**3) / 6, u**3 / 6


def _cubic_slopes(u):
    v = 1 - u
    return -(v**2) / 2, (3 * u**2 - 4 * u) / 2, (4 * v - 3 * v**2) / 2, u**2 / 2


class Correlation:
    """Squared Pearson correlation: for images of the same contrast; the sign does not matter."""

    name = "squared correlation"

    def __init__(self, fixed, fixed_range, moving_range, bins):
        self._fixed = fixed

    def __call__(self, inside, values):
        f = self._fixed[inside]
        f = f - f.mean()
        m = values - values.mean()
        ff, mm, fm = f @ f, m @ m, f @ m
        if ff <= 0 or mm <= 0:
            return 0.0, np.zeros_like(values)
        return float(fm**2 / (ff * mm)), 2 * fm / (ff * mm) * (f - fm / mm * m)


METRICS = {"mutual_information": MutualInformation, "correlation": Correlation}
