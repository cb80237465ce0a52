"""A view in the report: the picture with its regions and findings drawn in."""

from __future__ import annotations

import numpy as np

from ..evaluate.pictures import grey_picture, outline, picture_html
from .picture import reduced
from .view import ViewResult

_COLORS = {"breast": (60, 200, 90), "muscle": (220, 60, 60), "dense": (90, 160, 255)}
_RING = (255, 220, 0)
HEIGHT = 420


def thumbnail_html(result: ViewResult) -> str:
    """An ``<img>`` element: the view as it hangs, outlines of the regions, rings around the findings."""
    picture = result.picture
    factor = max(1, -(-picture.array.shape[0] // HEIGHT))
    grey = reduced(picture.array, factor)
    rgb = grey_picture(grey, 1, 99.8)
    for name, color in _COLORS.items():
        mask = reduced(getattr(result, name).astype(np.float32), factor) > 0.5
        rgb[outline(mask)] = color
    y, x = np.ogrid[: grey.shape[0], : grey.shape[1]]
    for finding in result.findings:
        distance = np.hypot(y - finding.row / factor, x - finding.column / factor) * factor * picture.pixel_mm
        rgb[np.abs(distance - finding.radius_mm) < 0.6 * factor * picture.pixel_mm] = _RING
    if picture.wall_was_right:
        rgb = np.ascontiguousarray(rgb[:, ::-1])
    return picture_html(rgb, result.name)
