"""What the pixel classifier knows of each voxel: values, slopes and curvatures at several scales in mm.

All are invariant under rotation, so that a classifier does not depend on how the patient lay. A scale that is coarse
beside the voxels is computed on a coarser grid and interpolated (Burt 1981, as in every scale-space pyramid).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Context, InputError, Volume
from .plane_filters import difference, eigenvalues, for_each, gaussian, pooled, second_difference

_FINE = 1.5
"""A grid is fine enough for the derivatives at a scale of at least so many of its voxels."""
_FINE_STRUCTURE = 1.0
"""The same for the structure tensor, whose Gaussian follows upon the mean over a block and is not differentiated."""
PER_SCALE = ("smoothed", "gradient", "hessian 1", "hessian 2", "hessian 3", "structure 1", "structure 2", "structure 3")


def feature_names(channels: int, scales_mm) -> list[str]:
    """One name for each column, in the order of :meth:`FeatureBank.plane`."""
    names = []
    for channel in range(1, channels + 1):
        names.append(f"image {channel} value")
        names += [f"image {channel} {kind} at {scale:g} mm" for scale in scales_mm for kind in PER_SCALE]
    return names


@dataclass
class _Map:
    """Features on a grid coarser by ``factors`` (k, j, i) than the image: (F, K, J, I) float32."""

    values: np.ndarray
    factors: tuple[int, int, int]

    def plane(self, k: int, shape, out: np.ndarray):
        """Write the features of plane ``k``, linear between coarse voxels, to ``out`` (F, J, I)."""
        low, high, weight = _between(np.array([k]), self.factors[0], self.values.shape[1])
        plane = _mixed(self.values[:, low[0]], self.values[:, high[0]], weight[0])
        for axis in (1, 2):
            if self.factors[axis] > 1:
                low, high, weight = _between(np.arange(shape[axis]), self.factors[axis], plane.shape[axis])
                weight = weight[None, :, None] if axis == 1 else weight
                plane = _mixed(plane.take(low, axis), plane.take(high, axis), weight)
        out[...] = plane[:, : shape[1], : shape[2]]


def _between(fine, factor, count):
    """Coarse neighbours of fine indices and the weight of the upper one."""
    place = np.clip((fine + 0.5) / factor - 0.5, 0, count - 1)
    low = place.astype(int)
    return low, np.minimum(low + 1, count - 1), (place - low).astype(np.float32)


def _mixed(low, high, weight):
    difference_ = high - low
    difference_ *= weight
    difference_ += low
    return difference_


class FeatureBank:
    """The features of every voxel in a box of one or several images on one grid.

    Parameters
    ----------
    images : sequence of Volume
        Scalar, on one grid with axes at right angles, stored nearest to RAS (:meth:`Volume.canonical`).
    scales_mm : sequence of float
    normalization : "none" or "percentile"
        ``percentile`` maps the image's 1st and 99th percentile to 0 and 1, for modalities without a unit.
    box : three slices, optional
        Voxels (k, j, i) whose features will be asked for; all if not given. Values around it are still used.
    context : Context

    Raises
    ------
    InputError
        If the axes are sheared.
    """

    def __init__(self, images, scales_mm, normalization, context: Context, box=None):
        geometry = images[0].geometry
        if not geometry.is_orthogonal:
            raise InputError(f"{images[0].label} has sheared axes; resample it to right angles first.")
        # Rounded, so that an oblique frame's last digits do not reach the features.
        self.spacing = np.round(geometry.spacing_kji, 9)
        self.scales_mm = tuple(scales_mm)
        self.box = box or tuple(slice(0, n) for n in geometry.shape)
        self.shape = tuple(b.stop - b.start for b in self.box)
        self.count = len(images) * (1 + len(PER_SCALE) * len(self.scales_mm))
        self._channels = []
        for number, image in enumerate(images):
            low, scale = _normalization(image, normalization)
            scales = []
            for step, sigma in enumerate(self.scales_mm):
                done = number + step / len(self.scales_mm)
                crop = self._surroundings(sigma, geometry.shape)
                values = _normalized(image.array[crop], low, scale)
                start = tuple(b.start - c.start for b, c in zip(self.box, crop))
                with context.part(done / len(images), (done + 1 / len(self.scales_mm)) / len(images)):
                    scales.append((_Scale(values, sigma, self.spacing, context), start, values.shape))
            self._channels.append((_normalized(image.array[self.box], low, scale), scales))

    def _surroundings(self, sigma, shape):
        """The box with what the features at this scale look at around it, in whole blocks of the coarser grids."""
        first = _factors(sigma / self.spacing, shape)
        second = _factors(2 * sigma / (self.spacing * first), shape, _FINE_STRUCTURE)
        align = [f * g for f, g in zip(first, second)]
        reach = np.ceil(9.5 * sigma / self.spacing).astype(int) + 2 * np.array(align)
        return tuple(
            slice(max(0, b.start - int(r)) // a * a, min(n, b.stop + int(r)))
            for b, r, a, n in zip(self.box, reach, align, shape)
        )

    def plane(self, k: int) -> np.ndarray:
        """(F, J, I) float32: the features of the plane ``k`` of the box."""
        _, rows, columns = self.shape
        result = np.empty((self.count, rows, columns), np.float32)
        position = 0
        for values, scales in self._channels:
            result[position] = values[k]
            position += 1
            for scale, (above, left, front), shape in scales:
                whole = scale.plane(k + above, shape)
                result[position : position + len(PER_SCALE)] = whole[:, left : left + rows, front : front + columns]
                position += len(PER_SCALE)
        return result

    def at(self, indices: np.ndarray, context: Context) -> np.ndarray:
        """(N, F) float32: features at the (N, 3) voxels (k, j, i), counted from the box."""
        result = np.empty((len(indices), self.count), np.float32)
        order = np.unique(indices[:, 0])

        def one(k):
            here = indices[:, 0] == k
            result[here] = self.plane(int(k))[:, indices[here, 1], indices[here, 2]].T

        for_each(one, order, context)
        return result


class _Scale:
    """The features of one image at one scale."""

    def __init__(self, values, sigma, spacing, context):
        self.sigma = np.float32(sigma)
        self.factors = _factors(sigma / spacing, values.shape)
        self.spacing = spacing * self.factors
        coarse = pooled(values, self.factors)
        # The blocks' means have blurred already: a box of f voxels has the variance (f² - 1) / 12.
        blurred = (np.array(self.factors) ** 2 - 1) / 12 * spacing**2
        with context.part(0.0, 0.4):
            self.smooth = gaussian(coarse, np.sqrt(np.maximum(sigma**2 - blurred, 0)) / self.spacing, context)
        with context.part(0.4, 0.8):
            self.structure = self._structure(context)
        self.upsampled = None
        if max(self.factors) > 1:
            local = np.empty((5, *coarse.shape), np.float32)

            def one(k):
                local[:, k] = self._local(k)

            with context.part(0.8, 1.0):
                for_each(one, range(len(coarse)), context)
            self.upsampled = _Map(local, self.factors)

    def _neighbours(self, k):
        return self.smooth[max(k - 1, 0)], self.smooth[k], self.smooth[min(k + 1, len(self.smooth) - 1)]

    def _gradient(self, k):
        """(d/dk, d/dj, d/di) of plane k, times the scale."""
        dk, dj, di = self.spacing
        below, plane, above = self._neighbours(k)
        parts = (above - below) * np.float32(0.5 / dk), difference(plane, 0, dj), difference(plane, 1, di)
        return tuple(part * self.sigma for part in parts)

    def _local(self, k):
        """(5, J, I): smoothed value, length of the gradient and the Hessian's eigenvalues of plane k."""
        dk, dj, di = self.spacing
        below, plane, above = self._neighbours(k)
        step = (above - below) * np.float32(0.5 / dk)
        along_j = difference(plane, 0, dj)
        gradient = np.sqrt(step**2 + along_j**2 + difference(plane, 1, di) ** 2) * self.sigma
        hessian = (
            (above - 2 * plane + below) * np.float32(1 / dk**2), second_difference(plane, 0, dj),
            second_difference(plane, 1, di), difference(step, 0, dj), difference(step, 1, di),
            difference(along_j, 1, di),
        )  # fmt: skip
        result = np.empty((5, *plane.shape), np.float32)
        result[0], result[1] = plane, gradient
        result[2:] = eigenvalues(*hessian)
        result[2:] *= self.sigma**2
        return result

    def _structure(self, context) -> _Map:
        """Square roots of the eigenvalues of the gradient's outer product, averaged over twice the scale."""
        wide = 2 * float(self.sigma) / self.spacing
        factors = _factors(wide, self.smooth.shape, _FINE_STRUCTURE)
        blocks = -(-len(self.smooth) // factors[0])
        rows, columns = (-(-n // f) for n, f in zip(self.smooth.shape[1:], factors[1:]))
        products = np.empty((6, blocks, rows, columns), np.float32)

        def one(block):
            planes = range(block * factors[0], min((block + 1) * factors[0], len(self.smooth)))
            total = np.zeros((6, *self.smooth.shape[1:]), np.float32)
            for k in planes:
                gk, gj, gi = self._gradient(k)
                for n, (a, b) in enumerate(((gk, gk), (gj, gj), (gi, gi), (gk, gj), (gk, gi), (gj, gi))):
                    total[n] += a * b
            total *= np.float32(1 / len(planes))
            for n in range(6):
                products[n, block] = pooled(total[n][None], (1, *factors[1:]))[0]

        with context.part(0.0, 0.5):
            for_each(one, range(blocks), context)
        blurred = np.sqrt(np.maximum(wide**2 - (np.array(factors) ** 2 - 1) / 12, 0)) / factors
        for n in range(6):
            with context.part(0.5 + n / 15, 0.5 + (n + 1) / 15):
                products[n] = gaussian(products[n], blurred, context)
        values = np.empty((3, *products.shape[1:]), np.float32)

        def roots(block):
            values[:, block] = np.sqrt(np.maximum(eigenvalues(*products[:, block]), 0))

        with context.part(0.9, 1.0):
            for_each(roots, range(blocks), context)
        return _Map(values, tuple(int(f * g) for f, g in zip(factors, self.factors)))

    def plane(self, k, shape):
        """(8, J, I) on the image's grid."""
        result = np.empty((len(PER_SCALE), *shape[1:]), np.float32)
        if self.upsampled is None:
            result[:5] = self._local(k)
        else:
            self.upsampled.plane(k, shape, result[:5])
        self.structure.plane(k, shape, result[5:])
        return result


def _factors(sigma_voxels, shape, fine=_FINE) -> tuple[int, int, int]:
    """By how much the grid may be coarsened along each axis for a Gaussian of so many voxels."""
    return tuple(1 if n == 1 else max(1, int(s / fine + 1e-6)) for s, n in zip(sigma_voxels, shape))


def _normalized(array, low, scale):
    return (array.astype(np.float32) - np.float32(low)) * np.float32(scale)


def _normalization(image: Volume, kind: str) -> tuple[float, float]:
    if kind == "none":
        return 0.0, 1.0
    sample = image.array[tuple(slice(None, None, max(1, n // 128)) for n in image.array.shape)]
    low, high = np.percentile(sample, [1, 99])
    return float(low), 1.0 / float(high - low) if high > low else 1.0
