"""Decimated wavelet transform: the biorthogonal 9/7 of JPEG 2000, by lifting, for arrays of any size.

Cohen, Daubechies & Feauveau 1992, Commun Pure Appl Math 45:485; Daubechies & Sweldens 1998, J Fourier Anal Appl 4:247.
Borders are mirrored about the outermost sample.
"""

from __future__ import annotations

import numpy as np

_STEPS = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
_SCALE = 1.230174104914001


def forward(array: np.ndarray, axes_of_levels) -> tuple[np.ndarray, list]:
    """Transform level by level.

    Parameters
    ----------
    array : ndarray
    axes_of_levels : list of tuple of int
        The axes that are halved at each level, the finest first.

    Returns
    -------
    rest : ndarray
        The coarsest approximation.
    details : list of dict
        For every level a band's key (a 0 or 1 per halved axis) to its coefficients.
    """
    details = []
    for axes in axes_of_levels:
        bands = {(): array}
        for axis in axes:
            bands = {(*key, n): part for key, band in bands.items() for n, part in enumerate(_split(band, axis))}
        array = bands.pop((0,) * len(axes))
        details.append(bands)
    return array, details


def inverse(rest: np.ndarray, details: list, axes_of_levels) -> np.ndarray:
    """Undo :func:`forward`."""
    for bands, axes in zip(reversed(details), reversed(axes_of_levels), strict=True):
        bands = bands | {(0,) * len(axes): rest}
        for axis in reversed(axes):
            bands = {key[:-1]: _join(bands[key], bands[(*key[:-1], 1)], axis) for key in bands if key[-1] == 0}
        rest = bands[()]
    return rest


def _neighbours(values, count: int, is_even: bool):
    """The sum of both neighbours on the other grid; ``count`` places, mirrored at the ends."""
    if is_even:
        left = np.concatenate([values[:1], values], axis=0)[:count]
        right = np.concatenate([values, values[-1:]], axis=0)[:count]
    else:
        left = values[:count]
        right = np.concatenate([values, values[-1:]], axis=0)[1 : count + 1]
    return left + right


def _split(array, axis):
    values = np.moveaxis(array, axis, 0)
    even, odd = values[::2].copy(), values[1::2].copy()
    for number, step in enumerate(_STEPS):
        if number % 2 == 0:
            odd += np.float32(step) * _neighbours(even, len(odd), False)
        else:
            even += np.float32(step) * _neighbours(odd, len(even), True)
    return np.moveaxis(even * np.float32(_SCALE), 0, axis), np.moveaxis(odd / np.float32(_SCALE), 0, axis)


def _join(low, high, axis):
    even = np.moveaxis(low, axis, 0) / np.float32(_SCALE)
    odd = np.moveaxis(high, axis, 0) * np.float32(_SCALE)
    for number, step in reversed(list(enumerate(_STEPS))):
        if number % 2 == 0:
            odd = odd - np.float32(step) * _neighbours(even, len(odd), False)
        else:
            even = even - np.float32(step) * _neighbours(odd, len(even), True)
    values = np.empty((len(even) + len(odd), *even.shape[1:]), even.dtype)
    values[::2], values[1::2] = even, odd
    return np.moveaxis(values, 0, axis)
