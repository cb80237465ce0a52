"""Where an array lies in the patient.

Conventions: arrays are indexed ``[k, j, i]`` (slice, row, column); index vectors are written (i, j, k)
as in Slicer; patient coordinates are RAS in mm; voxel centres have integer indices.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from .errors import InputError

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Geometry:
    """A regular grid in the patient.

    Parameters
    ----------
    ijk_to_ras : (4, 4) array_like of float
        Maps homogeneous voxel indices (i, j, k, 1) to RAS in mm. May be oblique, left-handed or sheared.
    shape : (K, J, I) tuple of int
        Number of voxels; the order is the array's.

    Raises
    ------
    InputError
        If the matrix is not finite, not affine or singular, or an extent is not positive.
    """

    ijk_to_ras: np.ndarray
    shape: tuple[int, int, int]

    def __post_init__(self):
        matrix = np.array(self.ijk_to_ras, dtype=np.float64)
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise InputError("The voxel-to-patient matrix must be 4×4 and finite.")
        if not np.allclose(matrix[3], [0, 0, 0, 1]):
            raise InputError("The voxel-to-patient matrix must be affine (last row 0 0 0 1).")
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if not spacing.all() or abs(np.linalg.det(matrix[:3, :3] / spacing)) < 1e-6:
            raise InputError("The voxel-to-patient matrix is singular: two image axes coincide or a spacing is 0.")
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"An image needs three positive extents, not {tuple(self.shape)}.")
        matrix.flags.writeable = False
        object.__setattr__(self, "ijk_to_ras", matrix)
        object.__setattr__(self, "shape", shape)

    @classmethod
    def from_spacing(cls, shape, spacing_mm=(1.0, 1.0, 1.0), origin_ras=(0.0, 0.0, 0.0), directions=None) -> Geometry:
        """Build from (i, j, k) spacing in mm, the RAS position of voxel (0, 0, 0) and 3×3 direction columns."""
        matrix = np.eye(4)
        matrix[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions, float)) * np.asarray(spacing_mm)
        matrix[:3, 3] = origin_ras
        return cls(matrix, shape)

    # What the matrix says

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along i, j, k in mm."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    @property
    def spacing_kji(self) -> np.ndarray:
        """Voxel size in the array's axis order (k, j, i) in mm."""
        return self.spacing[::-1]

    @property
    def directions(self) -> np.ndarray:
        """(3, 3) unit columns: the RAS directions of i, j and k."""
        return self.ijk_to_ras[:3, :3] / self.spacing

    @property
    def origin(self) -> np.ndarray:
        """RAS position of the centre of voxel (0, 0, 0) in mm."""
        return self.ijk_to_ras[:3, 3].copy()

    @property
    def ras_to_ijk(self) -> np.ndarray:
        """(4, 4) inverse of :attr:`ijk_to_ras`."""
        return np.linalg.inv(self.ijk_to_ras)

    @property
    def voxel_volume_mm3(self) -> float:
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3])))

    @property
    def center(self) -> np.ndarray:
        """RAS position of the middle of the grid in mm."""
        return self.ras((np.array(self.shape[::-1]) - 1) / 2)

    @property
    def is_orthogonal(self) -> bool:
        """Whether the three axes are at right angles (no shear), which ITK requires."""
        gram = self.directions.T @ self.directions
        return bool(np.abs(gram - np.eye(3)).max() < 1e-4)

    def ras(self, ijk) -> np.ndarray:
        """RAS positions in mm of the (…, 3) indices (i, j, k), which may be fractional."""
        ijk = np.asarray(ijk, dtype=np.float64)
        return ijk @ self.ijk_to_ras[:3, :3].T + self.ijk_to_ras[:3, 3]

    def ijk(self, ras) -> np.ndarray:
        """Fractional (i, j, k) indices of the (…, 3) RAS positions."""
        inverse = self.ras_to_ijk
        return np.asarray(ras, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def contains(self, ras) -> np.ndarray:
        """For each (…, 3) RAS position, whether it lies inside a voxel of the grid."""
        ijk = self.ijk(ras)
        return np.all((ijk >= -0.5) & (ijk < np.array(self.shape[::-1]) - 0.5), axis=-1)

    def corners_ras(self) -> np.ndarray:
        """(8, 3) RAS positions of the outer corners of the grid."""
        upper = np.array(self.shape[::-1]) - 0.5
        return self.ras(np.array(list(itertools.product(*((-0.5, u) for u in upper)))))

    def same_grid(self, other: Geometry, tolerance: float = 1e-3) -> bool:
        """Whether both grids have the same voxels; the corners may differ by ``tolerance`` voxels."""
        if self.shape != other.shape:
            return False
        distance = np.linalg.norm(self.corners_ras() - other.corners_ras(), axis=1).max()
        return bool(distance <= tolerance * self.spacing.min())

    # Other grids made from this one

    def transformed(self, matrix) -> Geometry:
        """The same voxels after the patient was moved by ``matrix`` ((4, 4), RAS to RAS)."""
        return Geometry(np.asarray(matrix, float) @ self.ijk_to_ras, self.shape)

    def cropped(self, start_kji, shape) -> Geometry:
        """The sub-grid (or, with negative start, the padded grid) of ``shape`` that begins at ``start_kji``."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, 3] = self.ras(np.asarray(start_kji)[::-1])
        return Geometry(matrix, shape)

    def resized(self, shape) -> Geometry:
        """The grid of ``shape`` (K, J, I) voxels that fills the same box, outer faces coinciding."""
        factor = np.array(self.shape[::-1], float) / np.array(shape[::-1], float)
        matrix = self.ijk_to_ras.copy()
        matrix[:3, :3] = self.ijk_to_ras[:3, :3] * factor
        matrix[:3, 3] = self.ras((factor - 1) / 2)
        return Geometry(matrix, shape)

    def with_spacing(self, spacing_mm) -> Geometry:
        """The grid with about ``spacing_mm`` (i, j, k) in the same box; extents are rounded to at least 1."""
        extent = np.array(self.shape[::-1]) * self.spacing
        counts = np.maximum(1, np.rint(extent / np.asarray(spacing_mm, float))).astype(int)
        return self.resized(tuple(counts[::-1]))

    def reordered(self, axes, flips) -> Geometry:
        """The grid of ``np.flip(array.transpose(axes), flipped axes)``.

        Parameters
        ----------
        axes : permutation of (0, 1, 2)
            New array axis n is old array axis ``axes[n]`` (KJI order, as in ``numpy.transpose``).
        flips : three bool
            Which of the new array axes are reversed.
        """
        axes = tuple(axes)
        shape = tuple(self.shape[a] for a in axes)
        to_old = np.zeros((4, 4))
        to_old[3, 3] = 1
        for new, old in enumerate(axes):
            column, row = 2 - new, 2 - old
            to_old[row, column] = -1 if flips[new] else 1
            to_old[row, 3] = shape[new] - 1 if flips[new] else 0
        return Geometry(self.ijk_to_ras @ to_old, shape)

    def canonical_order(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """``(axes, flips)`` for :meth:`reordered` that bring i, j, k closest to +R, +A, +S."""
        best = max(
            itertools.permutations(range(3)),
            key=lambda p: sum(abs(self.directions[axis, column]) for axis, column in enumerate(p)),
        )
        # best[r] is the ijk column closest to RAS axis r; array axis 2-r of the result takes array axis 2-column.
        axes = tuple(2 - best[2 - n] for n in range(3))
        flips = tuple(bool(self.directions[2 - n, best[2 - n]] < 0) for n in range(3))
        return axes, flips

    def bounding_grid(self, spacing_mm, margin_mm: float = 0.0) -> Geometry:
        """An axis-aligned RAS grid with (R, A, S) ``spacing_mm`` that covers this one."""
        spacing = np.asarray(spacing_mm, float)
        corners = self.corners_ras()
        lower, upper = corners.min(0) - margin_mm, corners.max(0) + margin_mm
        counts = np.maximum(1, np.ceil((upper - lower) / spacing - 1e-6)).astype(int)
        origin = (lower + upper - (counts - 1) * spacing) / 2
        return Geometry.from_spacing(tuple(counts[::-1]), spacing, origin)

    def __repr__(self) -> str:
        spacing = "×".join(f"{s:.4g}" for s in self.spacing)
        size = "×".join(str(n) for n in self.shape[::-1])
        return f"Geometry({size} voxels, {spacing} mm, origin {np.round(self.origin, 3).tolist()})"


def inverse_order(axes, flips):
    """The ``(axes, flips)`` that undo ``array.transpose(axes)`` followed by the flips of the new axes."""
    axes = tuple(axes)
    back = tuple(axes.index(n) for n in range(3))
    return back, tuple(flips[b] for b in back)


def reorder_array(array: np.ndarray, axes, flips) -> np.ndarray:
    """A view of ``array`` (K, J, I[, C]) with its first three axes transposed, then flipped."""
    view = array.transpose(tuple(axes) + tuple(range(3, array.ndim)))
    return view[tuple(slice(None, None, -1) if f else slice(None) for f in flips)]
