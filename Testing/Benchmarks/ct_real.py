"""Real data: the tooth with and without automatic centre."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from MedImgAILib.core import Context
from MedImgAIReconstructLib.ct import quality
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.projection_tasks import ReadProjections

from .measuring import row

DATA = Path(os.environ.get("MEDIMGAI_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def real_rows() -> list[dict]:
    """Edge width with the automatic centre over that with the nominal one; none without the data."""
    path = DATA / "raw" / "ct" / "tooth.h5"
    if not path.exists():
        return []
    sharp, blurred = tooth_edge_widths(path)
    return [row("tooth: edge width, automatic over nominal centre", sharp / blurred, "< 1", "×", sharp, blurred)]


def tooth_images(path: Path):
    """The tooth with the automatic and with the nominal centre: two volumes."""
    settings = {"file": str(path), "center": "automatic", "rings": True}
    projections = ReadProjections().execute({}, settings, Context("cpu"))["projections"]
    nominal = replace(projections, scan=replace(projections.scan, axis_shift_mm=0.0))
    images = []
    for data in (projections, nominal):
        images.append(
            FilteredBackProjection().execute({"projections": data}, {"filter": "hann"}, Context("cpu"))["volume"]
        )
    return images


def tooth_edge_widths(path: Path) -> tuple[float, float]:
    """10–90 % width in pixels of the tooth's outer edge: median over directions, automatic and nominal centre."""
    return tuple(outer_edge_width(volume.array[0]) for volume in tooth_images(path))


def outer_edge_width(image: np.ndarray) -> float:
    """Median 10–90 % width in pixels of the outermost edge on rays from the object's middle."""
    from scipy.ndimage import center_of_mass, gaussian_filter, map_coordinates

    smooth = gaussian_filter(image, 2)
    object_mask = smooth > 0.5 * np.percentile(smooth, 98)
    middle = center_of_mass(object_mask)
    widths = []
    for angle in np.deg2rad(np.arange(0, 360, 3)):
        r = np.arange(0, min(image.shape) / 2 - 5, 0.25)
        points = [middle[0] + r * np.sin(angle), middle[1] + r * np.cos(angle)]
        inside = map_coordinates(object_mask.astype(float), points, order=1) > 0.5
        if not inside.any():
            continue
        edge = r[np.flatnonzero(inside)[-1]]
        # Far enough to hold both steps of an edge that a wrong centre has doubled.
        profile_r = np.arange(edge - 40, edge + 40, 0.25)
        points = [middle[0] + profile_r * np.sin(angle), middle[1] + profile_r * np.cos(angle)]
        widths.append(quality.edge_width(profile_r, map_coordinates(image, points, order=1)))
    return float(np.median(widths))
