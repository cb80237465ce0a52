"""Contrast-limited adaptive histogram equalisation in three dimensions."""

from __future__ import annotations

import numpy as np

from ..core import FloatParameter, InputError, IntegerParameter, Task, VolumePort


class Clahe(Task):
    """Histogram equalisation tile by tile, blended between tiles, with bounded contrast.

    The volume is cut into equal boxes of about the tile size. Each box's histogram is clipped at ``clip_limit``
    times its mean height and what was cut off is spread evenly below the limit, so that contrast grows at most by
    that factor. A voxel's value is mapped by the surrounding eight boxes' cumulative histograms, weighted
    trilinearly by their centres' distance. Single slices are treated in two dimensions.
    """

    id = "enhance.clahe"
    title = "CLAHE"
    group = "Enhancement"
    summary = "Brings out local contrast everywhere at once without blowing up noise; for viewing, not for measuring."
    references = (
        "Zuiderveld K. Contrast limited adaptive histogram equalization. Graphics Gems IV. AP 1994, 474-485.",
        "Pizer SM, Amburn EP, Austin JD, et al. Adaptive histogram equalization and its variations. "
        "Comput Vision Graph 1987; 39:355-368.",
    )
    keywords = ("contrast limited adaptive histogram equalization", "local contrast")

    inputs = (VolumePort("image", "Image", "The volume to change."),)
    parameters = (
        FloatParameter(
            "tile_mm", "Tile size", 30.0, "Edge of the boxes; about the size of the structures that matter.", "mm",
            minimum=2.0, maximum=500.0, step=5.0,
        ),
        FloatParameter(
            "clip_limit", "Clip limit", 3.0, "Largest growth of contrast; 1 changes nothing but the range.",
            minimum=1.0, maximum=100.0, step=0.5,
        ),
        IntegerParameter(
            "bins", "Bins", 256, "Intervals of each histogram; the mapping is linear within each.",
            minimum=16, maximum=4096, advanced=True,
        ),
    )  # fmt: skip
    outputs = (VolumePort("equalized", "Equalised image", "Same grid and same range of values; no longer in HU."),)

    def run(self, inputs, parameters, context):
        from ..core.geometry import inverse_order

        order = inputs.image.geometry.canonical_order()
        # A voxel in the middle between two tiles counts for one of them: always the same one in the patient.
        image = inputs.image.reordered(*order)
        low, high = float(image.array.min()), float(image.array.max())
        if low == high:
            raise InputError(f"{image.label} has the same value everywhere, so there is no contrast to spread.")
        tiles = tile_counts(parameters.tile_mm, image.geometry)
        with context.part(0.0, 0.3):
            counts = tile_histograms(image.array, tiles, parameters.bins, low, high, context)
        mapping = clipped_mappings(counts, parameters.clip_limit)
        with context.part(0.3, 1.0):
            result = apply_mappings(image.array, mapping, low, high, context)
        return {"equalized": image.with_array(result).reordered(*inverse_order(*order))}


def tile_counts(tile_mm: float, geometry) -> tuple[int, int, int]:
    """Number of tiles along k, j and i: the image's extent over the tile size, rounded, at least one."""
    extent = np.array(geometry.shape) * geometry.spacing_kji
    counts = np.maximum(1, np.rint(extent / tile_mm).astype(int))
    return tuple(np.minimum(counts, geometry.shape).tolist())


def tile_histograms(array, tiles, bins, low, high, context) -> np.ndarray:
    """(tiles k, j, i, bins) counts of the values in equal intervals from ``low`` to ``high``."""
    number = [np.floor((np.arange(n) + 0.5) * t / n).astype(np.intp) for n, t in zip(array.shape, tiles)]
    in_plane = (number[1][:, None] * tiles[2] + number[2][None, :]) * bins
    counts = np.zeros((tiles[0], tiles[1] * tiles[2] * bins), np.int64)
    for k, plane in enumerate(array):
        scaled = (plane.astype(np.float64) - low) * (bins / (high - low))
        bin_number = np.minimum(scaled.astype(np.intp), bins - 1)
        counts[number[0][k]] += np.bincount((in_plane + bin_number).ravel(), minlength=counts.shape[1])
        context.progress((k + 1) / len(array))
    return counts.reshape(*tiles, bins)


def clipped_mappings(counts: np.ndarray, clip_limit: float) -> np.ndarray:
    """(tiles k, j, i, bins + 1) cumulative fractions at the bins' edges, their steps at most ``clip_limit / bins``.

    What a histogram has above the limit is added evenly to all bins below it; the amount that keeps the sum is found
    by bisection.
    """
    bins = counts.shape[-1]
    share = counts / counts.sum(axis=-1, keepdims=True)
    limit = clip_limit / bins
    lower, upper = np.zeros((*counts.shape[:-1], 1)), np.full((*counts.shape[:-1], 1), limit)
    for _ in range(50):
        added = (lower + upper) / 2
        too_much = np.minimum(share + added, limit).sum(axis=-1, keepdims=True) > 1
        upper, lower = np.where(too_much, added, upper), np.where(too_much, lower, added)
    # Without clipping there is nothing to spread.
    clipped = np.where(share.max(axis=-1, keepdims=True) > limit, np.minimum(share + upper, limit), share)
    cumulative = np.cumsum(clipped, axis=-1)
    return np.concatenate([np.zeros_like(cumulative[..., :1]), cumulative / cumulative[..., -1:]], axis=-1)


def apply_mappings(array, mapping, low, high, context) -> np.ndarray:
    """(K, J, I) float32: each voxel through the mappings of the tiles around it, linear in place and in value."""
    from scipy.ndimage import map_coordinates

    tiles, bins = mapping.shape[:3], mapping.shape[3] - 1
    place = [
        np.clip((np.arange(n) + 0.5) * t / n - 0.5, 0, t - 1).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, t) in enumerate(zip(array.shape, tiles))
    ]
    table = (low + (high - low) * mapping).astype(np.float32)
    result = np.empty(array.shape, np.float32)
    depth = max(1, (1 << 20) // (array.shape[1] * array.shape[2]))
    for start in range(0, len(array), depth):
        slab = array[start : start + depth]
        where = np.empty((4, *slab.shape))
        where[0], where[1], where[2] = place[0][start : start + depth], place[1], place[2]
        where[3] = np.clip((slab - low) * (bins / (high - low)), 0, bins)
        map_coordinates(table, where, output=result[start : start + depth], order=1, mode="nearest")
        context.progress((start + len(slab)) / len(array))
    return result
