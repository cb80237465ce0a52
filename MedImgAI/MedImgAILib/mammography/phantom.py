"""A drawn mammogram with known parts, for examples and tests."""

from __future__ import annotations

import numpy as np

from ..core import Geometry, Volume

PIXEL_MM = 0.4


def drawn(shape=(400, 220), oblique=False, mass=(230, 90), mass_radius_mm=7.0, seed=0):
    """(image, masks) with the chest wall on the left; masks: breast, muscle, dense, mass as (rows, columns) bool."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(float)
    reach = 0.8 * columns
    if oblique:
        breast = x < reach * np.clip(
            0.75 + 0.25 * np.sin(np.pi * y / rows) - 2.5 * np.clip(y / rows - 0.75, 0, 1), 0, 1
        )
    else:
        breast = (x / reach) ** 2 + ((y - rows / 2) / (0.42 * rows)) ** 2 < 1
    muscle = (x / (0.5 * columns) + y / (0.55 * rows) < 1) & breast if oblique else np.zeros(shape, bool)
    center = (0.6 * rows, 0.35 * columns) if oblique else (0.5 * rows, 0.4 * columns)
    gland = ((y - center[0]) / (0.2 * rows)) ** 2 + ((x - center[1]) / (0.22 * columns)) ** 2 < 1
    gland &= breast & ~muscle
    distance = np.hypot(y - mass[0], x - mass[1]) * PIXEL_MM
    lesion = (distance < mass_radius_mm) & breast
    image = np.where(breast, 800.0, 0.0) + 900.0 * gland + 1300.0 * muscle
    image += 1100.0 * np.clip(1 - distance / mass_radius_mm, 0, 1) * breast
    noise = np.random.default_rng(seed).normal(0, 25.0, shape)
    image = np.maximum(image + noise * breast, 0)
    return image.astype(np.float32), {"breast": breast & ~muscle, "muscle": muscle, "dense": gland, "mass": lesion}


def volume_of(image: np.ndarray, pixel_mm: float = PIXEL_MM) -> Volume:
    """A picture as it is read from a file: rows run to the back, columns to the left."""
    shape = (1, *image.shape)
    geometry = Geometry.from_spacing(shape, (pixel_mm, pixel_mm, 1.0), directions=np.diag([-1.0, -1.0, 1.0]))
    return Volume(image[None], geometry, "mammogram")


def example_mammogram(oblique: bool = False) -> Volume:
    """A small left mammogram."""
    return volume_of(drawn((200, 110), oblique, mass=(130, 45))[0])
