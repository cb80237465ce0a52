"""Voxels and weights of rays as arrays, for the projectors without compiled loops (NumPy and torch alike)."""

from __future__ import annotations

import numpy as np


class ViewTaps:
    """The weights of one view on arrays of ``xp`` (the module numpy or torch).

    Parameters
    ----------
    xp : module
    projector : Projector
    to_array : callable
        Brings a NumPy array to ``xp``, float32 and integers as they are.
    """

    def __init__(self, xp, projector, to_array):
        self.xp, self.projector, self.to_array = xp, projector, to_array
        _, ny, nx = projector.volume_shape
        self.planes = {True: ny, False: nx}
        self.crossed = {True: nx, False: ny}

    def in_plane(self, view: int):
        """Yield for both ray directions (rays, [(pixel index, weight), …], planes): arrays (rays, planes).

        ``rays`` are column numbers (a NumPy array); a weight is 0 where the ray is outside.
        """
        table, xp = self.projector.table, self.xp
        nx = self.projector.volume_shape[2]
        for along_y in (True, False):
            rays = np.flatnonzero(table.along_y[view] == along_y)
            if not len(rays):
                continue
            planes = np.arange(self.planes[along_y])
            position = table.start[view, rays, None] + table.slope[view, rays, None] * planes
            low = np.floor(position)
            part = self.to_array((position - low).astype(np.float32))
            low = self.to_array(low.astype(np.int64))
            d = self.to_array(planes)[None, :]
            taps = []
            for offset, weight in ((0, 1 - part), (1, part)):
                cross = low + offset
                inside = (cross >= 0) & (cross < self.crossed[along_y])
                weight = xp.where(inside, weight, xp.zeros_like(weight))
                cross = xp.where(inside, cross, xp.zeros_like(cross))
                taps.append((d * nx + cross if along_y else cross * nx + d, weight))
            yield rays, taps, planes

    def heights(self, view: int, rays, planes, rows):
        """[(slice index, weight), …]: arrays (rows, rays, planes) of the rays to detector ``rows``."""
        projector, table, xp = self.projector, self.projector.table, self.xp
        scale = table.lift[view, rays, None] + table.rise[view, rays, None] * planes
        v = projector.v[0] + projector.v[1] * np.asarray(rows)
        position = (v[:, None, None] * scale[None] - projector.z[0]) / projector.z[1]
        low = np.floor(position)
        part = self.to_array((position - low).astype(np.float32))
        low = self.to_array(low.astype(np.int64))
        taps = []
        for offset, weight in ((0, 1 - part), (1, part)):
            k = low + offset
            inside = (k >= 0) & (k < projector.volume_shape[0])
            taps.append((xp.where(inside, k, xp.zeros_like(k)), xp.where(inside, weight, xp.zeros_like(weight))))
        return taps

    def row_chunks(self, rays, planes, limit: int):
        """Detector rows in chunks of at most ``limit`` (row, ray, plane) elements."""
        rows = self.projector.rows
        size = max(1, limit // max(1, len(rays) * len(planes)))
        return [np.arange(n, min(n + size, rows)) for n in range(0, rows, size)]
