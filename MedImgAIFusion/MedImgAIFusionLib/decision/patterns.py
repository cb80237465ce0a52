"""The distinct combinations of what several raters said, found in one pass over the voxels."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from MedImgAILib.core import InputError

_MOST_CODES = 1 << 20
_CHUNK = 1 << 18


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
        As in :class:`.raters.Ratings`.
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
            in_chunks(lambda part, lookup=lookup: np.take(lookup, flat[part], out=flat[part], mode="clip"), flat.size)
        size, last = len(patterns), first
        while last < len(rows) and (last == first or size * base <= _MOST_CODES):
            size, last = size * base, last + 1
        if size >= 1 << 32:
            raise InputError("The raters disagree in more ways than can be kept apart; give fewer raters at a time.")
        tally = sum(in_chunks(_Adder(flat, rows[first:last], base, size), flat.size))
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


def in_chunks(work, size: int, chunk: int = _CHUNK) -> list:
    """``work(slice)`` for all of ``size`` elements on all cores."""
    parts = [slice(start, min(start + chunk, size)) for start in range(0, size, chunk)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(work, parts))
