"""Ways to merge registered images into one.

Every function takes a list of (K, J, I) float32 arrays on one grid, scaled to about 0…1, and the voxel spacing
(k, j, i) in mm, and returns one array. Axes of a single voxel are left out, so slices work like volumes. Filters are
undecimated and symmetric: nothing depends on where the grid begins or how its axes are ordered.
"""

from __future__ import annotations

import numpy as np

from .dwt import forward, inverse


def weighted(images, spacing, weights=None):
    """Weighted mean; equal weights by default."""
    weights = np.ones(len(images)) if weights is None else np.asarray(weights, float)
    return sum(np.float32(w) * image for w, image in zip(weights / weights.sum(), images, strict=True))


def maximum(images, spacing, weights=None):
    """The brightest of the images at each voxel."""
    return np.maximum.reduce(images)


def pca(images, spacing, weights=None):
    """Mean weighted by the leading eigenvector of the covariance, with entries made to add to 1.

    Naidu & Raol 2008, Defence Sci J 58:338. Images that vary most, and together, weigh most.
    """
    covariance = np.cov(np.stack([image.ravel() for image in images]).astype(np.float64))
    leading = np.abs(np.linalg.eigh(covariance)[1][:, -1])
    return weighted(images, spacing, leading if leading.sum() > 0 else None)


def laplacian(images, spacing, weights=None, levels: int = 4):
    """Laplacian pyramid, undecimated: the stronger of the details at each level, the weighted mean of the rest.

    Burt & Adelson 1983, IEEE Trans Commun 31:532; Gaussians double from half the finest voxel size.
    """
    return _merge(images, spacing, weights, levels, _gaussian)


def wavelet(images, spacing, weights=None, levels: int = 4):
    """Starlet transform (undecimated à trous B-spline wavelet): the stronger details, the weighted mean of the rest.

    Starck, Fadili & Murtagh 2007, IEEE Trans Image Process 16:297.
    """
    return _merge(images, spacing, weights, levels, _b3_spline)


def discrete_wavelet(images, spacing, weights=None, levels: int = 4):
    """Decimated 9/7 wavelet transform: the stronger coefficient of each detail, the weighted mean of the coarsest rest.

    Li, Manjunath & Mitra 1995, Graph Models Image Process 57:235. An axis is halved while its voxels are not larger
    than those of the others by then and eight are left.
    """
    axes_of_levels, sizes, counts = [], np.array(spacing, float), list(images[0].shape)
    for _ in range(levels):
        free = [axis for axis in range(3) if counts[axis] >= 8]
        axes = tuple(axis for axis in free if sizes[axis] <= 1.5 * min(sizes[a] for a in free))
        if not axes:
            break
        axes_of_levels.append(axes)
        for axis in axes:
            sizes[axis], counts[axis] = 2 * sizes[axis], (counts[axis] + 1) // 2
    rests, details = zip(*(forward(image.astype(np.float32), axes_of_levels) for image in images), strict=True)
    chosen = []
    for level in zip(*details, strict=True):
        chosen.append({})
        for key in level[0]:
            stronger = level[0][key]
            for other in level[1:]:
                stronger = np.where(np.abs(other[key]) > np.abs(stronger), other[key], stronger)
            chosen[-1][key] = stronger
    return inverse(weighted(rests, spacing, weights), chosen, axes_of_levels)


_OTHERS = 0.07
"""Part of the images not chosen that :func:`salient` adds."""


def saliency(image, spacing):
    """(K, J, I) how much there is to see around a voxel: brightness, and contrast on two scales (2, 4 and 8 voxels)."""
    unit = _unit(image, spacing)
    slopes = [_first_difference(image, axis, spacing) ** 2 for axis in range(3) if image.shape[axis] > 1]
    slope = np.sqrt(sum(slopes)) if slopes else np.zeros_like(image)
    near, far = (_gaussian(slope, spacing, scale * unit) for scale in (4, 8))
    return _gaussian(image, spacing, 4 * unit) + 4 * near + 8 * far


def salient(images, spacing, weights=None):
    """Each voxel of the image with more to see there, and a trace of the others as far as there is room.

    Whole regions stay as one image shows them, as in selection by local energy (Burt & Kolczynski 1993, ICCV:173),
    while bright matter that lies under them in another image still shows.
    """
    seen = np.stack([saliency(image, spacing) for image in images])
    chosen = seen.argmax(axis=0)
    result = np.take_along_axis(np.stack(images), chosen[None], axis=0)[0]
    total = sum(image for image in images) - result
    return result + np.float32(_OTHERS) * np.minimum(total, np.maximum(1 - result, 0))


def guided(images, spacing, weights=None):
    """Guided-filter fusion of a base and a detail layer (Li, Kang & Hu 2013, IEEE Trans Image Process 22:2864).

    Radii and regularisations as published: mean filter 31, weights smoothed with r = 45, ε = 0.3 and r = 7, ε = 1e-6,
    in voxels of the finest axis.
    """
    saliency = []
    for image in images:
        high = np.abs(_along_axes(image, lambda a, axis: _second_difference(a, axis, spacing)))
        saliency.append(_gaussian(high, spacing, 5.0 * _unit(image, spacing)))
    strongest = np.argmax(np.stack(saliency), axis=0)
    base_sum = detail_sum = base_weight = detail_weight = 0.0
    for number, image in enumerate(images):
        mask = (strongest == number).astype(np.float32)
        base = _box(image, spacing, 15)
        for_base = np.clip(_guided_filter(mask, image, spacing, 45, 0.3), 1e-6, None)
        for_detail = np.clip(_guided_filter(mask, image, spacing, 7, 1e-6), 1e-6, None)
        base_sum, base_weight = base_sum + for_base * base, base_weight + for_base
        detail_sum, detail_weight = detail_sum + for_detail * (image - base), detail_weight + for_detail
    return (base_sum / base_weight + detail_sum / detail_weight).astype(np.float32)


METHODS = {
    "weighted": weighted,
    "maximum": maximum,
    "pca": pca,
    "laplacian": laplacian,
    "discrete_wavelet": discrete_wavelet,
    "wavelet": wavelet,
    "salient": salient,
    "guided": guided,
}


def _merge(images, spacing, weights, levels, smooth):
    """Multiscale fusion: details by the largest magnitude, the coarsest rest by the weighted mean."""
    unit = _unit(images[0], spacing)
    rests = [image.astype(np.float32) for image in images]
    result = np.zeros_like(rests[0])
    for level in range(levels):
        smoother = [smooth(rest, spacing, unit * 2**level) for rest in rests]
        chosen = rests[0] - smoother[0]
        for rest, low in zip(rests[1:], smoother[1:], strict=True):
            detail = rest - low
            chosen = np.where(np.abs(detail) > np.abs(chosen), detail, chosen)
        result += chosen
        rests = smoother
    return result + weighted(rests, spacing, weights)


def _unit(image, spacing) -> float:
    """The finest voxel size in mm among axes longer than one voxel."""
    return float(min((s for s, n in zip(spacing, image.shape, strict=True) if n > 1), default=1.0))


def _along_axes(image, second):
    return sum(second(image, axis) for axis in range(3) if image.shape[axis] > 1) + np.zeros_like(image)


def _second_difference(image, axis, spacing):
    from scipy.ndimage import correlate1d

    scale = (_unit(image, spacing) / spacing[axis]) ** 2
    return correlate1d(image, np.array([1.0, -2.0, 1.0]) * scale, axis=axis, mode="nearest")


def _first_difference(image, axis, spacing):
    from scipy.ndimage import correlate1d

    scale = _unit(image, spacing) / spacing[axis]
    return correlate1d(image, np.array([-0.5, 0.0, 0.5]) * scale, axis=axis, mode="nearest")


def _gaussian(image, spacing, sigma_mm):
    from scipy.ndimage import gaussian_filter1d

    for axis in range(3):
        if image.shape[axis] > 1:
            image = gaussian_filter1d(image, sigma_mm / spacing[axis], axis=axis, mode="mirror")
    return image


def _b3_spline(image, spacing, step_mm):
    from scipy.ndimage import correlate1d

    for axis in range(3):
        if image.shape[axis] > 1:
            step = round(step_mm / spacing[axis])
            if step > 0 and 2 * step < image.shape[axis]:
                kernel = np.zeros(4 * step + 1)
                kernel[::step] = np.array([1, 4, 6, 4, 1]) / 16
                image = correlate1d(image, kernel, axis=axis, mode="mirror")
    return image


def _box(image, spacing, radius):
    """Mean over a box that reaches ``radius`` voxels of the finest axis to either side."""
    from scipy.ndimage import uniform_filter1d

    reach = radius * _unit(image, spacing)
    for axis in range(3):
        if image.shape[axis] > 1:
            count = min(round(reach / spacing[axis]), image.shape[axis] - 1)
            if count:
                image = uniform_filter1d(image, 2 * count + 1, axis=axis, mode="mirror")
    return image


def _guided_filter(image, guide, spacing, radius, epsilon):
    """He, Sun & Tang 2013, IEEE Trans Pattern Anal Mach Intell 35:1397."""
    image, guide = image.astype(np.float64), guide.astype(np.float64)

    def mean(values):
        return _box(values, spacing, radius)

    mean_guide, mean_image = mean(guide), mean(image)
    slope = (mean(guide * image) - mean_guide * mean_image) / (mean(guide * guide) - mean_guide**2 + epsilon)
    return mean(slope) * guide + mean(mean_image - slope * mean_guide)
