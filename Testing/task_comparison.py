"""Compares what a task gives on one input stored in different ways: the same answer in the patient is demanded."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
from MedImgAILib.core import Plot, Points, Projections, Segmentation, Sequence, Table, Text, Transform, Volume

ORDERS = [
    (axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
    if (axes, flips) != ((0, 1, 2), (False, False, False))
]
"""The 47 other ways to store a grid."""

RAS_UNIT = "mm (RAS)"
"""Unit of table columns that hold patient coordinates; they move with the patient and are not compared then."""


def oblique_matrix(angle_deg: float = 25.0) -> np.ndarray:
    """(4, 4) rotation about an axis that is oblique to all three, and a shift."""
    axis = np.array([1.0, 2.0, -1.5]) / np.linalg.norm([1.0, 2.0, -1.5])
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(angle_deg)
    matrix = np.eye(4)
    matrix[:3, :3] = np.eye(3) - np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    matrix[:3, 3] = (12.0, -7.0, 30.0)
    return matrix


def contiguous(value):
    """The value with its voxels laid out anew in memory, as reading a file would give them."""
    if isinstance(value, Volume):
        return replace(value, array=np.ascontiguousarray(value.array))
    if isinstance(value, Segmentation):
        return replace(value, layers=tuple(np.ascontiguousarray(layer) for layer in value.layers))
    if isinstance(value, Sequence):
        return replace(value, items=tuple(contiguous(item) for item in value.items))
    return value


def mapped(function, inputs: dict, needs: str) -> dict:
    """``inputs`` with ``function(value, position)`` in place of each value that has the method ``needs``."""
    position = itertools.count()

    def one(value):
        if isinstance(value, (list, tuple)):
            return [one(v) for v in value]
        return function(value, next(position)) if hasattr(value, needs) else value

    return {name: one(value) for name, value in inputs.items()}


def restored(value, geometry):
    """``value`` stored in the order of ``geometry``, which must have the same voxels."""
    for axes, flips in (((0, 1, 2), (False, False, False)), *ORDERS):
        if value.geometry.reordered(axes, flips).same_grid(geometry):
            return value.reordered(axes, flips)
    raise AssertionError(f"{value.label}: {value.geometry} does not have the voxels of {geometry}")


def assert_close(got, wanted, tolerance: float, where: str):
    """Numbers within ``tolerance`` of the wanted ones, relative to their range (or size, if they are all equal)."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.dtype == wanted.dtype, f"{where}: {got.dtype} instead of {wanted.dtype}"
    assert got.shape == wanted.shape, f"{where}: shape {got.shape} instead of {wanted.shape}"
    finite = np.isfinite(wanted)
    assert np.array_equal(got[~finite], wanted[~finite], equal_nan=True), f"{where}: NaN or infinity elsewhere"
    if not finite.any():
        return
    got, wanted = got[finite], wanted[finite]
    wanted, got = (a if np.iscomplexobj(a) else a.astype(np.float64) for a in (wanted, got))
    scale = max(np.abs(wanted - wanted.flat[0]).max(), 1e-6 * np.abs(wanted).max(), 1e-30)
    worst = np.abs(got - wanted).max() / scale
    assert worst <= tolerance, f"{where}: differs by {worst:.2g} of the range, more than {tolerance:g}"


def assert_same(got, wanted, tolerance: float, where: str, moved: bool = False):
    """Two results are the same in the patient; ``moved`` tells that the patient was moved in between."""
    assert type(got) is type(wanted) or isinstance(wanted, Transform), f"{where}: {type(got)}, not {type(wanted)}"
    if isinstance(wanted, Volume):
        got = restored(got, wanted.geometry)
        assert got.units == wanted.units, f"{where}: unit {got.units}, not {wanted.units}"
        assert_close(got.array, wanted.array, tolerance, where)
    elif isinstance(wanted, Segmentation):
        got = restored(got, wanted.geometry)
        assert got.segments == wanted.segments, f"{where}: other segments"
        for segment in wanted.segments:
            first, second = got.mask(segment), wanted.mask(segment)
            total = first.sum() + second.sum()
            dice = 2 * (first & second).sum() / total if total else 1.0
            assert dice >= 1 - tolerance, f"{where}: segment {segment.name} has Dice {dice:.5f}"
    elif isinstance(wanted, Sequence):
        assert_close(got.values, wanted.values, tolerance, where)
        for number, (one, other) in enumerate(zip(got.items, wanted.items, strict=True)):
            assert_same(one, other, tolerance, f"{where} [{number}]", moved)
    elif isinstance(wanted, Projections):
        assert_close(got.array, wanted.array, tolerance, where)
    elif isinstance(wanted, Points):
        assert got.labels == wanted.labels, where
        assert_positions(got.positions, wanted.positions, tolerance, where)
    elif isinstance(wanted, Transform):
        places = np.random.default_rng(0).uniform(-60, 60, (50, 3))
        assert_positions(got.map_points(places), wanted.map_points(places), tolerance, where)
    elif isinstance(wanted, Table):
        assert list(got.columns) == list(wanted.columns), where
        assert got.units == wanted.units, where
        for name, column in wanted.columns.items():
            if isinstance(column, tuple):
                assert got.columns[name] == column, f"{where} [{name}]"
            elif not (moved and wanted.units.get(name) == RAS_UNIT):
                scale = max(1.0, np.abs(column[np.isfinite(column)]).max(initial=0.0))
                both = (np.asarray(c, float) for c in (got.columns[name], column))
                np.testing.assert_allclose(*both, rtol=tolerance, atol=tolerance * scale, err_msg=f"{where} [{name}]")
    elif isinstance(wanted, Plot):
        assert [s.y for s in got.series] == [s.y for s in wanted.series], where
        # An iterative search may take more or fewer steps in another frame; its course is then drawn, not the answer.
        if not moved or got.table.rows == wanted.table.rows:
            assert_same(got.table, wanted.table, tolerance, where, moved)
    else:
        assert isinstance(wanted, Text), f"{where}: no comparison for a {type(wanted).__name__}"
        number = r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?"
        assert re.sub(number, "#", got.text) == re.sub(number, "#", wanted.text), where


def assert_positions(got, wanted, tolerance: float, where: str):
    """Positions in mm within ``tolerance`` × 100 mm."""
    worst = np.linalg.norm(got - wanted, axis=-1).max(initial=0.0)
    assert worst <= tolerance * 100, f"{where}: {worst:.3g} mm away"
