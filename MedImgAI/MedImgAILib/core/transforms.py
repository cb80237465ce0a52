"""Spatial transforms in RAS, mm.

``map_points`` carries points of the moving (local) space to the fixed (world) space: it is Slicer's
"transform to parent". Non-linear transforms are stored the way ITK and Slicer store them, as the map from
the fixed to the moving space (``inverted=False`` then means *stored from parent*), because that is what
resampling evaluates.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .errors import InputError
from .geometry import Geometry


class Transform:
    """Base of the transforms; all map RAS positions in mm."""

    name: str
    provenance: dict

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """Moving (…, 3) RAS positions carried to the fixed space (to parent)."""
        raise NotImplementedError

    def map_points_inverse(self, points: np.ndarray) -> np.ndarray:
        """Fixed (…, 3) RAS positions carried to the moving space (from parent)."""
        return self.inverse().map_points(points)

    def inverse(self) -> Transform:
        """The transform in the other direction."""
        raise NotImplementedError

    def transformed(self, matrix) -> Transform:
        """The transform seen after both spaces were moved by a (4, 4) RAS-to-RAS matrix."""
        move = LinearTransform(np.asarray(matrix, float))
        return CompositeTransform((move.inverse(), self, move), name=self.name)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Transform '{self.name}'" if self.name else "The transform"


@dataclass(frozen=True, eq=False)
class LinearTransform(Transform):
    """A (4, 4) matrix: moving RAS to fixed RAS in mm."""

    matrix: np.ndarray
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
            raise InputError("A linear transform needs a finite, invertible 4×4 matrix.")
        object.__setattr__(self, "matrix", matrix)

    def map_points(self, points):
        points = np.asarray(points, dtype=np.float64)
        return points @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def inverse(self):
        return replace(self, matrix=np.linalg.inv(self.matrix))

    def transformed(self, matrix):
        matrix = np.asarray(matrix, float)
        return replace(self, matrix=matrix @ self.matrix @ np.linalg.inv(matrix))


@dataclass(frozen=True, eq=False)
class _GridTransform(Transform):
    """A transform given by vectors on a grid; ``inverted`` tells which direction they describe."""

    vectors: np.ndarray
    geometry: Geometry
    inverted: bool = False
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.vectors.shape != (*self.geometry.shape, 3):
            raise InputError(f"A transform grid of {self.geometry.shape} nodes needs that many 3-vectors.")

    def displacement(self, points: np.ndarray) -> np.ndarray:
        """(…, 3) displacement in mm at fixed-space RAS positions."""
        raise NotImplementedError

    def map_points(self, points):
        points = np.asarray(points, dtype=np.float64)
        if self.inverted:
            return points + self.displacement(points)
        return self._solve(points)

    def inverse(self):
        return replace(self, inverted=not self.inverted)

    def _solve(self, points, tolerance_mm=1e-4, iterations=50):
        """Fixed-point inversion: x with x + u(x) = points (Chen et al. 2008, Med Phys 35:81)."""
        x = points - self.displacement(points)
        for _ in range(iterations):
            residual = x + self.displacement(x) - points
            x = x - residual
            if residual.size == 0 or np.abs(residual).max() < tolerance_mm:
                break
        return x


class DisplacementTransform(_GridTransform):
    """A displacement field: (K, J, I, 3) vectors in mm (R, A, S) on a grid of the fixed space, linear between nodes.

    A fixed-space point x belongs to the moving-space point x + u(x); outside the grid u is 0.
    """

    def displacement(self, points):
        from scipy.ndimage import map_coordinates

        points = np.asarray(points, dtype=np.float64)
        kji = np.moveaxis(self.geometry.ijk(points)[..., ::-1], -1, 0)
        return np.stack(
            [map_coordinates(self.vectors[..., c], kji, order=1, mode="constant", cval=0.0) for c in range(3)], axis=-1
        )


class BSplineTransform(_GridTransform):
    """Uniform cubic B-spline: (K, J, I, 3) coefficients in mm (R, A, S) on a grid of the fixed space.

    u(x) = Σ c_n β³(x − n), as ``itk::BSplineTransform``; outside the support u is 0.
    """

    def displacement(self, points):
        from scipy.ndimage import map_coordinates

        points = np.asarray(points, dtype=np.float64)
        kji = np.moveaxis(self.geometry.ijk(points)[..., ::-1], -1, 0)
        inside = np.ones(kji.shape[1:], bool)
        for axis, extent in enumerate(self.geometry.shape):
            inside &= (kji[axis] >= 1) & (kji[axis] <= extent - 2)
        value = np.stack(
            [
                map_coordinates(self.vectors[..., c], kji, order=3, mode="constant", cval=0.0, prefilter=False)
                for c in range(3)
            ],
            axis=-1,
        )
        return np.where(inside[..., None], value, 0.0)


@dataclass(frozen=True, eq=False)
class CompositeTransform(Transform):
    """Transforms applied one after the other, the first to the moving points first."""

    parts: tuple[Transform, ...]
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise InputError("A composite transform needs at least one part.")

    def map_points(self, points):
        for part in self.parts:
            points = part.map_points(points)
        return points

    def inverse(self):
        return replace(self, parts=tuple(part.inverse() for part in reversed(self.parts)))
