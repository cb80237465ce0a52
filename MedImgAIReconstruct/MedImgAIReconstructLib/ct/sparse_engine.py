"""Projector by SciPy's sparse matrices, made view by view; for when numba is not installed."""

from __future__ import annotations

import numpy as np

from .taps import ViewTaps

ELEMENTS_AT_ONCE = 2_000_000


class SparseEngine:
    """The weights of the compiled kernels as matrices."""

    def __init__(self, projector):
        self.projector = projector
        self.taps = ViewTaps(np, projector, lambda a: a)

    def _matrices(self, view):
        """Yield (detector pixels, matrix) of one view: rows × columns pixels, or columns alone for a stack."""
        from scipy.sparse import csr_matrix

        projector = self.projector
        nz, ny, nx = projector.volume_shape
        for rays, in_plane, planes in self.taps.in_plane(view):
            if projector.is_stack:
                length = projector.table.length[view, rays].astype(np.float32)
                index = np.stack([i for i, _ in in_plane], -1).reshape(len(rays), -1)
                weight = np.stack([w for _, w in in_plane], -1).reshape(len(rays), -1) * length[:, None]
                yield rays, _csr(csr_matrix, weight, index, ny * nx)
                continue
            for rows in self.taps.row_chunks(rays, planes, ELEMENTS_AT_ONCE):
                heights = self.taps.heights(view, rays, planes, rows)
                index = np.stack([k * (ny * nx) + i[None] for i, _ in in_plane for k, _ in heights], -1)
                weight = np.stack([h * w[None] for _, w in in_plane for _, h in heights], -1)
                length = projector.row_lengths_of(view, rows, rays).astype(np.float32)
                weight = weight.reshape(len(rows) * len(rays), -1) * length.reshape(-1, 1)
                pixels = (rows[:, None] * projector.columns + rays[None, :]).ravel()
                yield pixels, _csr(csr_matrix, weight, index.reshape(weight.shape), nz * ny * nx)

    def forward(self, volume):
        projector = self.projector
        result = np.zeros(projector.projection_shape, np.float32)
        flat = volume.reshape(len(volume), -1).T if projector.is_stack else volume.ravel()
        for view in range(len(result)):
            projector.stop_if_cancelled()
            for pixels, matrix in self._matrices(view):
                if projector.is_stack:
                    result[view][:, pixels] = (matrix @ flat).T
                else:
                    result[view].reshape(-1)[pixels] = matrix @ flat
        return result

    def adjoint(self, projections):
        projector = self.projector
        nz, ny, nx = projector.volume_shape
        result = np.zeros((ny * nx, nz) if projector.is_stack else nz * ny * nx, np.float32)
        for view, image in enumerate(projections):
            projector.stop_if_cancelled()
            for pixels, matrix in self._matrices(view):
                if projector.is_stack:
                    result += matrix.T @ np.ascontiguousarray(image[:, pixels].T)
                else:
                    result += matrix.T @ image.reshape(-1)[pixels]
        return np.ascontiguousarray(result.T).reshape(nz, ny, nx)


def _csr(csr_matrix, weight, index, columns: int):
    """A matrix with as many entries in each row as ``weight`` (rows, entries) has."""
    rows, entries = weight.shape
    pointer = np.arange(rows + 1) * entries
    return csr_matrix((weight.ravel(), index.ravel(), pointer), shape=(rows, columns))
