"""The table of sizes that segmentation tasks give along with their segments."""

from __future__ import annotations

import numpy as np

from ..core import Segmentation, Table, Volume


def measure(segmentation: Segmentation, image: Volume, **extra) -> Table:
    """One row per segment: voxels, volume in mL, mean and standard deviation of ``image`` (on the same grid).

    ``extra`` adds constant columns. An empty segment has no mean: NaN.
    """
    voxels, means, deviations = [], [], []
    for segment in segmentation.segments:
        values = image.array[segmentation.mask(segment)]
        voxels.append(values.size)
        means.append(values.mean(dtype=np.float64) if values.size else np.nan)
        deviations.append(values.std(dtype=np.float64) if values.size else np.nan)
    counts = np.array(voxels, np.int64)
    columns = {
        "segment": tuple(s.name for s in segmentation.segments),
        "voxels": counts,
        "volume": counts * (segmentation.geometry.voxel_volume_mm3 / 1000),
        "mean": np.array(means),
        "standard deviation": np.array(deviations),
    }
    units = {"volume": "mL"}
    if image.units:
        units |= dict.fromkeys(("mean", "standard deviation", *extra), image.units)
    columns |= {name: np.full(len(counts), float(value)) for name, value in extra.items()}
    return Table(columns, "Segment sizes", units)
