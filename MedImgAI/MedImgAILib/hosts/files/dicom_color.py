"""Colours as DICOM stores them: CIE L*a*b* scaled to 16 bits (PS3.3 C.10.7.1.1), D50 white, from sRGB."""

from __future__ import annotations

import numpy as np

_D50 = np.array([0.9642, 1.0, 0.8249])
_XYZ_FROM_RGB = np.array([
    [0.4360747, 0.3850649, 0.1430804],
    [0.2225045, 0.7168786, 0.0606169],
    [0.0139322, 0.0971045, 0.7141733],
])  # fmt: skip
"""sRGB to XYZ, adapted to D50 by Bradford's method (Lindbloom)."""
_EDGE = 6 / 29


def lab_from_rgb(color) -> list[int]:
    """(L, a, b) of (red, green, blue) in 0…1."""
    rgb = np.asarray(color, float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = _XYZ_FROM_RGB @ linear / _D50
    f = np.where(ratio > _EDGE**3, np.cbrt(ratio), ratio / (3 * _EDGE**2) + 4 / 29)
    lab = np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
    scaled = np.array([lab[0] / 100, (lab[1] + 128) / 255, (lab[2] + 128) / 255]) * 65535
    return [int(v) for v in np.clip(np.rint(scaled), 0, 65535)]


def rgb_from_lab(values) -> tuple[float, float, float]:
    """(red, green, blue) in 0…1 of DICOM's (L, a, b); colours outside sRGB are clipped."""
    scaled = np.asarray([float(v) for v in values]) / 65535
    lightness, a, b = scaled[0] * 100, scaled[1] * 255 - 128, scaled[2] * 255 - 128
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f > _EDGE, f**3, 3 * _EDGE**2 * (f - 4 / 29)) * _D50
    linear = np.clip(np.linalg.solve(_XYZ_FROM_RGB, xyz), 0, 1)
    rgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(round(float(v), 4) for v in rgb)
