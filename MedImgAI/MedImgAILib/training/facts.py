"""What the images of a data set are like: for planning and for the data report."""

from __future__ import annotations

import numpy as np

from ..core import Volume
from ..networks.preparation import storage_order
from .planning import ImageFacts

_MOST_VALUES = 20000


def image_facts(volume: Volume, mask: np.ndarray | None = None, seed: int = 0) -> ImageFacts:
    """Facts of one image; ``mask`` (K, J, I) marks the labelled voxels if it lies on the same grid."""
    order = storage_order(volume.geometry, None)
    geometry = volume.geometry.reordered(*order)
    array = volume.array
    values = array[mask] if mask is not None and mask.shape == array.shape[:3] and mask.any() else array
    values = np.asarray(values).reshape(-1)
    if values.size > _MOST_VALUES:
        values = values[np.random.default_rng(seed).integers(0, values.size, _MOST_VALUES)]
    return ImageFacts(
        geometry.shape,
        tuple(float(s) for s in geometry.spacing_kji),
        values.astype(np.float32),
        float(array.min()),
        float(array.max()),
        volume.components,
        array.dtype == np.uint8,
        volume.units,
    )
