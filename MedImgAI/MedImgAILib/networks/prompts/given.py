"""Points, boxes and scribbles in patient space, and on the grid of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core import Geometry, InputError, Points, Segmentation

_MOST_SCRIBBLED = 4000
"""Voxels of a scribble that count; of more, a regular share."""
OUTSIDE_WORDS = ("background", "outside", "negative", "not")


@dataclass(frozen=True, eq=False)
class Prompts:
    """What the user pointed at, all (N, 3) RAS in mm.

    Parameters
    ----------
    inside, outside : (N, 3) ndarray
        Points of the structure, and points that are not.
    box : (N, 3) ndarray or None
        Corners of a box around the structure.
    """

    inside: np.ndarray
    outside: np.ndarray
    box: np.ndarray | None = None

    @classmethod
    def collect(
        cls, inside: Points | None, outside: Points | None, box: Points | None, scribbles: Segmentation | None
    ) -> Prompts:
        """Join what the inputs of a task hold.

        A painted segment whose name has one of the words background, outside, negative or not marks what does not
        belong to the structure, every other what does.

        Raises
        ------
        InputError
            If nothing says where the structure is.
        """
        positions = {True: [], False: []}
        for points, belongs in ((inside, True), (outside, False)):
            if points is not None:
                positions[belongs].append(points.positions)
        for segment in scribbles.segments if scribbles is not None else ():
            voxels = np.argwhere(scribbles.mask(segment))
            voxels = voxels[:: -(-len(voxels) // _MOST_SCRIBBLED) or 1]
            words = segment.name.lower().replace("_", " ").split()
            positions[not set(words) & set(OUTSIDE_WORDS)].append(scribbles.geometry.ras(voxels[:, ::-1]))
        joined = {k: np.concatenate(v) if v else np.zeros((0, 3)) for k, v in positions.items()}
        corners = None if box is None else box.positions
        if corners is not None and len(corners) < 2:
            raise InputError(f"Box: {box.label} has one point; place two opposite corners or choose a ROI.")
        if not len(joined[True]) and corners is None:
            raise InputError("Nothing says where the structure is; place a point in it, a box around it or a scribble.")
        return cls(joined[True], joined[False], corners)

    def check(self, geometry: Geometry, who: str):
        """Raise :class:`InputError` if no point of the structure, or no part of the box, lies in an image."""
        if len(self.inside) and not np.any([geometry.contains(p) for p in self.inside]):
            raise InputError(f"None of the points lies in {who}; move them into the image.")
        if self.box is not None and self.box_on(geometry) is None:
            raise InputError(f"The box lies outside {who}; move it into the image.")

    def marks(self, points: np.ndarray, geometry: Geometry) -> np.ndarray:
        """(K, J, I) bool: the voxels of a grid where ``points`` lie; those outside are left."""
        marked = np.zeros(geometry.shape, bool)
        if len(points):
            index = np.rint(geometry.ijk(points)[:, ::-1]).astype(int)
            index = index[np.all((index >= 0) & (index < geometry.shape), axis=1)]
            marked[tuple(index.T)] = True
        return marked

    def box_on(self, geometry: Geometry) -> tuple[slice, slice, slice] | None:
        """The box as slices (k, j, i) of a grid, None if it has no part there."""
        if self.box is None:
            return None
        index = geometry.ijk(self.box)[:, ::-1]
        low = np.maximum(np.rint(index.min(axis=0)), 0).astype(int)
        high = np.minimum(np.rint(index.max(axis=0)), np.array(geometry.shape) - 1).astype(int)
        return tuple(slice(a, b + 1) for a, b in zip(low, high)) if (low <= high).all() else None

    def extent(self, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest index (k, j, i) on a grid of what says where the structure is."""
        points = self.inside if self.box is None else np.concatenate([self.inside, self.box])
        index = geometry.ijk(points)[:, ::-1]
        return index.min(axis=0), index.max(axis=0)
