"""Everything that is measured in one mammogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Volume
from . import anatomy, suspicion
from .picture import Picture, enlarged, picture_of, reduced
from .plausibility import check_breast, shows_implant
from .sorting import side_by_hanging

VIEWS = {
    "left_cc": "Left CC", "left_mlo": "Left MLO", "right_cc": "Right CC", "right_mlo": "Right MLO",
}  # fmt: skip
WORKING_MM = 0.4
SPOT_MM = 0.1
"""Pixel at which calcifications are looked for."""
COARSEST_FOR_SPOTS_MM = 0.15
OBLIQUE_TOP_SHARE = 0.5
"""In an oblique view the breast is at the upper border at least this wide, relative to its greatest width."""
DENSITY_CLASSES = ((25.0, "a"), (50.0, "b"), (75.0, "c"), (101.0, "d"))
"""Upper limits in per cent of dense area: the quartiles of BI-RADS, 4th edition (2003)."""


@dataclass(frozen=True)
class ViewResult:
    """What one mammogram shows; masks and maps are (rows, columns) of its :class:`.picture.Picture`."""

    name: str
    picture: Picture
    breast: np.ndarray
    muscle: np.ndarray
    dense: np.ndarray
    saliency: np.ndarray
    findings: tuple[suspicion.Finding, ...]
    features: dict[str, float]

    @property
    def density_class(self) -> str:
        """BI-RADS letter by the share of dense area."""
        return density_class(self.features["dense_percent"])


def density_class(dense_percent: float) -> str:
    """BI-RADS letter by the share of dense area."""
    return next(letter for limit, letter in DENSITY_CLASSES if dense_percent < limit)


def projection_by_shape(breast: np.ndarray) -> str:
    """ "mlo" where the breast is wide at the upper border, as with the muscle in the picture, else "cc"."""
    return "mlo" if anatomy.top_share(breast) > OBLIQUE_TOP_SHARE else "cc"


def examine(name: str, volume: Volume, pixel_mm: float, threshold: float, context) -> ViewResult:
    """Breast, muscle, dense tissue, suspicious places and features of one view.

    Parameters
    ----------
    name : str
        A key of :data:`VIEWS`.
    volume : Volume
    pixel_mm : float
        0 takes the volume's.
    threshold : float
        Least strength of a finding.

    Raises
    ------
    InputError
        If no breast is there.
    """
    picture = picture_of(volume, pixel_mm, context)
    factor = max(1, round(WORKING_MM / picture.pixel_mm))
    small, small_mm = reduced(picture.array, factor), factor * picture.pixel_mm
    whole = anatomy.breast_mask(small, small_mm)
    check_breast(volume.label, whole, small_mm, context)
    _warn_of_hanging(name, volume, picture, whole, context)
    context.progress(0.2, f"{VIEWS[name]}: muscle")
    muscle = np.zeros_like(whole)
    if name.endswith("mlo"):
        muscle = anatomy.pectoral_muscle(small, whole, small_mm)
        if not muscle.any():
            context.warn(f"No pectoral muscle stands out in {volume.in_sentence}; it may be counted as dense tissue.")
    breast = whole & ~muscle
    _warn_of_header(volume, small, breast, small_mm, context)
    context.progress(0.4, f"{VIEWS[name]}: dense tissue")
    dense = anatomy.dense_tissue(small, breast, small_mm)
    context.progress(0.5, f"{VIEWS[name]}: masses")
    mass, radius = suspicion.mass_likeness(small, breast, small_mm)
    context.progress(0.8, f"{VIEWS[name]}: calcifications")
    spots = _spots(picture, breast, factor, context)
    cluster = suspicion.cluster_likeness(spots, small.shape, small_mm) * breast
    found = suspicion.findings(mass, radius, cluster, small_mm, threshold)
    features = _features(small, breast, muscle, dense, mass, cluster, spots, small_mm)
    shape = picture.array.shape
    at_full = [
        suspicion.Finding(
            (f.row + 0.5) * factor - 0.5, (f.column + 0.5) * factor - 0.5, f.radius_mm, f.kind, f.strength
        )
        for f in found
    ]
    masks = (enlarged(mask, factor, shape) for mask in (breast, muscle, dense))
    saliency = enlarged(np.maximum(mass, cluster).astype(np.float32), factor, shape)
    return ViewResult(name, picture, *masks, saliency, tuple(at_full), features)


def _warn_of_hanging(name, volume, picture, breast, context):
    side, _, projection = name.partition("_")
    hangs = side_by_hanging(picture)
    if hangs != side:
        context.warn(
            f"{volume.label} was given as {VIEWS[name]}, but hangs like a {hangs} breast; check that the views are "
            "not mixed up."
        )
    shown = projection_by_shape(breast)
    if shown != projection:
        context.warn(f"{volume.label} was given as {VIEWS[name]}, but looks like a {shown.upper()} view.")


def _warn_of_header(volume, image, breast, pixel_mm, context):
    header = volume.provenance.get("dicom", {}).get("mammography", {})
    if header.get("implant") or shows_implant(image, breast, pixel_mm):
        context.warn(
            f"There seems to be an implant in {volume.in_sentence}: its density, suspicion and probability mean "
            "nothing."
        )


def _spots(picture: Picture, breast: np.ndarray, factor: int, context) -> np.ndarray:
    """(n, 2) places of calcifications in pixels of the working resolution."""
    if picture.pixel_mm > COARSEST_FOR_SPOTS_MM:
        context.log(f"Pixels of {picture.pixel_mm:g} mm are too coarse for calcifications; they are not looked for.")
        return np.zeros((0, 2), int)
    step = max(1, round(SPOT_MM / picture.pixel_mm))
    fine = reduced(picture.array, step)
    region = reduced(enlarged(breast, factor, picture.array.shape).astype(np.float32), step) > 0.99
    places = suspicion.calcifications(fine, region, step * picture.pixel_mm)
    return np.minimum(places * step // factor, np.array(breast.shape) - 1)


def _features(image, breast, muscle, dense, mass, cluster, spots, pixel_mm) -> dict[str, float]:
    values = image[breast]
    low, high = np.percentile(values, [2, 98])
    relative = (values - low) / max(high - low, 1e-6)
    gradient = np.hypot(*np.gradient(image))[breast] / max(high - low, 1e-6)
    peaks = np.sort(mass[mass > 0])[::-1]
    return {
        "breast_area_cm2": float(breast.sum() * pixel_mm**2 / 100),
        "muscle_area_cm2": float(muscle.sum() * pixel_mm**2 / 100),
        "dense_area_cm2": float(dense.sum() * pixel_mm**2 / 100),
        "dense_percent": float(100 * dense.sum() / max(1, breast.sum())),
        "brightness_mean": float(relative.mean()),
        "brightness_deviation": float(relative.std()),
        "brightness_skewness": float(np.mean((relative - relative.mean()) ** 3) / max(relative.std(), 1e-6) ** 3),
        "edge_strength_per_mm": float(gradient.mean() / pixel_mm),
        "mass_likeness_highest": float(peaks[0]) if peaks.size else 0.0,
        "mass_likeness_area_cm2": float((mass > 0.6).sum() * pixel_mm**2 / 100),
        "calcifications": float(len(spots)),
        "calcification_grouping": float(cluster.max(initial=0.0)),
    }
