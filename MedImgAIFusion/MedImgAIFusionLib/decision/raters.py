"""Several segmentations as one table of what the raters said.

Voxels where all raters said the same things are alike, and there are few such combinations ("patterns"). Deciding
per pattern instead of per voxel makes every vote, and every iteration of an estimate, all but free.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from MedImgAILib.core import Geometry, InputError, Segment, Segmentation, Table, Volume
from MedImgAILib.core.resampling import resample_segmentation

_MOST_CODES = 1 << 20
_CHUNK = 1 << 18


@dataclass(frozen=True, eq=False)
class Ratings:
    """What R raters said about every voxel.

    Parameters
    ----------
    segments : tuple of Segment
        The common table, labels 1…L in order.
    patterns : (P, R) array of labels 0…L
        The distinct combinations of answers that occur.
    counts : (P,) int64
        In how many voxels each occurs.
    codes : (P,) int
        The number that stands for each pattern in ``image``.
    image : (K, J, I) unsigned integers
        The code of every voxel's pattern.
    """

    segments: tuple[Segment, ...]
    names: tuple[str, ...]
    patterns: np.ndarray
    counts: np.ndarray
    codes: np.ndarray
    image: np.ndarray
    geometry: Geometry

    def spread(self, per_pattern: np.ndarray) -> np.ndarray:
        """(K, J, I) image of a (P,) value per pattern."""
        lookup = np.zeros(int(self.codes.max()) + 1, per_pattern.dtype)
        lookup[self.codes] = per_pattern
        result = np.empty(self.image.shape, per_pattern.dtype)
        source, target = self.image.reshape(-1), result.reshape(-1)
        _in_chunks(lambda part: np.take(lookup, source[part], out=target[part], mode="clip"), target.size)
        return result

    def segmentation(self, decided: np.ndarray, name: str) -> Segmentation:
        """The segmentation of a (P,) label per pattern; every segment of the table stays, even if empty."""
        dtype = np.uint8 if len(self.segments) < 256 else np.int16
        return Segmentation.from_labels(self.spread(decided.astype(dtype)), self.geometry, self.segments, name)

    def dice(self, decided: np.ndarray) -> Table:
        """Dice of every rater with the (P,) decided labels, a row per rater and segment; NaN where both are empty."""
        rows = {"rater": [], "segment": [], "dice": [], "volume_ml": []}
        millilitre = self.geometry.voxel_volume_mm3 / 1000
        for number, rater in enumerate(self.names):
            for segment in self.segments:
                said, truth = self.patterns[:, number] == segment.label, decided == segment.label
                both = int(self.counts[said & truth].sum())
                sizes = int(self.counts[said].sum()) + int(self.counts[truth].sum())
                rows["rater"].append(rater)
                rows["segment"].append(segment.name)
                rows["dice"].append(2 * both / sizes if sizes else float("nan"))
                rows["volume_ml"].append(int(self.counts[said].sum()) * millilitre)
        return Table(rows, name="Raters", units={"volume_ml": "ml"})


def collect(segmentations: list[Segmentation], reference: Volume | None, context) -> Ratings:
    """Bring all raters to one grid and one table of segments, matched by name.

    The grid is the reference's, or else the first rater's. A segment that a rater lacks counts as background there.

    Raises
    ------
    InputError
        If no segment name occurs with two raters, or a rater's segments do not reach the grid at all.
    """
    geometry = (reference or segmentations[0]).geometry
    table: dict[str, Segment] = {}
    raters_with: dict[str, int] = {}
    for rater in segmentations:
        for name in {s.name: s for s in rater.segments}:
            table.setdefault(name, rater.segment(_id_of(rater, name)))
            raters_with[name] = raters_with.get(name, 0) + 1
    if max(raters_with.values()) < 2:
        names = ", ".join(list(table)[:6])
        raise InputError(
            f"The segmentations have no segment name in common ({names}); give the same structure the same name."
        )
    segments = tuple(
        replace(segment, label=n, layer=0, id=name) for n, (name, segment) in enumerate(table.items(), start=1)
    )
    names = _unique_names(segmentations)
    labels = {s.name: s.label for s in segments}
    layers = []
    for number, rater in enumerate(segmentations):
        if not rater.geometry.same_grid(geometry):
            if not (geometry.contains(rater.geometry.corners_ras()).any() or _overlap(geometry, rater.geometry)):
                raise InputError(f"Rater '{names[number]}' lies entirely outside the reference grid.")
            rater = resample_segmentation(rater, geometry)
        layers.append(_common_labels(rater, labels, names[number], context))
        context.progress(0.4 * (number + 1) / len(segmentations), "Reading the raters")
    encoded = encode(layers, len(segments) + 1)
    context.progress(0.8, "Comparing the raters")
    return Ratings(segments, names, *encoded, geometry)


def _id_of(rater, name):
    return next(s.id for s in rater.segments if s.name == name)


def _overlap(first: Geometry, second: Geometry) -> bool:
    boxes = [g.corners_ras() for g in (first, second)]
    return bool((boxes[0].max(0) > boxes[1].min(0)).all() and (boxes[1].max(0) > boxes[0].min(0)).all())


def _unique_names(segmentations):
    names = []
    for number, rater in enumerate(segmentations, start=1):
        name = rater.name or f"rater {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return tuple(names)


def _common_labels(rater: Segmentation, labels: dict, name: str, context) -> np.ndarray:
    """(K, J, I) labels of the common table; where segments overlap the later one counts."""
    dtype = np.uint8 if len(labels) < 256 else np.uint16
    if len(rater.layers) == 1:
        layer = rater.layers[0].view(np.uint8) if rater.layers[0].dtype == bool else rater.layers[0]
        low, high = 0 if layer.dtype.kind == "u" else int(layer.min()), int(layer.max())
        wanted = {s.label: labels[s.name] for s in rater.segments}
        if layer.dtype == dtype and all(wanted.get(n) == n for n in range(1, high + 1)):
            return layer
        if low >= 0 and high < 1 << 20:
            lookup = np.zeros(max(high, max(wanted)) + 1, dtype)
            lookup[list(wanted)] = list(wanted.values())
            return lookup[layer]
    result, filled = np.zeros(rater.geometry.shape, dtype), False
    for segment in rater.segments:
        mask = rater.mask(segment)
        filled = filled or bool(result[mask].any())
        result[mask] = labels[segment.name]
    if filled:
        context.warn(f"The segments of rater '{name}' overlap; where they do, the last one counts.")
    return result


def encode(layers: list[np.ndarray], base: int):
    """The distinct combinations of the raters' labels.

    Parameters
    ----------
    layers : R arrays (K, J, I) of labels 0…base − 1
    base : int

    Returns
    -------
    patterns : (P, R) array
    counts : (P,) int64
    codes : (P,) int
    image : (K, J, I) unsigned integers
        As in :class:`Ratings`.
    """
    small = base ** len(layers) <= 1 << 16
    image = np.zeros(layers[0].shape, np.uint16 if small else np.uint32)
    flat = image.reshape(-1)
    rows = [np.ascontiguousarray(layer).reshape(-1) for layer in layers]
    patterns, codes, first = np.zeros((1, 0), layers[0].dtype), np.zeros(1, np.intp), 0
    while first < len(rows):
        if first:
            # The codes so far are numbered anew without gaps, so that they never outgrow their type.
            lookup = np.zeros(int(codes.max()) + 1, np.uint32)
            lookup[codes] = np.arange(len(codes))
            _in_chunks(lambda part, lookup=lookup: np.take(lookup, flat[part], out=flat[part], mode="clip"), flat.size)
        size, last = len(patterns), first
        while last < len(rows) and (last == first or size * base <= _MOST_CODES):
            size, last = size * base, last + 1
        if size >= 1 << 32:
            raise InputError("The raters disagree in more ways than can be kept apart; give fewer raters at a time.")
        tally = sum(_in_chunks(_Adder(flat, rows[first:last], base, size), flat.size))
        codes = np.flatnonzero(tally)
        counts = tally[codes]
        digits = codes[:, None] // base ** np.arange(last - first - 1, -1, -1) % base
        older = patterns[codes // base ** (last - first)]
        patterns = np.concatenate([older, digits.astype(older.dtype)], axis=1)
        first = last
    return patterns, counts, codes, image


class _Adder:
    """Appends raters' labels to the codes of a chunk of voxels and counts the codes that result."""

    def __init__(self, flat, rows, base, size):
        self._flat, self._rows, self._base, self._size = flat, rows, base, size

    def __call__(self, part):
        chunk = self._flat[part]
        for row in self._rows:
            np.multiply(chunk, self._base, out=chunk)
            np.add(chunk, row[part], out=chunk, casting="unsafe")
        said = chunk[chunk != 0]
        tally = np.bincount(said, minlength=self._size)
        tally[0] = chunk.size - said.size
        return tally


def _in_chunks(work, size: int, chunk: int = _CHUNK) -> list:
    """``work(slice)`` for all of ``size`` elements on all cores."""
    parts = [slice(start, min(start + chunk, size)) for start in range(0, size, chunk)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(work, parts))
