"""Transforms that bring points onto points: least squares and splines, and the distances that remain."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Geometry, InputError, Points

LEAST = {"rigid": 3, "similarity": 3, "affine": 4}
"""How many pairs of points a model needs."""


def check_pairs(fixed: Points, moving: Points):
    """Raise :class:`InputError` unless the lists are of one length; the points are paired in their order."""
    if len(fixed.positions) != len(moving.positions):
        raise InputError(
            f"{fixed.label} has {len(fixed.positions)} points and {moving.label.lower()} {len(moving.positions)}; "
            "the points are paired in their order, so there must be as many."
        )


def check_given(inputs):
    """Raise :class:`InputError` if only one of a task's optional point lists is given, or they do not pair."""
    if (inputs.fixed_points is None) != (inputs.moving_points is None):
        given = inputs.fixed_points or inputs.moving_points
        raise InputError(f"{given.label} is given alone; give landmarks of both images or none.")
    if inputs.fixed_points is not None:
        check_pairs(inputs.fixed_points, inputs.moving_points)


def fit(moving, fixed, model: str) -> np.ndarray:
    """The (4, 4) matrix that brings ``moving`` nearest to ``fixed`` in the least-squares sense.

    Rigid and similarity: Umeyama 1991, IEEE Trans Pattern Anal 13:376 (never a reflection); affine: normal equations.

    Parameters
    ----------
    moving, fixed : (N, 3) RAS positions in mm
    model : "rigid", "similarity" or "affine"

    Raises
    ------
    InputError
        If there are too few points, or they lie on a line (affine: in a plane).
    """
    if len(moving) < LEAST[model]:
        raise InputError(f"A fit of kind '{model}' needs at least {LEAST[model]} pairs of points, not {len(moving)}.")
    from_center, to_center = moving.mean(axis=0), fixed.mean(axis=0)
    source, target = moving - from_center, fixed - to_center
    spread = [np.linalg.svd(points, compute_uv=False) for points in (source, target)]
    rank = 3 if model == "affine" else 2
    if any(values[rank - 1] < 1e-6 * max(values[0], 1e-12) for values in spread):
        where = "in a plane" if model == "affine" else "on a line"
        raise InputError(f"The points lie {where}; a fit of kind '{model}' needs points that do not.")
    if model == "affine":
        linear = np.linalg.lstsq(source, target, rcond=None)[0].T
    else:
        left, values, right = np.linalg.svd(target.T @ source)
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
        linear = (left * signs) @ right
        if model == "similarity":
            linear = linear * ((values * signs).sum() / (source**2).sum())
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = to_center - linear @ from_center
    return matrix


def start_from(fixed: Points | None, moving: Points | None) -> np.ndarray | None:
    """(4, 4) rigid matrix, moving to fixed RAS, from landmarks that suffice for it; else None."""
    if fixed is None or moving is None or len(fixed.positions) < LEAST["rigid"]:
        return None
    try:
        return fit(moving.positions, fixed.positions, "rigid")
    except InputError:
        return None


def errors(inputs, transform) -> tuple[float, float] | None:
    """Mean distance in mm between a task's fixed and moving landmarks: as they are, and after the transform."""
    if inputs.fixed_points is None:
        return None
    fixed, moving = inputs.fixed_points.positions, inputs.moving_points.positions
    return tuple(float(np.linalg.norm(p - fixed, axis=1).mean()) for p in (moving, transform.map_points(moving)))


def spline_field(targets, sources, geometry: Geometry) -> np.ndarray:
    """Displacements of the thin-plate spline that carries ``targets`` to ``sources``, at the nodes of a grid.

    The biharmonic spline in space, kernel r (Bookstein 1989, IEEE Trans Pattern Anal 11:567; Rohr 2001).

    Parameters
    ----------
    targets, sources : (N, 3) RAS positions in mm, N ≥ 4, not in a plane
    geometry : Geometry

    Returns
    -------
    (K, J, I, 3) float64 in mm along R, A, S.
    """
    from scipy.interpolate import RBFInterpolator

    spline = RBFInterpolator(targets, sources - targets, kernel="linear", degree=1)
    k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    nodes = geometry.ras(np.stack([i, j, k], axis=-1))
    return spline(nodes.reshape(-1, 3)).reshape(nodes.shape)
