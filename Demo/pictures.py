"""Pictures of volumes and segmentations for the report: slices as radiologists see them, and lit surfaces."""

from __future__ import annotations

import base64
import io

import numpy as np
from MedImgAILib.core import Segmentation, Volume
from scipy import ndimage

INK = "#12202f"
_PLANES = {  # array axis of a canonical (S, A, R) image, marks at left, right, top, bottom
    "axial": (0, ("R", "L", "A", "P")),
    "coronal": (1, ("R", "L", "S", "I")),
    "sagittal": (2, ("A", "P", "S", "I")),
}


def _upright(array: np.ndarray, plane: str, index: int) -> np.ndarray:
    """One plane of a canonical array in radiological orientation (patient's right at the picture's left)."""
    axis, _ = _PLANES[plane]
    picture = np.take(array, index, axis=axis)[::-1]
    # In-plane columns run to +R (axial, coronal) or +A (sagittal); radiologists want R, and A, at the left.
    return picture[:, ::-1]


def draw_slice(axes, volume: Volume, plane="axial", ras=None, window=None, overlays=(), cmap="gray", tint=None):
    """Draw one slice with outlines of segments and orientation marks.

    Parameters
    ----------
    axes : matplotlib Axes
    volume : Volume, scalar or RGB
    ras : position (R, A, S) in mm that the plane goes through; the middle by default
    window : (low, high) intensities; 1st and 99.5th percentile by default
    overlays : list of (Segmentation, segment name or None for all, colour or None for the segment's own)
    tint : Segmentation filled half-transparently as well as outlined
    """
    from MedImgAILib.core.resampling import resample_segmentation

    axis, marks = _PLANES[plane]
    image = volume.canonical()
    position = image.geometry.center if ras is None else np.asarray(ras, float)
    index = int(np.clip(np.rint(image.geometry.ijk(position)[2 - axis]), 0, image.geometry.shape[axis] - 1))
    picture = _upright(image.array, plane, index)
    if image.is_vector:
        axes.imshow(np.clip(picture[..., :3] / max(picture.max(), 1), 0, 1), interpolation="bilinear")
    else:
        low, high = window or np.percentile(image.array[:: max(1, image.array.shape[0] // 32)], (1, 99.5))
        axes.imshow(picture, cmap=cmap, vmin=low, vmax=high, interpolation="bilinear")
    for segmentation, name, color in overlays:
        start = [0, 0, 0]
        shape = list(image.geometry.shape)
        start[axis], shape[axis] = index, 1
        cut = image.geometry.cropped(start, shape)
        labels = segmentation if segmentation.geometry.same_grid(cut) else resample_segmentation(segmentation, cut)
        for segment in labels.segments:
            if name is not None and segment.name != name:
                continue
            mask = _upright(labels.mask(segment), plane, 0)
            if mask.any():
                edge = color or segment.color
                axes.contour(mask.astype(float), [0.5], colors=[edge], linewidths=1.4)
                if tint is segmentation:
                    layer = np.zeros((*mask.shape, 4))
                    layer[mask] = (*_rgb(edge), 0.35)
                    axes.imshow(layer, interpolation="nearest")
    # After the last imshow, which makes pixels square.
    spacing = np.delete(image.geometry.spacing_kji, axis)
    axes.set_aspect(spacing[0] / spacing[1])
    left, right, top, bottom = marks
    style = {"color": "#ffd27a", "fontsize": 8, "transform": axes.transAxes, "weight": "bold"}
    axes.text(0.015, 0.5, left, va="center", **style)
    axes.text(0.985, 0.5, right, va="center", ha="right", **style)
    axes.text(0.5, 0.985, top, va="top", ha="center", **style)
    axes.text(0.5, 0.015, bottom, ha="center", **style)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("black")


def _rgb(color):
    from matplotlib.colors import to_rgb

    return to_rgb(color)


def figure(columns: int, rows: int = 1, size: float = 3.2):
    """A dark figure of ``rows`` × ``columns`` axes; returns (figure, flat list of axes)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        rows, columns, figsize=(size * columns, (size + 0.35) * rows), squeeze=False, facecolor=INK,
        layout="constrained",
    )  # fmt: skip
    return fig, list(axes.flat)


def caption(axes, text: str):
    axes.set_title(text, color="white", fontsize=10)


def png(fig) -> str:
    """The figure as a ``data:`` URI; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=110, facecolor=fig.get_facecolor())
    plt.close(fig)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def lit_surface(
    segmentation: Segmentation, colors=None, azimuth_deg=-35.0, elevation_deg=15.0, pixels=420
) -> np.ndarray:
    """(pixels, pixels, 3) picture of the segments as solid bodies, seen from the front, in parallel projection.

    Front-most surface by ray casting through a rotated label image, shaded by the gradient of the smoothed mask
    (Levoy 1988, IEEE CG&A 8:29). Later segments lie inside earlier ones and shine through.
    """
    from MedImgAILib.core import Geometry
    from MedImgAILib.core.resampling import resample_segmentation

    union = np.any([segmentation.mask(s) for s in segmentation.segments], axis=0)
    where = np.argwhere(union)
    corners = segmentation.geometry.cropped(where.min(0), np.ptp(where, axis=0) + 1).corners_ras()
    a, e = np.radians([azimuth_deg, elevation_deg])
    around = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    view = around.T @ tilt.T  # columns: picture x, depth, picture up, in RAS
    seen = corners @ view
    middle, extent = (seen.max(0) + seen.min(0)) / 2, np.ptp(seen, axis=0)
    size = 220
    step = 1.06 * max(extent[0], extent[2]) / size
    depth = int(np.ceil(extent[1] / step)) + 4
    first = middle - (np.array([size, depth, size]) - 1) / 2 * step
    grid = Geometry.from_spacing((size, depth, size), (step,) * 3, view @ first, view)
    turned = resample_segmentation(segmentation, grid)
    picture = np.broadcast_to(np.array(_rgb(INK)), (size, size, 3)).copy()
    light = np.array([0.45, 0.75, 0.5])
    light = light / np.linalg.norm(light)
    for number, segment in enumerate(turned.segments):
        soft = ndimage.gaussian_filter(turned.mask(segment).astype(np.float32), 1.2)
        solid = soft[:, ::-1, :] > 0.5  # axis 1 is depth; the viewer stands at its +A end
        hit = solid.any(axis=1)
        front = depth - 1 - solid.argmax(axis=1)
        normal = np.stack([-np.take_along_axis(g, front[:, None, :], axis=1)[:, 0] for g in np.gradient(soft)], -1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
        shade = 0.3 + 0.7 * np.clip(normal @ light[::-1], 0, 1)
        color = np.array(_rgb((colors or {}).get(segment.name, segment.color)))
        alpha = (0.85 if number else 1.0) * hit
        picture += alpha[..., None] * (shade[..., None] * color - picture)
    picture = picture[::-1, ::-1]  # up is up, patient's right at the left
    return np.clip(ndimage.zoom(picture, (pixels / size, pixels / size, 1), order=1), 0, 1)
