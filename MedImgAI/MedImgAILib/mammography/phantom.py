"""Drawn mammograms with known parts, for examples, tests and rehearsals of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core import Geometry, Volume

PIXEL_MM = 0.4


def drawn(shape=(400, 220), oblique=False, mass=(230, 90), mass_radius_mm=7.0, seed=0):
    """(image, masks) with the chest wall on the left; masks: breast, muscle, dense, mass as (rows, columns) bool."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(float)
    breast, muscle = outlines(shape, 0.8 * columns, oblique)
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


def outlines(shape, reach: float, oblique: bool) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) bool of breast (with muscle) and muscle; the breast reaches so many columns from the wall."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(float)
    if not oblique:
        return (x / reach) ** 2 + ((y - rows / 2) / (0.42 * rows)) ** 2 < 1, np.zeros(shape, bool)
    width = 0.75 + 0.25 * np.sin(np.pi * y / rows) - 2.5 * np.clip(y / rows - 0.75, 0, 1)
    breast = x < reach * np.clip(width, 0, 1)
    return breast, (x / (0.5 * columns) + y / (0.55 * rows) < 1) & breast


def drawn_exam(rng: np.random.Generator, diseased: str = "", shape=(240, 140), pixel_mm: float = 0.7) -> dict:
    """The views of a patient as they hang, by name ("left_cc", …), (rows, columns) uint16 of 12 bits.

    Size, density and texture are the patient's own and much the same on both sides; ``diseased`` ("left", "right" or
    "") has a mass of 7 to 13 mm radius, of a contrast that not always stands out of the gland.
    """
    from scipy.ndimage import gaussian_filter

    reach, dense, lumps = rng.uniform(0.6, 0.85), rng.uniform(200, 900), rng.uniform(60, 220)
    place, radius, contrast = rng.uniform(-0.4, 0.4, 2), rng.uniform(7, 13) / pixel_mm, rng.uniform(250, 900)
    views = {}
    for name in ("left_cc", "left_mlo", "right_cc", "right_mlo"):
        oblique = name.endswith("mlo")
        breast, muscle = outlines(shape, reach * shape[1], oblique)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
        middle = ((0.6 if oblique else 0.5) * shape[0], 0.42 * reach * shape[1])
        sizes = (0.2 * shape[0] * rng.uniform(0.8, 1.2), 0.3 * reach * shape[1] * rng.uniform(0.8, 1.2))
        distance = np.hypot((y - middle[0]) / sizes[0], (x - middle[1]) / sizes[1])
        texture = gaussian_filter(rng.normal(0, 1, shape), 2.5 / pixel_mm)
        image = 800.0 + lumps * texture / texture.std() + dense / (1 + np.exp((distance - 1) / 0.12))
        image[muscle] = 2100
        if name.startswith(diseased or "-"):
            row, column = middle + place * sizes
            image += contrast / (1 + np.exp((np.hypot(y - row, x - column) - radius) / (0.1 * radius)))
        image = np.where(breast, image + rng.normal(0, 20, shape), 0)
        image = np.clip(image, 0, 4095).astype(np.uint16)
        views[name] = image[:, ::-1] if name.startswith("right") else image
    return views


def write_exams(folder: Path, patients: int, seed: int = 0, **drawing) -> Path:
    """Exams as PNG with the table ``exams.csv`` (image, patient, label by breast); every second patient is diseased.

    Parameters
    ----------
    drawing
        For :func:`drawn_exam`.
    """
    import SimpleITK as sitk

    rng = np.random.default_rng(seed)
    lines = ["image,patient,label"]
    for number in range(patients):
        side = ("left", "right")[number // 2 % 2] if number % 2 else ""
        for name, image in drawn_exam(rng, side, **drawing).items():
            file = f"p{number:03d}_{name}.png"
            sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(image)), str(folder / file))
            lines.append(f"{file},p{number:03d},{'cancer' if side and name.startswith(side) else 'normal'}")
    table = folder / "exams.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def volume_of(image: np.ndarray, pixel_mm: float = PIXEL_MM, name: str = "mammogram") -> Volume:
    """A picture as it is read from a file: rows run to the back, columns to the left."""
    shape = (1, *image.shape[:2])
    geometry = Geometry.from_spacing(shape, (pixel_mm, pixel_mm, 1.0), directions=np.diag([-1.0, -1.0, 1.0]))
    return Volume(image[None], geometry, name)


def example_mammogram(oblique: bool = False) -> Volume:
    """A small left mammogram."""
    return volume_of(drawn((200, 110), oblique, mass=(130, 45))[0])
