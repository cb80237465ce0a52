"""What a classifier is told of a breast: the measures of each view, and how they differ from the other breast."""

from __future__ import annotations

import numpy as np

from .view import ViewResult

COMPARED = (
    "dense_percent", "mass_likeness_highest", "mass_likeness_area_cm2", "calcifications", "calcification_grouping",
)  # fmt: skip
"""Measures whose difference to the other breast is a sign by itself."""
_LEFT_OUT = ("muscle_area_cm2",)
"""Measures that tell the view and how it was taken, not the breast."""


def feature_names(result: ViewResult) -> list[str]:
    """Of the columns of :func:`feature_rows`."""
    return [*_own(result), *(f"{name}_beyond_other_breast" for name in COMPARED)]


def feature_rows(results: list[ViewResult]) -> np.ndarray:
    """(views, F) of the views of one exam.

    The other breast is represented by the same view where it is there, else by the mean of its views; without it the
    differences are NaN, which a classifier replaces by its median.
    """
    rows = []
    for result in results:
        side, _, projection = result.name.partition("_")
        others = [r for r in results if not r.name.startswith(side)]
        same = [r for r in others if r.name.endswith(projection)] or others
        other = {n: np.mean([r.features[n] for r in same]) if same else np.nan for n in COMPARED}
        rows.append([*_own(result).values(), *(result.features[n] - other[n] for n in COMPARED)])
    return np.array(rows, float)


def _own(result: ViewResult) -> dict[str, float]:
    return {name: value for name, value in result.features.items() if name not in _LEFT_OUT}
