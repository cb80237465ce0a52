"""How sure a network is of each segment: its passes compared with what they decided together.

The entropy is that of the mean probabilities (Gal and Ghahramani 2016, ICML, for dropout; Wang et al. 2019,
Neurocomputing 338:34, for variations of the image; Lakshminarayanan et al. 2017, NeurIPS, for ensembles).
"""

from __future__ import annotations

import numpy as np

from ..core import Context, ModelError, Segmentation, Table
from .planes import PlaneReader
from .variations import Variation, has_dropout, variations

KINDS = {
    "none": "No",
    "flips": "Mirrored",
    "flips_turns": "Mirrored and turned",
    "intensity": "Brighter and darker",
    "all": "All of these",
    "dropout": "With dropout",
}


def chosen_variations(kind: str, count: int, networks, window, dimensions: int, seed: int, context: Context):
    """The passes that a task asks for; see :func:`.variations.variations`.

    Raises
    ------
    ModelError
        If dropout is asked for and the network has none.
    """
    if kind == "none":
        return (Variation(),)
    if kind == "dropout" and not all(has_dropout(n) for n in networks):
        raise ModelError("The model has no dropout; choose other variations of the image.")
    result = tuple(variations(kind, count, window, dimensions, seed))
    context.log(f"{len(result) * len(networks)} passes: {len(result)} variations of {len(networks)} networks.")
    return result


def measures(segmentation: Segmentation, entropy, result: PlaneReader, voxel_ml: float) -> Table:
    """One row for each segment: volume, mean entropy, and with several passes their volumes and agreement.

    Parameters
    ----------
    segmentation : Segmentation
        On the image's grid.
    entropy : Volume or None
        On the same grid.
    result : PlaneReader
        With ``votes`` where there were several passes, counted on the network's grid.
    voxel_ml : float
        Volume of a voxel of the network's grid.
    """
    labels, milliliters = segmentation.layers[0], segmentation.geometry.voxel_volume_mm3 / 1000
    most = max(s.label for s in segmentation.segments) + 1
    counts = np.bincount(labels.reshape(-1), minlength=most)
    picked = np.array([s.label for s in segmentation.segments])
    columns = {"segment": tuple(s.name for s in segmentation.segments), "volume": counts[picked] * milliliters}
    units = {"volume": "mL"}
    if entropy is not None:
        sums = np.bincount(labels.reshape(-1), entropy.array.reshape(-1), minlength=most)
        columns["entropy"] = (sums / np.maximum(counts, 1))[picked]
    if result.votes is not None:
        known = np.minimum(picked, len(result.votes.decided) - 1)
        found = result.votes.found[:, known] * voxel_ml
        columns |= {
            "lowest volume": found.min(axis=0), "highest volume": found.max(axis=0),
            "spread of the volume": found.std(axis=0), "disagreement": 1 - result.votes.dice()[:, known].mean(axis=0),
        }  # fmt: skip
        units |= dict.fromkeys(("lowest volume", "highest volume", "spread of the volume"), "mL")
    return Table(columns, f"{segmentation.name} sizes", units)
