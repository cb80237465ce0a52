"""How well a deformable registration went."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Table

from . import fields

MOST_FOLDED = 0.01
"""Largest share of voxels that may fold."""
MOST_INCONSISTENT = 0.5
"""Largest mean distance, in voxels of the finest level, by which forth and back may miss the starting point."""


def figures(result) -> dict:
    """Jacobian range, share folded, size of the displacement and inverse consistency in mm, of the fixed image."""
    determinant = fields.jacobian(result.to_moving)[result.inside]
    spacing = result.geometry.spacing_kji[:, None, None, None]
    there_and_back = fields.compose(result.to_fixed, result.to_moving)[(slice(None), *result.inside)]
    apart = np.linalg.norm(there_and_back * spacing, axis=0)
    length = np.linalg.norm(result.to_moving[(slice(None), *result.inside)] * spacing, axis=0)
    return {
        "least": float(determinant.min()),
        "greatest": float(determinant.max()),
        "folded": float((determinant <= 0).mean()),
        "consistency_mm": float(apart.mean()),
        "worst_consistency_mm": float(apart.max()),
        "displacement_mm": float(length.mean()),
        "largest_mm": float(length.max()),
    }


def verdict(found: dict, before, after, voxel_mm: float) -> str:
    """Why the registration failed, in words that follow "because"; empty if it did not.

    ``before`` and ``after`` are (likeness, normalised mutual information).
    """
    if found["folded"] > MOST_FOLDED:
        return f"{100 * found['folded']:.1f} % of the voxels fold"
    if found["consistency_mm"] > MOST_INCONSISTENT * voxel_mm:
        return f"the way forth and back misses its start by {found['consistency_mm']:.1f} mm"
    # Resampling alone costs some of the information of images that share their noise.
    if after[0] < before[0] or after[1] - 1 < min(before[1] - 1.02, 0.85 * (before[1] - 1)):
        return "the images are less alike than they were at the start"
    if after[1] < 1.02:
        return "the images have almost nothing in common at the result"
    return ""


def table(found: dict, before, after, failed: bool, landmarks=None) -> Table:
    """The quality report: a row for each measure, before and after (NaN where it has no meaning).

    ``landmarks`` is the target registration error in mm before and after, where landmarks were given.
    """
    nan = float("nan")
    rows = [
        ("Metric on the finest level", before[0], after[0]),
        ("Normalised mutual information", before[1], after[1]),
        ("Least Jacobian determinant", 1.0, found["least"]),
        ("Greatest Jacobian determinant", 1.0, found["greatest"]),
        ("Voxels that fold, %", 0.0, 100 * found["folded"]),
        ("Inverse consistency, mean, mm", nan, found["consistency_mm"]),
        ("Inverse consistency, worst, mm", nan, found["worst_consistency_mm"]),
        ("Displacement, mean, mm", nan, found["displacement_mm"]),
        ("Displacement, greatest, mm", nan, found["largest_mm"]),
    ]
    if landmarks is not None:
        rows.append(("Target registration error, mean, mm", *landmarks))
    rows.append(("Failed (1 = yes)", nan, float(failed)))
    columns = {"measure": [r[0] for r in rows], "before": [r[1] for r in rows], "after": [r[2] for r in rows]}
    return Table(columns, name="Registration quality")
