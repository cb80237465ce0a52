"""A view in the report: the picture with its regions and findings drawn in."""

from __future__ import annotations

import numpy as np

from ..evaluate.pictures import grey_picture, outline, picture_html
from .picture import reduced
from .view import ViewResult

_COLORS = {"breast": (60, 200, 90), "muscle": (220, 60, 60), "dense": (90, 160, 255)}
_RING, _HEAT = (255, 220, 0), (255, 60, 0)
HEIGHT = 420


def thumbnail_html(result: ViewResult, saliency: np.ndarray | None = None) -> str:
    """An ``<img>`` element: the view as it hangs, outlines of the regions, rings around the findings.

    Parameters
    ----------
    result : ViewResult
    saliency : (rows, columns) ndarray, optional
        What a network's answer comes from, 0…1; laid over in red.
    """
    picture = result.picture
    factor = max(1, -(-picture.array.shape[0] // HEIGHT))
    grey = reduced(picture.array, factor)
    rgb = grey_picture(grey, 1, 99.8)
    if saliency is not None:
        weight = 0.6 * reduced(saliency, factor)[..., None]
        rgb = np.rint(rgb * (1 - weight) + weight * np.array(_HEAT)).astype(np.uint8)
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
