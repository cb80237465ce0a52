"""Where a mammogram looks like a mass or a group of microcalcifications: untrained, from shape alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MASS_RADII_MM = (4.5, 6.5, 9.0, 13.0)
RIM_MM = 6.0
"""At the border, where skin and thin fat make edges of their own, no middle of a mass is looked for."""
CLUSTER_MM = 10.0
"""Side of the neighbourhood in which calcifications are a group."""


@dataclass(frozen=True)
class Finding:
    """A place that stands out: (row, column) in the picture, extent in mm, kind and strength in 0…1."""

    row: float
    column: float
    radius_mm: float
    kind: str
    strength: float


def mass_likeness(image: np.ndarray, region: np.ndarray, pixel_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """How much each place is the middle of something round and bright, 0…1, and its radius in mm.

    The share of the gradients around a place that point to it, in rings of several sizes (iris filter: Kobatake &
    Hashimoto, IEEE Trans Image Process 8:1549, 1999; te Brake & Karssemeijer, IEEE Trans Med Imaging 18:628, 1999),
    times the contrast of the disc to its ring in units of the breast's spread, at most 1; the geometric mean.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from scipy.signal import fftconvolve

    depth = distance_transform_edt(np.pad(region, ((1, 1), (1, 1))))[1:-1, 1:-1] * pixel_mm
    filled = np.where(region, image, image[region].mean())
    spread = max(float(filled[region].std()), 1e-6)
    best, radius = np.zeros(image.shape), np.zeros(image.shape)
    for radius_mm in MASS_RADII_MM:
        smooth = gaussian_filter(filled, 0.25 * radius_mm / pixel_mm)
        dy, dx = np.gradient(smooth)
        size = np.hypot(dx, dy)
        # Weak gradients are noise: they count by their size up to the median.
        weight = np.minimum(size / max(np.median(size[region]), 1e-6), 1.0) * region
        with np.errstate(divide="ignore", invalid="ignore"):
            uy, ux = (np.where(size > 0, d / size, 0.0) * weight for d in (dy, dx))
        reach = max(2, round(1.3 * radius_mm / pixel_mm))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
        distance = np.hypot(x, y)
        ring = ((distance >= 0.5 * radius_mm / pixel_mm) & (distance <= reach)).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            ky, kx = (np.where(distance > 0, k / distance, 0.0) * ring for k in (y, x))
        # Convolution turns the kernel round, so that a gradient towards the middle counts positive.
        towards = fftconvolve(uy, ky, "same") + fftconvolve(ux, kx, "same")
        share = np.clip(towards / np.maximum(fftconvolve(weight, ring, "same"), 0.3 * ring.sum()), 0, 1)
        inner = (distance <= 0.8 * radius_mm / pixel_mm).astype(float)
        outer = (distance >= 1.1 * radius_mm / pixel_mm).astype(float) * (distance <= reach)
        inside, around = (_mean_near(filled, region, kernel) for kernel in (inner, outer))
        contrast = np.clip((inside - around) / spread, 0, 1)
        value = np.sqrt(share * contrast)
        # A disc that the border of the breast cuts shows the border, not a mass.
        value[depth < max(0.6 * radius_mm, RIM_MM)] = 0
        better = value > best
        best[better], radius[better] = value[better], radius_mm
    best[~region] = 0
    return best, radius


def _mean_near(image, region, kernel):
    from scipy.signal import fftconvolve

    total = fftconvolve(np.where(region, image, 0.0), kernel, "same")
    return total / np.maximum(fftconvolve(region.astype(float), kernel, "same"), 1.0)


def calcifications(image: np.ndarray, region: np.ndarray, pixel_mm: float) -> np.ndarray:
    """(n, 2) rows and columns of bright spots: difference of Gaussians above 6 deviations of what is around."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    narrow, wide = max(0.7, 0.15 / pixel_mm), max(1.4, 0.45 / pixel_mm)
    detail = gaussian_filter(image, narrow) - gaussian_filter(image, wide)
    # The noise grows with brightness: it is measured in the neighbourhood.
    square = gaussian_filter(np.minimum(detail**2, _limit(detail, region)), 4 / pixel_mm)
    peak = detail == maximum_filter(detail, 2 * round(max(1, 0.5 / pixel_mm)) + 1)
    peaks = region & peak & (detail > 6 * np.sqrt(np.maximum(square, 1e-12)))
    return np.argwhere(peaks)


def _limit(detail, region) -> float:
    """Cap that keeps the spots themselves from raising the noise they are measured by."""
    values = np.abs(detail[region])
    return float((5 * np.median(values)) ** 2) if values.size else 1.0


def cluster_likeness(spots: np.ndarray, shape, pixel_mm: float) -> np.ndarray:
    """(rows, columns) 0…1: how many spots lie within a square centimetre; 1 from eight on, 0 below three."""
    from scipy.ndimage import uniform_filter

    counts = np.zeros(shape)
    for row, column in spots:
        counts[row, column] += 1
    side = max(1, round(CLUSTER_MM / pixel_mm))
    near = uniform_filter(counts, side, mode="constant") * side**2
    return np.clip((near - 2) / 6, 0, 1)


def findings(mass, radius_mm, cluster, pixel_mm: float, threshold: float, most: int = 3) -> list[Finding]:
    """The strongest places above ``threshold``, strongest first, none within the radius of a stronger one."""
    both = np.maximum(mass, cluster).copy()
    y, x = np.ogrid[: both.shape[0], : both.shape[1]]
    found: list[Finding] = []
    while len(found) < most:
        row, column = np.unravel_index(int(np.argmax(both)), both.shape)
        strength = float(both[row, column])
        if strength < threshold or strength <= 0:
            break
        is_mass = mass[row, column] >= cluster[row, column]
        extent = float(radius_mm[row, column]) if is_mass else CLUSTER_MM / 2
        found.append(Finding(float(row), float(column), extent, "mass-like" if is_mass else "calcifications", strength))
        both[np.hypot(y - row, x - column) * pixel_mm < 2 * extent] = 0
    return found
