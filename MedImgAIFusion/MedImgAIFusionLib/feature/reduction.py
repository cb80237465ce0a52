"""Fewer features from many: principal components, and canonical components that modalities have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import InputError, ModelError

METHODS = {"none": "None", "pca": "Principal components (PCA)", "cca": "Canonical correlation (CCA)"}
_RIDGE = 1e-3
"""Added to the variances in a group, so that features that repeat one another do no harm."""


@dataclass(frozen=True)
class Reduction:
    """``(x - mean) @ projection`` for rows ``x``.

    Parameters
    ----------
    method : one of :data:`METHODS`
    mean : (F,) float32 ndarray
    projection : (F, C) float32 ndarray
    """

    method: str
    mean: np.ndarray
    projection: np.ndarray

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """(N, C) float32 of (N, F) features."""
        if self.method == "none":
            return np.ascontiguousarray(rows, np.float32)
        return (rows - self.mean).astype(np.float32) @ self.projection

    def to_json(self) -> dict:
        """Plain lists and numbers."""
        return {"method": self.method, "mean": self.mean.tolist(), "projection": self.projection.tolist()}

    @classmethod
    def from_json(cls, value) -> Reduction:
        """Check and read what :meth:`to_json` gave; raises ModelError."""
        try:
            mean, projection = (np.array(value[key], np.float32) for key in ("mean", "projection"))
            method = value["method"]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The reduction of features is damaged ({error}); train it again.") from error
        sound = mean.ndim == 1 and projection.ndim == 2 and len(projection) == len(mean) and method in METHODS
        if not sound or not (np.isfinite(mean).all() and np.isfinite(projection).all()):
            raise ModelError("The reduction of features is damaged (its parts do not fit together); train it again.")
        return cls(method, mean, projection)


def fit(rows: np.ndarray, groups: np.ndarray, method: str, components: int) -> Reduction:
    """Learn a reduction.

    PCA takes the directions of greatest variance of all standardised features. CCA takes those on which the groups
    agree most: each group is made white by itself, and the principal components of all together are kept (generalised
    canonical correlation, MAXVAR; Kettenring 1971, Biometrika 58:433). Features that do not vary are left out.

    Parameters
    ----------
    rows : (N, F) ndarray
    groups : (F,) int ndarray
        To which modality a feature belongs.
    method : one of :data:`METHODS`
    components : int
        At most so many are kept.

    Raises
    ------
    InputError
        If no feature varies, or CCA has one group only.
    """
    rows = np.asarray(rows, np.float64)
    if method == "none":
        return Reduction("none", np.zeros(rows.shape[1], np.float32), np.eye(rows.shape[1], dtype=np.float32))
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    varying = deviation > 1e-9 * np.maximum(1.0, np.abs(mean))
    if not varying.any():
        raise InputError("Features: none of them varies; there is nothing to learn from.")
    scale = np.where(varying, 1 / np.where(varying, deviation, 1), 0.0)
    centred = (rows - mean) * scale
    if method == "cca":
        present = [g for g in np.unique(groups) if varying[groups == g].any()]
        if len(present) < 2:
            raise InputError("Canonical correlation needs features of at least two modalities that vary; choose PCA.")
        white = np.zeros((rows.shape[1], rows.shape[1]))
        for group in present:
            mine = np.flatnonzero((groups == group) & varying)
            values, vectors = np.linalg.eigh(centred[:, mine].T @ centred[:, mine] / len(rows))
            white[np.ix_(mine, mine)] = vectors / np.sqrt(np.maximum(values, 0) + _RIDGE) @ vectors.T
        centred = centred @ white
    else:
        white = np.eye(rows.shape[1])
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    order = np.argsort(values)[::-1][: min(components, int((values > 1e-9 * values.max()).sum()))]
    chosen = vectors[:, order]
    # The sign of a component is arbitrary; the largest weight is made positive.
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(len(order))])
    return Reduction(method, mean.astype(np.float32), (scale[:, None] * white @ chosen).astype(np.float32))
