"""How well a registration went: figures before and after, the metric's course, and whether it failed."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Plot, Series, Table, Volume

from .metric import Sampler

AMBIGUOUS = 0.9
"""A start that ended elsewhere and reached this share of the best metric makes the result doubtful."""
LEAST_OVERLAP = 0.2
"""Least share of the smaller image's structure that must lie inside the other."""
MOST_STRETCHED, MOST_UNEVEN = 1.75, 1.6
"""Factor by which an affine map may stretch or shrink any direction, and one direction more than another."""
MOST_INCONSISTENT = 0.05
"""By what part of the image's diagonal the way forth and back may miss."""
LEAST_CONTRAST, DOUBTFUL_CONTRAST = 6.0, 11.0
"""By how many standard deviations the result must beat poses that are certainly wrong: always, and where the images
share little information. A small part of a large image reaches less than a whole image does."""
LITTLE_INFORMATION = 1.08
"""Normalised mutual information below which images share little; unrelated ones reach about 1.05."""


def normalized_mutual_information(first, second, bins: int = 64) -> float:
    """(H(a) + H(b)) / H(a, b) of paired values: 1 independent … 2 the same (Studholme 1999, Pattern Recognit 32:71).

    Values are binned evenly between their 0.1th and 99.9th percentiles; 1 if either is constant.
    """
    codes = []
    for values in (first, second):
        low, high = np.percentile(values, (0.1, 99.9))
        if not high > low:
            low, high = values.min(), values.max()
        if not high > low:
            return 1.0
        codes.append(np.clip((values - low) * (bins / (high - low)), 0, bins - 1).astype(np.intp))
    joint = np.bincount(codes[0] * bins + codes[1], minlength=bins * bins).reshape(bins, bins) / len(first)
    return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / max(_entropy(joint), 1e-12)


def _entropy(p) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def compare(fixed: Volume, moving: Volume, matrix, points: int = 40000) -> tuple[float, float]:
    """Normalised mutual information and overlap of the fields of view under a (4, 4) fixed-to-moving RAS matrix.

    Read at points spread evenly over the fixed image's voxels. Without overlap the first is 1 (independent).
    """
    fixed, moving = fixed.canonical(), moving.canonical()
    stride = max(1, round((fixed.array.size / points) ** (1 / 3)))
    grid = np.meshgrid(*(np.arange((n - 1) % stride // 2, n, stride) for n in fixed.array.shape), indexing="ij")
    values = fixed.array[tuple(grid)].ravel().astype(np.float64)
    to_kji = (moving.geometry.ras_to_ijk @ matrix @ fixed.geometry.ijk_to_ras)[2::-1]
    kji = to_kji[:, :3] @ np.stack([g.ravel() for g in grid[::-1]]) + to_kji[:, 3:]
    inside, other, _ = Sampler(moving.array)(kji)
    # An image reaches half a voxel beyond its voxel centres; the sampler reads only between them.
    reach = np.array(moving.array.shape, float)[:, None] - 0.5 + 1e-3
    overlap = float(((kji >= -0.5 - 1e-3) & (kji <= reach)).all(axis=0).mean())
    if inside.sum() < 2:
        return 1.0, overlap
    return normalized_mutual_information(values[inside], other), overlap


def verdict(result, information: float) -> str:
    """Why the registration failed, in words that follow "because"; empty if it did not.

    ``information`` is the normalised mutual information at the result, of :func:`compare`.
    """
    if result.overlap < LEAST_OVERLAP:
        return f"only {100 * result.overlap:.0f} % of the smaller image's structure lies inside the other"
    least = DOUBTFUL_CONTRAST if information < LITTLE_INFORMATION else LEAST_CONTRAST
    if result.contrast < least:
        return "the images are hardly more alike at the result than at poses that are certainly wrong"
    if result.rival > AMBIGUOUS:
        return "a very different position fits almost as well"
    if result.consistency_mm > MOST_INCONSISTENT * result.size_mm:
        return f"registering back misses the way forth by {result.consistency_mm:.0f} mm"
    stretched = np.linalg.svd(result.matrix[:3, :3], compute_uv=False)
    uneven = stretched.max() / stretched.min()
    if stretched.max() > MOST_STRETCHED or stretched.min() < 1 / MOST_STRETCHED or uneven > MOST_UNEVEN:
        return f"it stretches the image between {1 / stretched.max():.2g} and {1 / stretched.min():.2g} times"
    if result.value < 0.98 * result.start_value:
        return "the images are less alike than they were at the start"
    return ""


def table(result, before, after, failed: bool, landmarks=None) -> Table:
    """The quality report: a row for each measure, before and after (NaN where it has no meaning).

    ``landmarks`` is the target registration error in mm before and after, where landmarks were given.
    """
    nan = float("nan")
    rows = [
        ("Metric", result.start_value, result.value),
        ("Normalised mutual information", before[0], after[0]),
        ("Overlap of the fields of view, %", 100 * before[1], 100 * after[1]),
        ("Structure inside the other image, %", nan, 100 * result.overlap),
        ("Best other position, % of the result", nan, 100 * result.rival),
        ("Contrast to wrong poses, standard deviations", nan, result.contrast),
        ("Inverse consistency, mean, mm", nan, result.consistency_mm),
    ]
    if landmarks is not None:
        rows.append(("Target registration error, mean, mm", *landmarks))
    rows.append(("Failed (1 = yes)", nan, float(failed)))
    columns = {"measure": [r[0] for r in rows], "before": [r[1] for r in rows], "after": [r[2] for r in rows]}
    return Table(columns, name="Registration quality")


def metric_plot(result, metric_name: str) -> Plot:
    """The metric at every evaluation of the winning start, one curve for each level."""
    levels = np.array([level for level, _ in result.history], int)
    values = np.array([value for _, value in result.history], float)
    columns, series = {"evaluation": np.arange(1, len(values) + 1)}, []
    for level in np.unique(levels):
        name = f"level {level + 1}"
        columns[name] = np.where(levels == level, values, np.nan)
        series.append(Series(name, "evaluation", name))
    curve = Table(columns, name="Metric")
    return Plot(curve, series, "Metric", "Course of the registration", "evaluation", metric_name)
