"""The likeness of two images on one level as a function of the pose, with its derivative."""

from __future__ import annotations

import numpy as np

from . import metric as metrics
from .poses import Pose

LEAST_POINTS = 64
"""Fewer points inside the moving image say nothing."""


def comparison(fixed, moving, number, options, center, points):
    """The comparison that the options ask for.

    Parameters
    ----------
    fixed, moving : Pyramid
    number : int
        Level; the finest an image has if it has fewer.
    options : Options
    center : (3,) centre of the poses, mm in the frame
    points : (3, N) positions in the frame, mm

    Returns
    -------
    callable
        Of a pose: value, derivative by its (3, 3) matrix and (3,) translation, share of points inside the moving image.
    """
    level = fixed.levels[min(number, len(fixed.levels) - 1)]
    source = moving.levels[min(number, len(moving.levels) - 1)]
    if options.metric == GRADIENTS:
        return GradientComparison(level, source, options, center, points)
    inside, values, _ = metrics.Sampler(level.array)(level.indices(points))
    kind = metrics.METRICS[options.metric]
    metric = kind(values, (fixed.low, fixed.high), (moving.low, moving.high), options.bins)
    return IntensityComparison(metric, source, options, center, points[:, inside])


GRADIENTS = "normalized_gradients"
NAMES = {name: kind.name for name, kind in metrics.METRICS.items()} | {GRADIENTS: "normalised gradient fields"}
"""How charts call each likeness."""


class _Placed:
    """The points of a comparison and where a pose puts them in the moving image."""

    def __init__(self, source, options, center, points):
        self.relative = np.ascontiguousarray(points - center[:, None], np.float32)
        matrix = source.geometry.ras_to_ijk[2::-1]
        self.to_kji, self._offset = matrix[:, :3], matrix[:, 3]
        self.count = points.shape[1]
        self.least = max(LEAST_POINTS, int(options.least_overlap * self.count))

    def indices(self, pose: Pose) -> np.ndarray:
        """(3, N) float32 (k, j, i) in the moving image."""
        linear = (self.to_kji @ pose.linear).astype(np.float32)
        offset = (self.to_kji @ (pose.center + pose.shift) + self._offset).astype(np.float32)
        return metrics.placed(linear, offset, self.relative)


class IntensityComparison:
    """A metric of :mod:`.metric` at the points; called with a pose, see :func:`comparison`."""

    def __init__(self, metric, source, options, center, points):
        self._metric = metric
        self._placed = _Placed(source, options, center, points)
        self._sampler = metrics.Sampler(source.array, source.mask)

    def __call__(self, pose: Pose):
        placed = self._placed
        inside, values, gradients = self._sampler(placed.indices(pose))
        share = len(values) / max(placed.count, 1)
        if len(values) < placed.least:
            return 0.0, np.zeros((3, 3)), np.zeros(3), share
        value, slopes = self._metric(inside, values)
        by_linear, by_shift = metrics.moments(gradients, slopes, placed.relative, inside)
        back = placed.to_kji.T
        return value, back @ by_linear, back @ by_shift, share


class GradientComparison:
    """Normalised gradient fields: whether edges run alike, whatever their strength and sign.

    The mean of (n · g)² / (g² + 1), with n the fixed image's normalised gradient and g the moving image's, turned with
    the pose, over its noise level (Haber & Modersitzki 2007, Methods Inf Med 46:292).
    """

    def __init__(self, level, source, options, center, points):
        axes = [metrics.Sampler(part)(level.indices(points))[:2] for part in noise_scaled_gradient(level)]
        inside = axes[0][0]
        edges = np.stack([values for _, values in axes])
        self._fixed = edges / np.sqrt((edges**2).sum(axis=0) + 1)
        self._placed = _Placed(source, options, center, points[:, inside])
        self._samplers = [metrics.Sampler(part, source.mask) for part in noise_scaled_gradient(source)]

    def __call__(self, pose: Pose):
        placed = self._placed
        kji = placed.indices(pose)
        read = [sampler(kji) for sampler in self._samplers]
        inside = read[0][0]
        edges = np.stack([values for _, values, _ in read])
        share = edges.shape[1] / max(placed.count, 1)
        if edges.shape[1] < placed.least:
            return 0.0, np.zeros((3, 3)), np.zeros(3), share
        fixed = self._fixed[:, inside]
        turned = pose.linear.T.astype(np.float32) @ edges
        along, size = (fixed * turned).sum(axis=0), (turned**2).sum(axis=0) + 1
        # Per point: s²/q with s = n·g, q = g² + 1, and its derivative by g.
        by_turned = (2 / edges.shape[1]) * (along / size) * (fixed - (along / size) * turned)
        by_edges = pose.linear.astype(np.float32) @ by_turned
        by_linear, by_shift = np.zeros((3, 3)), np.zeros(3)
        for (_, _, gradients), slopes in zip(read, by_edges, strict=True):
            more = metrics.moments(gradients, slopes, placed.relative, inside)
            by_linear, by_shift = by_linear + more[0], by_shift + more[1]
        back = placed.to_kji.T
        turning = edges.astype(np.float64) @ by_turned.T.astype(np.float64)
        return float((along**2 / size).mean()), back @ by_linear + turning, back @ by_shift, share


def noise_scaled_gradient(level) -> np.ndarray:
    """(3, K, J, I) gradient along the frame's axes over its mean size: what is well above 1 is an edge."""
    by_index = np.stack(
        [
            np.gradient(level.array, axis=axis) if level.array.shape[axis] > 1 else np.zeros_like(level.array)
            for axis in (2, 1, 0)
        ]
    )
    gradient = np.einsum("if,ikjl->fkjl", level.geometry.ras_to_ijk[:3, :3].astype(np.float32), by_index)
    mean = float(np.sqrt((gradient**2).sum(axis=0)).mean())
    return np.ascontiguousarray(gradient / np.float32(max(mean, 1e-20)))
