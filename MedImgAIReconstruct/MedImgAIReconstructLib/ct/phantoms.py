"""Phantoms of ellipsoids whose line integrals are known exactly, the truth that reconstructions are tested against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MedImgAILib.core import ScanGeometry

from .grid import Grid
from .rays import rays


@dataclass(frozen=True)
class Ellipsoid:
    """Adds ``value`` (1/mm) inside; axes and centre in mm, (x, y, z); turned by ``angle_rad`` about z.

    An ellipse of the plane is an ellipsoid with an infinite third axis.
    """

    value: float
    axes: tuple[float, float, float]
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    angle_rad: float = 0.0

    def _local(self, vectors):
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
        a, b, c = self.axes
        return np.stack([(x * cos + y * sin) / a, (y * cos - x * sin) / b, z / c], axis=-1)

    def integral(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Integral of the value along rays: (…, 3) points and unit directions."""
        p = self._local(np.asarray(origin, float) - np.asarray(self.center))
        d = self._local(np.asarray(direction, float))
        a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1
        return 2 * self.value * np.sqrt(np.maximum(b * b - a * c, 0)) / a

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Whether (…, 3) points lie inside."""
        return (self._local(points - np.asarray(self.center)) ** 2).sum(-1) <= 1


# value, semi-axes, centre, angle in degrees, for a head of half-height 1: Shepp & Logan 1974 with the contrast of
# Toft 1996, the third dimension as in Kak & Slaney's table 3.2 and Schabel's phantom3d.
_SHEPP_LOGAN = (
    (1.0, (0.69, 0.92, 0.81), (0, 0, 0), 0),
    (-0.8, (0.6624, 0.874, 0.78), (0, -0.0184, 0), 0),
    (-0.2, (0.11, 0.31, 0.22), (0.22, 0, 0), -18),
    (-0.2, (0.16, 0.41, 0.28), (-0.22, 0, 0), 18),
    (0.1, (0.21, 0.25, 0.41), (0, 0.35, -0.15), 0),
    (0.1, (0.046, 0.046, 0.05), (0, 0.1, 0.25), 0),
    (0.1, (0.046, 0.046, 0.05), (0, -0.1, 0.25), 0),
    (0.1, (0.046, 0.023, 0.05), (-0.08, -0.605, 0), 0),
    (0.1, (0.023, 0.023, 0.02), (0, -0.606, 0), 0),
    (0.1, (0.023, 0.046, 0.02), (0.06, -0.605, 0), 0),
)


def shepp_logan(radius_mm: float, flat: bool = False, scale: float = 1.0) -> list[Ellipsoid]:
    """The modified Shepp-Logan head in 3-D, or its middle plane extended along z if ``flat``.

    Parameters
    ----------
    radius_mm : float
        Half the side of the square that is 2 wide in the phantom's definition; the head reaches 0.92 of it.
    scale : float
        Factor of the values (1, 0.2, 0.3, …).
    """
    return [
        Ellipsoid(
            value * scale,
            (axes[0] * radius_mm, axes[1] * radius_mm, np.inf if flat else axes[2] * radius_mm),
            (center[0] * radius_mm, center[1] * radius_mm, 0.0 if flat else center[2] * radius_mm),
            np.deg2rad(angle),
        )
        for value, axes, center, angle in _SHEPP_LOGAN
    ]


def project(phantom, scan: ScanGeometry, rows: int, columns: int, sub_rays: int = 1) -> np.ndarray:
    """Exact line integrals, (views, rows, columns) float32, averaged over ``sub_rays`` positions across each column."""
    result = np.zeros((len(scan.angles_rad), rows, columns), np.float32)
    for view in range(len(result)):
        for n in range(sub_rays):
            origin, direction = rays(scan, rows, columns, view, (0.0, (n + 0.5) / sub_rays - 0.5))
            result[view] += sum(e.integral(origin, direction) for e in phantom) / sub_rays
    return result


def sample(phantom, grid: Grid, supersample: int = 1) -> np.ndarray:
    """Voxel averages over ``supersample``³ points (in-plane only for one slice), (nz, ny, nx) float32."""
    offsets = (np.arange(supersample) + 0.5) / supersample - 0.5
    offsets_z = offsets if grid.shape[0] > 1 else np.zeros(1)
    result = np.zeros(grid.shape, np.float32)
    z, y, x = (grid.axis(n) for n in range(3))
    for k in range(grid.shape[0]):
        total = np.zeros(grid.shape[1:], np.float32)
        for oz in offsets_z:
            for oy in offsets:
                for ox in offsets:
                    dz, dy, dx = np.array([oz, oy, ox]) * grid.spacing_mm
                    points = np.stack(np.broadcast_arrays(x + dx, (y + dy)[:, None], z[k] + dz), axis=-1)
                    for e in phantom:
                        total += e.value * e.inside(points)
        result[k] = total / (len(offsets_z) * supersample**2)
    return result
